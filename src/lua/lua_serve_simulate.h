/* Servers whose requests come from the engine's queue of calls instead of a socket. */
#pragma once

#include "lua/lua_rt.h"
#include "server/server.h"

/* A server for the engine's own requests to `url`. ERR_INVALID (reason "in_use": the origin is
 * simulated already), ERR_MEMORY. */
NODISCARD enum err_kind lua_serve_simulate_start(struct server **out, struct rt *rt,
                                                 const char *url,
                                                 const struct server_config *config,
                                                 struct err *err);
/* A server as of server_listen_start, under virtual time. No socket is opened: the requests of this
 * very runtime find the server at its address all the same, and nobody else does. *url is the
 * caller's to mem_free, *port 0 becomes the one that was given. */
NODISCARD enum err_kind lua_serve_simulate_listen(struct server **out, struct rt *rt,
                                                  const char *host, uint16_t *port, char **url,
                                                  const struct server_config *config,
                                                  struct err *err);
/* Breaks off what is under way. Harmless when stopped already. */
void lua_serve_simulate_stop(struct server *s);
/* Hands the requests of simulated origins to their servers. The runtime calls it after each turn of
 * the loop. */
void lua_serve_simulate_take_calls(struct rt *rt);
