/* Accepting connections for libmicrohttpd. That is not left to it: once it is refused a descriptor,
 * it accepts nobody until one of its connections ends, which may be never. */
#pragma once

#include "server/server_daemon.h"

/* The callback for d->listen_poll. */
void server_accept_on_ready(uv_poll_t *poll, int status, int events);
/* The function of d->listen_timer. */
void server_accept_on_timer(struct timer *listen_timer);
/* Closes the socket. Harmless when closed already. */
void server_accept_stop(struct server_daemon *d);
