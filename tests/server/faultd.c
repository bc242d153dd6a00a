/* faultd [--ca FILE] [--parent PID]: see faultd.h. Prints one line when it is ready,
 *
 *     http=PORT tls=PORT tls_expired=PORT tls_wrong_host=PORT silent=PORT refused=PORT backlog=PORT
 *
 * where `silent` accepts and never speaks, `refused` refuses, and a connect to `backlog` hangs.
 * FILE gets the certificates to trust. With --parent it ends when that process is gone. */
#include "faultd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct listener {
    int fd;
    bool silent;
    SSL_CTX *tls;
};

enum { LISTENERS = 5 };

static struct listener listeners[LISTENERS];
static int epoll_fd;
static uint64_t next_conn_id = 1;
static uint64_t now_ms;

static void die(const char *what)
{
    fprintf(stderr, "faultd: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- timers: a binary heap of connections by due_ms, 1-based */

static struct conn **heap;
static size_t heap_len, heap_cap;

static void heap_put(size_t at, struct conn *c)
{
    heap[at] = c;
    c->heap_at = at;
}

static void heap_sift(size_t at)
{
    struct conn *c = heap[at];
    for (; at > 1 && heap[at / 2]->due_ms > c->due_ms; at /= 2)
        heap_put(at, heap[at / 2]);
    for (size_t child; (child = at * 2) <= heap_len; at = child) {
        if (child < heap_len && heap[child + 1]->due_ms < heap[child]->due_ms)
            child++;
        if (heap[child]->due_ms >= c->due_ms)
            break;
        heap_put(at, heap[child]);
    }
    heap_put(at, c);
}

static void timer_set(struct conn *c, uint64_t due_ms)
{
    c->due_ms = due_ms;
    if (!c->heap_at) {
        if (heap_len + 1 >= heap_cap) {
            heap_cap = heap_cap ? heap_cap * 2 : 256;
            heap = realloc(heap, heap_cap * sizeof *heap);
            if (!heap)
                die("realloc");
        }
        heap_put(++heap_len, c);
    }
    heap_sift(c->heap_at);
}

static void timer_clear(struct conn *c)
{
    size_t at = c->heap_at;
    if (!at)
        return;
    c->heap_at = 0;
    struct conn *last = heap[heap_len--];
    if (last != c) {
        heap_put(at, last);
        heap_sift(at);
    }
}

/* ---- reading and writing */

static void want(struct conn *c, uint32_t events)
{
    if (c->events == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
    c->events = events;
}

/* Bytes moved; 0: the other side has closed; -1: not now; -2: broken. */
static ssize_t tls_result(struct conn *c, int n)
{
    if (n > 0)
        return n;
    int error = SSL_get_error(c->ssl, n);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : -2;
}

static ssize_t plain_result(ssize_t n)
{
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static ssize_t conn_read(struct conn *c, char *out, size_t size)
{
    return c->ssl ? tls_result(c, SSL_read(c->ssl, out, (int)size))
                  : plain_result(recv(c->fd, out, size, 0));
}

static ssize_t conn_write(struct conn *c, const char *data, size_t len)
{
    if (c->ssl)
        return tls_result(c, SSL_write(c->ssl, data, (int)(len > 16384 ? 16384 : len)));
    return plain_result(send(c->fd, data, len, MSG_NOSIGNAL));
}

static void step_pop(struct conn *c)
{
    struct step *s = c->steps;
    c->steps = s->next;
    if (!c->steps)
        c->last_step = NULL;
    bytes_free(&s->data);
    free(s);
    c->sent = 0;
    c->waited = false;
}

static void conn_end(struct conn *c, bool aborted)
{
    if (c->counter)
        counter_end(c->counter, aborted);
    while (c->steps)
        step_pop(c);
    timer_clear(c);
    if (c->ssl) {
        if (!aborted && SSL_is_init_finished(c->ssl))
            SSL_shutdown(c->ssl);
        ERR_clear_error();
        SSL_free(c->ssl);
    }
    close(c->fd);
    counter_connection(-1);
    bytes_free(&c->in);
    free(c);
}

static void conn_reset(struct conn *c)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (c->ssl)
        SSL_set_quiet_shutdown(c->ssl, 1);
    conn_end(c, false);
}

enum played { PLAYED_ALL, PLAYED_WAITING, PLAYED_GONE };

static enum played play(struct conn *c)
{
    while (c->steps) {
        struct step *s = c->steps;
        if (s->wait_ms && !c->waited) {
            timer_set(c, now_ms + s->wait_ms);
            return PLAYED_WAITING;
        }
        if (s->kind == STEP_HANG)
            return PLAYED_WAITING;
        if (s->kind == STEP_CLOSE) {
            conn_end(c, false);
            return PLAYED_GONE;
        }
        if (s->kind == STEP_RESET) {
            conn_reset(c);
            return PLAYED_GONE;
        }
        while (c->sent < s->data.len) {
            ssize_t n = conn_write(c, s->data.data + c->sent, s->data.len - c->sent);
            if (n == -1) {
                want(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
                return PLAYED_WAITING;
            }
            if (n <= 0) {
                conn_end(c, true);
                return PLAYED_GONE;
            }
            c->sent += (size_t)n;
        }
        c->sent = 0;
        c->waited = false;
        if (--s->rounds == 0)
            step_pop(c);
    }
    want(c, EPOLLIN | EPOLLRDHUP);
    if (c->counter)
        counter_end(c->counter, false);
    c->counter = NULL;
    if (c->close_after) {
        conn_end(c, false);
        return PLAYED_GONE;
    }
    return PLAYED_ALL;
}

/* Plays what is due and takes further requests, as far as it goes now. */
static void conn_advance(struct conn *c)
{
    while (play(c) == PLAYED_ALL) {
        struct request req;
        int got = request_take(&c->in, &req);
        if (got == 0)
            return;
        if (got < 0) {
            conn_end(c, false);
            return;
        }
        c->requests++;
        const char *id = request_header(&req, "x-id");
        if (id)
            seen_add(id);
        /* The witness's own pages are not counted: reading the counters must not change them. */
        if (strcmp(req.path, "/stats") != 0 && strcmp(req.path, "/stats/reset") != 0 &&
            strcmp(req.path, "/seen") != 0) {
            c->counter = counter_of(req.path);
            counter_begin(c->counter);
        }
        route(c, &req);
        request_free(&req);
    }
}

static void conn_event(struct conn *c)
{
    char block[65536];
    for (;;) {
        ssize_t n = conn_read(c, block, sizeof block);
        if (n == -1)
            break;
        if (n <= 0) {
            conn_end(c, true);
            return;
        }
        if (!c->silent)
            bytes_add(&c->in, block, (size_t)n);
    }
    if (!c->silent && !c->heap_at)
        conn_advance(c);
}

/* ---- the loop */

static void accept_all(const struct listener *l)
{
    for (;;) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = xmalloc(sizeof *c);
        c->fd = fd;
        c->silent = l->silent;
        c->id = next_conn_id++;
        if (l->tls) {
            c->ssl = SSL_new(l->tls);
            if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
                die("SSL_new");
            SSL_set_accept_state(c->ssl);
        }
        counter_connection(1);
        c->events = EPOLLIN | EPOLLRDHUP;
        struct epoll_event ev = {.events = c->events, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
            die("epoll_ctl");
    }
}

static void run_timers(void)
{
    while (heap_len && heap[1]->due_ms <= now_ms) {
        struct conn *c = heap[1];
        timer_clear(c);
        c->waited = true;
        conn_advance(c);
    }
}

static bool is_listener(const void *p)
{
    return (const char *)p >= (const char *)listeners &&
           (const char *)p < (const char *)(listeners + LISTENERS);
}

static void serve(pid_t parent)
{
    struct epoll_event events[512];
    for (;;) {
        int timeout = parent ? 1000 : -1;
        if (heap_len) {
            uint64_t due = heap[1]->due_ms;
            uint64_t left = due > now_ms ? due - now_ms : 0;
            timeout = left < 1000 ? (int)left : 1000;
        }
        int n = epoll_wait(epoll_fd, events, sizeof events / sizeof events[0], timeout);
        now_ms = clock_ms();
        if (n == 0 && parent && kill(parent, 0) != 0)
            return;
        for (int i = 0; i < n; i++) {
            if (is_listener(events[i].data.ptr))
                accept_all(events[i].data.ptr);
            else
                conn_event(events[i].data.ptr);
        }
        run_timers();
    }
}

/* ---- start */

static int open_port(int *port, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) != 0 ||
        (backlog >= 0 && listen(fd, backlog) != 0) ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
        die("opening a port");
    *port = ntohs(addr.sin_port);
    return fd;
}

/* A listener whose queue is full and that never accepts: the kernel then drops every further SYN.
 */
static int open_full_port(void)
{
    int port;
    open_port(&port, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)port)};
    for (int i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 ||
            (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0 && errno != EINPROGRESS))
            die("filling a backlog");
    }
    return port;
}

