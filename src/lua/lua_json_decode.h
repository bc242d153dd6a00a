/* The builder of decoded JSON values. */
#pragma once

#include "ground/json_scan.h"
#include "lua/lua_json_state.h"
#include "lua/lua_rt.h"

struct json_decode_options {
    bool big_as_string;
    enum json_halves halves;
    unsigned max_depth;
};

/* Pushes the value of the text; pushes nothing on an error. `array_mark`: stack index of the
 * metatable for empty arrays. May raise (memory). On ERR_INVALID, `offset` is set (from 0). */
NODISCARD enum err_kind json_decode(lua_State *L, struct json_state *st, const char *text,
                                    size_t len, const struct json_decode_options *options,
                                    int array_mark, struct err *err, size_t *offset);
