#include "ground/http1_head.h"

#include <string.h>

/* ---- Lines. */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The rest s[0..len) of a line is not valid: says why. */
static enum http1_fault stopped(const char *s, size_t len, enum http1_fault otherwise)
{
    if (len == 0)
        return FAULT_TRUNCATED;
    if (s[0] == '\0')
        return FAULT_NUL;
    return s[0] == '\r' && (len == 1 || s[1] != '\n') ? FAULT_BARE_CR : otherwise;
}

/* How many bytes the line end at s has; 0: there is none. */
static size_t line_end(const char *s, size_t len)
{
    if (len >= 2 && s[0] == '\r' && s[1] == '\n')
        return 2;
    return len >= 1 && s[0] == '\n';
}

/* Whether s[0..len) is `word`, which has lower-case letters, digits and dashes, in any case.
 * Setting the bit of lower case makes such a byte of a control byte, too; but there are none in s.
 */
static bool is_word(const char *s, size_t len, const char *word, size_t word_len)
{
    if (len != word_len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((s[i] | 0x20) != word[i])
            return false;
    }
    return true;
}

#define IS_WORD(s, len, word) is_word(s, len, word, sizeof(word) - 1)

/* The next element of a list with commas (RFC 9110 5.6.1), without blanks around it. */
static bool next_element(const char **s, size_t *len, const char **element, size_t *element_len)
{
    if (*s == NULL)
        return false;
    const char *comma = *len != 0 ? memchr(*s, ',', *len) : NULL;
    size_t n = comma != NULL ? (size_t)(comma - *s) : *len;
    *element = *s;
    *len -= comma != NULL ? n + 1 : n;
    *s = comma != NULL ? comma + 1 : NULL;
    while (n > 0 && is_blank(**element)) {
        ++*element;
        n--;
    }
    while (n > 0 && is_blank((*element)[n - 1]))
        n--;
    *element_len = n;
    return true;
}

/* ---- What the headers mean for the framing. */

static void read_connection(struct http1_meaning *m, struct http1_head *out, const char *s,
                            size_t len)
{
    const char *word;
    size_t n;
    while (next_element(&s, &len, &word, &n)) {
        m->close |= IS_WORD(word, n, "close");
        m->keep_alive |= IS_WORD(word, n, "keep-alive");
        out->upgrade |= IS_WORD(word, n, "upgrade");
    }
}

/* -1: it is not a number, or over 2^63-1. */
static int64_t read_number(const char *s, size_t len)
{
    int64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(s[i]) || n > (INT64_MAX - (s[i] - '0')) / 10)
            return -1;
        n = n * 10 + (s[i] - '0');
    }
    return len != 0 ? n : -1;
}

/* Equal values may stand in several lines of a response, as some servers repeat the header (RFC
 * 9112 6.3). A list in one line is refused, as curl does. No honest client repeats the header. */
static enum http1_fault read_length(struct http1_meaning *m, const char *s, size_t len)
{
    int64_t length = read_number(s, len);
    if (length < 0 || (m->length >= 0 && (m->request || length != m->length)))
        return FAULT_CONTENT_LENGTH;
    m->length = length;
    return FAULT_NONE;
}

/* Codings with parameters are refused: none is registered that has any, and a quoted one could hide
 * a comma. So are empty elements of the list: behind `chunked,` others see no chunks. */
static enum http1_fault read_encoding(struct http1_meaning *m, struct http1_head *out,
                                      const char *s, size_t len)
{
    const char *word;
    size_t n;
    m->encoded = true;
    while (next_element(&s, &len, &word, &n)) {
        if (n == 0 || m->chunked || headers_name_span(word, n) != n)
            return FAULT_TRANSFER_ENCODING;
        m->chunked = IS_WORD(word, n, "chunked");
        out->coded |= !m->chunked;
    }
    return FAULT_NONE;
}

static enum http1_fault read_meaning(struct http1_meaning *m, struct http1_head *out,
                                     const struct header *row)
{
    const char *name = out->fields + row->name_off, *value = out->fields + row->value_off;
    size_t name_len = row->name_len, len = row->value_len;
    switch (name_len) {
    case 4:
        m->hosts += IS_WORD(name, name_len, "host");
        break;
    case 6:
        if (IS_WORD(name, name_len, "expect"))
            out->expect |= IS_WORD(value, len, "100-continue");
        break;
    case 10:
        if (IS_WORD(name, name_len, "connection"))
            read_connection(m, out, value, len);
        break;
    case 14:
        if (IS_WORD(name, name_len, "content-length"))
            return read_length(m, value, len);
        break;
    case 17:
        if (IS_WORD(name, name_len, "transfer-encoding"))
            return read_encoding(m, out, value, len);
        break;
    default:
        break;
    }
    return FAULT_NONE;
}

/* ---- A head. */

/* Reads the header at s[0..len), with its line end, into *row. `base` is the offset of s. */
static enum http1_fault read_field(const char *s, size_t len, size_t base, bool strict_ends,
                                   struct header *row, size_t *next)
{
    size_t name_len = headers_name_span(s, len);
    if (name_len == len || s[name_len] != ':' || name_len == 0)
        return stopped(s + name_len, len - name_len,
                       is_blank(s[0]) ? FAULT_FOLDED_LINE : FAULT_HEADER_NAME);
    size_t value = name_len + 1;
    while (value < len && is_blank(s[value]))
        value++;
    size_t end = value + headers_value_span(s + value, len - value);
    size_t ending = line_end(s + end, len - end);
    if (ending == 0)
        return stopped(s + end, len - end, FAULT_HEADER_VALUE);
    if (ending == 1 && strict_ends)
        return FAULT_BARE_LF;
    *next = base + end + ending;
    while (end > value && is_blank(s[end - 1]))
        end--;
    *row = (struct header){
        .name_off = (uint32_t)base,
        .name_len = (uint32_t)name_len,
        .value_off = (uint32_t)(base + value),
        .value_len = (uint32_t)(end - value),
    };
    return FAULT_NONE;
}

