/* What goes back to a client: the response that a handler composes in its request, that response as
 * libmicrohttpd wants it, and the short errors that the server itself answers with. */
#pragma once

#include "server/server_request.h"

#include <sys/types.h>

struct MHD_Connection;
struct MHD_Response;

/* ---- composing. Nothing is sent before server_response_send. */

/* Forgets what was composed before. 200 <= status <= 999. */
void server_response_begin(struct server_request *r, unsigned status);
/* The whole body, which is copied. ERR_MEMORY. */
NODISCARD enum err_kind server_response_body(struct server_request *r, const char *data,
                                             size_t len);
/* ERR_INVALID, ERR_TOO_LARGE, ERR_MEMORY; the message says "respond: ...". A header that frames the
 * message is left out, because the server writes those itself. */
NODISCARD enum err_kind server_response_header(struct server_request *r, const char *name,
                                               size_t name_len, const char *value, size_t value_len,
                                               struct err *err);
/* Sends what was composed: whole, or the head of a stream. The request must wait for its answer and
 * be open. On an error nothing was sent, and another response may be composed. */
NODISCARD enum err_kind server_response_send(struct server_request *r, bool stream,
                                             struct err *err);

/* "OK", "Not Found", ... */
const char *server_response_reason(unsigned status);
/* The body of an error that the server itself answers with. Returns its length. */
size_t server_response_error_body(char *out, size_t size, const char *message);

/* ---- for libmicrohttpd */

/* Reads the next bytes of a stream: MHD_ContentReaderCallback. */
typedef ssize_t (*server_response_reader_fn)(void *arg, uint64_t pos, char *out, size_t max);
/* Makes libmicrohttpd's response of what was composed: of the whole body, which must live until the
 * request is freed, or, where `reader` is given, of a stream. NULL: see err. */
struct MHD_Response *server_response_build(const struct server_request *r,
                                           server_response_reader_fn reader, void *arg,
                                           struct err *err);
/* Answers a request at once, without a handler. The connection is closed behind it. False: the
 * answer could not be queued. */
bool server_response_refuse(struct MHD_Connection *connection, unsigned status,
                            const char *message);
