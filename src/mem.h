/* The one allocator of a runtime: counts bytes, enforces a cap, and can be told to fail at the n-th
 * allocation (tests). Counters are atomic because a network thread allocates beside the script. */
#pragma once

#include "base.h"
#include <stdatomic.h>

struct mem {
    _Atomic size_t used_bytes; /* read-only outside mem.c */
    _Atomic size_t peak_bytes; /* read-only outside mem.c */
    _Atomic size_t blocks; /* live blocks of ours (Lua's are not counted): 0 after a clean close */
    size_t limit_bytes;    /* 0: none */
    /* Tests: that many allocations succeed, the next one fails, and this is -1 again (so a sweep
     * ends at the first n that is still >= 0 after the run). Negative: never. Lua's count as well.
     */
    _Atomic long fail_in;
};

void mem_init(struct mem *m, size_t limit_bytes);

/* NULL when the cap would be passed or the system has no more. A size of 0 gives a valid block. */
NODISCARD void *mem_alloc(struct mem *m, size_t size);
NODISCARD void *mem_calloc(struct mem *m, size_t size);
/* On failure returns NULL and `ptr` stays valid. */
NODISCARD void *mem_realloc(struct mem *m, void *ptr, size_t size);
/* NULL is allowed. Never allocates, never fails. */
void mem_free(struct mem *m, void *ptr);
/* A NUL-terminated copy of `len` bytes. */
NODISCARD char *mem_strndup(struct mem *m, const char *s, size_t len);

/* A lua_Alloc over the same counters and cap; `ud` is the struct mem. */
void *mem_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize);
