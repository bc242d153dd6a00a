/* Responses: the one that a handler composes in its request, its form for libmicrohttpd, and the
 * short error responses of the server itself. */
#pragma once

#include "server/server_request.h"

#include <sys/types.h>

struct MHD_Connection;
struct MHD_Response;

/* ---- composing. Nothing is sent before server_response_send. */

/* Clears what was composed before. 200 <= status <= 999. */
void server_response_begin(struct server_request *r, unsigned status);
/* Sets the whole body, which is copied. ERR_MEMORY. */
NODISCARD enum err_kind server_response_body(struct server_request *r, const char *data,
                                             size_t len);
/* Adds a header. ERR_INVALID, ERR_TOO_LARGE, ERR_MEMORY; the message begins with "respond: ".
 * Headers that frame the message are ignored, because the server writes them itself. */
NODISCARD enum err_kind server_response_header(struct server_request *r, const char *name,
                                               size_t name_len, const char *value, size_t value_len,
                                               struct err *err);
/* Sends what was composed: a whole response, or the head of a stream. The request must be open and
 * have no response yet. On an error nothing was sent, and another response may be composed. */
NODISCARD enum err_kind server_response_send(struct server_request *r, bool stream,
                                             struct err *err);

/* The reason phrase: "OK", "Not Found", ... */
const char *server_response_reason(unsigned status);
/* Writes the body of an error response of the server itself. Returns its length. */
size_t server_response_error_body(char *out, size_t size, const char *message);

/* ---- for libmicrohttpd */

/* Reads the next bytes of a stream: MHD_ContentReaderCallback. */
typedef ssize_t (*server_response_reader_fn)(void *arg, uint64_t pos, char *out, size_t max);
/* Creates libmicrohttpd's response from what was composed. `reader` NULL: with the whole body,
 * which must live until the request is freed. Otherwise a stream. NULL: see err. */
struct MHD_Response *server_response_build(const struct server_request *r,
                                           server_response_reader_fn reader, void *arg,
                                           struct err *err);
/* Answers a request at once, without a handler. The connection is closed afterwards. False: the
 * response could not be queued. */
bool server_response_refuse(struct MHD_Connection *connection, unsigned status,
                            const char *message);
