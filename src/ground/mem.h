/* The only allocator of a runtime. It counts bytes and enforces a cap. Tests can make the n-th
 * allocation fail. Its counters are atomic, because network threads allocate at the same time as
 * the script. */
#pragma once

#include "ground/base.h"
#include <stdatomic.h>

/* Small blocks that Lua frees are kept for reuse, up to 2 KB each: the stack of a task is one. A
 * collection frees about as many bytes as stay in use, and the script takes them again. So as many
 * are kept as are in use; with a cap only MEM_KEPT_LEAST, because they are not counted. */
enum { MEM_CLASSES = 128, MEM_CLASS_BYTES = 16, MEM_KEPT_LEAST = 4 << 20 };

/* A host's allocator. Its contract is that of lua_Alloc. */
typedef void *(*mem_host_fn)(void *arg, void *block, size_t old_size, size_t new_size);

struct mem {
    _Atomic size_t used_bytes; /* bytes in our blocks; read-only outside mem.c */
    _Atomic size_t
        peak_bytes; /* the most bytes so far, ours and Lua's together; read-only outside mem.c */
    /* Lua's bytes. Only one thread changes them, so no locked instruction is needed; a request
     * would otherwise need several hundred. */
    _Atomic size_t lua_bytes;
    void *lua_kept[MEM_CLASSES];
    size_t lua_kept_bytes, lua_dropped; /* lua_dropped: the size of which one goes next */
    _Atomic size_t blocks; /* the number of our live blocks, without Lua's: 0 after a clean close */
    /* 0: none. Use mem_limit and mem_set_limit. */
    _Atomic size_t limit_bytes;
    bool lua_refused; /* an allocation for Lua failed since this was last reset */
    /* For tests: this many allocations succeed, then one fails, and the value becomes -1. Negative:
     * none fails. Lua's allocations count too. A test that tries all n can stop when the value is
     * still >= 0 after a run. */
    _Atomic long fail_in;
    _Atomic long fail_more; /* for tests: this many allocations after that one fail as well */
    mem_host_fn host;       /* NULL: malloc, realloc and free */
    void *host_arg;
    struct mem_reserve *reserve; /* see mem_open_reserve */
};

void mem_init(struct mem *m, size_t limit_bytes);
/* From now on, all blocks come from `host`, including Lua's. Call it before the first allocation.
 */
void mem_set_host(struct mem *m, mem_host_fn host, void *arg);
/* Frees the kept blocks. Call it only after the Lua state is closed. */
void mem_fini(struct mem *m);

/* The cap; 0: none. The script's thread changes it while network threads allocate. Nothing depends
 * on the moment at which they see the new value. */
static inline size_t mem_limit(const struct mem *m)
{
    return atomic_load_explicit(&m->limit_bytes, memory_order_relaxed);
}

static inline void mem_set_limit(struct mem *m, size_t limit_bytes)
{
    atomic_store_explicit(&m->limit_bytes, limit_bytes, memory_order_relaxed);
}

/* The bytes in use, ours and Lua's together. */
size_t mem_in_use(struct mem *m);

/* NULL: the cap would be exceeded, or the system has no memory. A size of 0 returns a valid block.
 */
NODISCARD void *mem_alloc(struct mem *m, size_t size);
NODISCARD void *mem_calloc(struct mem *m, size_t size);
/* NULL: it failed, and `ptr` stays valid. */
NODISCARD void *mem_realloc(struct mem *m, void *ptr, size_t size);
/* NULL is allowed. Never allocates and never fails. */
void mem_free(struct mem *m, void *ptr);
/* A NUL-terminated copy of `len` bytes. */
NODISCARD char *mem_strndup(struct mem *m, const char *s, size_t len);

/* A lua_Alloc with the same counters and cap. `ud` is the struct mem. */
void *mem_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* LuaJIT crashes if one of the first allocations of a new state fails. Therefore, while a state is
 * created, allocations that fail are served from a reserve. False: no memory for the reserve. */
NODISCARD bool mem_open_reserve(struct mem *m);
/* True: nothing was allocated from the reserve. False: the state must be closed before
 * mem_close_reserve. */
bool mem_reserve_untouched(const struct mem *m);
void mem_close_reserve(struct mem *m);
