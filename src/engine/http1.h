/* HTTP/1.1: one request and its response on a channel. It writes the head and a short body in one
 * piece, and an upload as it comes; it gives the response to `response.c`, and waits while its
 * reader is full. When both are complete the channel goes back to its pool. Engine thread only. */
#pragma once

#include "engine/http1_types.h"
#include "engine/transport.h"

/* `h` must be zero or have been used before. */
void http1_init(struct http1 *h, struct exchange *x);
void http1_fini(struct http1 *h);
/* Sends the request of its exchange, and owns the channel from now on. False: that has ended the
 * hop already. */
bool http1_start(struct http1 *h, struct channel *c);

extern const struct transport http1_transport;
