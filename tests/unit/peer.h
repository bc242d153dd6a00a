/* Servers on loopback for unit tests, and a connector to try on them. A peer serves one client
 * after the other, on a thread of its own. */
#pragma once

#include "test.h"

#include "engine/connector.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct peer;
typedef void (*peer_fn)(struct peer *p, int client);

struct peer {
    int fd;
    unsigned port;
    peer_fn serve;
    pthread_t thread;
    const char *reply; /* for `serve`, as it likes */
    int code;
    void *tls;
    atomic_int served; /* clients so far */
    atomic_int step;   /* what `serve` has come to */
    char head[2048];   /* what the last client said */
};

/* Only listens: the kernel takes the clients. Ends the program if that is not possible. */
__attribute__((unused)) static int peer_listen(const char *address, unsigned *port, int backlog)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof at;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, address, &at.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        perror("peer");
        exit(1);
    }
    *port = ntohs(at.sin_port);
    return fd;
}

__attribute__((unused)) static void *peer_main(void *arg)
{
    struct peer *p = arg;
    for (int client; (client = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        p->serve(p, client);
        close(client);
        p->served++;
    }
    return NULL;
}

__attribute__((unused)) static void peer_open(struct peer *p, peer_fn serve)
{
    *p = (struct peer){.serve = serve};
    p->fd = peer_listen("127.0.0.1", &p->port, 64);
    if (pthread_create(&p->thread, NULL, peer_main, p) != 0)
        exit(1);
}

/* Its client must be gone, or about to go. */
__attribute__((unused)) static void peer_close(struct peer *p)
{
    shutdown(p->fd, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->fd);
}

/* Reads until `end` is in p->head, or the client goes. */
__attribute__((unused)) static bool peer_read_head(struct peer *p, int client, const char *end)
{
    size_t len = 0;
    p->head[0] = '\0';
    while (!strstr(p->head, end)) {
        ssize_t n = read(client, p->head + len, sizeof p->head - 1 - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        p->head[len] = '\0';
    }
    return true;
}

__attribute__((unused)) static bool peer_read(int client, void *out, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = read(client, (char *)out + at, len - at);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

__attribute__((unused)) static void peer_say(int client, const char *text)
{
    CHECK_EQ(write(client, text, strlen(text)), strlen(text));
}

/* Until the client goes. */
__attribute__((unused)) static void peer_wait_end(int client)
{
    char bytes[256];
    while (read(client, bytes, sizeof bytes) > 0) {
    }
}

/* A port where nobody listens. */
__attribute__((unused)) static unsigned peer_dead_port(void)
{
    unsigned port = 0;
    close(peer_listen("127.0.0.1", &port, 1));
    return port;
}

__attribute__((unused)) static int open_descriptors(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        count++;
    closedir(d);
    return count;
}

/* ---- the connector, and who waits for it */

struct connect_rig {
    struct mem mem;
    struct loop loop;
    struct log log;
    struct poller *poller;
    struct connector *connector;
    int descriptors;
    char last_line[256];
};

__attribute__((unused)) static void rig_log(void *arg, enum log_level level, const char *line)
{
    struct connect_rig *r = arg;
    UNUSED(level);
    snprintf(r->last_line, sizeof r->last_line, "%s", line);
}

__attribute__((unused)) static void rig_open(struct connect_rig *r, unsigned max_at_once)
{
    struct err err;
    memset(r, 0, sizeof *r);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    mem_init(&r->mem, 0);
    /* libuv keeps some descriptors of the first loop for the process. */
    CHECK_EQ(loop_init(&r->loop, &r->mem, NULL, false, &err), ERR_NONE);
    loop_fini(&r->loop);
    r->descriptors = open_descriptors();
    log_init(&r->log, rig_log, r, LOG_WARN);
    CHECK_EQ(loop_init(&r->loop, &r->mem, NULL, false, &err), ERR_NONE);
    CHECK_EQ(poller_new(&r->poller, &r->loop, &r->mem, &err), ERR_NONE);
    CHECK_EQ(connector_new(&r->connector, &r->loop, r->poller, &r->mem, &r->log, max_at_once, &err),
             ERR_NONE);
}

/* Checks that nothing is left. */
__attribute__((unused)) static void rig_close(struct connect_rig *r)
{
    connector_free(r->connector);
    poller_free(r->poller);
    loop_fini(&r->loop);
    CHECK_EQ(r->mem.blocks, 0);
    CHECK_EQ(open_descriptors(), r->descriptors);
}

struct waiter {
    struct connect_wait wait;
    int calls;
    struct connected got; /* fd -1: it failed */
    struct err err;
};

__attribute__((unused)) static void on_connect(struct connect_wait *w, const struct connected *got,
                                               const struct err *err)
{
    struct waiter *x = CONTAINER_OF(w, struct waiter, wait);
    x->calls++;
    if (got)
        x->got = *got;
    else
        x->err = *err;
}

__attribute__((unused)) static void start(struct connect_rig *r, struct waiter *x,
                                          const struct connect_target *to)
{
    struct err err;
    *x = (struct waiter){.wait = {.fn = on_connect}, .got = {.fd = -1}};
    CHECK_EQ(connector_start(r->connector, &x->wait, to, &err), ERR_NONE);
    CHECK_EQ(x->calls, 0);
}

__attribute__((unused)) static void finish(struct connect_rig *r, struct waiter *x)
{
    while (x->calls == 0)
        loop_turn(&r->loop, true);
    CHECK_EQ(x->calls, 1);
}

__attribute__((unused)) static void connect_to(struct connect_rig *r, struct waiter *x,
                                               const struct connect_target *to)
{
    start(r, x, to);
    finish(r, x);
}

/* It failed, with this kind and reason. */
#define CHECK_FAILED(x, kind_, reason_)                                                            \
    do {                                                                                           \
        CHECK_EQ((x)->got.fd, -1);                                                                 \
        CHECK_EQ((x)->err.kind, kind_);                                                            \
        CHECK_STR((x)->err.reason, reason_);                                                       \
    } while (0)
