#include "engine/cookie_jar.h"
#include "engine/cookie_parse.h"
#include "ground/list.h"
#include <arpa/inet.h>
#include <libpsl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

enum { BUCKETS = 128, HOST_MAX = 255 };

struct domain {
    struct domain *hash_next;
    uint64_t hash;
    struct list cookies; /* the least recently used first */
    size_t count, len;
    char name[];
};

struct cookie {
    struct list used_node, domain_node;
    struct domain *domain;
    uint64_t number; /* the order in which they were made */
    int64_t end_s;
    bool host_only, secure;
    size_t name_len, value_len, path_len;
    char text[]; /* these three */
};

struct cookie_jar {
    struct mem *mem;
    unsigned refs;
    pthread_mutex_t lock; /* of all that follows */
    struct domain *by_name[BUCKETS];
    struct list used; /* all cookies, the least recently used first */
    size_t count, secure_count;
    uint64_t made;
    int64_t soonest_s; /* no cookie ends before */
};

/* A site as cookies see it. */
struct place {
    char host[HOST_MAX + 1]; /* lower case */
    size_t host_len, path_len;
    const char *path;
    bool is_address, trusted;
};

static const char *cookie_path(const struct cookie *c)
{
    return c->text + c->name_len + c->value_len;
}

struct cookie_jar *cookie_jar_new(struct mem *mem)
{
    struct cookie_jar *j = mem_calloc(mem, sizeof *j);
    if (!j)
        return NULL;
    j->mem = mem;
    j->refs = 1;
    j->soonest_s = COOKIE_NO_END;
    list_init(&j->used);
    pthread_mutex_init(&j->lock, NULL);
    return j;
}

struct cookie_jar *cookie_jar_ref(struct cookie_jar *j)
{
    j->refs++;
    return j;
}

/* ---- cookies and their domains ---- */

static uint64_t hash_bytes(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return h ^ (h >> 29);
}

static struct domain *domain_find(const struct cookie_jar *j, const char *name, size_t len)
{
    uint64_t hash = hash_bytes(name, len);
    for (struct domain *d = j->by_name[hash % BUCKETS]; d; d = d->hash_next) {
        if (d->hash == hash && d->len == len && memcmp(d->name, name, len) == 0)
            return d;
    }
    return NULL;
}

static struct domain *domain_make(struct cookie_jar *j, const char *name, size_t len)
{
    struct domain *d = mem_calloc(j->mem, sizeof *d + len);
    if (!d)
        return NULL;
    list_init(&d->cookies);
    memcpy(d->name, name, len);
    d->len = len;
    d->hash = hash_bytes(name, len);
    d->hash_next = j->by_name[d->hash % BUCKETS];
    j->by_name[d->hash % BUCKETS] = d;
    return d;
}

static void domain_drop_empty(struct cookie_jar *j, struct domain *d)
{
    if (d->count > 0)
        return;
    struct domain **at = &j->by_name[d->hash % BUCKETS];
    while (*at != d)
        at = &(*at)->hash_next;
    *at = d->hash_next;
    mem_free(j->mem, d);
}

static void cookie_remove(struct cookie_jar *j, struct cookie *c)
{
    struct domain *d = c->domain;
    list_unlink(&c->used_node);
    list_unlink(&c->domain_node);
    j->count--;
    j->secure_count -= c->secure;
    d->count--;
    mem_free(j->mem, c);
    domain_drop_empty(j, d);
}

static void cookie_touch(struct cookie_jar *j, struct cookie *c)
{
    list_unlink(&c->used_node);
    list_push_back(&j->used, &c->used_node);
    list_unlink(&c->domain_node);
    list_push_back(&c->domain->cookies, &c->domain_node);
}

static void remove_ended(struct cookie_jar *j, int64_t now_s)
{
    if (now_s < j->soonest_s)
        return;
    j->soonest_s = COOKIE_NO_END;
    LIST_FOR(node, &j->used)
    {
        struct cookie *c = CONTAINER_OF(node, struct cookie, used_node);
        if (c->end_s <= now_s)
            cookie_remove(j, c);
        else
            j->soonest_s = MIN(j->soonest_s, c->end_s);
    }
}

