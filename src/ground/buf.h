/* A byte buffer that grows, with a cap that is set when it is created. Input from the network or
 * from a script can therefore cause ERR_TOO_LARGE, but never unbounded memory. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"
#include "ground/mem.h"

struct buf {
    struct mem *mem;
    char *data; /* always NUL-terminated when not NULL; the NUL is not counted in len */
    size_t len, cap;
    size_t max_bytes;
};

void buf_init(struct buf *b, struct mem *mem, size_t max_bytes);
void buf_fini(struct buf *b);
/* Empties the buffer and keeps its memory. */
void buf_clear(struct buf *b);
/* ERR_TOO_LARGE (past the cap) or ERR_MEMORY: the content is unchanged then. */
NODISCARD enum err_kind buf_append(struct buf *b, const void *data, size_t len);
NODISCARD enum err_kind buf_append_str(struct buf *b, const char *s);
NODISCARD enum err_kind buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Makes room for `len` more bytes after b->len. The caller writes them there and then calls
 * buf_commit. ERR_TOO_LARGE: `len` more bytes would pass the cap, whether or not they are used. */
NODISCARD enum err_kind buf_reserve(struct buf *b, size_t len);
/* Adds `len` bytes, which were written into reserved room, to the content. */
static inline void buf_commit(struct buf *b, size_t len)
{
    ASSERT(len <= b->cap - b->len);
    if (len == 0)
        return;
    b->len += len;
    b->data[b->len] = '\0';
}
/* Drops the first *skip bytes of `to`, sets *skip to 0, and moves all of `from` to the end of `to`.
 * Nothing is copied if `to` is empty then. ERR_MEMORY: the bytes are dropped, and nothing is moved.
 */
NODISCARD enum err_kind buf_pour(struct buf *to, size_t *skip, struct buf *from);
/* Returns the bytes and empties the buffer. The caller owns them and frees them with mem_free. NULL
 * if nothing was ever written. */
NODISCARD char *buf_detach(struct buf *b, size_t *len);
