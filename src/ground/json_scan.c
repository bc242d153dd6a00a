#include "ground/json_scan.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What may come next. */
enum state {
    VALUE,        /* a value */
    ARRAY_FIRST,  /* a value or ] */
    OBJECT_FIRST, /* a key or } */
    OBJECT_KEY,   /* a key */
    AFTER_VALUE,  /* a comma or the end of the container; at depth 0 the end of the text */
    FAILED
};

void json_scan_init(struct json_scan *s, const char *text, size_t len, unsigned max_depth)
{
    s->token = text;
    s->token_len = 0;
    s->escaped = s->integer = false;
    s->depth = 0;
    s->halves = JSON_HALVES_REFUSED;
    s->fault = NULL;
    s->offset = 0;
    s->text = s->at = text;
    s->end = text + len;
    s->max_depth = max_depth == 0 ? JSON_DEFAULT_DEPTH : MIN(max_depth, JSON_MAX_DEPTH);
    s->state = VALUE;
}

static enum json_token fail_at(struct json_scan *s, const char *at, const char *fault)
{
    s->state = FAILED;
    s->fault = at == s->end ? "the text ends too early" : fault;
    s->offset = (size_t)(at - s->text);
    return JSON_ERROR;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at != end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

static bool is_digit(const char *at, const char *end)
{
    return at != end && *at >= '0' && *at <= '9';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The value of four hex digits, or -1. */
static int hex4(const char *at, const char *end)
{
    if (end - at < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The length of the valid multi-byte character at `at`, whose first byte is over 0x7f; 0: it is not
 * valid. The bounds of the second byte come from table 3-7 of the Unicode standard. */
static size_t utf8_char(const unsigned char *at, const unsigned char *end)
{
    unsigned first = at[0];
    size_t left = (size_t)(end - at);
    unsigned low = 0x80, high = 0xbf;
    size_t len;
    if (first >= 0xc2 && first <= 0xdf) {
        len = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        len = 3;
        if (first == 0xe0)
            low = 0xa0;
        if (first == 0xed)
            high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        len = 4;
        if (first == 0xf0)
            low = 0x90;
        if (first == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    if (left < len || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

size_t json_utf8_valid(const char *text, size_t len)
{
    const unsigned char *start = (const unsigned char *)text, *at = start, *end = start + len;
    while (at != end) {
        if (*at < 0x80) {
            at++;
            continue;
        }
        size_t n = utf8_char(at, end);
        if (n == 0)
            break;
        at += n;
    }
    return (size_t)(at - start);
}

/* Reads an escape at `at` as the second half of a surrogate pair; -1: it is not one. */
static int second_half(const char *at, const char *end)
{
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    int unit = hex4(at + 2, end);
    return unit >= 0xdc00 && unit <= 0xdfff ? unit : -1;
}

/* `at` points after the backslash. Returns the position after the escape; NULL: the escape is not
 * valid. */
static const char *skip_escape(const char *at, const char *end, bool halves)
{
    if (at == end)
        return NULL;
    if (*at != 'u')
        return memchr("\"\\/bfnrt", *at, 8) ? at + 1 : NULL;
    int unit = hex4(at + 1, end);
    if (unit < 0)
        return NULL;
    at += 5;
    if (unit < 0xd800 || unit > 0xdfff)
        return at;
    if (unit <= 0xdbff && second_half(at, end) >= 0)
        return at + 6;
    return halves ? at : NULL;
}

/* 1 for bytes of a string that need no check: all but quote, backslash, controls and non-ASCII. */
static const unsigned char plain[256] = {
    [' '] = 1, ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1,  ['\''] = 1, ['('] = 1,
    [')'] = 1, ['*'] = 1, ['+'] = 1, [','] = 1, ['-'] = 1, ['.'] = 1,  ['/'] = 1,  ['0'] = 1,
    ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1,  ['7'] = 1,  ['8'] = 1,
    ['9'] = 1, [':'] = 1, [';'] = 1, ['<'] = 1, ['='] = 1, ['>'] = 1,  ['?'] = 1,  ['@'] = 1,
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1,  ['G'] = 1,  ['H'] = 1,
    ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1,  ['O'] = 1,  ['P'] = 1,
    ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1,  ['W'] = 1,  ['X'] = 1,
    ['Y'] = 1, ['Z'] = 1, ['['] = 1, [']'] = 1, ['^'] = 1, ['_'] = 1,  ['`'] = 1,  ['a'] = 1,
    ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1,  ['h'] = 1,  ['i'] = 1,
    ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1,  ['p'] = 1,  ['q'] = 1,
    ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1, ['w'] = 1,  ['x'] = 1,  ['y'] = 1,
    ['z'] = 1, ['{'] = 1, ['|'] = 1, ['}'] = 1, ['~'] = 1, [0x7f] = 1,
};

#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* Not 0 if a byte of `w` is not plain. It finds the lowest such byte exactly. For higher bytes it
 * may report a plain byte by mistake, but it never misses one that is not plain. */
static uint64_t not_plain(uint64_t w)
{
    uint64_t quote = w ^ EACH_BYTE('"'), slash = w ^ EACH_BYTE('\\');
    uint64_t found = (w - EACH_BYTE(0x20)) & ~w;
    found |= (quote - EACH_BYTE(1)) & ~quote;
    found |= (slash - EACH_BYTE(1)) & ~slash;
    return (found | w) & EACH_BYTE(0x80);
}

size_t json_plain_run(const char *text, size_t len)
{
    const char *at = text, *end = text + len;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');
    for (; end - at >= 16; at += 16) {
        __m128i w = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* The comparison is signed: bytes over 0x7f are less than a space, too. */
        __m128i found =
            _mm_or_si128(_mm_cmplt_epi8(w, space),
                         _mm_or_si128(_mm_cmpeq_epi8(w, quote), _mm_cmpeq_epi8(w, slash)));
        unsigned mask = (unsigned)_mm_movemask_epi8(found);
        if (mask != 0)
            return (size_t)(at - text) + (size_t)__builtin_ctz(mask);
    }
#endif
    for (uint64_t w; end - at >= 8; at += 8) {
        memcpy(&w, at, 8);
        if (not_plain(w))
            break;
    }
    while (at != end && plain[(unsigned char)*at])
        at++;
    return (size_t)(at - text);
}

/* s->at points after the opening quote. */
static bool scan_string(struct json_scan *s)
{
    const char *at = s->at, *end = s->end;
    s->token = at;
    s->escaped = false;
    for (;;) {
        at += json_plain_run(at, (size_t)(end - at));
        if (at == end)
            break;
        unsigned char c = (unsigned char)*at;
        if (c == '"') {
            s->token_len = (size_t)(at - s->token);
            s->at = at + 1;
            return true;
        }
        if (c == '\\') {
            const char *next = skip_escape(at + 1, end, s->halves != JSON_HALVES_REFUSED);
            if (next == NULL) {
                fail_at(s, at, "a bad escape in a string");
                return false;
            }
            s->escaped = true;
            at = next;
        } else if (c < 0x20) {
            fail_at(s, at, "a control byte in a string (it must be escaped)");
            return false;
        } else {
            size_t n = utf8_char((const unsigned char *)at, (const unsigned char *)end);
            if (n == 0) {
                fail_at(s, at, "invalid UTF-8 in a string");
                return false;
            }
            at += n;
        }
    }
    fail_at(s, at, "");
    return false;
}

static enum json_token scan_number(struct json_scan *s)
{
    const char *at = s->at, *end = s->end;
    s->token = at;
    s->integer = true;
    if (*at == '-')
        at++;
    if (!is_digit(at, end))
        return fail_at(s, at, "expected a digit");
    if (*at == '0') {
        at++;
        if (is_digit(at, end))
            return fail_at(s, at, "a number with a leading zero");
    } else {
        while (is_digit(at, end))
            at++;
    }
    if (at != end && *at == '.') {
        s->integer = false;
        at++;
        if (!is_digit(at, end))
            return fail_at(s, at, "expected a digit after the decimal point");
        while (is_digit(at, end))
            at++;
    }
    if (at != end && (*at == 'e' || *at == 'E')) {
        s->integer = false;
        at++;
        if (at != end && (*at == '+' || *at == '-'))
            at++;
        if (!is_digit(at, end))
            return fail_at(s, at, "expected a digit in the exponent");
        while (is_digit(at, end))
            at++;
    }
    s->token_len = (size_t)(at - s->token);
    s->at = at;
    s->state = AFTER_VALUE;
    return JSON_NUMBER;
}

static enum json_token scan_word(struct json_scan *s, const char *word, size_t len,
                                 enum json_token token)
{
    const char *at = s->at;
    for (size_t i = 0; i < len; i++, at++)
        if (at == s->end || *at != word[i])
            return fail_at(s, at == s->end ? at : s->at, "expected a value");
    s->at = at;
    s->state = AFTER_VALUE;
    return token;
}

static bool in_object(const struct json_scan *s)
{
    return s->in_object[s->depth >> 3] >> (s->depth & 7) & 1;
}

static enum json_token open_container(struct json_scan *s, bool object)
{
    if (s->depth == s->max_depth)
        return fail_at(s, s->at, "nested too deep");
    s->at++;
    s->depth++;
    unsigned char bit = (unsigned char)(1u << (s->depth & 7));
    unsigned char *byte = &s->in_object[s->depth >> 3];
    *byte = (unsigned char)(object ? *byte | bit : *byte & ~bit);
    s->state = object ? OBJECT_FIRST : ARRAY_FIRST;
    return object ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_token close_container(struct json_scan *s, bool object)
{
    s->at++;
    s->depth--;
    s->state = AFTER_VALUE;
    return object ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static enum json_token scan_value(struct json_scan *s)
{
    switch (*s->at) {
    case '{':
        return open_container(s, true);
    case '[':
        return open_container(s, false);
    case '"':
        s->at++;
        if (!scan_string(s))
            return JSON_ERROR;
        s->state = AFTER_VALUE;
        return JSON_STRING;
    case 't':
        return scan_word(s, "true", 4, JSON_TRUE);
    case 'f':
        return scan_word(s, "false", 5, JSON_FALSE);
    case 'n':
        return scan_word(s, "null", 4, JSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(s);
    case '\xef':
        if (s->at == s->text && s->end - s->at >= 3 && memcmp(s->at, "\xef\xbb\xbf", 3) == 0)
            return fail_at(s, s->at, "a byte order mark before the value");
        break;
    default:
        break;
    }
    return fail_at(s, s->at, "expected a value");
}

static enum json_token scan_key(struct json_scan *s)
{
    if (*s->at != '"')
        return fail_at(s, s->at, "expected a key in double quotes");
    s->at++;
    if (!scan_string(s))
        return JSON_ERROR;
    s->at = skip_space(s->at, s->end);
    if (s->at == s->end || *s->at != ':')
        return fail_at(s, s->at, "expected ':' after the key");
    s->at++;
    s->state = VALUE;
    return JSON_KEY;
}

enum json_token json_scan_next(struct json_scan *s)
{
    if (s->state == FAILED)
        return JSON_ERROR;
    s->at = skip_space(s->at, s->end);
    if (s->state == AFTER_VALUE) {
        if (s->depth == 0) {
            if (s->at != s->end)
                return fail_at(s, s->at, "unexpected text after the value");
            return JSON_END;
        }
        bool object = in_object(s);
        if (s->at == s->end)
            return fail_at(s, s->at, "");
        if (*s->at == (object ? '}' : ']'))
            return close_container(s, object);
        if (*s->at != ',')
            return fail_at(s, s->at, object ? "expected ',' or '}'" : "expected ',' or ']'");
        s->at = skip_space(s->at + 1, s->end);
        s->state = object ? OBJECT_KEY : VALUE;
    }
    if (s->at == s->end)
        return fail_at(s, s->at, "");
    switch ((enum state)s->state) {
    case OBJECT_FIRST:
        return *s->at == '}' ? close_container(s, true) : scan_key(s);
    case OBJECT_KEY:
        return scan_key(s);
    case ARRAY_FIRST:
        return *s->at == ']' ? close_container(s, false) : scan_value(s);
    default:
        return scan_value(s);
    }
}

static char *put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *out++ = (char)(0xe0 | code >> 12);
        } else {
            *out++ = (char)(0xf0 | code >> 18);
            *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (code & 0x3f));
    return out;
}

size_t json_unescape(char *out, const char *token, size_t len, enum json_halves halves)
{
    char *start = out;
    const char *at = token, *end = token + len;
    while (at != end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        size_t run = (size_t)((slash ? slash : end) - at);
        memcpy(out, at, run);
        out += run;
        if (slash == NULL)
            break;
        at = slash + 2;
        switch (slash[1]) {
        case 'b':
            *out++ = '\b';
            break;
        case 'f':
            *out++ = '\f';
            break;
        case 'n':
            *out++ = '\n';
            break;
        case 'r':
            *out++ = '\r';
            break;
        case 't':
            *out++ = '\t';
            break;
        case 'u': {
            unsigned code = (unsigned)hex4(at, end);
            at += 4;
            if (code >= 0xd800 && code <= 0xdfff) {
                int low = code <= 0xdbff ? second_half(at, end) : -1;
                if (low >= 0) {
                    code = 0x10000 + ((code - 0xd800) << 10) + ((unsigned)low - 0xdc00);
                    at += 6;
                } else if (halves != JSON_HALVES_KEPT) {
                    code = 0xfffd;
                }
            }
            out = put_utf8(out, code);
            break;
        }
        default:
            *out++ = slash[1];
        }
    }
    return (size_t)(out - start);
}

enum err_kind json_scan_err(const struct json_scan *s, struct err *err)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < s->offset; i++) {
        unsigned char c = (unsigned char)s->text[i];
        if (c == '\n') {
            line++;
            column = 1;
        } else if ((c & 0xc0) != 0x80) {
            column++; /* counts characters, as editors do */
        }
    }
    return err_set(err, ERR_INVALID, "json: line %zu, column %zu (byte %zu): %s", line, column,
                   s->offset + 1, s->fault);
}
