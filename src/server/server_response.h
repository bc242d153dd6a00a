/* Responses: the one that a handler composes in its request, its head as it is sent, and the bodies
 * of the server's own error responses. */
#pragma once

#include "server/server_request.h"

#include <time.h>

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

/* ---- for a connection */

struct server_response_frame {
    bool stream;      /* the length of the body is not known */
    bool keeps;       /* in: another request may follow. out: it may, and the head says so */
    bool chunked;     /* out: the body is sent in chunks */
    const char *date; /* for the header Date */
};

/* Appends the head of what was composed to `out`. ERR_MEMORY: nothing was appended. */
NODISCARD enum err_kind server_response_head(struct buf *out, const struct server_request *r,
                                             struct server_response_frame *frame);
/* Appends an error response of the server itself, after which the connection is closed. ERR_MEMORY.
 */
NODISCARD enum err_kind server_response_refuse(struct buf *out, unsigned status,
                                               const char *message, bool with_body,
                                               const char *date);
/* Writes a time as the header Date has it (RFC 9110 5.6.7). */
void server_response_date(char *out, size_t size, time_t seconds);
