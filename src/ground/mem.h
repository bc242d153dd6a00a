/* The one allocator of a runtime: counts bytes, enforces a cap, and can be told to fail at the n-th
 * allocation (tests). Counters are atomic because a network thread allocates beside the script. */
#pragma once

#include "ground/base.h"
#include <stdatomic.h>

/* Lua's small blocks are kept for reuse by size, at most this many of each. */
enum { MEM_CLASSES = 32, MEM_CLASS_BYTES = 16, MEM_CLASS_KEPT = 512 };

/* A host's allocator, with the contract of lua_Alloc. */
typedef void *(*mem_host_fn)(void *arg, void *block, size_t old_size, size_t new_size);

struct mem {
    _Atomic size_t used_bytes; /* our blocks; read-only outside mem.c */
    _Atomic size_t peak_bytes; /* of our blocks and Lua's together; read-only outside mem.c */
    /* Lua's, which one thread alone asks for: counted without a locked instruction, of which a
     * request would otherwise pay some hundreds. */
    _Atomic size_t lua_bytes;
    void *lua_kept[MEM_CLASSES];
    unsigned lua_kept_count[MEM_CLASSES];
    _Atomic size_t blocks; /* live blocks of ours (Lua's are not counted): 0 after a clean close */
    size_t limit_bytes;    /* 0: none */
    bool lua_refused;      /* Lua asked for more than it got since this was last reset */
    /* Tests: that many allocations succeed, the next one fails, and this is -1 again (so a sweep
     * ends at the first n that is still >= 0 after the run). Negative: never. Lua's count as well.
     */
    _Atomic long fail_in;
    _Atomic long fail_more; /* tests: so many behind that one fail as well */
    mem_host_fn host;       /* NULL: malloc and its kin */
    void *host_arg;
    struct mem_reserve *reserve; /* see mem_open_reserve */
};

void mem_init(struct mem *m, size_t limit_bytes);
/* Blocks come from `host` from now on, Lua's as well; before the first one. */
void mem_set_host(struct mem *m, mem_host_fn host, void *arg);
/* Gives the kept blocks back to the system; only after the Lua state is closed. */
void mem_fini(struct mem *m);

/* Bytes of ours and of Lua's together. */
size_t mem_in_use(struct mem *m);

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

/* LuaJIT crashes where one of the first allocations of a state fails. So while a state is made,
 * what cannot be had comes from a reserve. False: no memory for one. */
NODISCARD bool mem_open_reserve(struct mem *m);
/* Whether nothing came from it; else the state must be closed before mem_close_reserve. */
bool mem_reserve_untouched(const struct mem *m);
void mem_close_reserve(struct mem *m);
