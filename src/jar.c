#include "jar.h"
#include <curl/curl.h>

struct jar {
    struct mem *mem;
    CURLSH *share;
    unsigned refs;
};

struct jar *jar_new(struct mem *mem)
{
    struct jar *j = mem_calloc(mem, sizeof *j);
    if (!j)
        return NULL;
    j->mem = mem;
    j->refs = 1;
    j->share = curl_share_init();
    /* All its users are on one thread: no locks. */
    if (j->share &&
        curl_share_setopt(j->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE) == CURLSHE_OK)
        return j;
    jar_unref(j);
    return NULL;
}

struct jar *jar_ref(struct jar *j)
{
    j->refs++;
    return j;
}

void jar_unref(struct jar *j)
{
    if (!j || --j->refs > 0)
        return;
    if (j->share)
        curl_share_cleanup(j->share);
    mem_free(j->mem, j);
}

void *jar_share(struct jar *j)
{
    return j->share;
}
