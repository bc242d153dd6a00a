/* The encoder of JSON. */
#pragma once

#include "lua/lua_json_state.h"
#include "lua/lua_rt.h"

struct json_encode_options {
    bool sorted;
    bool stable;     /* sorted where every key is a string */
    unsigned indent; /* spaces a level; 0: all on one line */
    unsigned max_depth;
};

/* Encodes the value at `index` into st->out. Runs no Lua code; raises only for want of Lua stack.
 */
NODISCARD enum err_kind json_encode(lua_State *L, struct json_state *st, int index,
                                    const struct json_encode_options *options, struct err *err);
