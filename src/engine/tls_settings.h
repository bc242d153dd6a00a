/* What decides how TLS is made with a peer. Connections with equal settings share a context. */
#pragma once

#include "ground/base.h"

/* What is offered by ALPN. */
enum tls_alpn {
    TLS_ALPN_NONE,
    TLS_ALPN_HTTP1, /* http/1.1 */
    TLS_ALPN_HTTP2, /* h2, then http/1.1 */
    TLS_ALPN_COUNT
};

struct tls_settings {
    const char *ca_file;    /* PEM; NULL: the system's certificates */
    const char *cert, *key; /* PEM files of a client certificate and its key; NULL: none. Without
                               `key` it is looked for in `cert` */
    bool insecure;          /* any certificate will do; ca_file is not read */
    enum tls_alpn alpn;
};
