/* Starts and stops a server on a socket. */
#pragma once

#include "loop/loop.h"
#include "server/server.h"

struct server_listen {
    struct server_config server;
    struct loop *loop;
    const char *host;      /* an IP address, or "localhost" */
    uint16_t port;         /* 0: any free port */
    double timeout_s;      /* for a whole head; and the longest pause in a body or a response */
    bool raise_file_limit; /* raise the process's limit of open files to the highest that the system
                              allows */
};

/* ERR_INVALID: the host is a name. ERR_IO (code: errno): it cannot listen on the address.
 * ERR_MEMORY. The caller holds the only reference. */
NODISCARD enum err_kind server_listen_start(struct server **out, const struct server_listen *how,
                                            struct err *err);
/* ERR_INVALID if server_listen_start would refuse the host. */
NODISCARD enum err_kind server_listen_check_host(const char *host, struct err *err);
/* Sets the error for an address that is not available; `code`: errno. Returns its kind. */
enum err_kind server_listen_refused(struct err *err, const char *host, uint16_t port, int code);
/* The port on which the server listens. */
uint16_t server_listen_port(struct server *s);
/* Stops listening. Open connections continue until their present request is done. */
void server_listen_quiesce(struct server *s);
/* Breaks every connection. Harmless if already stopped. Do not call it beneath a callback of
 * libuv. */
void server_listen_stop(struct server *s);
