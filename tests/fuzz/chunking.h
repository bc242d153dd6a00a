/* The first bytes of a fuzzed input choose how the rest of it is cut into pieces. */
#pragma once

#include "ground/buf.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNKING_BYTES = 4 };

struct chunking {
    uint8_t sizes[CHUNKING_BYTES];
    size_t next;
    const uint8_t *rest;
    size_t left;
    char *piece; /* a copy of the exact size, so that the sanitizer sees a read behind its end */
};

static inline struct chunking chunking_of(const uint8_t sizes[CHUNKING_BYTES], const uint8_t *data,
                                          size_t size)
{
    struct chunking c = {.rest = data, .left = size};
    memcpy(c.sizes, sizes, CHUNKING_BYTES);
    return c;
}

/* Empty pieces are pieces, too: a size of 0 gives one, once a round. False: all is taken. */
static inline bool chunking_next(struct chunking *c, const char **piece, size_t *len)
{
    free(c->piece);
    c->piece = NULL;
    if (c->left == 0)
        return false;
    size_t size = c->sizes[c->next++ % CHUNKING_BYTES];
    if (size == 255 || (size == 0 && c->next % CHUNKING_BYTES == 0))
        size = c->left;
    size = MIN(size, c->left);
    c->piece = malloc(size ? size : 1);
    ASSERT(c->piece != NULL);
    if (size)
        memcpy(c->piece, c->rest, size);
    c->rest += size;
    c->left -= size;
    *piece = c->piece;
    *len = size;
    return true;
}

/* Runs `write` with the rest of the input whole, byte by byte, and as its first bytes cut it. What
 * is written must always be the same. */
static inline void chunking_compare(const uint8_t *data, size_t size,
                                    void (*write)(struct buf *out, struct chunking c))
{
    static const uint8_t whole[CHUNKING_BYTES] = {255, 255, 255, 255},
                         single[CHUNKING_BYTES] = {1, 1, 1, 1};
    if (size < CHUNKING_BYTES)
        return;
    const uint8_t *ways[] = {whole, single, data};
    struct mem mem;
    struct buf out[ARRAY_LEN(ways)];
    mem_init(&mem, 0);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        buf_init(&out[i], &mem, 1u << 24);
        write(&out[i], chunking_of(ways[i], data + CHUNKING_BYTES, size - CHUNKING_BYTES));
        ASSERT(out[i].len == out[0].len);
        ASSERT(out[0].len == 0 || memcmp(out[i].data, out[0].data, out[0].len) == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        buf_fini(&out[i]);
    ASSERT(mem.blocks == 0);
}
