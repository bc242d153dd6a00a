/* One open connection to a peer: a descriptor, and TLS on it where it was asked for. Any protocol
 * can be spoken on it; it knows nothing of HTTP. Its owner embeds it, and is called when it can be
 * read or written. Loop thread only.
 *
 *     connection_open -> connection_secure -> connection_handshake until IO_DONE ->
 *     connection_want(read) -> (fn: connection_read until IO_WAIT) -> connection_close */
#pragma once

#include "engine/tls.h"
#include "engine/tls_link.h"
#include "ground/err.h"
#include "loop/poller.h"
#include <sys/uio.h>

enum io_state {
    IO_DONE,   /* some bytes were moved, or the handshake is complete */
    IO_WAIT,   /* nothing now: the owner is called when it is worth another try */
    IO_END,    /* the peer has ended its side: in order (with TLS: by close_notify) */
    IO_CUT,    /* with TLS: the peer's side ended without close_notify */
    IO_FAILED, /* the connection is broken: `os_error` or `tls_error` says why */
};

struct connection;

/* `can_read`, `can_write`: which of the two operations is worth a try. While the handshake runs
 * both are true: call connection_handshake. Called beneath loop_turn. It may close the connection,
 * and free the memory that it lies in. */
typedef void (*connection_fn)(struct connection *c, bool can_read, bool can_write);

/* A connection through an HTTPS proxy stays with libcurl, which speaks TLS to the proxy. */
struct connection_via {
    void *easy; /* CURL *: read and written by curl_easy_recv and curl_easy_send; NULL: none */
    /* Called by connection_close, after the descriptor was closed. */
    void (*release)(void *arg, void *easy);
    void *arg;
};

struct connection {
    /* Read-only for the owner. */
    uint64_t bytes_in, bytes_out; /* on the wire, TLS records included */
    int fd;                       /* -1: closed */
    int os_error;                 /* errno of the failure; 0: none */
    const char *tls_error;        /* what TLS says of the failure, static words of OpenSSL; NULL:
                                     nothing. "tlsv13 alert certificate required" is the one that a
                                     user can act on */
    bool open;
    bool is_reused_session; /* TLS: the handshake was an abbreviated one */
    char protocol[16];      /* what ALPN chose: "h2", "http/1.1" or "" */
    /* The owner may set it before the handshake: the peer has answered before, so the words of a
     * failure do not ask whether it speaks TLS. */
    bool answered;

    /* Private. */
    struct mem *mem;
    connection_fn fn;
    struct poller_fd watch;
    struct tls_carrier carrier;
    struct tls_link tls;
    char *host; /* of TLS, owned */
    bool handshaking;
    uint32_t handshake_needs; /* EPOLLIN or EPOLLOUT */
    bool want_read, want_write;
    bool read_needs_write, write_needs_read; /* TLS: the crossed needs */
    struct connection_via via;
    char *via_room; /* what libcurl is offered, owned; the first via_pending bytes are offered again
                     */
    size_t via_pending;
    bool via_drained; /* libcurl has nothing more that the descriptor would not report */
    bool has_probed;  /* what connection_probe had to read to know: `probed` */
    char probed;
};

/* Takes `fd`, which must not block, and closes it even if this fails. `c` must not move until it is
 * closed. Nothing is reported until connection_want. ERR_IO, ERR_MEMORY. */
NODISCARD enum err_kind connection_open(struct connection *c, struct poller *poller,
                                        struct mem *mem, int fd, connection_fn fn, struct err *err);
/* The same for a connection that stays with libcurl. `fd` (another number for the same socket) is
 * only watched. On failure `via` is released, too. Writing has the rule of TLS: what was not taken
 * must be offered again. */
NODISCARD enum err_kind connection_open_via(struct connection *c, struct poller *poller,
                                            struct mem *mem, int fd,
                                            const struct connection_via *via, connection_fn fn,
                                            struct err *err);
/* Prepares TLS (name checks, SNI, the session to resume). Then call connection_handshake until it
 * is done. The connection takes its own reference to `context`. `host` (copied) is what the
 * certificate must be for: a name in ASCII (an IDN as xn--), or an address. On failure the
 * connection is still open, and of no use. ERR_TLS, ERR_MEMORY. */
NODISCARD enum err_kind connection_secure(struct connection *c, struct tls_context *context,
                                          const char *host, unsigned port, struct err *err);
/* IO_DONE; IO_WAIT (it watches by itself what it needs, whatever connection_want says); or
 * IO_FAILED with `err` set: kind ERR_TLS, phase, reason, words and retryable (tls_failure.h). The
 * message names the peer, not the request. */
enum io_state connection_handshake(struct connection *c, struct err *err);

/* Reads up to `size` (> 0) bytes. IO_DONE: *len > 0. If *len < size and connection_has_more is
 * false, another try would find nothing yet; the descriptor reports what comes. */
enum io_state connection_read(struct connection *c, void *out, size_t size, size_t *len);
/* Sends what it can of the parts, in order. IO_DONE: *sent > 0 bytes were taken (less than all of
 * them: the rest has to wait), or there was nothing to send. No SIGPIPE. Over TLS, what was not
 * taken must be offered first in the next call, and not less of it (it may lie elsewhere): a record
 * of it may be half written. Small parts go into one record. After IO_FAILED reading may still
 * return what the peer had sent. */
enum io_state connection_write(struct connection *c, const struct iovec *parts, int count,
                               size_t *sent);
/* What the owner wants to be called for. Neither: the descriptor leaves the set. TLS's crossed
 * needs (a read that must write) are added by itself. If connection_has_more, reading is reported
 * in the next turn by itself, too. */
void connection_want(struct connection *c, bool read, bool write);
/* True if bytes were read from the socket that connection_read has not returned (inside OpenSSL):
 * epoll will not report them. connection_again reports them in the next turn, if reading is
 * wanted. */
bool connection_has_more(const struct connection *c);
void connection_again(struct connection *c);
/* An idle connection, before its use, without blocking. IO_WAIT: it is quiet and usable; IO_DONE:
 * application bytes have come (connection_read returns them); IO_END, IO_CUT, IO_FAILED: it is
 * over. With TLS late tickets and KeyUpdate are consumed and are no data. */
enum io_state connection_probe(struct connection *c);
/* Sends close_notify if that is possible without waiting, leaves the poller and closes. Harmless if
 * it is closed. */
void connection_close(struct connection *c);