void cookie_jar_unref(struct cookie_jar *j)
{
    if (!j || --j->refs > 0)
        return;
    LIST_FOR(node, &j->used)
    cookie_remove(j, CONTAINER_OF(node, struct cookie, used_node));
    pthread_mutex_destroy(&j->lock);
    mem_free(j->mem, j);
}

/* ---- the rules ---- */

static void lower(char *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    out[len] = '\0';
}

/* False: a host that has no cookies. As in libcurl, a connection within this machine counts as
 * secure, because nobody else can read it. */
static bool place_init(struct place *p, const struct cookie_jar_site *site)
{
    unsigned char binary[4];
    size_t len = strlen(site->host);
    if (len == 0 || len > HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (site->host[i] <= ' ' || site->host[i] >= 0x7f)
            return false;
    }
    lower(p->host, site->host, len);
    p->host_len = len;
    p->path = site->path;
    p->path_len = site->path_len;
    p->is_address = p->host[0] == '[' || inet_pton(AF_INET, p->host, binary) == 1;
    p->trusted = site->https || strcmp(p->host, "localhost") == 0 ||
                 strcmp(p->host, "127.0.0.1") == 0 || strcmp(p->host, "[::1]") == 0;
    return true;
}

/* RFC 6265 5.1.3, for a `host` that is no address. */
static bool domain_matches(const char *host, size_t host_len, const char *domain, size_t len)
{
    return host_len >= len && memcmp(host + host_len - len, domain, len) == 0 &&
           (host_len == len || host[host_len - len - 1] == '.');
}

/* RFC 6265 5.1.4. */
static bool path_matches(const char *path, size_t path_len, const char *wanted, size_t len)
{
    return path_len >= len && memcmp(path, wanted, len) == 0 &&
           (path_len == len || wanted[len - 1] == '/' || path[len] == '/');
}

/* All labels but the last of a path, or "/". */
static struct cookie_part default_path(const struct place *p)
{
    const char *slash = memrchr(p->path, '/', p->path_len);
    if (!slash || p->path[0] != '/' || slash == p->path)
        return (struct cookie_part){"/", 1};
    return (struct cookie_part){p->path, (size_t)(slash - p->path)};
}

static bool is_public(const char *domain, size_t len)
{
    /* The list knows no names that end in a dot. It takes every name without a dot for public. */
    return domain[len - 1] == '.' || psl_is_public_suffix2(psl_builtin(), domain, PSL_TYPE_ANY);
}

/* The domain that the cookie is for: the host itself, or the one that it names. False: it may not
 * name that. */
static bool choose_domain(const struct place *p, const struct cookie_set *set,
                          char out[static HOST_MAX + 1], size_t *len, bool *host_only)
{
    *host_only = true;
    *len = p->host_len;
    memcpy(out, p->host, p->host_len + 1);
    if (set->domain.len == 0)
        return true;
    char domain[HOST_MAX + 1];
    size_t n = set->domain.len;
    if (n > p->host_len)
        return false;
    lower(domain, set->domain.at, n);
    if (n == p->host_len && memcmp(domain, p->host, n) == 0) {
        *host_only = p->is_address || is_public(domain, n);
        return true;
    }
    if (p->is_address || !domain_matches(p->host, p->host_len, domain, n) || is_public(domain, n))
        return false;
    *host_only = false;
    *len = n;
    memcpy(out, domain, n + 1);
    return true;
}

static bool begins(struct cookie_part name, const char *prefix)
{
    size_t len = strlen(prefix);
    return name.len >= len && strncasecmp(name.at, prefix, len) == 0;
}

/* What a prefix of the name promises to the server. */
static bool keeps_promise(const struct cookie_set *set)
{
    if (begins(set->name, "__Secure-"))
        return set->secure;
    if (begins(set->name, "__Host-"))
        return set->secure && set->domain.len == 0 && set->path.len == 1;
    return true;
}

