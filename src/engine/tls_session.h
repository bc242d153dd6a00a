/* Sessions of TLS, kept so that a later connection to the same server needs no whole handshake. The
 * key is the host, the port and the settings (a tls_context), because a resumed session is not
 * verified again. A ticket of TLS 1.3 is used once; a session of TLS 1.2 may serve many times. The
 * number of sessions is bounded. Engine thread only. */
#pragma once

#include "ground/list.h"
#include "ground/mem.h"

struct ssl_st;
struct ssl_ctx_st;
struct ssl_session_st;

enum {
    TLS_SESSIONS_MAX = 256, /* of one engine: a session takes some 10 KB with its certificates */
    TLS_SESSIONS_PER_ORIGIN = 32 /* as many connections can be resumed at once */
};

struct tls_sessions {
    struct mem *mem;
    struct list all; /* the newest first */
    unsigned count;
};

/* To whom a connection belongs. It must live as long as the SSL that it is attached to. */
struct tls_peer {
    struct tls_sessions *sessions;
    const void *settings; /* which settings: only compared */
    const char *host;
    unsigned port;
    bool established; /* the first handshake is over */
};

void tls_sessions_init(struct tls_sessions *s, struct mem *mem);
void tls_sessions_fini(struct tls_sessions *s);
/* Makes connections of this context keep their sessions. They need tls_sessions_attach. */
void tls_sessions_serve(struct ssl_ctx_st *ctx);
/* New sessions of `ssl` are kept under this peer. Gives it a kept session to resume if there is
 * one. */
void tls_sessions_attach(struct ssl_st *ssl, struct tls_peer *peer);
/* Forgets the sessions of settings that are gone. */
void tls_sessions_forget(struct tls_sessions *s, const void *settings);
