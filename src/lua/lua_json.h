/* What the three parts of the JSON binding share: the encoder, the builder of decoded values, and
 * the functions that scripts see (lua_json.c). Runtime's thread only. */
#pragma once

#include "ground/buf.h"
#include "ground/json_scan.h"
#include "lua/lua_rt.h"

/* One per runtime, a userdata. The buffers live here so that a raise (no memory) in the middle of
 * anything leaks nothing. */
struct json_state {
    struct buf out;     /* the text being encoded */
    struct buf scratch; /* an unescaped string; the path to a value that cannot be encoded */
    struct buf keys;    /* encode: sorted keys of the open objects, see lua_json_encode.c */
    bool busy;          /* a finalizer may call in again while a string is being made of a buffer */
    const void *array_mark, *object_mark; /* the metatables, as lua_topointer gives them */
};

struct json_encode_options {
    bool sorted;
    bool stable;     /* sorted where every key is a string */
    unsigned indent; /* spaces a level; 0: all on one line */
    unsigned max_depth;
};

struct json_decode_options {
    bool big_as_string;
    enum json_halves halves;
    unsigned max_depth;
};

/* Encodes the value at `index` into st->out. Runs no Lua code; raises only for want of Lua stack.
 */
NODISCARD enum err_kind json_encode(lua_State *L, struct json_state *st, int index,
                                    const struct json_encode_options *options, struct err *err);

/* Pushes the value of the text; on an error pushes nothing. `array_mark`: stack index of the
 * metatable for empty arrays. May raise (memory). `offset` (from 0) is set on ERR_INVALID. */
NODISCARD enum err_kind json_build(lua_State *L, struct json_state *st, const char *text,
                                   size_t len, const struct json_decode_options *options,
                                   int array_mark, struct err *err, size_t *offset);
