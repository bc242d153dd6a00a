/* Debug builds only: remembers the addresses of runtimes that leat_free has freed. A call with one
 * of them then ends with a message instead of undefined behaviour. The list is process-wide,
 * because a freed runtime cannot store anything. */
#include "host/runtime_grave.h"

#include "ground/base.h"

#ifdef LEAT_DEBUG

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { GRAVES = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const void *graves[GRAVES];
static size_t buried;

static bool dig(const void *r, bool remove)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < GRAVES && !found; i++) {
        found = r && graves[i] == r;
        if (found && remove)
            graves[i] = NULL;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void runtime_bury(const struct leat_runtime *r)
{
    pthread_mutex_lock(&lock);
    graves[buried++ % GRAVES] = r;
    pthread_mutex_unlock(&lock);
}

void runtime_unearth(const struct leat_runtime *r)
{
    dig(r, true);
}

void runtime_check_alive(const struct leat_runtime *r, const char *call)
{
    if (!dig(r, false))
        return;
    fprintf(stderr, "leat: %s was called with a runtime that leat_free has freed\n", call);
    abort();
}

#endif
