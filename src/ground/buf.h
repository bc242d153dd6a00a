/* A growing byte buffer with a cap given at birth: whatever the network or a script fills ends as
 * ERR_TOO_LARGE, never as unbounded memory. */
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
/* ERR_TOO_LARGE past the cap, ERR_MEMORY; the content is unchanged then. */
NODISCARD enum err_kind buf_append(struct buf *b, const void *data, size_t len);
NODISCARD enum err_kind buf_append_str(struct buf *b, const char *s);
NODISCARD enum err_kind buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for `len` more bytes behind b->len, to be written there directly and made part of the
 * content by buf_commit. ERR_TOO_LARGE if `len` bytes more would pass the cap, used or not. */
NODISCARD enum err_kind buf_reserve(struct buf *b, size_t len);
/* Takes over `len` bytes that were written into reserved room. */
static inline void buf_commit(struct buf *b, size_t len)
{
    ASSERT(len <= b->cap - b->len);
    if (len == 0)
        return;
    b->len += len;
    b->data[b->len] = '\0';
}
/* All of `from` goes behind what `to` holds from *skip on; what lies before that is dropped, and
 * *skip is 0 then. No copy where `to` holds nothing. ERR_MEMORY: both are unchanged but for that.
 */
NODISCARD enum err_kind buf_pour(struct buf *to, size_t *skip, struct buf *from);
/* Gives the bytes away: the caller mem_frees them. NULL if nothing was ever written. */
NODISCARD char *buf_detach(struct buf *b, size_t *len);
