/* The life of a server on a socket: it listens, stops listening, stops. */
#pragma once

#include "loop/loop.h"
#include "server/server.h"

struct server_listen {
    struct server_config server;
    struct loop *loop;
    const char *host;      /* an IP address, or "localhost" */
    uint16_t port;         /* 0: a free one */
    double timeout_s;      /* for a head; and without a byte in a body or of a response */
    bool raise_file_limit; /* the process is ours: it may open as many files as the system allows */
};

/* ERR_INVALID for a host that is a name, ERR_IO (code: errno) where the address cannot be had,
 * ERR_MEMORY. The caller holds the one reference. */
NODISCARD enum err_kind server_listen_start(struct server **out, const struct server_listen *how,
                                            struct err *err);
/* Whether server_listen_start would take the host: ERR_INVALID. */
NODISCARD enum err_kind server_listen_check_host(const char *host, struct err *err);
/* Sets the error of an address that cannot be had; `code`: errno. Returns its kind. */
enum err_kind server_listen_refused(struct err *err, const char *host, uint16_t port, int code);
/* The port that it listens on. */
uint16_t server_listen_port(struct server *s);
/* Stops listening. Open connections go on until their present request is done. */
void server_listen_quiesce(struct server *s);
/* Breaks every connection. Harmless when stopped already. Not beneath a callback of libmicrohttpd
 * or libuv. */
void server_listen_stop(struct server *s);
