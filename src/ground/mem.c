#include "ground/mem.h"

#include <string.h>

/* The header of each of our blocks. It stores the size, so that mem_free does not need it. */
union header {
    size_t size;
    max_align_t align;
};

_Static_assert(sizeof(union header) % 16 == 0, "blocks must stay aligned for any type");

void mem_init(struct mem *m, size_t limit_bytes)
{
    atomic_init(&m->used_bytes, 0);
    atomic_init(&m->peak_bytes, 0);
    atomic_init(&m->blocks, 0);
    atomic_init(&m->fail_in, -1);
    atomic_init(&m->fail_more, 0);
    atomic_init(&m->limit_bytes, limit_bytes);
    atomic_init(&m->lua_bytes, 0);
    m->host = NULL;
    m->reserve = NULL;
    m->lua_kept_bytes = m->lua_dropped = 0;
    for (size_t i = 0; i < MEM_CLASSES; i++)
        m->lua_kept[i] = NULL;
}

void mem_set_host(struct mem *m, mem_host_fn host, void *arg)
{
    m->host = host;
    m->host_arg = arg;
}

void mem_fini(struct mem *m)
{
    for (size_t i = 0; i < MEM_CLASSES; i++) {
        while (m->lua_kept[i] != NULL) {
            void *block = m->lua_kept[i];
            m->lua_kept[i] = *(void **)block;
            free(block);
        }
    }
    m->lua_kept_bytes = 0;
}

static bool told_to_fail(struct mem *m)
{
    long left = atomic_load_explicit(&m->fail_in, memory_order_relaxed);
    while (left >= 0) {
        if (!atomic_compare_exchange_weak(&m->fail_in, &left, left - 1))
            continue;
        if (left > 0)
            return false;
        if (atomic_fetch_sub(&m->fail_more, 1) > 0)
            atomic_store(&m->fail_in, 0);
        return true;
    }
    return false;
}

static size_t lua_bytes(struct mem *m)
{
    return atomic_load_explicit(&m->lua_bytes, memory_order_relaxed);
}

static void raise_peak(struct mem *m, size_t used)
{
    size_t peak = atomic_load_explicit(&m->peak_bytes, memory_order_relaxed);
    while (used > peak) {
        if (atomic_compare_exchange_weak(&m->peak_bytes, &peak, used))
            return;
    }
}

/* Counts `size` bytes before they are allocated. Otherwise, two threads at once could both use the
 * same bytes below the cap. */
static bool claim(struct mem *m, size_t size)
{
    if (told_to_fail(m))
        return false;
    /* Each is read once: the script's thread may change it meanwhile. */
    size_t limit = mem_limit(m);
    size_t before = atomic_fetch_add(&m->used_bytes, size) + lua_bytes(m);
    if (limit != 0 && (before > limit || size > limit - before)) {
        atomic_fetch_sub(&m->used_bytes, size);
        return false;
    }
    raise_peak(m, before + size);
    return true;
}

static void unclaim(struct mem *m, size_t size)
{
    atomic_fetch_sub(&m->used_bytes, size);
}

static void *system_alloc(struct mem *m, size_t size, bool zeroed)
{
    if (m->host == NULL)
        return zeroed ? calloc(1, size) : malloc(size);
    void *block = m->host(m->host_arg, NULL, 0, size);
    if (block != NULL && zeroed)
        memset(block, 0, size);
    return block;
}

static void *system_realloc(struct mem *m, void *block, size_t old, size_t size)
{
    return m->host != NULL ? m->host(m->host_arg, block, old, size) : realloc(block, size);
}

static void system_free(struct mem *m, void *block, size_t size)
{
    if (m->host != NULL)
        m->host(m->host_arg, block, size, 0);
    else
        free(block);
}

static void *alloc_block(struct mem *m, size_t size, bool zeroed)
{
    if (size > SIZE_MAX - sizeof(union header))
        return NULL;
    size_t total = size + sizeof(union header);
    if (!claim(m, total))
        return NULL;
    union header *h = system_alloc(m, total, zeroed);
    if (h == NULL) {
        unclaim(m, total);
        return NULL;
    }
    h->size = size;
    atomic_fetch_add(&m->blocks, 1);
    return h + 1;
}

