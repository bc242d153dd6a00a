/* TLS contexts. A context holds what connections with the same settings share: whom to trust, a
 * client certificate, the protocols that are offered. It is made once, when the first connection
 * needs it. One `struct tls` belongs to one engine. Engine thread only. */
#pragma once

#include "engine/tls_session.h"
#include "engine/tls_settings.h"
#include "engine/tls_trust.h"
#include "ground/err.h"

struct bio_method_st;

enum { TLS_CONTEXTS_MAX = 32 }; /* those that no connection uses are forgotten beyond it */

struct tls {
    /* Private. */
    struct mem *mem;
    struct list contexts; /* the one used last first */
    unsigned count;
    struct tls_trust trust;
    struct tls_sessions sessions;
    /* For tls_link.c, which makes them when it needs them. */
    struct bio_method_st *carrier;
    char *spare; /* a buffer for reading ahead that no link uses */
};

struct tls_context {
    /* Private. */
    struct list node;
    struct tls *tls;
    struct ssl_ctx_st *ctx;
    struct tls_store *store;      /* NULL: insecure */
    struct tls_settings settings; /* its texts are in this context's own block */
    struct tls_stamp cert, key;
    unsigned refs;
    bool kept; /* in `contexts`; otherwise freed with the last reference */
};

/* ERR_MEMORY. Reads no file. */
NODISCARD enum err_kind tls_init(struct tls *t, struct mem *mem, struct err *err);
/* All references to contexts must be given back before. */
void tls_fini(struct tls *t);

/* The context for these settings (borrowed until return). The caller gets a reference; a connection
 * takes its own. If a file has changed since it was read (its time, size or inode), it is read
 * again: connections made from then on obey it, and none of their sessions is one of before.
 * ERR_TLS: a file cannot be used; the message names it. Nothing is remembered of a failure.
 * ERR_MEMORY. */
NODISCARD enum err_kind tls_context_take(struct tls *t, const struct tls_settings *settings,
                                         struct tls_context **out, struct err *err);
void tls_context_keep(struct tls_context *c);
/* NULL is allowed. */
void tls_context_drop(struct tls_context *c);
