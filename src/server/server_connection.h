/* Requests that arrive over connections of libmicrohttpd. The callbacks of libmicrohttpd record
 * what happened and put requests in line. The carrier takes the answers back. When the body of a
 * request has arrived, its connection is suspended. Code that answers the request resumes the
 * connection, and libmicrohttpd takes the answer when it runs next. */
#pragma once

#include "server/server_daemon.h"

/* Starts libmicrohttpd without a listening socket. False: it did not start, see errno. */
NODISCARD bool server_connection_start(struct server_daemon *d);
/* Breaks every connection and stops libmicrohttpd. */
void server_connection_stop(struct server_daemon *d);
/* Handles clients that disconnected. The callback for d->watch_poll. */
void server_connection_on_watch(uv_poll_t *poll, int status, int events);