void *mem_alloc(struct mem *m, size_t size)
{
    return alloc_block(m, size, false);
}

void *mem_calloc(struct mem *m, size_t size)
{
    return alloc_block(m, size, true);
}

void *mem_realloc(struct mem *m, void *ptr, size_t size)
{
    if (ptr == NULL)
        return mem_alloc(m, size);
    if (size > SIZE_MAX - sizeof(union header))
        return NULL;
    union header *h = (union header *)ptr - 1;
    size_t old = h->size;
    size_t more = size > old ? size - old : 0;
    if (more != 0 && !claim(m, more))
        return NULL;
    union header *moved =
        system_realloc(m, h, old + sizeof(union header), size + sizeof(union header));
    if (moved == NULL) {
        unclaim(m, more);
        return NULL;
    }
    if (size < old)
        unclaim(m, old - size);
    moved->size = size;
    return moved + 1;
}

void mem_free(struct mem *m, void *ptr)
{
    if (ptr == NULL)
        return;
    union header *h = (union header *)ptr - 1;
    unclaim(m, h->size + sizeof(union header));
    atomic_fetch_sub(&m->blocks, 1);
    system_free(m, h, h->size + sizeof(union header));
}

char *mem_strndup(struct mem *m, const char *s, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = mem_alloc(m, len + 1);
    if (copy == NULL)
        return NULL;
    if (len != 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

size_t mem_in_use(struct mem *m)
{
    return atomic_load_explicit(&m->used_bytes, memory_order_relaxed) + lua_bytes(m);
}

/* Sanitizers detect the use of a freed block only if it is really freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(LEAT_KEEP_NO_BLOCKS)
#define KEEP_BLOCKS false
#else
#define KEEP_BLOCKS true
#endif

/* The list of kept blocks for this size; MEM_CLASSES: there is none. */
static size_t class_of(size_t size)
{
    size_t c = (size + MEM_CLASS_BYTES - 1) / MEM_CLASS_BYTES - 1;
    return KEEP_BLOCKS && c < MEM_CLASSES ? c : MEM_CLASSES;
}

static void *take_kept(struct mem *m, size_t c)
{
    void *block = m->lua_kept[c];
    /* The collector freed it long ago, so it has left the processor's caches. The next one is
     * fetched while this one is used. */
    m->lua_kept[c] = *(void **)block;
    __builtin_prefetch(m->lua_kept[c], 1);
    m->lua_kept_bytes -= (c + 1) * MEM_CLASS_BYTES;
    return block;
}

static void *lua_get(struct mem *m, size_t size)
{
    size_t c = class_of(size);
    if (c == MEM_CLASSES)
        return malloc(size);
    return m->lua_kept[c] != NULL ? take_kept(m, c) : malloc((c + 1) * MEM_CLASS_BYTES);
}

/* With a cap only the least is kept, because it is not counted. */
static bool keeps_too_much(struct mem *m)
{
    return m->lua_kept_bytes > MEM_KEPT_LEAST &&
           (m->lua_kept_bytes > lua_bytes(m) || mem_limit(m) != 0);
}

/* Two blocks for one, as less is in use now. Of each size in turn, so that none that is not used
 * any more takes the room of the others. */
static void drop_kept(struct mem *m)
{
    for (int i = 0; i < 2 && keeps_too_much(m); i++) {
        while (m->lua_kept[m->lua_dropped] == NULL)
            m->lua_dropped = (m->lua_dropped + 1) % MEM_CLASSES;
        free(take_kept(m, m->lua_dropped));
        m->lua_dropped = (m->lua_dropped + 1) % MEM_CLASSES;
    }
}

static void lua_put(struct mem *m, void *block, size_t size)
{
    size_t c = class_of(size);
    if (c == MEM_CLASSES) {
        free(block);
        return;
    }
    *(void **)block = m->lua_kept[c];
    m->lua_kept[c] = block;
    m->lua_kept_bytes += (c + 1) * MEM_CLASS_BYTES;
    if (m->lua_kept_bytes > MEM_KEPT_LEAST)
        drop_kept(m);
}

/* Only one thread writes it, so a plain store is enough. */
static void set_lua_bytes(struct mem *m, size_t bytes)
{
    atomic_store_explicit(&m->lua_bytes, bytes, memory_order_relaxed);
}

static bool claim_lua(struct mem *m, size_t more)
{
    if (told_to_fail(m))
        return false;
    size_t used = atomic_load_explicit(&m->used_bytes, memory_order_relaxed) + lua_bytes(m);
    size_t limit = mem_limit(m);
    if (limit != 0 && (used > limit || more > limit - used))
        return false;
    set_lua_bytes(m, lua_bytes(m) + more);
    raise_peak(m, used + more);
    return true;
}

/* ---- the reserve */

enum { RESERVE_BYTES = 256 << 10 }; /* a new state takes a tenth of it */

struct mem_reserve {
    size_t used;
    _Alignas(max_align_t) char bytes[RESERVE_BYTES];
};

bool mem_open_reserve(struct mem *m)
{
    m->reserve = malloc(sizeof *m->reserve);
    if (m->reserve != NULL)
        m->reserve->used = 0;
    return m->reserve != NULL;
}

bool mem_reserve_untouched(const struct mem *m)
{
    return m->reserve->used == 0;
}

void mem_close_reserve(struct mem *m)
{
    free(m->reserve);
    m->reserve = NULL;
}

static bool in_reserve(const struct mem *m, const void *block)
{
    uintptr_t at = (uintptr_t)block, from = (uintptr_t)m->reserve;
    return m->reserve != NULL && at >= from && at - from < sizeof *m->reserve;
}

static void *take_reserve(struct mem *m, size_t size)
{
    struct mem_reserve *r = m->reserve;
    size_t padded = (size + 15) & ~(size_t)15;
    if (r == NULL || size > RESERVE_BYTES || padded > RESERVE_BYTES - r->used)
        return NULL;
    void *block = r->bytes + r->used;
    r->used += padded;
    return block;
}

/* ---- Lua's blocks */

static void *kept_realloc(struct mem *m, void *block, size_t old, size_t size)
{
    if (block == NULL)
        return lua_get(m, size);
    if (class_of(old) == class_of(size))
        return class_of(size) == MEM_CLASSES ? realloc(block, size) : block;
    void *moved = lua_get(m, size);
    if (moved != NULL) {
        memcpy(moved, block, MIN(old, size));
        lua_put(m, block, old);
    }
    return moved;
}

static void lua_give_back(struct mem *m, void *block, size_t size)
{
    if (block == NULL || in_reserve(m, block))
        return;
    if (m->host != NULL)
        m->host(m->host_arg, block, size, 0);
    else
        lua_put(m, block, size);
}

static void *lua_resize(struct mem *m, void *block, size_t old, size_t size)
{
    bool reserved = in_reserve(m, block);
    void *from = reserved ? NULL : block;
    void *moved = m->host != NULL ? m->host(m->host_arg, from, from != NULL ? old : 0, size)
                                  : kept_realloc(m, from, old, size);
    if (m->reserve == NULL)
        return moved;
    bool copied = moved != NULL && !reserved;
    if (moved == NULL)
        moved = take_reserve(m, size);
    if (moved != NULL && block != NULL && !copied) {
        memcpy(moved, block, MIN(old, size));
        lua_give_back(m, block, old);
    }
    return moved;
}

void *mem_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct mem *m = ud;
    if (ptr == NULL)
        osize = 0; /* some versions of Lua pass the kind of object here */
    if (nsize == 0) {
        set_lua_bytes(m, lua_bytes(m) - osize);
        lua_give_back(m, ptr, osize);
        return NULL;
    }
    size_t more = nsize > osize ? nsize - osize : 0;
    if (more != 0 && !claim_lua(m, more)) {
        m->lua_refused = true;
        return NULL;
    }
    void *block = lua_resize(m, ptr, osize, nsize);
    if (block == NULL) {
        /* Lua's collector requires that making a block smaller never fails. If it does, the larger
         * block is kept. It goes to a list of smaller blocks later. */
        if (more != 0) {
            set_lua_bytes(m, lua_bytes(m) - more);
            m->lua_refused = true;
            return NULL;
        }
        block = ptr;
    }
    if (nsize < osize)
        set_lua_bytes(m, lua_bytes(m) - (osize - nsize));
    return block;
}
