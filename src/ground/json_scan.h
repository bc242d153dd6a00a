/* A strict JSON tokenizer (RFC 8259): one call, one token, no memory of its own, no recursion.
 * Checks everything while it goes, UTF-8 and depth included, so that whoever builds a value from
 * the tokens need not. Knows nothing of Lua. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"

/* More would not fit a Lua stack with two slots a level, nor lua-cjson's own limit. */
#define JSON_MAX_DEPTH 1000u
#define JSON_DEFAULT_DEPTH 512u

enum json_token {
    JSON_ERROR, /* see json_scan.err; every later call gives it again */
    JSON_END,
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

/* What becomes of half a surrogate pair (\ud83d without its \ude00). No UTF-8 text can hold one. */
enum json_halves {
    JSON_HALVES_REFUSED,
    JSON_HALVES_REPLACED, /* by U+FFFD */
    JSON_HALVES_KEPT, /* as the three bytes that UTF-8 would have for it, so that it can be joined
                       */
};

struct json_scan {
    /* read-only: the token that was returned last. Strings without their quotes, numbers as they
     * are written; both point into the text. */
    const char *token;
    size_t token_len;
    bool escaped; /* the string holds backslashes: json_unescape it */
    bool integer; /* the number has neither fraction nor exponent */
    unsigned depth;
    const char *fault; /* after JSON_ERROR: what was expected or found; static text */
    size_t offset;     /* after JSON_ERROR: of the offending byte, from 0 */

    /* Set it behind json_scan_init. */
    enum json_halves halves;

    /* private */
    const char *text, *at, *end;
    unsigned max_depth;
    unsigned char state;
    unsigned char in_object[(JSON_MAX_DEPTH + 8) / 8]; /* a bit per level */
};

/* `text` is borrowed for as long as tokens are read. max_depth 0: the default; at most
 * JSON_MAX_DEPTH. */
void json_scan_init(struct json_scan *s, const char *text, size_t len, unsigned max_depth);
enum json_token json_scan_next(struct json_scan *s);
/* Behind the last token; behind the colon of a key. */
static inline const char *json_scan_at(const struct json_scan *s)
{
    return s->at;
}

/* Writes what an escaped string stands for, in UTF-8, and returns its length, which is never over
 * `len`. For tokens of json_scan_next only: the escapes are not checked again. `halves`: those of
 * the scan. */
size_t json_unescape(char *out, const char *token, size_t len, enum json_halves halves);

/* Fills an ERR_INVALID that says where (line, column, byte, all from 1) and what. */
enum err_kind json_scan_err(const struct json_scan *s, struct err *err);

/* The length of the valid UTF-8 at the start of `text` (RFC 3629: no surrogates, nothing overlong).
 */
size_t json_utf8_valid(const char *text, size_t len);

/* How many bytes at the start of `text` stand in a JSON string as they are and are ASCII: all but
 * controls, quote and backslash. Eight at a time: most of JSON is text. */
size_t json_plain_run(const char *text, size_t len);
