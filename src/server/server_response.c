#include "server/server_response.h"

#include "ground/secret.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

/* The size of a response's head without the script's headers: the status line, Date, the length. */
#define OWN_HEAD_BYTES ((size_t)512)
/* libmicrohttpd asks for this many bytes of a stream at a time. */
#define STREAM_BLOCK_BYTES 16384u

/* ---- composing */

static void forget(struct server_request *r)
{
    headers_clear(&r->headers_out);
    r->head_len = 0;
    mem_free(r->server->mem, r->body_out);
    r->body_out = NULL;
    r->body_out_len = 0;
}

void server_response_begin(struct server_request *r, unsigned status)
{
    forget(r);
    r->status = status;
    r->no_body = status == 204 || status == 304 || strcmp(r->method, "HEAD") == 0;
}

enum err_kind server_response_body(struct server_request *r, const char *data, size_t len)
{
    if (r->status == 204 || r->status == 304)
        len = 0; /* such a response has no body, even if one was given */
    r->body_out = mem_alloc(r->server->mem, len + 1);
    if (!r->body_out)
        return ERR_MEMORY;
    memcpy(r->body_out, data, len);
    r->body_out_len = len;
    return ERR_NONE;
}

/* A handler that passes on the headers of another server need not know which of them were only
 * about that server's connection. */
static bool is_framing(const char *name, const char *value)
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "keep-alive",      "te",
        "trailer",        "upgrade",           "proxy-connection"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return strcasecmp(name, "connection") == 0 && strcasecmp(value, "close") != 0;
}

enum err_kind server_response_header(struct server_request *r, const char *name, size_t name_len,
                                     const char *value, size_t value_len, struct err *err)
{
    if (!headers_valid_name(name, name_len))
        return err_set(err, ERR_INVALID, "respond: '%.60s' is not a header name",
                       secret_hidden(name));
    if (!headers_valid_value(value, value_len))
        return err_set(err, ERR_INVALID,
                       "respond: the value of header '%s' holds a line end or a control character",
                       secret_hidden(name));
    if (is_framing(name, value))
        return ERR_NONE;
    r->head_len += name_len + value_len + 4;
    if (r->head_len + OWN_HEAD_BYTES > r->head_room)
        return err_set(err, ERR_TOO_LARGE,
                       "respond: the headers are too large: %zu bytes up to '%s', the limit is %zu",
                       r->head_len, secret_hidden(name),
                       MAX(r->head_room, OWN_HEAD_BYTES) - OWN_HEAD_BYTES);
    if (headers_add(&r->headers_out, name, name_len, value, value_len) != ERR_NONE)
        return err_set(err, ERR_MEMORY, "respond: not enough memory");
    return ERR_NONE;
}

enum err_kind server_response_send(struct server_request *r, bool stream, struct err *err)
{
    ASSERT(r->state == SERVER_REQUEST_WAITING && r->open);
    enum err_kind rc = r->carrier->answer(r, stream, err);
    if (rc != ERR_NONE) {
        forget(r);
        return rc;
    }
    r->state = stream ? SERVER_REQUEST_STREAM : SERVER_REQUEST_ANSWERED;
    r->finished = !stream;
    return ERR_NONE;
}

const char *server_response_reason(unsigned status)
{
    return MHD_get_reason_phrase_for(status);
}

size_t server_response_error_body(char *out, size_t size, const char *message)
{
    int n = snprintf(out, size, "{\"error\":{\"message\":\"%s\"}}", message);
    ASSERT(n > 0 && (size_t)n < size);
    return (size_t)n;
}

/* ---- for libmicrohttpd */

static enum err_kind add_headers(const struct server_request *r, struct MHD_Response *response,
                                 struct err *err)
{
    const struct headers *h = &r->headers_out;
    for (size_t i = 0; i < h->count; i++) {
        const char *name = headers_name(h, i);
        if (MHD_add_response_header(response, name, headers_value(h, i)) != MHD_YES)
            return err_set(err, ERR_INVALID, "respond: libmicrohttpd refused header '%s'",
                           secret_hidden(name));
    }
    if (r->server->quiet)
        (void)!MHD_add_response_header(response, "Connection", "close");
    return ERR_NONE;
}

struct MHD_Response *server_response_build(const struct server_request *r,
                                           server_response_reader_fn reader, void *arg,
                                           struct err *err)
{
    struct MHD_Response *response =
        reader
            ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, reader, arg,
                                                NULL)
            : MHD_create_response_from_buffer(r->body_out_len, r->body_out, MHD_RESPMEM_PERSISTENT);
    if (!response) {
        err_set(err, ERR_MEMORY, "respond: not enough memory");
    } else if (add_headers(r, response, err) != ERR_NONE) {
        MHD_destroy_response(response);
        response = NULL;
    }
    return response;
}

bool server_response_refuse(struct MHD_Connection *connection, unsigned status, const char *message)
{
    char text[256];
    size_t n = server_response_error_body(text, sizeof text, message);
    struct MHD_Response *response = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return false;
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result rc = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return rc == MHD_YES;
}
