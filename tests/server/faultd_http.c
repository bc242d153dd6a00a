#include "faultd.h"
#include <strings.h>

/* The length of the head with its blank line; 0: not all there yet. */
static size_t head_length(const struct bytes *in)
{
    const char *end = in->len ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - in->data) + 4 : 0;
}

static int parse_head(struct request *req, char *p)
{
    char *save = NULL;
    char *line = strtok_r(p, "\r\n", &save);
    if (!line)
        return -1;
    char *space = strchr(line, ' ');
    char *last = strrchr(line, ' ');
    if (!space || last == space)
        return -1;
    *space = *last = 0;
    req->method = line;
    req->path = space + 1;
    req->version = last + 1;
    char *query = strchr(space + 1, '?');
    req->query = query ? query + 1 : "";
    if (query)
        *query = 0;
    while ((line = strtok_r(NULL, "\r\n", &save))) {
        char *colon = strchr(line, ':');
        if (!colon || req->header_count == MAX_REQUEST_HEADERS)
            return -1;
        *colon++ = 0;
        colon += strspn(colon, " \t");
        req->headers[req->header_count].name = line;
        req->headers[req->header_count++].value = colon;
    }
    return strncmp(req->version, "HTTP/1.", 7) == 0 ? 1 : -1;
}

/* Decodes a chunked body that begins at `p`. The bytes it took, 0: not all there yet, -1: broken.
 */
static long take_chunks(const char *p, size_t len, struct bytes *body)
{
    size_t at = 0;
    for (;;) {
        const char *line_end = memmem(p + at, len - at, "\r\n", 2);
        if (!line_end)
            return 0;
        char *end = NULL;
        unsigned long size = strtoul(p + at, &end, 16);
        if (end == p + at)
            return -1;
        at = (size_t)(line_end - p) + 2;
        if (len - at < size + 2)
            return 0;
        if (size == 0)
            return (long)at + 2; /* trailers are not expected from clients */
        bytes_add(body, p + at, size);
        at += size + 2;
    }
}

/* Looks at the head at the front of `in`; *len is its length. */
static int read_head(const struct bytes *in, struct request *req, size_t *len)
{
    *req = (struct request){0};
    *len = head_length(in);
    if (!*len)
        return in->len > (1u << 20) ? -1 : 0;
    req->head = xmalloc(*len + 1);
    memcpy(req->head, in->data, *len);
    int result = parse_head(req, req->head);
    if (result < 0)
        request_free(req);
    return result;
}

int request_take_head(struct bytes *in, struct request *req)
{
    size_t len;
    int result = read_head(in, req, &len);
    if (result > 0)
        bytes_drop(in, len);
    return result;
}

int request_take(struct bytes *in, struct request *req)
{
    size_t head_len;
    int result = read_head(in, req, &head_len);
    if (result <= 0)
        return result;
    size_t taken = head_len;
    bool early = route_is_early(req->path);
    const char *length = early ? NULL : request_header(req, "content-length");
    const char *coding = early ? NULL : request_header(req, "transfer-encoding");
    if (coding && strcasecmp(coding, "chunked") == 0) {
        long n = take_chunks(in->data + head_len, in->len - head_len, &req->body);
        result = n > 0 ? 1 : (int)n;
        taken += n > 0 ? (size_t)n : 0;
    } else if (length) {
        size_t n = strtoul(length, NULL, 10);
        if (in->len - head_len < n)
            result = 0;
        else
            bytes_add(&req->body, in->data + head_len, n);
        taken += n;
    }
    if (result <= 0) {
        request_free(req);
        return result;
    }
    bytes_drop(in, taken);
    return 1;
}

void body_begin(struct body_reader *r, const struct request *req)
{
    const char *length = request_header(req, "content-length");
    const char *coding = request_header(req, "transfer-encoding");
    *r = (struct body_reader){.chunked = coding && strcasecmp(coding, "chunked") == 0};
    if (r->chunked)
        r->phase = BODY_CHUNK_SIZE;
    else
        r->left = length ? strtoull(length, NULL, 10) : 0;
    r->done = !r->chunked && r->left == 0;
}

/* One line of the chunks' framing, which ends behind `len` bytes at `p`. */
static void body_line(struct body_reader *r, const char *p, size_t len)
{
    char *end = NULL;
    switch (r->phase) {
    case BODY_CHUNK_SIZE:
        r->left = strtoull(p, &end, 16);
        r->broken = end == p;
        r->phase = r->left ? BODY_DATA : BODY_TRAILER;
        break;
    case BODY_CHUNK_END:
        r->broken = len != 2;
        r->phase = BODY_CHUNK_SIZE;
        break;
    default:
        r->done = len == 2;
    }
}

