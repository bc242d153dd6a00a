#include "cli/cli_alloc.h"

#ifdef __SANITIZE_ADDRESS__

/* The address sanitizer must see each allocation and each free. */
void cli_alloc_install(void)
{
}

#else

#include "ground/base.h"
#include <curl/curl.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>

/* Each block comes from malloc, so a block that is freed elsewhere, or resized, needs no special
 * case: the lists only delay its return. Each thread has its own lists, so that no lock is needed.
 */
enum { CLASSES = 64, CLASS_BYTES = 16, KEPT = 256 };

struct kept {
    void *first[CLASSES];
    unsigned count[CLASSES];
    bool is_noted; /* the end of the thread frees the lists */
};

static _Thread_local struct kept kept;
static pthread_key_t at_thread_end;

static void *get(size_t size)
{
    size_t c = size == 0 ? 0 : (size - 1) / CLASS_BYTES;
    if (c >= CLASSES)
        return malloc(size);
    void *block = kept.first[c];
    if (!block)
        return malloc((c + 1) * CLASS_BYTES);
    kept.first[c] = *(void **)block;
    kept.count[c]--;
    return block;
}

static void put(void *block)
{
    if (!block)
        return;
    size_t c = malloc_usable_size(block) / CLASS_BYTES - 1; /* the class that it surely fits */
    if (!kept.is_noted)
        kept.is_noted = pthread_setspecific(at_thread_end, &kept) == 0;
    if (c >= CLASSES || kept.count[c] == KEPT || !kept.is_noted) {
        free(block);
        return;
    }
    *(void **)block = kept.first[c];
    kept.first[c] = block;
    kept.count[c]++;
}

static void give_back(void *arg)
{
    struct kept *k = arg;
    for (size_t c = 0; c < CLASSES; c++) {
        while (k->first[c]) {
            void *block = k->first[c];
            k->first[c] = *(void **)block;
            free(block);
        }
        k->count[c] = 0;
    }
    k->is_noted = false; /* what another destructor frees comes here again */
}

static void *get_zeroed(size_t n, size_t size)
{
    if (size != 0 && n > SIZE_MAX / size)
        return NULL;
    if (n * size > CLASSES * CLASS_BYTES)
        return calloc(n, size);
    void *block = get(n * size);
    return block ? memset(block, 0, n * size) : NULL;
}

static void *resize(void *block, size_t size)
{
    return block ? realloc(block, size) : get(size);
}

static char *duplicate(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = get(n);
    return copy ? memcpy(copy, s, n) : NULL;
}

void cli_alloc_install(void)
{
    if (pthread_key_create(&at_thread_end, give_back) != 0)
        return;
    curl_global_init_mem(CURL_GLOBAL_DEFAULT, get, put, resize, duplicate, get_zeroed);
}

#endif
