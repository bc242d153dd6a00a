#include "engine/tls_session.h"
#include <openssl/ssl.h>
#include <string.h>
#include <time.h>

struct kept {
    struct list node;
    const void *settings;
    SSL_SESSION *session;
    unsigned port;
    char host[];
};

void tls_sessions_init(struct tls_sessions *s, struct mem *mem)
{
    s->mem = mem;
    s->count = 0;
    list_init(&s->all);
}

static void drop(struct tls_sessions *s, struct kept *k)
{
    list_unlink(&k->node);
    s->count--;
    SSL_SESSION_free(k->session);
    mem_free(s->mem, k);
}

void tls_sessions_fini(struct tls_sessions *s)
{
    LIST_FOR(node, &s->all)
    {
        drop(s, CONTAINER_OF(node, struct kept, node));
    }
}

void tls_sessions_forget(struct tls_sessions *s, const void *settings)
{
    LIST_FOR(node, &s->all)
    {
        struct kept *k = CONTAINER_OF(node, struct kept, node);
        if (k->settings == settings)
            drop(s, k);
    }
}

static bool is_of(const struct kept *k, const struct tls_peer *peer)
{
    return k->settings == peer->settings && k->port == peer->port &&
           strcmp(k->host, peer->host) == 0;
}

static bool is_single_use(const SSL_SESSION *session)
{
    return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
}

/* Makes room for one more session of this peer. */
static void make_room(struct tls_sessions *s, const struct tls_peer *peer, bool single_use)
{
    unsigned own = 1;
    LIST_FOR(node, &s->all)
    {
        struct kept *k = CONTAINER_OF(node, struct kept, node);
        if (!is_of(k, peer))
            continue;
        if (!single_use || !is_single_use(k->session) || own == TLS_SESSIONS_PER_ORIGIN)
            drop(s, k);
        else
            own++;
    }
    if (s->count >= TLS_SESSIONS_MAX)
        drop(s, CONTAINER_OF(s->all.prev, struct kept, node));
}

static void keep(const struct tls_peer *peer, SSL_SESSION *session)
{
    struct tls_sessions *s = peer->sessions;
    if (!SSL_SESSION_is_resumable(session))
        return;
    make_room(s, peer, is_single_use(session));
    size_t len = strlen(peer->host) + 1;
    struct kept *k = mem_alloc(s->mem, sizeof *k + len);
    if (!k)
        return;
    /* A copy: OpenSSL marks the session of a connection that ends badly as unusable. */
    k->session = SSL_SESSION_dup(session);
    if (!k->session) {
        mem_free(s->mem, k);
        return;
    }
    k->settings = peer->settings;
    k->port = peer->port;
    memcpy(k->host, peer->host, len);
    list_push_front(&s->all, &k->node);
    s->count++;
}

/* Beneath SSL_do_handshake or SSL_read. 0: OpenSSL keeps what is its own. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    const struct tls_peer *peer = SSL_get_app_data(ssl);
    if (peer)
        keep(peer, session);
    return 0;
}

void tls_sessions_serve(struct ssl_ctx_st *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
}

/* OpenSSL 3.4 deprecates SSL_SESSION_get_time, which ends in 2038 where `long` has 32 bits. */
static int64_t made_at(const SSL_SESSION *session)
{
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
    return (int64_t)SSL_SESSION_get_time_ex(session);
#else
    return (int64_t)SSL_SESSION_get_time(session);
#endif
}

static bool is_over(const SSL_SESSION *session)
{
    int64_t end = made_at(session) + SSL_SESSION_get_timeout(session); /* it cannot overflow */
    return end <= (int64_t)time(NULL);
}

/* The newest session of this peer, owned by the caller; NULL: none. */
static SSL_SESSION *take(const struct tls_peer *peer)
{
    struct tls_sessions *s = peer->sessions;
    LIST_FOR(node, &s->all)
    {
        struct kept *k = CONTAINER_OF(node, struct kept, node);
        if (!is_of(k, peer))
            continue;
        bool over = is_over(k->session);
        SSL_SESSION *session = over ? NULL : SSL_SESSION_dup(k->session);
        if (over || is_single_use(k->session))
            drop(s, k);
        if (session)
            return session;
    }
    return NULL;
}

void tls_sessions_attach(struct ssl_st *ssl, struct tls_peer *peer)
{
    SSL_set_app_data(ssl, peer);
    SSL_SESSION *session = take(peer);
    if (!session)
        return;
    SSL_set_session(ssl, session); /* if it fails, the handshake is a whole one */
    SSL_SESSION_free(session);
}
