#include "engine/cookies.h"
#include <curl/curl.h>
#include <pthread.h>

struct jar {
    struct mem *mem;
    CURLSH *share;
    unsigned refs;
    pthread_mutex_t locks[CURL_LOCK_DATA_LAST]; /* of libcurl's, by what it shares */
};

static void lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *arg)
{
    UNUSED(easy);
    UNUSED(access);
    pthread_mutex_lock(&((struct jar *)arg)->locks[data]);
}

static void unlock(CURL *easy, curl_lock_data data, void *arg)
{
    UNUSED(easy);
    pthread_mutex_unlock(&((struct jar *)arg)->locks[data]);
}

/* A client's requests to several origins are on several network threads, where there are some. */
static CURLSHcode set_up(struct jar *j)
{
    CURLSHcode code = curl_share_setopt(j->share, CURLSHOPT_USERDATA, j);
    if (!code)
        code = curl_share_setopt(j->share, CURLSHOPT_LOCKFUNC, lock);
    if (!code)
        code = curl_share_setopt(j->share, CURLSHOPT_UNLOCKFUNC, unlock);
    if (!code)
        code = curl_share_setopt(j->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
    return code;
}

struct jar *jar_new(struct mem *mem)
{
    struct jar *j = mem_calloc(mem, sizeof *j);
    if (!j)
        return NULL;
    j->mem = mem;
    j->refs = 1;
    for (size_t i = 0; i < ARRAY_LEN(j->locks); i++)
        pthread_mutex_init(&j->locks[i], NULL);
    j->share = curl_share_init();
    if (j->share && set_up(j) == CURLSHE_OK)
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
    for (size_t i = 0; i < ARRAY_LEN(j->locks); i++)
        pthread_mutex_destroy(&j->locks[i]);
    mem_free(j->mem, j);
}

void *jar_share(struct jar *j)
{
    return j->share;
}
