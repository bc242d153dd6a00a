#include "engine/tls.h"

#include "engine/tls_failure.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

enum err_kind tls_init(struct tls *t, struct mem *mem, struct err *err)
{
    *t = (struct tls){.mem = mem};
    list_init(&t->contexts);
    tls_sessions_init(&t->sessions, mem);
    return tls_trust_init(&t->trust, mem, err);
}

static void context_free(struct tls_context *c)
{
    struct mem *mem = c->tls->mem;
    tls_sessions_forget(&c->tls->sessions, c);
    SSL_CTX_free(c->ctx);
    tls_trust_drop(c->store);
    mem_free(mem, c);
}

/* Takes it out of the list: the next caller gets another one. */
static void retire(struct tls_context *c)
{
    list_unlink(&c->node);
    c->kept = false;
    c->tls->count--;
    if (c->refs == 0)
        context_free(c);
}

void tls_fini(struct tls *t)
{
    LIST_FOR(node, &t->contexts)
    {
        struct tls_context *c = CONTAINER_OF(node, struct tls_context, node);
        ASSERT(c->refs == 0);
        retire(c);
    }
    tls_sessions_fini(&t->sessions);
    tls_trust_fini(&t->trust);
    BIO_meth_free(t->carrier);
    t->carrier = NULL;
    mem_free(t->mem, t->spare);
    t->spare = NULL;
}

/* One block for the context and its texts. */
static struct tls_context *context_alloc(struct tls *t, const struct tls_settings *settings)
{
    const char *texts[] = {settings->ca_file, settings->cert, settings->key};
    char *copies[ARRAY_LEN(texts)] = {NULL};
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        len += texts[i] ? strlen(texts[i]) + 1 : 0;
    struct tls_context *c = mem_calloc(t->mem, sizeof *c + len);
    if (!c)
        return NULL;
    char *at = (char *)(c + 1);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i])
            continue;
        size_t size = strlen(texts[i]) + 1;
        copies[i] = memcpy(at, texts[i], size);
        at += size;
    }
    list_init(&c->node);
    c->tls = t;
    c->settings = *settings;
    c->settings.ca_file = copies[0];
    c->settings.cert = copies[1];
    c->settings.key = copies[2];
    return c;
}

/* Without this OpenSSL would ask the terminal, and block. */
static int no_password(char *out, int size, int writing, void *arg)
{
    UNUSED(out);
    UNUSED(size);
    UNUSED(writing);
    UNUSED(arg);
    return -1;
}

/* With HTTP/2 a server must not ask for a certificate after the handshake (RFC 8740). */
static int on_certificate_wanted(SSL *ssl, void *arg)
{
    UNUSED(arg);
    const struct tls_peer *peer = SSL_get_app_data(ssl);
    const unsigned char *protocol;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &protocol, &len);
    bool is_http2 = len == 2 && memcmp(protocol, "h2", 2) == 0;
    return !(peer && peer->established && is_http2);
}

static bool load_client_certificate(struct tls_context *c)
{
    const struct tls_settings *s = &c->settings;
    if (!s->cert)
        return !s->key;
    const char *key = s->key ? s->key : s->cert;
    c->cert = tls_trust_stamp(s->cert);
    c->key = tls_trust_stamp(key);
    return SSL_CTX_use_certificate_chain_file(c->ctx, s->cert) == 1 &&
           SSL_CTX_use_PrivateKey_file(c->ctx, key, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_check_private_key(c->ctx) == 1;
}

/* Sets what does not depend on the settings. */
static bool set_rules(SSL_CTX *ctx)
{
    /* The system may ask for more. */
    if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION &&
        !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
        return false;
    /* The padding helps against servers that hang on a hello of 256 to 511 bytes. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_TLSEXT_PADDING);
    SSL_CTX_clear_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_post_handshake_auth(ctx, 1);
    SSL_CTX_set_cert_cb(ctx, on_certificate_wanted, NULL);
    tls_sessions_serve(ctx);
    return true;
}

static bool set_alpn(SSL_CTX *ctx, enum tls_alpn alpn)
{
    static const char *const offers[TLS_ALPN_COUNT] = {
        [TLS_ALPN_HTTP1] = "\x08http/1.1",
        [TLS_ALPN_HTTP2] = "\x02h2\x08http/1.1",
    };
    const char *offer = offers[alpn];
    /* It returns 0 for success. */
    return !offer ||
           SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)offer, (unsigned)strlen(offer)) == 0;
}

