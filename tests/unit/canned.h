/* A small HTTP server of canned answers for the engine's tests, in threads of the test program: one
 * per connection. What it answers is chosen by the first path that matches. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum canned_end {
    CANNED_KEEP,  /* go on with the next request */
    CANNED_CLOSE, /* orderly */
    CANNED_RESET, /* RST */
    CANNED_HANG,  /* say no more until the client goes away */
    CANNED_DRIP,  /* one byte more every 40 ms until the client goes away */
};

struct canned_answer {
    const char *path; /* "" ends the table */
    const char *bytes;
    size_t len; /* 0: strlen */
    enum canned_end end;
    int from_request; /* on a connection: applies from this request on (0: the first) */
};

struct canned {
    int fd, port;
    pthread_t thread;
    const struct canned_answer *answers;
    atomic_int requests, connections, open, peak_open;
    atomic_bool stopping;
    int hold_ms; /* before each answer */
    pthread_mutex_t lock;
    char last[8192]; /* under `lock`: the last request as it came */
    char copy[8192]; /* canned_last */
};

struct canned_client {
    struct canned *server;
    int fd;
};

/* Waits until `fd` can be read, the client is gone or the server stops; false: leave. */
__attribute__((unused)) static bool canned_wait(struct canned *s, int fd, int ms)
{
    for (int waited = 0; !s->stopping && (ms < 0 || waited < ms); waited += 20) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0)
            return true;
    }
    return ms >= 0 && !s->stopping;
}

__attribute__((unused)) static size_t canned_body_length(const char *head)
{
    const char *p = strcasestr(head, "\r\ncontent-length:");
    return p ? strtoul(p + 17, NULL, 10) : 0;
}

__attribute__((unused)) static void canned_send(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}

/* Reads one request; false: the client has gone. */
__attribute__((unused)) static bool canned_read(struct canned *s, int fd, char *buf, size_t size)
{
    size_t len = 0, body = 0, seen = 0;
    char *end = NULL;
    for (;;) {
        if (!canned_wait(s, fd, -1))
            return false;
        char chunk[65536];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0)
            return false;
        size_t keep = (size_t)n < size - 1 - len ? (size_t)n : size - 1 - len;
        memcpy(buf + len, chunk, keep);
        len += keep;
        buf[len] = '\0';
        seen += (size_t)n;
        if (!end && (end = strstr(buf, "\r\n\r\n")))
            body = canned_body_length(buf);
        if (end && seen >= (size_t)(end + 4 - buf) + body)
            return true;
    }
}

__attribute__((unused)) static void *canned_serve(void *arg)
{
    struct canned_client *c = arg;
    struct canned *s = c->server;
    int fd = c->fd;
    free(c);
    char request[8192];
    enum canned_end end = CANNED_KEEP;
    for (int nth = 0; end == CANNED_KEEP && canned_read(s, fd, request, sizeof request); nth++) {
        s->requests++;
        pthread_mutex_lock(&s->lock);
        memcpy(s->last, request, sizeof request);
        pthread_mutex_unlock(&s->lock);
        if (s->hold_ms)
            usleep((unsigned)s->hold_ms * 1000);
        const char *path = strchr(request, ' ') + 1;
        const struct canned_answer *a = s->answers;
        while (*a->path && (nth < a->from_request || strncmp(path, a->path, strlen(a->path)) != 0 ||
                            path[strlen(a->path)] != ' '))
            a++;
        if (!*a->path) {
            static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            canned_send(fd, missing, sizeof missing - 1);
            continue;
        }
        canned_send(fd, a->bytes, a->len ? a->len : strlen(a->bytes));
        end = a->end;
    }
    while (end == CANNED_DRIP && !s->stopping && send(fd, "x", 1, MSG_NOSIGNAL) == 1)
        usleep(40 * 1000);
    char junk[256];
    while (end == CANNED_HANG && canned_wait(s, fd, -1) && recv(fd, junk, sizeof junk, 0) > 0)
        ;
    if (end == CANNED_RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(fd);
    s->open--;
    return NULL;
}

__attribute__((unused)) static void *canned_accept(void *arg)
{
    struct canned *s = arg;
    for (;;) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        if (s->stopping) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        s->connections++;
        if (++s->open > s->peak_open)
            s->peak_open = (int)s->open;
        struct canned_client *c = malloc(sizeof *c);
        if (!c)
            abort();
        *c = (struct canned_client){s, fd};
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, 256 * 1024);
        pthread_t thread;
        if (pthread_create(&thread, &attr, canned_serve, c) != 0)
            abort();
        pthread_attr_destroy(&attr);
    }
}

/* A socket that listens on a free port of 127.0.0.1. */
__attribute__((unused)) static int canned_listen(int *port, int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || listen(fd, backlog) ||
        getsockname(fd, (struct sockaddr *)&a, &len))
        abort();
    *port = ntohs(a.sin_port);
    return fd;
}

__attribute__((unused)) static void canned_start(struct canned *s,
                                                 const struct canned_answer *table)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->answers = table;
    s->fd = canned_listen(&s->port, 1024);
    if (pthread_create(&s->thread, NULL, canned_accept, s) != 0)
        abort();
}

/* The last request; until the next call. */
__attribute__((unused)) static const char *canned_last(struct canned *s)
{
    pthread_mutex_lock(&s->lock);
    memcpy(s->copy, s->last, sizeof s->copy);
    pthread_mutex_unlock(&s->lock);
    return s->copy;
}

/* Returns when every thread and every descriptor is gone. */
__attribute__((unused)) static void canned_stop(struct canned *s)
{
    s->stopping = true;
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    while (s->open > 0)
        usleep(1000);
}
