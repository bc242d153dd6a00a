/* Shared by the encoder and the decoder. Runtime's thread only. */
#pragma once

#include "ground/buf.h"

/* One per runtime, a userdata. It owns the buffers, so an error (no memory) at any point leaks
 * nothing. */
struct json_state {
    struct buf out;     /* the text being encoded */
    struct buf scratch; /* an unescaped string, or the path to a value that cannot be encoded */
    struct buf keys;    /* encode: sorted keys of the open objects, see lua_json_encode.c */
    bool busy;          /* a finalizer may call in again while a string is created from a buffer */
    const void *array_mark, *object_mark; /* the metatables, as returned by lua_topointer */
};
