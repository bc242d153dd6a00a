/* The head of a request: which parts are kept, and which heads are refused before a handler sees
 * them. */
#pragma once

#include "server/server_request.h"

struct MHD_Connection;

/* The parts of a head, as libmicrohttpd gives them. */
struct server_head {
    struct MHD_Connection *connection;
    const char *target; /* in libmicrohttpd's own memory */
    const char *method;
    const char *version; /* "HTTP/1.1", in the same memory */
};

/* Copies the head into `r`, which already has its target. Returns 0 if a handler may see the
 * request. Otherwise returns the status for the refusal, and its text in *message. */
NODISCARD unsigned server_head_take(struct server_request *r, const struct server_head *head,
                                    const char **message);
/* True if the announced length of the body is over the server's limit. */
bool server_head_too_long_body(const struct server_request *r);
