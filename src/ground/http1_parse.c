#include "ground/http1_parse.h"

#include <string.h>

enum state {
    READ_HEAD,
    READ_LENGTH,
    READ_UNTIL_CLOSE,
    READ_CHUNK_SIZE,
    READ_CHUNK_BLANK, /* behind the size */
    READ_CHUNK_EXTENSION,
    READ_CHUNK_LINE_LF,
    READ_CHUNK_DATA,
    READ_CHUNK_CR, /* behind the data */
    READ_CHUNK_LF,
    READ_TRAILERS,
    READ_NOTHING, /* the message is complete */
    READ_FAILED
};

static const struct {
    const char *reason, *message;
} faults[] = {
    [FAULT_STATUS_LINE] = {"status_line", "the response does not begin with HTTP/1.x and a status"},
    [FAULT_REQUEST_LINE] = {"request_line",
                            "the request does not begin with a method and a target"},
    [FAULT_VERSION] = {"version", "the request is not of HTTP/1.x"},
    [FAULT_HEADER_NAME] = {"header_name", "a line of the head is no header: its name is invalid"},
    [FAULT_HEADER_VALUE] = {"header_value", "a header has a control byte in its value"},
    [FAULT_FOLDED_LINE] = {"folded_line",
                           "a line of the head begins with a blank (a folded header)"},
    [FAULT_BARE_CR] = {"bare_cr", "a CR is not followed by a LF"},
    [FAULT_BARE_LF] = {"bare_lf", "a LF does not follow a CR"},
    [FAULT_NUL] = {"nul", "a NUL byte is in the head, the trailers or a chunk line"},
    [FAULT_CONTENT_LENGTH] = {"content_length",
                              "Content-Length is no number, too large or contradictory"},
    [FAULT_TRANSFER_ENCODING] = {"transfer_encoding",
                                 "the Transfer-Encoding is not, or does not end with, chunked"},
    [FAULT_TWO_LENGTHS] = {"two_lengths",
                           "the request has both a Content-Length and a Transfer-Encoding"},
    [FAULT_HOST] = {"host", "the request does not have one Host header"},
    [FAULT_CHUNK_SIZE] = {"chunk_size", "the size of a chunk is no number, or too large"},
    [FAULT_CHUNK_EXTENSION] = {"chunk_extension",
                               "the extension of a chunk is invalid or too long"},
    [FAULT_CHUNK_END] = {"chunk_end", "a chunk is not followed by a line end"},
    [FAULT_TOO_MANY_HEADERS] = {"too_many_headers", "the message has too many headers"},
    [FAULT_HEAD_TOO_LARGE] = {"head_too_large", "the headers of the message are too large"},
    [FAULT_LINE_TOO_LONG] = {"line_too_long", "a line of the head is too long"},
    [FAULT_TOO_MANY_INFORMATIONAL] = {"too_many_informational",
                                      "too many interim (1xx) responses came"},
    [FAULT_UNEXPECTED_101] = {"unexpected_101",
                              "the server switches protocols (101) without being asked"},
    [FAULT_TRUNCATED] = {"truncated", "the connection closed before the message was complete"},
};

static const struct http1_limits default_limits = {
    .head_bytes = 256 * 1024,
    .line_bytes = 64 * 1024,
    .headers = HTTP1_MAX_HEADERS,
    .informational = 32,
    .extension_bytes = 1024,
};

void http1_parse_init(struct http1_parser *p, enum http1_kind kind,
                      const struct http1_limits *limits)
{
    *p = (struct http1_parser){
        .kind = (uint8_t)kind,
        .state = READ_HEAD,
        .limits = limits != NULL ? limits : &default_limits,
    };
    ASSERT(p->limits->headers <= HTTP1_MAX_HEADERS);
}

static enum http1_result failed(const struct http1_parser *p, struct err *err)
{
    enum err_kind kind = p->fault == FAULT_TRUNCATED ? ERR_CLOSED : ERR_PROTOCOL;
    err_set(err, kind, "%s", faults[p->fault].message);
    err_reason(err, faults[p->fault].reason);
    return HTTP1_FAILED;
}

static enum http1_result fail(struct http1_parser *p, enum http1_fault fault, struct err *err)
{
    p->state = READ_FAILED;
    p->fault = (uint8_t)fault;
    return failed(p, err);
}

