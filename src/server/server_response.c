#include "server/server_response.h"

#include "ground/secret.h"

#include <string.h>
#include <strings.h>

/* The size of a response's head without the script's headers: the status line, Date, the length. */
#define OWN_HEAD_BYTES ((size_t)512)
#define MAX_SCRIPT_HEADERS (SERVER_HEAD_BYTES - OWN_HEAD_BYTES)

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
    if (r->head_len > MAX_SCRIPT_HEADERS)
        return err_set(err, ERR_TOO_LARGE,
                       "respond: the headers are too large: %zu bytes up to '%s', the limit is %zu",
                       r->head_len, secret_hidden(name), MAX_SCRIPT_HEADERS);
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

/* RFC 9110 15, 6585, 7725, 8297, 4918 and 8470. */
const char *server_response_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {207, "Multi-Status"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {305, "Use Proxy"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {423, "Locked"},
        {424, "Failed Dependency"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {451, "Unavailable For Legal Reasons"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
        {511, "Network Authentication Required"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}

size_t server_response_error_body(char *out, size_t size, const char *message)
{
    int n = snprintf(out, size, "{\"error\":{\"message\":\"%s\"}}", message);
    ASSERT(n > 0 && (size_t)n < size);
    return (size_t)n;
}

/* ---- for a connection */

void server_response_date(char *out, size_t size, time_t seconds)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t = {0};
    gmtime_r(&seconds, &t);
    snprintf(out, size, "%.3s, %02d %.3s %d %02d:%02d:%02d GMT", days + t.tm_wday * 3, t.tm_mday,
             months + t.tm_mon * 3, t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
}

static enum err_kind append_field(struct buf *out, const char *name, size_t name_len,
                                  const char *value, size_t value_len)
{
    enum err_kind rc = buf_append(out, name, name_len);
    if (rc == ERR_NONE)
        rc = buf_append(out, ": ", 2);
    if (rc == ERR_NONE)
        rc = buf_append(out, value, value_len);
    return rc == ERR_NONE ? buf_append(out, "\r\n", 2) : rc;
}

static enum err_kind append_fields(struct buf *out, const struct server_request *r,
                                   const char *date)
{
    const struct headers *h = &r->headers_out;
    enum err_kind rc = ERR_NONE;
    if (!headers_get(h, "date", NULL, NULL))
        rc = append_field(out, "Date", 4, date, strlen(date));
    for (size_t i = 0; rc == ERR_NONE && i < h->count; i++) {
        const struct header *row = &h->rows[i];
        if (row->name_len != 10 || strcasecmp(headers_name(h, i), "connection") != 0)
            rc = append_field(out, headers_name(h, i), row->name_len, headers_value(h, i),
                              row->value_len);
    }
    return rc;
}

/* The fields that say where the message ends, and whether another one may follow. */
static enum err_kind append_framing(struct buf *out, const struct server_request *r,
                                    struct server_response_frame *frame)
{
    bool is_old = strcmp(r->version, "1.0") == 0, bare = r->status == 204 || r->status == 304;
    enum err_kind rc = ERR_NONE;
    frame->chunked = frame->stream && !r->no_body && !is_old;
    if (frame->stream && is_old && !r->no_body)
        frame->keeps = false; /* the end of the connection is the end of the body */
    if (headers_get(&r->headers_out, "connection", NULL, NULL) || r->server->quiet)
        frame->keeps = false;
    if (!frame->stream && !bare)
        rc = buf_printf(out, "Content-Length: %zu\r\n", r->body_out_len);
    else if (frame->stream && !bare && !is_old)
        rc = buf_append_str(out, "Transfer-Encoding: chunked\r\n");
    if (rc == ERR_NONE && !frame->keeps)
        rc = buf_append_str(out, "Connection: close\r\n");
    else if (rc == ERR_NONE && is_old)
        rc = buf_append_str(out, "Connection: keep-alive\r\n");
    return rc == ERR_NONE ? buf_append(out, "\r\n", 2) : rc;
}

enum err_kind server_response_head(struct buf *out, const struct server_request *r,
                                   struct server_response_frame *frame)
{
    size_t before = out->len;
    enum err_kind rc =
        buf_printf(out, "HTTP/1.1 %u %s\r\n", r->status, server_response_reason(r->status));
    if (rc == ERR_NONE)
        rc = append_fields(out, r, frame->date);
    if (rc == ERR_NONE)
        rc = append_framing(out, r, frame);
    if (rc != ERR_NONE)
        out->len = before;
    return rc;
}

enum err_kind server_response_refuse(struct buf *out, unsigned status, const char *message,
                                     bool with_body, const char *date)
{
    char text[256];
    size_t n = server_response_error_body(text, sizeof text, message);
    return buf_printf(out,
                      "HTTP/1.1 %u %s\r\nDate: %s\r\nContent-Type: application/json\r\n"
                      "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                      status, server_response_reason(status), date, n, with_body ? text : "");
}
