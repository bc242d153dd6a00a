/* HTTP/1 on a connection: reads requests, puts them in line, and sends the responses. A request
 * that another program on its way could understand in another way is refused, and its connection
 * closed: the parser decides that (ground/http1_parse.h), and nobody else reads the bytes.
 *
 * Requests of one connection are answered one after the other. While a response is due, nothing is
 * read: what a client sends ahead stays in the kernel, and TCP holds the client back. */
#pragma once

#include "server/server_listener.h"

#include <sys/socket.h>

void server_http1_init(struct server_listener *l);
/* Serves a client, whose descriptor is taken over. */
void server_http1_begin(struct server_listener *l, int fd, const struct sockaddr *address);
/* Nothing is sent any more. */
void server_http1_stop(struct server_listener *l);
