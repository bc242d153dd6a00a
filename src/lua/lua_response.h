/* Turns a finished transfer into Lua values, and keeps transfers for reuse. */
#pragma once

#include "engine/transfer.h"
#include "lua/lua_rt.h"

/* A transfer to fill: a reused or a new one. NULL: out of memory. */
struct transfer *lua_response_fresh(struct rt *rt);
/* Gives back a transfer that is no longer needed. */
void lua_response_recycle(struct rt *rt, struct transfer *t);
/* Pushes the arguments of `respond` in http.lua; returns how many. May raise. */
int lua_response_push(lua_State *L, const struct transfer *t);
/* Pushes the error of a transfer that failed. May raise. */
void lua_response_push_failure(lua_State *L, const struct transfer *t);