/* Reads the headers up to the empty line. `m` is NULL for trailers: they mean nothing. */
static enum http1_fault read_fields(enum http1_kind kind, const char *s, size_t len,
                                    size_t max_headers, struct http1_head *out,
                                    struct http1_meaning *m, size_t *used)
{
    size_t at = 0, count = 0, ending;
    out->fields = s;
    while ((ending = line_end(s + at, len - at)) == 0) {
        struct header *row = &out->rows[count];
        if (at == len)
            return FAULT_TRUNCATED;
        if (count++ == max_headers)
            return FAULT_TOO_MANY_HEADERS;
        enum http1_fault fault = read_field(s + at, len - at, at, kind == HTTP1_REQUEST, row, &at);
        if (fault == FAULT_NONE && m != NULL)
            fault = read_meaning(m, out, row);
        if (fault != FAULT_NONE)
            return fault;
    }
    out->count = count;
    out->fields_len = *used = at + ending;
    return ending == 1 && kind == HTTP1_REQUEST ? FAULT_BARE_LF : FAULT_NONE;
}

static enum http1_fault read_status_line(const char *s, size_t len, struct http1_head *out)
{
    if (len < 12 || (s[7] != '0' && s[7] != '1') || s[8] != ' ' || s[9] == '0' || !is_digit(s[9]) ||
        !is_digit(s[10]) || !is_digit(s[11]) || (len > 12 && s[12] != ' '))
        return FAULT_STATUS_LINE;
    out->minor = (unsigned)(s[7] - '0');
    out->status = (unsigned)((s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0'));
    out->word = s + MIN(len, 13);
    out->word_len = len - MIN(len, 13);
    out->target = NULL;
    out->target_len = 0;
    return FAULT_NONE;
}

static enum http1_fault read_request_line(const char *s, size_t len, struct http1_head *out)
{
    size_t method = headers_name_span(s, len);
    const char *target = s + method + 1;
    const char *end = method < len ? memchr(target, ' ', len - method - 1) : NULL;
    if (method == 0 || end == NULL || s[method] != ' ' || end == target ||
        memchr(target, '\t', (size_t)(end - target)) != NULL)
        return FAULT_REQUEST_LINE;
    size_t version = (size_t)(s + len - end) - 1;
    if (version != 8 || memcmp(end + 1, "HTTP/1.", 7) != 0 || !is_digit(end[8]))
        return version >= 5 && memcmp(end + 1, "HTTP/", 5) == 0 ? FAULT_VERSION
                                                                : FAULT_REQUEST_LINE;
    out->minor = (unsigned)(end[8] - '0');
    out->status = 0;
    out->word = s;
    out->word_len = method;
    out->target = target;
    out->target_len = (size_t)(end - target);
    return FAULT_NONE;
}

/* *next is where the headers begin. */
static enum http1_fault read_first_line(enum http1_kind kind, const char *s, size_t len,
                                        struct http1_head *out, size_t *next)
{
    bool request = kind == HTTP1_REQUEST;
    size_t end = headers_value_span(s, len), ending = line_end(s + end, len - end);
    if (ending == 0)
        return stopped(s + end, len - end, request ? FAULT_REQUEST_LINE : FAULT_STATUS_LINE);
    if (ending == 1 && request)
        return FAULT_BARE_LF;
    *next = end + ending;
    return request ? read_request_line(s, end, out) : read_status_line(s, end, out);
}

enum http1_fault http1_head_opening(enum http1_kind kind, const char *s, size_t len)
{
    static const char version[] = "HTTP/1.";
    if (kind == HTTP1_RESPONSE)
        return memcmp(s, version, MIN(len, sizeof version - 1)) != 0 ? FAULT_STATUS_LINE
                                                                     : FAULT_NONE;
    if (headers_name_span(s, 1) == 1)
        return FAULT_NONE;
    if (s[0] == '\r')
        return len == 1 || s[1] == '\n' ? FAULT_NONE : FAULT_BARE_CR;
    return s[0] == '\n' ? FAULT_BARE_LF : stopped(s, len, FAULT_REQUEST_LINE);
}

enum http1_fault http1_head_read(enum http1_kind kind, const char *s, size_t len,
                                 size_t max_headers, struct http1_head *out,
                                 struct http1_meaning *m, size_t *used)
{
    *m = (struct http1_meaning){.request = kind == HTTP1_REQUEST, .length = -1};
    out->coded = out->upgrade = out->expect = false;
    size_t first = 0;
    enum http1_fault fault = read_first_line(kind, s, len, out, &first);
    if (fault == FAULT_NONE)
        fault = read_fields(kind, s + first, len - first, max_headers, out, m, used);
    if (fault == FAULT_NONE && m->encoded && !m->chunked)
        fault = FAULT_TRANSFER_ENCODING;
    if (fault != FAULT_NONE)
        return fault;
    *used += first;
    out->content_length = m->length;
    return FAULT_NONE;
}

enum http1_fault http1_head_read_trailers(enum http1_kind kind, const char *s, size_t len,
                                          size_t max_headers, struct http1_head *out, size_t *used)
{
    return read_fields(kind, s, len, max_headers, out, NULL, used);
}