/* Whether a cookie from an insecure site would stand in for a secure one. */
static bool hides_secure(const struct cookie_jar *j, const char *domain, size_t len,
                         const struct cookie_set *set)
{
    if (j->secure_count == 0)
        return false;
    LIST_FOR(node, &j->used)
    {
        const struct cookie *c = CONTAINER_OF(node, struct cookie, used_node);
        const struct domain *d = c->domain;
        if (c->secure && c->name_len == set->name.len &&
            memcmp(c->text, set->name.at, c->name_len) == 0 &&
            path_matches(set->path.at, set->path.len, cookie_path(c), c->path_len) &&
            (domain_matches(d->name, d->len, domain, len) ||
             domain_matches(domain, len, d->name, d->len)))
            return true;
    }
    return false;
}

/* ---- storing ---- */

static struct cookie *find(const struct domain *d, const struct cookie_set *set, bool host_only)
{
    LIST_FOR(node, &d->cookies)
    {
        struct cookie *c = CONTAINER_OF(node, struct cookie, domain_node);
        if (c->host_only == host_only && c->name_len == set->name.len &&
            c->path_len == set->path.len && memcmp(c->text, set->name.at, c->name_len) == 0 &&
            memcmp(cookie_path(c), set->path.at, c->path_len) == 0)
            return c;
    }
    return NULL;
}

static struct cookie *cookie_make(struct cookie_jar *j, const struct cookie_set *set)
{
    struct cookie *c =
        mem_alloc(j->mem, sizeof *c + set->name.len + set->value.len + set->path.len);
    if (!c)
        return NULL;
    *c = (struct cookie){.end_s = set->end_s,
                         .secure = set->secure,
                         .name_len = set->name.len,
                         .value_len = set->value.len,
                         .path_len = set->path.len};
    memcpy(c->text, set->name.at, set->name.len);
    memcpy(c->text + set->name.len, set->value.at, set->value.len);
    memcpy(c->text + set->name.len + set->value.len, set->path.at, set->path.len);
    return c;
}

/* Whoever can only write cookies that are not secure cannot push out those that are. */
static void make_room(struct cookie_jar *j, struct domain *d)
{
    if (d->count > COOKIE_JAR_DOMAIN_MAX) {
        struct cookie *out = CONTAINER_OF(d->cookies.next, struct cookie, domain_node);
        LIST_FOR(node, &d->cookies)
        {
            struct cookie *c = CONTAINER_OF(node, struct cookie, domain_node);
            if (!c->secure) {
                out = c;
                break;
            }
        }
        cookie_remove(j, out);
    }
    if (j->count > COOKIE_JAR_COOKIES_MAX)
        cookie_remove(j, CONTAINER_OF(j->used.next, struct cookie, used_node));
}

static enum err_kind put(struct cookie_jar *j, const char *domain, size_t len,
                         const struct cookie_set *set, bool host_only)
{
    struct domain *d = domain_find(j, domain, len);
    struct cookie *c = cookie_make(j, set);
    if (c && !d)
        d = domain_make(j, domain, len);
    if (!c || !d) {
        mem_free(j->mem, c);
        return ERR_MEMORY;
    }
    struct cookie *old = find(d, set, host_only);
    c->number = old ? old->number : j->made++;
    c->domain = d;
    c->host_only = host_only;
    list_push_back(&j->used, &c->used_node);
    list_push_back(&d->cookies, &c->domain_node);
    j->count++;
    j->secure_count += c->secure;
    d->count++;
    j->soonest_s = MIN(j->soonest_s, c->end_s);
    if (old)
        cookie_remove(j, old);
    make_room(j, d);
    return ERR_NONE;
}

static void put_out(struct cookie_jar *j, const char *domain, size_t len,
                    const struct cookie_set *set, bool host_only)
{
    struct domain *d = domain_find(j, domain, len);
    struct cookie *c = d ? find(d, set, host_only) : NULL;
    if (c)
        cookie_remove(j, c);
}

