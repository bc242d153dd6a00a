/* The heads of requests: what of one is kept, and which of them are refused before a handler sees
 * them. */
#include "lua/lua_serve.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define POOL_ROW_BYTES 64u /* what the library itself keeps of a header in a connection's pool */

enum MHD_Result server_reply(struct MHD_Connection *connection, unsigned status,
                             const char *message)
{
    char text[256];
    int n = snprintf(text, sizeof text, "{\"error\":{\"message\":\"%s\"}}", message);
    struct MHD_Response *response =
        MHD_create_response_from_buffer((size_t)n, text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result rc = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return rc;
}

enum MHD_Result server_reply_lost(struct server *s, struct MHD_Connection *connection)
{
    server_log_lost(s);
    return server_reply(connection, 503, "the server has not enough memory");
}

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
        c->rc = ERR_INVALID; /* "Content-Length : 5" is another name to us than to a proxy */
    return c->rc == ERR_NONE ? MHD_YES : MHD_NO;
}

/* Of a line that is folded behind its colon libmicrohttpd makes one name without a value:
 * "transfer-encodingchunked". Another program reads the framing of the body in it. */
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

/* libmicrohttpd takes the target up to a NUL byte; what stands behind it another program may read.
 * Then the version does not come behind one space. */
static bool has_nul(const struct incoming *r, const char *version)
{
    const char *target = r->sent_target;
    if (version <= target || (size_t)(version - target) >= CONNECTION_POOL_BYTES)
        return false; /* not in one place: there is nothing to look at */
    return (size_t)(version - target) > strlen(r->target) + 1;
}

static bool repeated(const struct headers *h, const char *name)
{
    size_t from = 0;
    return headers_get(h, name, &from, NULL) && headers_get(h, name, &from, NULL);
}

/* What two programs on a request's way may read differently, where the library is lenient: one of
 * them would see another request in its body (RFC 9112 3.2, 6.1, 6.3). NULL: nothing. */
static const char *ambiguous(const struct incoming *r)
{
    const struct headers *h = &r->headers;
    const char *coding = headers_get(h, "transfer-encoding", NULL, NULL);
    if (repeated(h, "host"))
        return "the request has more than one Host";
    if (repeated(h, "content-length"))
        return "the request has more than one Content-Length";
    if (coding && (r->old_http || headers_get(h, "content-length", NULL, NULL)))
        return "the request has a Transfer-Encoding where none may be";
    if (coding && (repeated(h, "transfer-encoding") || strcasecmp(coding, "chunked") != 0))
        return "no Transfer-Encoding but chunked is understood";
    return NULL;
}

/* The library keeps both heads of an exchange in one place. It would close the connection, without
 * a word, where the second one does not fit. */
static size_t room_beside(const struct incoming *r)
{
    size_t taken = strlen(r->target) + r->headers.text.len + r->headers.count * POOL_ROW_BYTES;
    return taken < CONNECTION_POOL_BYTES ? CONNECTION_POOL_BYTES - taken : 0;
}

enum MHD_Result incoming_take_head(struct incoming *r, const char *method, const char *version)
{
    struct mem *mem = &r->server->rt->mem;
    struct copy copy = {&r->headers, ERR_NONE};
    r->state = INCOMING_BODY;
    if (r->peer)
        list_unlink(&r->peer->node);
    r->server->received++;
    const char *sent_version = version;
    if (strncmp(version, "HTTP/", 5) == 0)
        version += 5;
    r->method = mem_strndup(mem, method, strlen(method));
    r->version = mem_strndup(mem, version, strlen(version));
    if (!r->method || !r->version)
        return server_reply_lost(r->server, r->connection);
    r->no_body = strcmp(method, "HEAD") == 0;
    r->old_http = strcmp(version, "1.0") == 0;
    MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, copy_header, &copy);
    if (copy.rc == ERR_TOO_LARGE)
        return server_reply(r->connection, 431, "the request's headers are too large");
    if (copy.rc == ERR_INVALID)
        return server_reply(r->connection, 400, "the request has a header that has no proper name");
    if (copy.rc == ERR_PROTOCOL)
        return server_reply(r->connection, 400, "the request has a control byte in a header");
    if (copy.rc != ERR_NONE)
        return server_reply_lost(r->server, r->connection);
    r->head_room = room_beside(r);
    const char *wrong = ambiguous(r);
    if (is_folded(&r->headers))
        wrong = "the request has a header that is folded over two lines";
    else if (has_nul(r, sent_version))
        wrong = "the request has a NUL byte in its target";
    if (wrong)
        return server_reply(r->connection, 400, wrong);
    incoming_await_body(r);
    const char *length = headers_get(&r->headers, "content-length", NULL, NULL);
    if (length && strtoull(length, NULL, 10) > r->server->max_body)
        return server_reply(r->connection, 413, "the request's body is too large");
    if (r->server->quiet)
        return server_reply(r->connection, 503, "the server is closing");
    return MHD_YES;
}
