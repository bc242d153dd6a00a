/* The encoder of JSON. */
#pragma once

#include "lua/lua_json_state.h"
#include "lua/lua_rt.h"

struct json_encode_options {
    bool sorted;
    bool stable;     /* sorted where every key is a string */
    unsigned indent; /* spaces per level; 0: all on one line */
    unsigned max_depth;
};

/* Encodes the value at `index` into st->out. Runs no Lua code. Raises only if the Lua stack is
 * full. */
NODISCARD enum err_kind json_encode(lua_State *L, struct json_state *st, int index,
                                    const struct json_encode_options *options, struct err *err);
