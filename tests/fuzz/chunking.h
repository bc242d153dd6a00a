/* The first bytes of a fuzzed input choose how the rest of it is cut into pieces. */
#pragma once

#include "ground/base.h"
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
