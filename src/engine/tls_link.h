/* TLS on one connection: an SSL whose records a connection carries. Only this file and tls*.c call
 * OpenSSL's SSL_ functions. Loop thread only. */
#pragma once

#include "engine/tls.h"
#include <sys/types.h>

/* What carries the records. Embedded by the owner, who sets the functions. */
struct tls_carrier {
    /* Like recv and send: -1 and errno; EAGAIN: not now. 0 of `read`: the peer has ended. */
    ssize_t (*read)(struct tls_carrier *carrier, void *out, size_t size);
    ssize_t (*write)(struct tls_carrier *carrier, const void *data, size_t size);
    bool ended; /* `read` has returned 0 */
};

struct tls_link {
    struct ssl_st *ssl; /* NULL: no TLS */
    struct tls_context *context;
    struct tls_peer peer;
    struct tls_carrier *carrier;
    /* What was read from the carrier and OpenSSL has not asked for yet; NULL: nothing. */
    char *ahead;
    size_t ahead_at, ahead_end;
    /* Words of OpenSSL for what broke the link after the handshake; NULL: nothing, or the carrier.
     * Static. */
    const char *error;
    bool broken;        /* no close_notify any more */
    bool write_pending; /* a record is half written */
    bool drained; /* the last read found nothing, so what lies in OpenSSL is no whole record */
};

enum tls_result {
    TLS_DONE,
    TLS_WANT_READ,  /* try again when the carrier can be read */
    TLS_WANT_WRITE, /* try again when it can be written */
    TLS_END,        /* close_notify */
    TLS_CUT,        /* the end without it */
    TLS_FAILED,
};

/* `link`, `carrier` and `host` must stay where they are until tls_link_close. Takes a reference to
 * `context`. `host` is a name in ASCII (an IDN as xn--) or an address (IPv6 with or without
 * brackets): it is what the certificate must be for. On failure there is nothing to close. ERR_TLS:
 * no certificate can be for such a host. ERR_MEMORY. */
NODISCARD enum err_kind tls_link_open(struct tls_link *link, struct tls_context *context,
                                      struct tls_carrier *carrier, const char *host, unsigned port,
                                      struct err *err);
enum tls_result tls_link_handshake(struct tls_link *link);
/* What ALPN chose; "": nothing. At most 15 bytes. */
void tls_link_protocol(const struct tls_link *link, char out[static 16]);
bool tls_link_is_resumed(const struct tls_link *link);
enum tls_result tls_link_read(struct tls_link *link, void *out, size_t size, size_t *len);
/* Takes tickets and KeyUpdate in, and leaves application bytes where they are. TLS_DONE: there are
 * some. */
enum tls_result tls_link_peek(struct tls_link *link);
/* Writes at most one record. After WANT_* the next call must begin with the same bytes, and must
 * not offer fewer. */
enum tls_result tls_link_write(struct tls_link *link, const void *data, size_t size, size_t *sent);
/* Another read may return something although the carrier is quiet. */
bool tls_link_has_more(const struct tls_link *link);
/* Says close_notify if the carrier takes it at once. Harmless without TLS. */
void tls_link_close(struct tls_link *link);
