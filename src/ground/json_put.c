#include "ground/json_put.h"

#include "ground/json_scan.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum err_kind write_integer(struct buf *out, int64_t value)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? (uint64_t)-value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0)
        *--at = '-';
    return json_put(out, at, (size_t)(digits + sizeof digits - at));
}

/* Writes a number with few decimals (0.7, 12.25) without printf, as this is the common case. If
 * `value` is exactly a whole number divided by a power of ten, then those digits read back as
 * `value`. Returns the length, or 0 if the number is not of this kind. */
static size_t short_decimal(char *out, double value)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    double size = fabs(value);
    if (size >= 1e9 || size < 1e-3)
        return 0;
    for (int places = 1; places <= 6; places++) {
        double scaled = nearbyint(size * powers[places]);
        if (scaled / powers[places] != size)
            continue;
        uint64_t all = (uint64_t)scaled;
        char digits[24];
        char *at = digits + sizeof digits;
        for (int i = 0; i < places || all != 0 || i == places; i++) {
            if (i == places)
                *--at = '.';
            *--at = (char)('0' + all % 10);
            all /= 10;
        }
        if (value < 0)
            *--at = '-';
        size_t len = (size_t)(digits + sizeof digits - at);
        memcpy(out, at, len);
        return len;
    }
    return 0;
}

enum err_kind json_put_number(struct buf *out, double value)
{
    const double exact = 9007199254740992.0; /* 2^53 */
    if (value >= -exact && value <= exact && (double)(int64_t)value == value &&
        !(value == 0 && signbit(value)))
        return write_integer(out, (int64_t)value);
    char text[40];
    size_t len = short_decimal(text, value);
    if (len != 0)
        return json_put(out, text, len);
    for (int digits = 15; digits <= 17; digits++) {
        len = (size_t)snprintf(text, sizeof text, "%.*g", digits, value);
        if (digits == 17 || strtod(text, NULL) == value)
            break;
    }
    /* The host's locale may use a decimal comma. */
    for (size_t i = 0; i < len; i++)
        if (strchr("0123456789+-eE", text[i]) == NULL)
            text[i] = '.';
    return json_put(out, text, len);
}

/* The character after the backslash. 'u': four hex digits follow. 0: no escape is needed. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 ? 'u' : 0;
    }
}

/* Does not reserve room for the worst case (6 bytes for each one): a large string would then need
 * six times its size. */
enum err_kind json_put_string(struct buf *out, const char *text, size_t len, bool *valid)
{
    *valid = true;
    enum err_kind kind = buf_reserve(out, len > SIZE_MAX - 2 ? len : len + 2);
    if (kind != ERR_NONE)
        return kind;
    size_t run = 0, i = json_plain_run(text, len);
    if (i == len) { /* nothing to escape: the usual case */
        char *end = out->data + out->len;
        end[0] = '"';
        memcpy(end + 1, text, len);
        end[len + 1] = '"';
        buf_commit(out, len + 2);
        return ERR_NONE;
    }
    kind = json_put(out, "\"", 1);
    while (kind == ERR_NONE && (i += json_plain_run(text + i, len - i)) < len) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80) {
            /* Copies the whole run of such bytes: one character at a time is slow for non-Latin
             * text. */
            size_t end = i + 1;
            while (end < len && (unsigned char)text[end] >= 0x80)
                end++;
            if (json_utf8_valid(text + i, end - i) != end - i) {
                *valid = false;
                return ERR_INVALID;
            }
            i = end;
            continue;
        }
        char escape = escape_of(c);
        char bytes[8] = {'\\', escape};
        size_t escape_len = 2;
        if (escape == 'u') {
            static const char hex[] = "0123456789abcdef";
            memcpy(bytes, "\\u00", 4);
            bytes[4] = hex[c >> 4];
            bytes[5] = hex[c & 15];
            escape_len = 6;
        }
        kind = json_put(out, text + run, i - run);
        if (kind == ERR_NONE)
            kind = json_put(out, bytes, escape_len);
        run = ++i;
    }
    if (kind == ERR_NONE)
        kind = json_put(out, text + run, len - run);
    return kind == ERR_NONE ? json_put(out, "\"", 1) : kind;
}
