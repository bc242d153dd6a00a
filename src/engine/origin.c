#include "engine/origin.h"
#include <arpa/inet.h>
#include <string.h>

/* No seed is needed: the tables are small and fixed, and in the worst case all of one is searched.
 */
static uint64_t hash_bytes(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return h ^ (h >> 29);
}

void origins_init(struct origins *o, struct mem *mem)
{
    *o = (struct origins){.mem = mem};
    list_init(&o->lru);
}

void origin_ref(struct origin *g)
{
    g->refs++;
}

static void free_origin(struct origins *o, struct origin *g)
{
    mem_free(o->mem, g->key);
    mem_free(o->mem, g->host);
    mem_free(o->mem, g->authority);
    mem_free(o->mem, g);
}

void origin_unref(struct origin *g)
{
    if (--g->refs > 0)
        return;
    struct origins *o = g->all;
    struct origin **at = &o->by_key[g->hash % ORIGIN_BUCKETS];
    while (*at != g)
        at = &(*at)->hash_next;
    *at = g->hash_next;
    o->origin_count--;
    free_origin(o, g);
}

static void entry_free(struct origins *o, struct url_entry *u)
{
    if (u->handle)
        curl_url_cleanup(u->handle);
    if (u->origin)
        origin_unref(u->origin);
    mem_free(o->mem, u->url);
    mem_free(o->mem, u->target);
    mem_free(o->mem, u);
}

/* Out of the table; the memory goes with the last transfer that uses it. */
static void entry_evict(struct origins *o, struct url_entry *u)
{
    struct url_entry **at = &o->by_url[u->hash % URL_BUCKETS];
    while (*at != u)
        at = &(*at)->hash_next;
    *at = u->hash_next;
    list_unlink(&u->lru);
    u->cached = false;
    o->url_count--;
    if (u->refs == 0)
        entry_free(o, u);
}

void origins_fini(struct origins *o)
{
    LIST_FOR(node, &o->lru)
    {
        struct url_entry *u = CONTAINER_OF(node, struct url_entry, lru);
        ASSERT(u->refs == 0);
        entry_evict(o, u);
    }
    ASSERT(o->origin_count == 0);
}

bool origin_is_numeric(const char *host)
{
    unsigned char binary[16];
    return host[0] == '[' || inet_pton(AF_INET, host, binary) == 1;
}

static struct origin *origin_for(struct origins *o, const char *scheme, char *host,
                                 const char *port)
{
    char key[320];
    for (char *p = host; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    }
    int n = snprintf(key, sizeof key, "%s://%s:%s", scheme, host, port);
    if (n < 0 || (size_t)n >= sizeof key)
        return NULL;
    uint64_t hash = hash_bytes(key, (size_t)n);
    for (struct origin *g = o->by_key[hash % ORIGIN_BUCKETS]; g; g = g->hash_next) {
        if (g->hash == hash && strcmp(g->key, key) == 0) {
            g->refs++;
            return g;
        }
    }
    struct origin *g = mem_calloc(o->mem, sizeof *g);
    if (!g)
        return NULL;
    g->key = mem_strndup(o->mem, key, (size_t)n);
    g->host = mem_strndup(o->mem, host, strlen(host));
    g->all = o;
    g->https = strcmp(scheme, "https") == 0;
    bool own_port = strcmp(port, g->https ? "443" : "80") == 0;
    const char *authority = key + strlen(scheme) + 3;
    g->authority = mem_strndup(o->mem, authority, own_port ? strlen(host) : strlen(authority));
    if (!g->key || !g->host || !g->authority) {
        free_origin(o, g);
        return NULL;
    }
    list_init(&g->pools);
    g->hash = hash;
    g->port = (unsigned)strtoul(port, NULL, 10);
    g->numeric = origin_is_numeric(host);
    g->refs = 1;
    admit_host_init(&g->admit);
    g->hash_next = o->by_key[hash % ORIGIN_BUCKETS];
    o->by_key[hash % ORIGIN_BUCKETS] = g;
    o->origin_count++;
    return g;
}

