/* What scripts are given of a transfer that is over, and the transfers that are kept for the next.
 */
#pragma once

#include "engine/transfer.h"
#include "lua/lua_rt.h"

/* A transfer to fill: a kept one, or a new one. NULL: no memory. */
struct transfer *lua_response_fresh(struct rt *rt);
/* Nobody needs it any more. */
void lua_response_recycle(struct rt *rt, struct transfer *t);
/* Pushes what `respond` in http.lua makes a response of: returns how many values. May raise. */
int lua_response_push(lua_State *L, const struct transfer *t);
/* Pushes the error of a transfer that failed. May raise. */
void lua_response_push_failure(lua_State *L, const struct transfer *t);
