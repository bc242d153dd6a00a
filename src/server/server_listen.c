#include "server/server_listen.h"

#include "ground/secret.h"
#include "server/server_accept.h"
#include "server/server_connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* `code`: errno; 0 if only libmicrohttpd knows the reason. */
static void set_not_started(struct err *err, const struct server_listen *how, uint16_t port,
                            int code)
{
    err_set(err, ERR_IO, "serve: cannot serve on %s port %u: %s", how->host, port,
            code ? strerror(code) : "libmicrohttpd did not start");
    err->code = code;
}

/* 0: it serves the connections that listen_fd accepts, and owns listen_fd. Otherwise: an errno, or
 * -1. */
static int start_daemon(struct server_daemon *d, int listen_fd)
{
    d->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->watch_fd < 0)
        return errno;
    errno = 0;
    if (!server_connection_start(d))
        return errno ? errno : -1;
    int code =
        server_daemon_watch(d, server_connection_on_watch, listen_fd, server_accept_on_ready);
    if (code != 0) {
        server_connection_stop(d);
        return -code;
    }
    d->listen_fd = listen_fd;
    return 0;
}

enum err_kind server_listen_start(struct server **out, const struct server_listen *how,
                                  struct err *err)
{
    struct address address;
    if (parse_host(how->host, how->port, &address, err) != ERR_NONE)
        return err->kind;
    struct server_daemon *d = server_daemon_new(&how->server, how->loop);
    if (!d)
        return err_set(err, ERR_MEMORY, "serve: not enough memory");
    timer_init(&d->listen_timer, server_accept_on_timer);
    d->timeout_s = how->timeout_s;
    int listen_fd = listen_on(&address);
    if (listen_fd < 0) {
        server_listen_refused(err, how->host, how->port, errno);
        server_release(&d->server);
        return err->kind;
    }
    d->port = port_of(&address);
    d->most = connection_limit(how->raise_file_limit);
    int code = start_daemon(d, listen_fd);
    if (code == 0) {
        d->server.open = true;
        *out = &d->server;
        return ERR_NONE;
    }
    set_not_started(err, how, d->port, MAX(code, 0));
    close(listen_fd);
    if (d->watch_fd >= 0)
        close(d->watch_fd);
    server_release(&d->server);
    return ERR_IO;
}

uint16_t server_listen_port(struct server *s)
{
    return server_daemon_of(s)->port;
}

void server_listen_quiesce(struct server *s)
{
    if (!s->open || s->quiet)
        return;
    s->quiet = true;
    server_accept_stop(server_daemon_of(s));
}

void server_listen_stop(struct server *s)
{
    struct server_daemon *d = server_daemon_of(s);
    if (!s->open)
        return;
    s->open = false;
    s->quiet = true;
    server_accept_stop(d);
    server_daemon_unwatch(d);
    server_connection_stop(d);
    close(d->watch_fd);
    d->watch_fd = -1;
}