static enum err_kind context_make(struct tls_context *c, struct err *err)
{
    const struct tls_settings *s = &c->settings;
    ERR_clear_error();
    c->ctx = SSL_CTX_new(TLS_client_method());
    if (!c->ctx || !set_rules(c->ctx) || !set_alpn(c->ctx, s->alpn))
        return err_set(err, ERR_MEMORY, "no memory for TLS");
    if (!s->insecure) {
        enum err_kind kind = tls_trust_take(&c->tls->trust, s->ca_file, &c->store, err);
        if (kind != ERR_NONE)
            return kind;
        SSL_CTX_set1_cert_store(c->ctx, tls_trust_x509(c->store));
    }
    SSL_CTX_set_verify(c->ctx, s->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!load_client_certificate(c))
        return tls_failure_client_certificate(s, err);
    return ERR_NONE;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_settings(const struct tls_settings *a, const struct tls_settings *b)
{
    return a->alpn == b->alpn && a->insecure == b->insecure && same_text(a->ca_file, b->ca_file) &&
           same_text(a->cert, b->cert) && same_text(a->key, b->key);
}

static bool is_current(const struct tls_context *c)
{
    const struct tls_settings *s = &c->settings;
    if (c->store && !tls_trust_is_current(c->store))
        return false;
    if (!s->cert)
        return true;
    struct tls_stamp cert = tls_trust_stamp(s->cert);
    struct tls_stamp key = tls_trust_stamp(s->key ? s->key : s->cert);
    return tls_trust_same(&cert, &c->cert) && tls_trust_same(&key, &c->key);
}

static void forget_unused(struct tls *t)
{
    for (struct list *node = t->contexts.prev;
         t->count > TLS_CONTEXTS_MAX && node != &t->contexts;) {
        struct tls_context *c = CONTAINER_OF(node, struct tls_context, node);
        node = node->prev;
        if (c->refs == 0)
            retire(c);
    }
}

static struct tls_context *find(struct tls *t, const struct tls_settings *settings)
{
    LIST_FOR(node, &t->contexts)
    {
        struct tls_context *c = CONTAINER_OF(node, struct tls_context, node);
        if (!same_settings(&c->settings, settings))
            continue;
        if (is_current(c))
            return c;
        retire(c);
        return NULL;
    }
    return NULL;
}

enum err_kind tls_context_take(struct tls *t, const struct tls_settings *settings,
                               struct tls_context **out, struct err *err)
{
    struct tls_context *c = find(t, settings);
    if (!c) {
        c = context_alloc(t, settings);
        if (!c)
            return err_set(err, ERR_MEMORY, "no memory for TLS");
        enum err_kind kind = context_make(c, err);
        ERR_clear_error();
        if (kind != ERR_NONE) {
            context_free(c);
            return kind;
        }
        c->kept = true;
        t->count++;
    }
    list_unlink(&c->node);
    list_push_front(&t->contexts, &c->node);
    c->refs++;
    forget_unused(t);
    *out = c;
    return ERR_NONE;
}

void tls_context_keep(struct tls_context *c)
{
    c->refs++;
}

void tls_context_drop(struct tls_context *c)
{
    if (!c)
        return;
    ASSERT(c->refs > 0);
    if (--c->refs == 0 && !c->kept)
        context_free(c);
}
