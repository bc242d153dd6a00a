#include "engine/tls_bundle.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <string.h>

struct entry {
    struct list node;
    X509_NAME *subject;
    bool has_trust; /* "TRUSTED CERTIFICATE": with OpenSSL's own settings behind it */
    size_t len;
    unsigned char der[];
};

void tls_bundle_init(struct tls_bundle *b, struct mem *mem)
{
    b->mem = mem;
    list_init(&b->waiting);
}

static void drop(struct tls_bundle *b, struct entry *e)
{
    list_unlink(&e->node);
    X509_NAME_free(e->subject);
    mem_free(b->mem, e);
}

void tls_bundle_fini(struct tls_bundle *b)
{
    LIST_FOR(node, &b->waiting)
    {
        drop(b, CONTAINER_OF(node, struct entry, node));
    }
}

/* Into the value at *at, or past it. */
static bool step(const unsigned char **at, const unsigned char *end, bool into)
{
    long len;
    int tag, class;
    if (*at >= end || (ASN1_get_object(at, &len, &tag, &class, end - *at) & 0x80))
        return false;
    if (!into)
        *at += len;
    return true;
}

/* Certificate { tbs { [0] version, serial, signature, issuer, validity, subject ... } ... } */
static X509_NAME *subject_of(const unsigned char *der, size_t len)
{
    const unsigned char *at = der, *end = der + len;
    if (!step(&at, end, true) || !step(&at, end, true))
        return NULL;
    if (at < end && *at == 0xa0 && !step(&at, end, false))
        return NULL;
    for (int i = 0; i < 4; i++) {
        if (!step(&at, end, false))
            return NULL;
    }
    return d2i_X509_NAME(NULL, &at, end - at);
}

static enum err_kind add(struct tls_bundle *b, const unsigned char *der, size_t len, bool has_trust)
{
    struct entry *e = mem_alloc(b->mem, sizeof *e + len);
    if (!e)
        return ERR_MEMORY;
    e->subject = subject_of(der, len);
    if (!e->subject) {
        mem_free(b->mem, e);
        return ERR_TLS;
    }
    e->has_trust = has_trust;
    e->len = len;
    memcpy(e->der, der, len);
    list_push_back(&b->waiting, &e->node);
    return ERR_NONE;
}

enum err_kind tls_bundle_read(struct tls_bundle *b, const char *file)
{
    enum err_kind kind = ERR_NONE;
    char *name, *header;
    unsigned char *data;
    long len;
    ERR_clear_error();
    BIO *bio = BIO_new_file(file, "r");
    if (!bio)
        return ERR_TLS;
    while (kind == ERR_NONE && PEM_read_bio(bio, &name, &header, &data, &len)) {
        bool has_trust = strcmp(name, PEM_STRING_X509_TRUSTED) == 0;
        if (has_trust || strcmp(name, PEM_STRING_X509) == 0 ||
            strcmp(name, PEM_STRING_X509_OLD) == 0)
            kind = add(b, data, (size_t)len, has_trust);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
    }
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (kind == ERR_NONE && (!at_end || list_empty(&b->waiting)))
        kind = ERR_TLS;
    BIO_free(bio);
    ERR_clear_error();
    return kind;
}

static X509 *decode(const struct entry *e)
{
    const unsigned char *at = e->der;
    return e->has_trust ? d2i_X509_AUX(NULL, &at, (long)e->len) : d2i_X509(NULL, &at, (long)e->len);
}

/* Puts all certificates of this name into the store, and one of them into `out`. OpenSSL then looks
 * among those in the store for the one that fits. */
static int get_by_subject(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name,
                          X509_OBJECT *out)
{
    struct tls_bundle *b = X509_LOOKUP_get_method_data(lookup);
    int found = 0;
    if (type != X509_LU_X509)
        return 0;
    LIST_FOR(node, &b->waiting)
    {
        struct entry *e = CONTAINER_OF(node, struct entry, node);
        if (X509_NAME_cmp(e->subject, name) != 0)
            continue;
        X509 *cert = decode(e);
        drop(b, e);
        if (cert && X509_STORE_add_cert(X509_LOOKUP_get_store(lookup), cert) &&
            (found || X509_OBJECT_set1_X509(out, cert))) {
            /* The reference of `out` is given back here: OpenSSL's manual asks for it, because the
             * caller counts it once more. The store keeps one. */
            if (!found)
                X509_free(cert);
            found = 1;
        }
        X509_free(cert);
    }
    return found;
}

struct x509_lookup_method_st *tls_bundle_method_new(void)
{
    X509_LOOKUP_METHOD *method = X509_LOOKUP_meth_new("leat");
    if (method)
        X509_LOOKUP_meth_set_get_by_subject(method, get_by_subject);
    return method;
}

void tls_bundle_method_free(struct x509_lookup_method_st *method)
{
    X509_LOOKUP_meth_free(method);
}

bool tls_bundle_serve(struct tls_bundle *b, struct x509_store_st *store,
                      struct x509_lookup_method_st *method)
{
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, method);
    return lookup && X509_LOOKUP_set_method_data(lookup, b);
}
