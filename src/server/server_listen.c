#include "server/server_listen.h"

#include "ground/secret.h"
#include "server/server_accept.h"
#include "server/server_connection.h"
#include "server/server_http1.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(offsetof(struct server_listener, server) == 0, "server_release frees the block");

#define LISTEN_BACKLOG 4096
#define SPARE_FILES 64u

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

static enum err_kind parse_host(const char *host, uint16_t port, struct address *out,
                                struct err *err)
{
    *out = (struct address){0};
    struct sockaddr_in *in = (void *)&out->storage;
    struct sockaddr_in6 *in6 = (void *)&out->storage;
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        out->len = sizeof *in;
        return ERR_NONE;
    }
    if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        out->len = sizeof *in6;
        return ERR_NONE;
    }
    return err_set(err, ERR_INVALID,
                   "serve: the host must be an IP address or 'localhost', not '%s'",
                   secret_hidden(host));
}

enum err_kind server_listen_check_host(const char *host, struct err *err)
{
    struct address ignored;
    return parse_host(host, 0, &ignored, err);
}

enum err_kind server_listen_refused(struct err *err, const char *host, uint16_t port, int code)
{
    err_set(err, ERR_IO, "serve: cannot listen on %s port %u: %s", host, port, strerror(code));
    err->code = code;
    return err_reason(err, code == EADDRINUSE ? "in_use" : "");
}

static int listen_on(struct address *a)
{
    int one = 1;
    struct sockaddr *address = (void *)&a->storage;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
        bind(fd, address, a->len) == 0 && listen(fd, LISTEN_BACKLOG) == 0 &&
        getsockname(fd, address, &a->len) == 0)
        return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static uint16_t port_of(const struct address *a)
{
    const struct sockaddr_in *in = (const void *)&a->storage;
    const struct sockaddr_in6 *in6 = (const void *)&a->storage;
    return ntohs(a->storage.ss_family == AF_INET ? in->sin_port : in6->sin6_port);
}

static unsigned connection_limit(bool raise)
{
    size_t files = raise ? loop_raise_file_limit() : loop_file_limit();
    if (files > SERVER_MAX_CONNECTIONS + SPARE_FILES)
        return SERVER_MAX_CONNECTIONS;
    return files > 2 * SPARE_FILES ? (unsigned)files - SPARE_FILES : SPARE_FILES;
}

static enum err_kind set_not_started(struct err *err, const struct server_listen *how,
                                     uint16_t port, const struct err *why)
{
    int code = why->code;
    err_set(err, ERR_IO, "serve: cannot serve on %s port %u: %s", how->host, port, why->message);
    err->code = code;
    return ERR_IO;
}

static void fini(struct server_listener *l)
{
    server_accept_stop(l);
    server_http1_stop(l);
    server_connection_close_all(l);
    poller_free(l->poller);
    l->poller = NULL;
}

/* Serves the connections that l->listen_fd accepts. */
static enum err_kind start(struct server_listener *l, const struct server_listen *how,
                           struct err *err)
{
    struct err why;
    err_clear(&why);
    enum err_kind rc = poller_new(&l->poller, l->loop, l->server.mem, &why);
    if (rc == ERR_NONE)
        rc = server_accept_start(l, &why);
    if (rc == ERR_NONE) {
        l->server.open = true;
        return ERR_NONE;
    }
    fini(l);
    if (rc == ERR_MEMORY)
        return err_set(err, ERR_MEMORY, "serve: not enough memory");
    return set_not_started(err, how, l->port, &why);
}

enum err_kind server_listen_start(struct server **out, const struct server_listen *how,
                                  struct err *err)
{
    struct address address;
    if (parse_host(how->host, how->port, &address, err) != ERR_NONE)
        return err->kind;
    struct server_listener *l = mem_calloc(how->server.mem, sizeof *l);
    if (!l)
        return err_set(err, ERR_MEMORY, "serve: not enough memory");
    server_init(&l->server, &how->server);
    l->loop = how->loop;
    server_connection_init(l, how->timeout_s);
    server_http1_init(l);
    enum err_kind rc;
    l->listen_fd = listen_on(&address);
    if (l->listen_fd < 0) {
        rc = server_listen_refused(err, how->host, how->port, errno);
    } else {
        l->port = port_of(&address);
        l->most = connection_limit(how->raise_file_limit);
        rc = start(l, how, err);
    }
    if (rc == ERR_NONE)
        *out = &l->server;
    else
        server_release(&l->server);
    return rc;
}

uint16_t server_listen_port(struct server *s)
{
    return server_listener_of(s)->port;
}

void server_listen_quiesce(struct server *s)
{
    if (!s->open || s->quiet)
        return;
    s->quiet = true;
    server_accept_stop(server_listener_of(s));
}

void server_listen_stop(struct server *s)
{
    if (!s->open)
        return;
    s->open = false;
    s->quiet = true;
    fini(server_listener_of(s));
}