size_t body_next(struct body_reader *r, const char *p, size_t len, const char **data,
                 size_t *data_len)
{
    *data = p;
    *data_len = 0;
    if (r->done || r->broken || !len)
        return 0;
    if (r->phase == BODY_DATA) {
        size_t n = r->left < len ? (size_t)r->left : len;
        *data_len = n;
        r->left -= n;
        if (!r->left && r->chunked)
            r->phase = BODY_CHUNK_END;
        else
            r->done = !r->left;
        return n;
    }
    const char *line_end = memmem(p, len, "\r\n", 2);
    if (!line_end) {
        r->broken = len > 8192;
        return 0;
    }
    size_t n = (size_t)(line_end - p) + 2;
    body_line(r, p, n);
    return n;
}

void request_free(struct request *req)
{
    free(req->head);
    req->head = NULL;
    bytes_free(&req->body);
}

const char *request_header(const struct request *req, const char *name)
{
    for (size_t i = 0; i < req->header_count; i++) {
        if (strcasecmp(req->headers[i].name, name) == 0)
            return req->headers[i].value;
    }
    return NULL;
}

static int hex_digit(char ch)
{
    const char *digits = "0123456789abcdef";
    const char *at = ch ? strchr(digits, ch | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

const char *query_str(const struct request *req, const char *name, char *out, size_t size,
                      const char *absent)
{
    size_t name_len = strlen(name);
    for (const char *p = req->query; *p;) {
        size_t len = strcspn(p, "&");
        if (len > name_len && strncmp(p, name, name_len) == 0 && p[name_len] == '=') {
            const char *v = p + name_len + 1, *end = p + len;
            size_t n = 0;
            while (v < end && n + 1 < size) {
                if (*v == '%' && end - v > 2 && hex_digit(v[1]) >= 0 && hex_digit(v[2]) >= 0) {
                    out[n++] = (char)(hex_digit(v[1]) * 16 + hex_digit(v[2]));
                    v += 3;
                } else {
                    out[n++] = *v == '+' ? ' ' : *v;
                    v++;
                }
            }
            out[n] = 0;
            return out;
        }
        p += len + (p[len] == '&');
    }
    return absent;
}

long query_num(const struct request *req, const char *name, long absent)
{
    char text[32];
    const char *v = query_str(req, name, text, sizeof text, NULL);
    return v ? strtol(v, NULL, 10) : absent;
}

struct step *step_add(struct conn *c, enum step_kind kind)
{
    struct step *s = xmalloc(sizeof *s);
    s->kind = kind;
    s->rounds = 1;
    if (c->last_step)
        c->last_step->next = s;
    else
        c->steps = s;
    c->last_step = s;
    return s;
}

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {413, "Too Large"},
        {416, "Range Not Satisfiable"},
        {422, "Unprocessable"},
        {429, "Too Many Requests"},
        {500, "Server Error"},
        {502, "Bad Gateway"},
        {503, "Unavailable"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == status)
            return rows[i].text;
    }
    return "Status";
}

static void add_connection(struct conn *c, const struct request *req, struct step *s)
{
    const char *connection = request_header(req, "connection");
    if (connection && strcasecmp(connection, "close") == 0) {
        bytes_printf(&s->data, "Connection: close\r\n");
        c->close_after = true;
    }
    bytes_add(&s->data, "\r\n", 2);
}

struct step *respond_head(struct conn *c, const struct request *req, int status, const char *extra)
{
    struct step *s = step_printf(c, "HTTP/1.1 %d %s\r\n%s", status, status_text(status), extra);
    add_connection(c, req, s);
    return s;
}

struct step *respond(struct conn *c, const struct request *req, int status, const char *extra,
                     const void *body, size_t len)
{
    struct step *s = step_printf(c, "HTTP/1.1 %d %s\r\n%s", status, status_text(status), extra);
    if (status != 204 && status != 304)
        bytes_printf(&s->data, "Content-Length: %zu\r\n", len);
    add_connection(c, req, s);
    if (strcmp(req->method, "HEAD") != 0 && status != 204 && status != 304)
        bytes_add(&s->data, body, len);
    return s;
}