/* ---- The end of a head. Each byte is looked at once, however often it is handed in. */

/* *end is the number of bytes up to the empty line, with it; 0: it has not come. Of two limits, it
 * names the one that is reached first, so that it does not matter how the bytes were cut. */
static enum http1_fault find_end(struct http1_parser *p, const char *s, size_t len, size_t *end)
{
    const size_t line_max = p->limits->line_bytes, head_max = p->limits->head_bytes;
    const unsigned max_lines = p->limits->headers + (p->state == READ_HEAD);
    size_t line = p->line, scanned = p->scanned;
    unsigned lines = p->lines;
    *end = 0;
    while (scanned < len) {
        const char *lf = memchr(s + scanned, '\n', len - scanned);
        scanned = lf != NULL ? (size_t)(lf - s) + 1 : len;
        if (scanned - line > line_max || scanned > head_max)
            return line + line_max < head_max ? FAULT_LINE_TOO_LONG : FAULT_HEAD_TOO_LARGE;
        if (lf == NULL)
            break;
        if (scanned - line <= 2 && (lf == s + line || s[line] == '\r')) {
            *end = scanned;
            return FAULT_NONE;
        }
        line = scanned;
        if (++lines > max_lines)
            return FAULT_TOO_MANY_HEADERS;
    }
    p->line = (uint32_t)line;
    p->scanned = (uint32_t)scanned;
    p->lines = (uint16_t)lines;
    return FAULT_NONE;
}

static void begin_lines(struct http1_parser *p, enum state state)
{
    p->state = (uint8_t)state;
    p->scanned = p->line = 0;
    p->lines = 0;
}

static bool stays_open(const struct http1_head *out, const struct http1_meaning *m)
{
    /* RFC 9112 6.1: HTTP/1.0 knows no Transfer-Encoding; whoever sends both may be attacked. */
    if (m->close || (m->encoded && (m->length >= 0 || out->minor == 0)))
        return false;
    return out->minor > 0 || m->keep_alive;
}

static enum http1_fault frame_response(struct http1_parser *p, struct http1_head *out,
                                       const struct http1_meaning *m)
{
    bool interim = out->status < 200;
    out->informational = interim && out->status != 101;
    if (out->status == 101 && !p->may_upgrade)
        return FAULT_UNEXPECTED_101;
    if (out->informational && ++p->informational > p->limits->informational)
        return FAULT_TOO_MANY_INFORMATIONAL;
    /* If bytes of such a body did follow, they would be taken for the next response. */
    if ((interim || out->status == 204) && (m->encoded || m->length > 0))
        p->tainted = true;
    if (interim || out->status == 204 || out->status == 304 || p->to_head)
        out->body = HTTP1_NO_BODY;
    else if (m->encoded)
        out->body = HTTP1_CHUNKED;
    else
        out->body = m->length >= 0 ? HTTP1_LENGTH : HTTP1_UNTIL_CLOSE;
    out->keep_alive &= !p->tainted && out->body != HTTP1_UNTIL_CLOSE && out->status != 101;
    return FAULT_NONE;
}

static enum http1_fault frame_request(struct http1_head *out, const struct http1_meaning *m)
{
    if (m->hosts > 1 || (m->hosts == 0 && out->minor > 0))
        return FAULT_HOST;
    if (m->encoded && out->minor == 0)
        return FAULT_TRANSFER_ENCODING;
    /* RFC 9112 6.1 allows a server to obey Transfer-Encoding. But only attackers send both, so that
     * two readers see two requests. */
    if (m->encoded && m->length >= 0)
        return FAULT_TWO_LENGTHS;
    out->informational = false;
    if (m->encoded)
        out->body = HTTP1_CHUNKED;
    else
        out->body = m->length >= 0 ? HTTP1_LENGTH : HTTP1_NO_BODY;
    return FAULT_NONE;
}