enum err_kind cookie_jar_store(struct cookie_jar *j, const struct cookie_jar_site *site,
                               const char *text, size_t len, int64_t now_s)
{
    struct place place;
    struct cookie_set set;
    char domain[HOST_MAX + 1];
    size_t domain_len;
    bool host_only;
    if (!place_init(&place, site) || !cookie_parse(&set, text, len, now_s) ||
        !choose_domain(&place, &set, domain, &domain_len, &host_only) || !keeps_promise(&set) ||
        (set.secure && !place.trusted))
        return ERR_NONE;
    if (set.path.len == 0)
        set.path = default_path(&place);
    if (set.path.len > COOKIE_ATTRIBUTE_MAX)
        return ERR_NONE;
    enum err_kind kind = ERR_NONE;
    pthread_mutex_lock(&j->lock);
    remove_ended(j, now_s);
    if (place.trusted || !hides_secure(j, domain, domain_len, &set)) {
        if (set.end_s <= now_s)
            put_out(j, domain, domain_len, &set, host_only);
        else
            kind = put(j, domain, domain_len, &set, host_only);
    }
    pthread_mutex_unlock(&j->lock);
    return kind;
}

/* ---- sending ---- */

struct chosen {
    struct cookie *rows[COOKIE_JAR_SENT_MAX];
    size_t count;
};

/* Longer paths first; among equals, what was there first. */
static bool goes_before(const struct cookie *a, const struct cookie *b)
{
    return a->path_len != b->path_len ? a->path_len > b->path_len : a->number < b->number;
}

static void choose(struct chosen *all, struct cookie *c)
{
    size_t at = all->count;
    if (at == COOKIE_JAR_SENT_MAX && !goes_before(c, all->rows[--at]))
        return;
    all->count = at + 1;
    for (; at > 0 && goes_before(c, all->rows[at - 1]); at--)
        all->rows[at] = all->rows[at - 1];
    all->rows[at] = c;
}

static void choose_of(const struct domain *d, const struct place *p, bool is_host,
                      struct chosen *all)
{
    LIST_FOR(node, &d->cookies)
    {
        struct cookie *c = CONTAINER_OF(node, struct cookie, domain_node);
        if ((is_host || !c->host_only) && (p->trusted || !c->secure) &&
            path_matches(p->path, p->path_len, cookie_path(c), c->path_len))
            choose(all, c);
    }
}

/* The host's own cookies, and those of the domains above it. */
static void choose_all(const struct cookie_jar *j, const struct place *p, struct chosen *all)
{
    const char *name = p->host, *end = p->host + p->host_len;
    for (;;) {
        const struct domain *d = domain_find(j, name, (size_t)(end - name));
        if (d)
            choose_of(d, p, name == p->host, all);
        const char *dot = p->is_address ? NULL : memchr(name, '.', (size_t)(end - name));
        if (!dot)
            return;
        name = dot + 1;
    }
}

static size_t sent_len(const struct cookie *c)
{
    return c->name_len + 1 + c->value_len;
}

static enum err_kind append_all(struct cookie_jar *j, struct chosen *all, struct buf *out)
{
    size_t count = 0, len = 0;
    for (; count < all->count; count++) {
        size_t more = sent_len(all->rows[count]) + (count > 0 ? 2 : 0);
        if (len + more > COOKIE_JAR_SENT_BYTES_MAX)
            break;
        len += more;
    }
    enum err_kind kind = buf_reserve(out, len);
    if (kind != ERR_NONE)
        return kind;
    char *to = out->data + out->len;
    for (size_t i = 0; i < count; i++) {
        struct cookie *c = all->rows[i];
        if (i > 0) {
            *to++ = ';';
            *to++ = ' ';
        }
        memcpy(to, c->text, c->name_len);
        to += c->name_len;
        *to++ = '=';
        memcpy(to, c->text + c->name_len, c->value_len);
        to += c->value_len;
        cookie_touch(j, c);
    }
    buf_commit(out, len);
    return ERR_NONE;
}

enum err_kind cookie_jar_header(struct cookie_jar *j, const struct cookie_jar_site *site,
                                int64_t now_s, struct buf *out)
{
    struct place place;
    struct chosen all;
    if (!place_init(&place, site))
        return ERR_NONE;
    all.count = 0;
    enum err_kind kind = ERR_NONE;
    pthread_mutex_lock(&j->lock);
    remove_ended(j, now_s);
    choose_all(j, &place, &all);
    if (all.count > 0)
        kind = append_all(j, &all, out);
    pthread_mutex_unlock(&j->lock);
    return kind;
}
