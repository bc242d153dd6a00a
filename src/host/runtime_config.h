/* What a host brings to a runtime: its configuration, its print sink, its memory. */
#pragma once

#include "lua/lua_rt.h"

struct leat_runtime;

/* Gives back the memory of a closed runtime that leat_new has made. */
void runtime_dispose(struct leat_runtime *r);
/* The runtime goes on whenever the host runs its loop, until it is detached. */
void runtime_attach(struct leat_runtime *r);
/* The handles are closing; loop_fini waits for them. */
void runtime_detach(struct leat_runtime *r);
/* Pushes the function that hands a string to the host's print sink; nil: it has none. */
void runtime_push_print(lua_State *L, struct rt *rt);
