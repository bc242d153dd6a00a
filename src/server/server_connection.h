/* Requests that come over connections of libmicrohttpd: its callbacks, which record what happened
 * and put requests in line, and the carrier that takes the answers back. A request whose body is in
 * is suspended; whatever answers it resumes its connection, and libmicrohttpd takes the answer when
 * it runs next. */
#pragma once

#include "server/server_daemon.h"

/* Starts libmicrohttpd, without a socket to listen on. False: it did not start, see errno. */
NODISCARD bool server_connection_start(struct server_daemon *d);
/* Breaks every connection, and ends libmicrohttpd. */
void server_connection_stop(struct server_daemon *d);
/* Takes note of clients that went away. The callback for d->watch_poll. */
void server_connection_on_watch(uv_poll_t *poll, int status, int events);
