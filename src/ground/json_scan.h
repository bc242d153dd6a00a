/* A strict JSON tokenizer (RFC 8259). Each call returns one token. It allocates no memory and does
 * not recurse. It checks everything, including UTF-8 and depth, so the code that builds values from
 * the tokens need not check again. It does not know Lua. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"

/* A deeper value would need more than a Lua stack holds, at two slots for each level. It is also
 * lua-cjson's limit. */
#define JSON_MAX_DEPTH 1000u
#define JSON_DEFAULT_DEPTH 512u

enum json_token {
    JSON_ERROR, /* see json_scan.err; every later call returns it again */
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

/* What happens to half of a surrogate pair (\ud83d without its \ude00), which UTF-8 cannot express.
 */
enum json_halves {
    JSON_HALVES_REFUSED,
    JSON_HALVES_REPLACED, /* it becomes U+FFFD */
    JSON_HALVES_KEPT, /* it becomes three bytes, as UTF-8 would encode it, so that the halves can be
                         joined later */
};

struct json_scan {
    /* read-only: the token that was returned last. Strings are without their quotes, numbers as
     * written. Both point into the text. */
    const char *token;
    size_t token_len;
    bool escaped; /* the string contains escapes: use json_unescape */
    bool integer; /* the number has no fraction and no exponent */
    unsigned depth;
    const char *fault; /* after JSON_ERROR: what was expected or found; static text */
    size_t offset;     /* after JSON_ERROR: the position of the offending byte, from 0 */

    /* May be set after json_scan_init. */
    enum json_halves halves;

    /* private */
    const char *text, *at, *end;
    unsigned max_depth;
    unsigned char state;
    unsigned char in_object[(JSON_MAX_DEPTH + 8) / 8]; /* one bit for each level */
};

/* `text` is borrowed while tokens are read. max_depth 0 means the default; the largest is
 * JSON_MAX_DEPTH. */
void json_scan_init(struct json_scan *s, const char *text, size_t len, unsigned max_depth);
enum json_token json_scan_next(struct json_scan *s);
/* The position after the last token. If that was a key, the position after its colon. */
static inline const char *json_scan_at(const struct json_scan *s)
{
    return s->at;
}

/* Writes the text of an escaped string as UTF-8 and returns its length, which is at most `len`.
 * Only for tokens of json_scan_next: the escapes are not checked again. `halves` must be that of
 * the scan. */
size_t json_unescape(char *out, const char *token, size_t len, enum json_halves halves);

/* Fills an ERR_INVALID that says what is wrong and where (line, column and byte, all from 1). */
enum err_kind json_scan_err(const struct json_scan *s, struct err *err);

/* The length of the valid UTF-8 at the start of `text` (RFC 3629: no surrogates, no overlong
 * forms). */
size_t json_utf8_valid(const char *text, size_t len);

/* The number of bytes at the start of `text` that are ASCII and need no escape in a JSON string:
 * all but controls, quote and backslash. It tests eight bytes at once, as most of JSON is text. */
size_t json_plain_run(const char *text, size_t len);