/* Path and query as libcurl reads them: without dot segments. */
static CURLUcode set_target(struct origins *o, struct url_entry *u)
{
    char *path = NULL, *query = NULL;
    CURLUcode code = curl_url_get(u->handle, CURLUPART_PATH, &path, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(u->handle, CURLUPART_QUERY, &query, 0);
    if (code == CURLUE_NO_QUERY)
        code = CURLUE_OK;
    if (code == CURLUE_OK) {
        size_t size = strlen(path) + (query ? strlen(query) + 1 : 0) + 1;
        u->target = mem_alloc(o->mem, size);
        if (u->target)
            snprintf(u->target, size, "%s%s%s", path, query ? "?" : "", query ? query : "");
        else
            code = CURLUE_OUT_OF_MEMORY;
    }
    curl_free(path);
    curl_free(query);
    return code;
}

/* Fills handle, target and origin. */
static enum err_kind entry_parse(struct origins *o, struct url_entry *u, struct err *err)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    enum err_kind kind = ERR_NONE;
    u->handle = curl_url();
    if (!u->handle)
        return err_set(err, ERR_MEMORY, "no memory for a URL");
    CURLUcode code = curl_url_set(u->handle, CURLUPART_URL, u->url, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(u->handle, CURLUPART_SCHEME, &scheme, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(u->handle, CURLUPART_HOST, &host, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(u->handle, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    if (code == CURLUE_OK)
        code = set_target(o, u);
    if (code == CURLUE_OUT_OF_MEMORY) {
        kind = err_set(err, ERR_MEMORY, "no memory for a URL");
    } else if (code != CURLUE_OK) {
        kind = err_set(err, ERR_INVALID, "url: %s", curl_url_strerror(code));
    } else if (strlen(host) > 255) {
        kind = err_set(err, ERR_INVALID, "url: the host name is longer than 255 bytes");
    } else {
        u->origin = origin_for(o, scheme, host, port);
        if (!u->origin)
            kind = err_set(err, ERR_MEMORY, "no memory for a URL");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return kind;
}

enum err_kind origins_get(struct origins *o, const char *url, struct url_entry **out,
                          struct err *err)
{
    size_t len = strlen(url);
    uint64_t hash = hash_bytes(url, len);
    for (struct url_entry *u = o->by_url[hash % URL_BUCKETS]; u; u = u->hash_next) {
        if (u->hash == hash && u->len == len && memcmp(u->url, url, len) == 0) {
            list_unlink(&u->lru);
            list_push_back(&o->lru, &u->lru);
            u->refs++;
            *out = u;
            return ERR_NONE;
        }
    }
    struct url_entry *u = mem_calloc(o->mem, sizeof *u);
    if (!u)
        return err_set(err, ERR_MEMORY, "no memory for a URL");
    u->hash = hash;
    u->len = len;
    u->url = mem_strndup(o->mem, url, len);
    enum err_kind kind =
        u->url ? entry_parse(o, u, err) : err_set(err, ERR_MEMORY, "no memory for a URL");
    if (kind != ERR_NONE) {
        entry_free(o, u);
        return kind;
    }
    if (o->url_count >= URL_CACHE_MAX)
        entry_evict(o, CONTAINER_OF(o->lru.next, struct url_entry, lru));
    u->refs = 1;
    u->cached = true;
    u->hash_next = o->by_url[hash % URL_BUCKETS];
    o->by_url[hash % URL_BUCKETS] = u;
    list_push_back(&o->lru, &u->lru);
    o->url_count++;
    *out = u;
    return ERR_NONE;
}

void origins_release(struct origins *o, struct url_entry *u)
{
    ASSERT(u->refs > 0);
    if (--u->refs == 0 && !u->cached)
        entry_free(o, u);
}
