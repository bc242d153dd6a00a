/* What the encoder and the builder of decoded values share. Runtime's thread only. */
#pragma once

#include "ground/buf.h"

/* One per runtime, a userdata. The buffers live here so that a raise (no memory) in the middle of
 * anything leaks nothing. */
struct json_state {
    struct buf out;     /* the text being encoded */
    struct buf scratch; /* an unescaped string; the path to a value that cannot be encoded */
    struct buf keys;    /* encode: sorted keys of the open objects, see lua_json_encode.c */
    bool busy;          /* a finalizer may call in again while a string is being made of a buffer */
    const void *array_mark, *object_mark; /* the metatables, as lua_topointer gives them */
};
