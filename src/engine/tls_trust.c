#include "engine/tls_trust.h"

#include "engine/tls_bundle.h"
#include "engine/tls_failure.h"
#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <unistd.h>

struct tls_store {
    struct list node;
    struct tls_trust *trust;
    X509_STORE *x509;
    struct tls_bundle bundle;
    struct tls_stamp stamp;
    unsigned refs;
    bool is_system;
    char file[]; /* "": none */
};

struct tls_stamp tls_trust_stamp(const char *path)
{
    struct stat st;
    if (!path || !*path || stat(path, &st) != 0)
        return (struct tls_stamp){.there = false};
    return (struct tls_stamp){.there = true,
                              .device = st.st_dev,
                              .number = st.st_ino,
                              .size = st.st_size,
                              .changed = st.st_mtim};
}

bool tls_trust_same(const struct tls_stamp *a, const struct tls_stamp *b)
{
    return a->there == b->there && a->device == b->device && a->number == b->number &&
           a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

/* The variable's value; NULL: none. */
static const char *named(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

static char *copy_text(struct mem *mem, const char *text)
{
    return text ? mem_strndup(mem, text, strlen(text)) : NULL;
}

static bool differs(const char *text, const char *from)
{
    return text && !(from && strcmp(text, from) == 0);
}

enum err_kind tls_trust_init(struct tls_trust *t, struct mem *mem, struct err *err)
{
    const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
    const char *file = named("SSL_CERT_FILE"), *folder = named("SSL_CERT_DIR");
    if (!differs(file, curl->cainfo) && !differs(folder, curl->capath)) {
        bool has_bundle = curl->cainfo && access(curl->cainfo, R_OK) == 0;
        file = has_bundle ? curl->cainfo : NULL;
        folder = has_bundle ? NULL : curl->capath;
    }
    *t = (struct tls_trust){.mem = mem};
    list_init(&t->stores);
    t->file = copy_text(mem, file);
    t->folder = copy_text(mem, folder);
    if ((!file || t->file) && (!folder || t->folder))
        return ERR_NONE;
    tls_trust_fini(t);
    return err_set(err, ERR_MEMORY, "no memory for certificates");
}

void tls_trust_fini(struct tls_trust *t)
{
    ASSERT(list_empty(&t->stores));
    mem_free(t->mem, t->file);
    mem_free(t->mem, t->folder);
    t->file = t->folder = NULL;
    tls_bundle_method_free(t->method);
    t->method = NULL;
}

bool tls_trust_is_current(const struct tls_store *store)
{
    struct tls_stamp now = tls_trust_stamp(store->file);
    return tls_trust_same(&now, &store->stamp);
}

struct x509_store_st *tls_trust_x509(const struct tls_store *store)
{
    return store->x509;
}

void tls_trust_drop(struct tls_store *store)
{
    if (!store || --store->refs > 0)
        return;
    list_unlink(&store->node);
    X509_STORE_free(store->x509);
    tls_bundle_fini(&store->bundle);
    mem_free(store->trust->mem, store);
}

static enum err_kind read_file(struct tls_store *store, struct err *err)
{
    struct tls_trust *t = store->trust;
    if (!t->method)
        t->method = tls_bundle_method_new();
    enum err_kind kind = tls_bundle_read(&store->bundle, store->file);
    if (!t->method || !tls_bundle_serve(&store->bundle, store->x509, t->method))
        kind = ERR_MEMORY;
    if (kind == ERR_MEMORY)
        return err_set(err, kind, "no memory for certificates");
    /* If the system's file lacks a certificate, the failure shows when a server needs it. */
    return kind == ERR_NONE || store->is_system ? ERR_NONE : tls_failure_ca_file(store->file, err);
}

/* A folder is searched when a certificate is missing, so it costs nothing here. */
static enum err_kind load(struct tls_store *store, struct err *err)
{
    ERR_clear_error();
    store->x509 = X509_STORE_new();
    if (!store->x509)
        return err_set(err, ERR_MEMORY, "no memory for certificates");
    enum err_kind kind = store->file[0] ? read_file(store, err) : ERR_NONE;
    if (kind != ERR_NONE)
        return kind;
    const char *folder = store->is_system ? store->trust->folder : NULL;
    if (folder && !X509_STORE_load_path(store->x509, folder))
        return err_set(err, ERR_MEMORY, "no memory for certificates");
    /* A certificate in the file is trusted even if it is no root, as with libcurl. */
    X509_STORE_set_flags(store->x509, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    ERR_clear_error();
    return ERR_NONE;
}

enum err_kind tls_trust_take(struct tls_trust *t, const char *file, struct tls_store **out,
                             struct err *err)
{
    bool is_system = file == NULL;
    const char *path = is_system ? t->file : file;
    size_t len = path ? strlen(path) : 0;
    LIST_FOR(node, &t->stores)
    {
        struct tls_store *s = CONTAINER_OF(node, struct tls_store, node);
        if (s->is_system == is_system && strcmp(s->file, path ? path : "") == 0 &&
            tls_trust_is_current(s)) {
            s->refs++;
            *out = s;
            return ERR_NONE;
        }
    }
    struct tls_store *s = mem_calloc(t->mem, sizeof *s + len + 1);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for certificates");
    s->trust = t;
    tls_bundle_init(&s->bundle, t->mem);
    s->refs = 1;
    s->is_system = is_system;
    if (path)
        memcpy(s->file, path, len);
    s->stamp = tls_trust_stamp(path); /* before reading: what changes meanwhile is read again */
    list_push_front(&t->stores, &s->node);
    enum err_kind kind = load(s, err);
    if (kind != ERR_NONE) {
        tls_trust_drop(s);
        return kind;
    }
    *out = s;
    return ERR_NONE;
}