/* *end is the length of the head, or 0 if it is not complete. */
static enum http1_fault read_head(struct http1_parser *p, const char *s, size_t len,
                                  struct http1_head *out, size_t *end)
{
    const struct http1_limits *limits = p->limits;
    size_t window = MIN(len, MIN(limits->line_bytes, limits->head_bytes));
    struct http1_meaning m;
    enum http1_fault fault;
    *end = 0;
    /* Most heads come in one piece, and are good: they need no search for their end. Any other head
     * is read when it is complete, so that its fault does not depend on how the bytes are cut. */
    if (p->scanned != 0 ||
        http1_head_read(p->kind, s, window, limits->headers, out, &m, end) != FAULT_NONE) {
        fault = find_end(p, s, len, end);
        if (fault != FAULT_NONE || *end == 0)
            return fault;
        fault = http1_head_read(p->kind, s, *end, limits->headers, out, &m, end);
        if (fault != FAULT_NONE)
            return fault;
    }
    out->keep_alive = stays_open(out, &m);
    return p->kind == HTTP1_REQUEST ? frame_request(out, &m) : frame_response(p, out, &m);
}

static void begin_body(struct http1_parser *p, const struct http1_head *head)
{
    static const uint8_t states[] = {
        [HTTP1_NO_BODY] = READ_NOTHING,
        [HTTP1_LENGTH] = READ_LENGTH,
        [HTTP1_CHUNKED] = READ_CHUNK_SIZE,
        [HTTP1_UNTIL_CLOSE] = READ_UNTIL_CLOSE,
    };
    if (head->informational) {
        begin_lines(p, READ_HEAD);
        return;
    }
    p->state = states[head->body];
    p->left = head->body == HTTP1_LENGTH ? (uint64_t)head->content_length : 0;
    if (head->body == HTTP1_LENGTH && p->left == 0)
        p->state = READ_NOTHING;
}

static enum http1_result next_head(struct http1_parser *p, const char **in, size_t *len,
                                   struct http1_event *out, struct err *err)
{
    /* RFC 9112 2.2: clients of old end a body with an empty line too many. */
    while (p->kind == HTTP1_REQUEST && p->lines == 0 && *len >= 2 && memcmp(*in, "\r\n", 2) == 0) {
        *in += 2;
        *len -= 2;
        p->scanned = 0;
    }
    if (*len == 0)
        return HTTP1_MORE;
    size_t end = 0;
    enum http1_fault fault = p->lines == 0 ? http1_head_opening(p->kind, *in, *len) : FAULT_NONE;
    if (fault == FAULT_NONE)
        fault = read_head(p, *in, *len, &out->head, &end);
    if (fault != FAULT_NONE)
        return fail(p, fault, err);
    if (end == 0)
        return HTTP1_MORE;
    begin_body(p, &out->head);
    *in += end;
    *len -= end;
    return HTTP1_HEAD;
}

/* ---- Bodies. */

static enum http1_result next_piece(struct http1_parser *p, const char **in, size_t *len,
                                    struct http1_event *out, enum state then)
{
    if (*len == 0)
        return HTTP1_MORE;
    size_t n = *len;
    if (p->state != READ_UNTIL_CLOSE) {
        n = p->left < n ? (size_t)p->left : n;
        p->left -= n;
        if (p->left == 0)
            p->state = (uint8_t)then;
    }
    out->data = *in;
    out->len = n;
    *in += n;
    *len -= n;
    return HTTP1_BODY;
}

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum http1_fault behind_size(struct http1_parser *p, unsigned char c)
{
    /* RFC 9112 7.1.1: blanks may only stand before an extension. Servers pad sizes all the same. */
    if (c == '\r' && p->state == READ_CHUNK_BLANK && p->kind == HTTP1_REQUEST)
        return FAULT_CHUNK_SIZE;
    if (c == '\r')
        p->state = READ_CHUNK_LINE_LF;
    else if (c == ';')
        p->state = READ_CHUNK_EXTENSION;
    else if (c == ' ' || c == '\t')
        p->state = READ_CHUNK_BLANK;
    else if (c == '\n')
        return FAULT_BARE_LF;
    else
        return c == '\0' ? FAULT_NUL : FAULT_CHUNK_SIZE;
    return c != '\r' && ++p->extension > p->limits->extension_bytes ? FAULT_CHUNK_EXTENSION
                                                                    : FAULT_NONE;
}

static enum http1_fault size_byte(struct http1_parser *p, unsigned char c)
{
    int value = hex_value(c);
    if (value < 0)
        return p->digits == 0 ? (c == '\0' ? FAULT_NUL : FAULT_CHUNK_SIZE) : behind_size(p, c);
    /* Sixteen digits, as in curl: zeros without end are no number. */
    if (++p->digits > 16 || p->left > (uint64_t)INT64_MAX >> 4)
        return FAULT_CHUNK_SIZE;
    p->left = p->left << 4 | (uint64_t)value;
    return FAULT_NONE;
}

