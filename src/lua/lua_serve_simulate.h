/* Servers whose requests come from the engine's queue of calls instead of a socket. */
#pragma once

#include "lua/lua_rt.h"
#include "server/server.h"

/* A server for the engine's own requests to `url`. Fails with ERR_INVALID (reason "in_use": the
 * origin is simulated already) or ERR_MEMORY. */
NODISCARD enum err_kind lua_serve_simulate_start(struct server **out, struct rt *rt,
                                                 const char *url,
                                                 const struct server_config *config,
                                                 struct err *err);
/* Like server_listen_start, under virtual time. No socket is opened: only requests of this runtime
 * reach the server at its address. The caller frees *url with mem_free. *port 0 is replaced by a
 * free port. */
NODISCARD enum err_kind lua_serve_simulate_listen(struct server **out, struct rt *rt,
                                                  const char *host, uint16_t *port, char **url,
                                                  const struct server_config *config,
                                                  struct err *err);
/* Stops the server and aborts its open requests. Harmless if it has stopped already. */
void lua_serve_simulate_stop(struct server *s);
/* Hands requests to simulated origins over to their servers. The runtime calls it after each turn
 * of the loop. */
void lua_serve_simulate_take_calls(struct rt *rt);