static int listen_on(int i, bool silent, SSL_CTX *tls)
{
    int port;
    listeners[i] =
        (struct listener){.fd = open_port(&port, SOMAXCONN), .silent = silent, .tls = tls};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &listeners[i]};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listeners[i].fd, &ev) != 0)
        die("epoll_ctl");
    return port;
}

int main(int argc, char **argv)
{
    const char *ca_path = NULL;
    pid_t parent = 0;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--ca") == 0) {
            ca_path = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--parent") == 0) {
            parent = (pid_t)strtol(argv[i + 1], NULL, 10);
        } else {
            fprintf(stderr, "usage: faultd [--ca FILE] [--parent PID]\n");
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    FILE *ca = ca_path ? fopen(ca_path, "w") : NULL;
    if (ca_path && !ca)
        die(ca_path);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    now_ms = clock_ms();
    int http = listen_on(0, false, NULL);
    int silent = listen_on(1, true, NULL);
    int tls = listen_on(2, false, tls_context(CERT_GOOD, ca));
    int expired = listen_on(3, false, tls_context(CERT_EXPIRED, ca));
    int wrong_host = listen_on(4, false, tls_context(CERT_WRONG_HOST, ca));
    int refused;
    open_port(&refused, -1); /* bound and never listening: nobody else can get the port either */
    int backlog = open_full_port();
    if (ca)
        fclose(ca);
    printf("http=%d tls=%d tls_expired=%d tls_wrong_host=%d silent=%d refused=%d backlog=%d\n",
           http, tls, expired, wrong_host, silent, refused, backlog);
    fflush(stdout);
    serve(parent);
    return 0;
}
