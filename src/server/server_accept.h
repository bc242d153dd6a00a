/* Takes the connections that clients make. */
#pragma once

#include "server/server_listener.h"

/* Watches l->listen_fd, which is set. */
NODISCARD enum err_kind server_accept_start(struct server_listener *l, struct err *err);
/* Stops listening. Harmless if it does not listen. */
void server_accept_stop(struct server_listener *l);
