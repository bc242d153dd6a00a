/* Accepts connections for libmicrohttpd. libmicrohttpd does not do this itself: if it fails once
 * because no descriptor is left, it accepts no connection until one of its own ends, which may
 * never happen. */
#pragma once

#include "server/server_daemon.h"

/* The callback for d->listen_poll. */
void server_accept_on_ready(uv_poll_t *poll, int status, int events);
/* The function of d->listen_timer. */
void server_accept_on_timer(struct timer *listen_timer);
/* Closes the listening socket. Harmless if it is already closed. */
void server_accept_stop(struct server_daemon *d);
