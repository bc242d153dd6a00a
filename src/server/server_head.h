/* The head of a request: what of it is kept, and which heads are refused before a handler sees
 * them. */
#pragma once

#include "server/server_request.h"

struct MHD_Connection;

/* What libmicrohttpd has of a head. */
struct server_head {
    struct MHD_Connection *connection;
    const char *target; /* in libmicrohttpd's own memory */
    const char *method;
    const char *version; /* "HTTP/1.1", in the same memory */
};

/* Takes the head over into `r`, which has its target already. Returns 0 if a handler may see the
 * request, else the status to refuse it with, and *message. */
NODISCARD unsigned server_head_take(struct server_request *r, const struct server_head *head,
                                    const char **message);
/* Its body is announced to be longer than the server takes. */
bool server_head_too_long_body(const struct server_request *r);
