#include "server/server_head.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define POOL_ROW_BYTES 64u /* the memory of a connection that libmicrohttpd needs for a header */

struct copy {
    struct headers *headers;
    enum err_kind rc;
};

static enum MHD_Result copy_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                   size_t name_len, const char *value, size_t value_len)
{
    UNUSED(kind);
    struct copy *c = arg;
    if (value && !headers_valid_value(value, value_len))
        c->rc = ERR_PROTOCOL;
    else if (headers_valid_name(name, name_len))
        c->rc = headers_add(c->headers, name, name_len, value ? value : "", value_len);
    else
        c->rc = ERR_INVALID; /* we and a proxy may read different names in "Content-Length : 5" */
    return c->rc == ERR_NONE ? MHD_YES : MHD_NO;
}

/* If a header is folded after its colon, libmicrohttpd makes one name of it, without a value:
 * "transfer-encodingchunked". Another program reads a header that frames the body. */
static bool is_folded(const struct headers *h)
{
    static const char *const framing[] = {"transfer-encoding", "content-length", "host"};
    for (size_t i = 0; i < h->count; i++) {
        for (size_t k = 0; k < ARRAY_LEN(framing); k++) {
            size_t len = strlen(framing[k]);
            if (h->rows[i].value_len == 0 && h->rows[i].name_len > len &&
                strncasecmp(headers_name(h, i), framing[k], len) == 0)
                return true;
        }
    }
    return false;
}

/* libmicrohttpd reads the target only up to a NUL byte; another program may read what follows. If
 * there was a NUL, the version does not follow the target after one space. (libmicrohttpd has
 * changed its own copy of the target by now. Only the position of the copy still helps.) */
static bool has_nul(const struct server_request *r, const struct server_head *head)
{
    const char *target = head->target, *version = head->version;
    if (version <= target || (size_t)(version - target) >= SERVER_POOL_BYTES)
        return false; /* they are not in one block of memory: nothing can be compared */
    return (size_t)(version - target) > strlen(r->target) + 1;
}

static bool repeated(const struct headers *h, const char *name)
{
    size_t from = 0;
    return headers_get(h, name, &from, NULL) && headers_get(h, name, &from, NULL);
}

/* Finds what another program on the path of the request may read differently, because libmicrohttpd
 * is lenient: one of the two would find a second request in the body (RFC 9112 3.2, 6.1, 6.3).
 * NULL: there is nothing. */
static const char *ambiguous(const struct server_request *r)
{
    const struct headers *h = &r->headers;
    const char *coding = headers_get(h, "transfer-encoding", NULL, NULL);
    if (repeated(h, "host"))
        return "the request has more than one Host";
    if (repeated(h, "content-length"))
        return "the request has more than one Content-Length";
    if (coding && (strcmp(r->version, "1.0") == 0 || headers_get(h, "content-length", NULL, NULL)))
        return "the request must not have a Transfer-Encoding, as it is HTTP/1.0 or has a "
               "Content-Length";
    if (coding && (repeated(h, "transfer-encoding") || strcasecmp(coding, "chunked") != 0))
        return "the only supported Transfer-Encoding is chunked";
    return NULL;
}

/* libmicrohttpd keeps the heads of the request and of the response in the same memory. If the
 * second one does not fit, it closes the connection without an error. */
static size_t room_beside(const struct server_request *r)
{
    size_t taken = strlen(r->target) + r->headers.text.len + r->headers.count * POOL_ROW_BYTES;
    return taken < SERVER_POOL_BYTES ? SERVER_POOL_BYTES - taken : 0;
}

static unsigned refuse(const char **message, unsigned status, const char *text)
{
    *message = text;
    return status;
}

static unsigned copy_head(struct server_request *r, const struct server_head *head,
                          const char **message)
{
    struct mem *mem = r->server->mem;
    struct copy copy = {&r->headers, ERR_NONE};
    const char *version = head->version;
    if (strncmp(version, "HTTP/", 5) == 0)
        version += 5;
    r->method = mem_strndup(mem, head->method, strlen(head->method));
    r->version = mem_strndup(mem, version, strlen(version));
    if (!r->method || !r->version)
        return refuse(message, 503, "the server does not have enough memory");
    r->no_body = strcmp(r->method, "HEAD") == 0;
    MHD_get_connection_values_n(head->connection, MHD_HEADER_KIND, copy_header, &copy);
    switch (copy.rc) {
    case ERR_NONE:
        return 0;
    case ERR_TOO_LARGE:
        return refuse(message, 431, "the request's headers are too large");
    case ERR_INVALID:
        return refuse(message, 400, "the request has a header with an invalid name");
    case ERR_PROTOCOL:
        return refuse(message, 400, "the request has a control byte in a header");
    default:
        return refuse(message, 503, "the server does not have enough memory");
    }
}

unsigned server_head_take(struct server_request *r, const struct server_head *head,
                          const char **message)
{
    unsigned status = copy_head(r, head, message);
    if (status != 0)
        return status;
    r->head_room = room_beside(r);
    const char *wrong = ambiguous(r);
    if (is_folded(&r->headers))
        wrong = "the request has a header that is folded over two lines";
    else if (has_nul(r, head))
        wrong = "the request has a NUL byte in its target";
    return wrong ? refuse(message, 400, wrong) : 0;
}

bool server_head_too_long_body(const struct server_request *r)
{
    const char *length = headers_get(&r->headers, "content-length", NULL, NULL);
    return length && strtoull(length, NULL, 10) > r->server->max_body;
}