/* Extensions mean nothing to us (RFC 9112 7.1.1), so that only their bytes are checked. */
static enum http1_fault extension_byte(struct http1_parser *p, unsigned char c)
{
    if (c == '\r') {
        p->state = READ_CHUNK_LINE_LF;
        return FAULT_NONE;
    }
    if (c == '\n')
        return FAULT_BARE_LF;
    if (c == '\0')
        return FAULT_NUL;
    bool valid = (c >= 0x20 && c != 0x7f) || c == '\t';
    return !valid || ++p->extension > p->limits->extension_bytes ? FAULT_CHUNK_EXTENSION
                                                                 : FAULT_NONE;
}

static void begin_chunk(struct http1_parser *p)
{
    p->extension = p->digits = 0;
    if (p->left != 0)
        p->state = READ_CHUNK_DATA;
    else
        begin_lines(p, READ_TRAILERS);
}

/* A byte of what lies between the data of two chunks. */
static enum http1_fault chunk_byte(struct http1_parser *p, unsigned char c)
{
    switch (p->state) {
    case READ_CHUNK_SIZE:
        return size_byte(p, c);
    case READ_CHUNK_BLANK:
        return behind_size(p, c);
    case READ_CHUNK_EXTENSION:
        return extension_byte(p, c);
    case READ_CHUNK_LINE_LF:
        if (c != '\n')
            return FAULT_BARE_CR;
        begin_chunk(p);
        return FAULT_NONE;
    case READ_CHUNK_CR:
        p->state = READ_CHUNK_LF;
        return c == '\r' ? FAULT_NONE : c == '\n' ? FAULT_BARE_LF : FAULT_CHUNK_END;
    default:
        p->state = READ_CHUNK_SIZE;
        return c == '\n' ? FAULT_NONE : FAULT_BARE_CR;
    }
}

static enum http1_result next_trailers(struct http1_parser *p, const char **in, size_t *len,
                                       struct http1_event *out, struct err *err)
{
    size_t end;
    enum http1_fault fault = find_end(p, *in, *len, &end);
    if (fault == FAULT_NONE && end != 0)
        fault = http1_head_read_trailers(p->kind, *in, end, p->limits->headers, &out->head, &end);
    if (fault != FAULT_NONE)
        return fail(p, fault, err);
    if (end == 0)
        return HTTP1_MORE;
    *in += end;
    *len -= end;
    p->state = READ_NOTHING;
    return out->head.count != 0 ? HTTP1_TRAILERS : HTTP1_DONE;
}

static enum http1_result next_chunk(struct http1_parser *p, const char **in, size_t *len,
                                    struct http1_event *out, struct err *err)
{
    while (p->state != READ_CHUNK_DATA && p->state != READ_TRAILERS) {
        if (*len == 0)
            return HTTP1_MORE;
        enum http1_fault fault = chunk_byte(p, (unsigned char)**in);
        if (fault != FAULT_NONE)
            return fail(p, fault, err);
        ++*in;
        --*len;
    }
    if (p->state == READ_TRAILERS)
        return next_trailers(p, in, len, out, err);
    return next_piece(p, in, len, out, READ_CHUNK_CR);
}

enum http1_result http1_parse_next(struct http1_parser *p, const char **in, size_t *len,
                                   struct http1_event *out, struct err *err)
{
    switch (p->state) {
    case READ_HEAD:
        return next_head(p, in, len, out, err);
    case READ_LENGTH:
    case READ_UNTIL_CLOSE:
        return next_piece(p, in, len, out, READ_NOTHING);
    case READ_NOTHING:
        return HTTP1_DONE;
    case READ_FAILED:
        return failed(p, err);
    default:
        return next_chunk(p, in, len, out, err);
    }
}

enum http1_result http1_parse_end(struct http1_parser *p, struct err *err)
{
    if (p->state == READ_UNTIL_CLOSE)
        p->state = READ_NOTHING;
    if (p->state == READ_NOTHING)
        return HTTP1_DONE;
    return p->state == READ_FAILED ? failed(p, err) : fail(p, FAULT_TRUNCATED, err);
}
