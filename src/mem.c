#include "mem.h"

#include <string.h>

/* Stands before every block of ours, so that mem_free needs no size from its caller. */
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
    m->limit_bytes = limit_bytes;
}

static bool told_to_fail(struct mem *m)
{
    long left = atomic_load_explicit(&m->fail_in, memory_order_relaxed);
    while (left >= 0) {
        if (atomic_compare_exchange_weak(&m->fail_in, &left, left - 1))
            return left == 0;
    }
    return false;
}

static void raise_peak(struct mem *m, size_t used)
{
    size_t peak = atomic_load_explicit(&m->peak_bytes, memory_order_relaxed);
    while (used > peak) {
        if (atomic_compare_exchange_weak(&m->peak_bytes, &peak, used))
            return;
    }
}

/* Counts `size` bytes before they are asked of the system: two threads at once must not both find
 * room below the cap for the same bytes. */
static bool claim(struct mem *m, size_t size)
{
    if (told_to_fail(m))
        return false;
    size_t before = atomic_fetch_add(&m->used_bytes, size);
    if (m->limit_bytes != 0 && (before > m->limit_bytes || size > m->limit_bytes - before)) {
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

static void *alloc_block(struct mem *m, size_t size, bool zeroed)
{
    if (size > SIZE_MAX - sizeof(union header))
        return NULL;
    size_t total = size + sizeof(union header);
    if (!claim(m, total))
        return NULL;
    union header *h = zeroed ? calloc(1, total) : malloc(total);
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
    union header *moved = realloc(h, size + sizeof(union header));
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
    free(h);
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

void *mem_lua_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct mem *m = ud;
    if (ptr == NULL)
        osize = 0; /* some Luas pass the kind of object here */
    if (nsize == 0) {
        unclaim(m, osize);
        free(ptr);
        return NULL;
    }
    size_t more = nsize > osize ? nsize - osize : 0;
    if (more != 0 && !claim(m, more))
        return NULL;
    void *moved = realloc(ptr, nsize);
    if (moved == NULL) {
        /* The collector takes for granted that a block can always be made smaller. */
        if (more != 0) {
            unclaim(m, more);
            return NULL;
        }
        moved = ptr;
    }
    if (nsize < osize)
        unclaim(m, osize - nsize);
    return moved;
}
