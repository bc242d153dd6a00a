/* faultd [--ca FILE] [--client-cert FILE] [--client-key FILE] [--unix PATH] [--parent PID]: see
 * faultd.h. Prints one line NAME=PORT ... when it is ready:
 *
 *     http tls tls_expired tls_wrong_host, and mtls, which wants a client certificate
 *     v6                      http on [::1]; 0 where there is none
 *     flaky                   answers like /ok; resets the next n connections after /flaky-set?n=
 *     silent refused backlog  accepts and never speaks; refuses; a connect to it hangs
 *     proxy socks             an HTTP proxy and a SOCKS5 proxy; they reach loopback and nothing
 * else proxy_auth socks_auth   the same for user `u`, password `p:ss`
 *
 * The CA file gets the certificates to trust, the client's files what `mtls` accepts; at PATH is
 * http on a Unix socket. With --parent it ends when that process is gone. */
#include "faultd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum listener_kind { HTTP, SILENT, FLAKY, PROXY, PROXY_AUTH, SOCKS, SOCKS_AUTH };

struct listener {
    struct watch watch; /* the first member */
    int fd;
    enum listener_kind kind;
    SSL_CTX *tls;
};

/* So much is read or sent for one connection before the others have their turn. */
enum { READ_BLOCK = 65536, READ_BLOCKS = 16, SEND_TURN = 1 << 20 };

static long flaky_left;
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

/* ---- epoll */

void watch_add(struct watch *w, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        die("epoll_ctl");
}

void watch_change(struct watch *w, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &ev);
}

void watch_remove(int fd)
{
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- reading and writing */

static void want(struct conn *c, uint32_t events)
{
    if (c->events == events)
        return;
    watch_change(&c->watch, c->fd, events);
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
    if (s->free_state)
        s->free_state(s->state);
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
    if (c->upload)
        upload_free(c->upload);
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

static void conn_linger(struct conn *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl);
    ERR_clear_error();
    shutdown(c->fd, SHUT_WR);
    want(c, EPOLLIN | EPOLLRDHUP);
    if (c->counter)
        counter_end(c->counter, false);
    c->counter = NULL;
    c->in.len = 0;
    c->silent = true;
}

/* Whether some of what was sent is still on its way: a reset would destroy it. */
static bool in_flight(const struct conn *c)
{
    int left = 0;
    return ioctl(c->fd, SIOCOUTQ, &left) == 0 && left > 0;
}

enum played { PLAYED_ALL, PLAYED_WAITING, PLAYED_GONE };

/* A step that sends nothing. */
static enum played play_end(struct conn *c, const struct step *s)
{
    switch (s->kind) {
    case STEP_CLOSE:
        conn_end(c, false);
        return PLAYED_GONE;
    case STEP_RESET:
        if (in_flight(c)) {
            timer_set(c, now_ms + 2);
            return PLAYED_WAITING;
        }
        conn_reset(c);
        return PLAYED_GONE;
    case STEP_LINGER:
        if (!c->silent)
            conn_linger(c);
        return PLAYED_WAITING;
    default: /* STEP_HANG */
        want(c, EPOLLIN | EPOLLRDHUP);
        return PLAYED_WAITING;
    }
}

static enum played play(struct conn *c)
{
    size_t turn = 0;
    while (c->steps) {
        struct step *s = c->steps;
        if (s->wait_ms && !c->waited) {
            want(c, EPOLLIN | EPOLLRDHUP);
            timer_set(c, now_ms + s->wait_ms);
            return PLAYED_WAITING;
        }
        if (s->kind != STEP_SEND)
            return play_end(c, s);
        if (s->make && !s->made) {
            s->data.len = 0;
            s->made = s->make(s);
            if (!s->made) {
                step_pop(c);
                continue;
            }
        }
        while (c->sent < s->data.len) {
            ssize_t n = turn > SEND_TURN
                            ? -1
                            : conn_write(c, s->data.data + c->sent, s->data.len - c->sent);
            if (n == -1) {
                want(c, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
                return PLAYED_WAITING;
            }
            if (n <= 0) {
                conn_end(c, true);
                return PLAYED_GONE;
            }
            c->sent += (size_t)n;
            turn += (size_t)n;
            if (c->counter)
                counter_sent(c->counter, (size_t)n);
        }
        c->sent = 0;
        c->waited = false;
        s->made = false;
        if (!s->make && --s->rounds == 0)
            step_pop(c);
    }
    want(c, EPOLLIN | EPOLLRDHUP);
    if (c->upload)
        return PLAYED_ALL; /* and its answer is yet to come */
    if (c->counter)
        counter_end(c->counter, false);
    c->counter = NULL;
    if (c->close_after) {
        conn_end(c, false);
        return PLAYED_GONE;
    }
    return PLAYED_ALL;
}

/* Takes the next request, or more of the body of the one that is being read. 1: there is something
 * to play; 0: more bytes are needed; -1: the connection is to end. */
static int conn_take(struct conn *c)
{
    if (c->upload)
        return upload_feed(c);
    struct request req;
    int got = request_take(&c->in, &req);
    if (got <= 0)
        return got;
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
    if (c->flaky && flaky_left > 0) {
        flaky_left--;
        step_add(c, STEP_RESET);
    } else if (c->flaky) {
        say_ok(c, &req);
    } else {
        route(c, &req);
    }
    if (c->upload)
        c->upload->req = req;
    else
        request_free(&req);
    return 1;
}

/* Plays what is due and takes further requests, as far as it goes now. False: the connection is
 * gone.
 */
static bool conn_advance(struct conn *c)
{
    for (;;) {
        enum played played = play(c);
        if (played != PLAYED_ALL)
            return played != PLAYED_GONE;
        int taken = conn_take(c);
        if (taken < 0) {
            conn_end(c, false);
            return false;
        }
        if (c->paused)
            want(c, EPOLLRDHUP);
        if (taken == 0)
            return true;
    }
}

static void conn_event(struct watch *w, uint32_t events)
{
    struct conn *c = (struct conn *)w;
    (void)events;
    if (c->paused) { /* it is watched for its end alone */
        conn_end(c, true);
        return;
    }
    char block[READ_BLOCK];
    for (int i = 0; i < READ_BLOCKS; i++) {
        ssize_t n = conn_read(c, block, sizeof block);
        if (n == -1)
            break;
        if (n <= 0) {
            conn_end(c, true);
            return;
        }
        if (c->silent)
            continue;
        size_t before = c->in.len;
        bytes_add(&c->in, block, (size_t)n);
        /* A long body's head comes to its route before the body is in memory. */
        bool is_long = before < sizeof block && c->in.len >= sizeof block;
        if ((c->upload || is_long) && !c->heap_at && !conn_advance(c))
            return;
        if (c->paused)
            return;
    }
    if (!c->silent && !c->heap_at)
        conn_advance(c);
}

void flaky_set(long n)
{
    flaky_left = n;
}

/* ---- the loop */

static void accept_conn(const struct listener *l, int fd)
{
    struct conn *c = xmalloc(sizeof *c);
    c->watch.on_event = conn_event;
    c->fd = fd;
    c->silent = l->kind == SILENT;
    c->flaky = l->kind == FLAKY;
    c->id = next_conn_id++;
    if (l->tls) {
        c->ssl = SSL_new(l->tls);
        if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
            die("SSL_new");
        SSL_set_accept_state(c->ssl);
    }
    counter_connection(1);
    c->events = EPOLLIN | EPOLLRDHUP;
    watch_add(&c->watch, fd, c->events);
}

static void accept_all(struct watch *w, uint32_t events)
{
    const struct listener *l = (const struct listener *)w;
    (void)events;
    for (;;) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on a Unix socket */
        if (l->kind >= PROXY)
            relay_accept(fd, l->kind >= SOCKS, l->kind == PROXY_AUTH || l->kind == SOCKS_AUTH);
        else
            accept_conn(l, fd);
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
            struct watch *w = events[i].data.ptr;
            w->on_event(w, events[i].events);
        }
        run_timers();
        relay_bury();
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

static void listen_fd(int fd, enum listener_kind kind, SSL_CTX *tls)
{
    struct listener *l = xmalloc(sizeof *l);
    *l = (struct listener){.watch = {accept_all}, .fd = fd, .kind = kind, .tls = tls};
    watch_add(&l->watch, fd, EPOLLIN);
}

static void print_port(const char *name, int port)
{
    printf("%s%s=%d", strcmp(name, "http") == 0 ? "" : " ", name, port);
}

static void listen_on(const char *name, enum listener_kind kind, SSL_CTX *tls)
{
    int port;
    listen_fd(open_port(&port, SOMAXCONN), kind, tls);
    print_port(name, port);
}

/* 0: this machine has no ::1. */
static int listen_v6(void)
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    if (bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        close(fd);
        return 0;
    }
    listen_fd(fd, HTTP, NULL);
    return ntohs(addr.sin6_port);
}

static void listen_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path) {
        fprintf(stderr, "faultd: too long for a socket: %s\n", path);
        exit(2);
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(fd, SOMAXCONN) != 0)
        die(path);
    listen_fd(fd, HTTP, NULL);
}

struct options {
    const char *ca, *client_cert, *client_key, *unix_path, *parent;
};

static bool read_options(struct options *out, int argc, char **argv)
{
    const struct {
        const char *name, **value;
    } rows[] = {
        {"--ca", &out->ca},
        {"--client-cert", &out->client_cert},
        {"--client-key", &out->client_key},
        {"--unix", &out->unix_path},
        {"--parent", &out->parent},
    };
    for (int i = 1; i < argc; i += 2) {
        size_t row = 0;
        while (row < sizeof rows / sizeof rows[0] && strcmp(argv[i], rows[row].name) != 0)
            row++;
        if (row == sizeof rows / sizeof rows[0] || i + 1 == argc)
            return false;
        *rows[row].value = argv[i + 1];
    }
    return true;
}

static void open_all(const struct options *options)
{
    FILE *ca = options->ca ? fopen(options->ca, "w") : NULL;
    if (options->ca && !ca)
        die(options->ca);
    listen_on("http", HTTP, NULL);
    listen_on("tls", HTTP, tls_context(CERT_GOOD, ca));
    listen_on("tls_expired", HTTP, tls_context(CERT_EXPIRED, ca));
    listen_on("tls_wrong_host", HTTP, tls_context(CERT_WRONG_HOST, ca));
    listen_on("mtls", HTTP, tls_context_mutual(ca, options->client_cert, options->client_key));
    if (ca)
        fclose(ca);
    listen_on("silent", SILENT, NULL);
    listen_on("flaky", FLAKY, NULL);
    listen_on("proxy", PROXY, NULL);
    listen_on("proxy_auth", PROXY_AUTH, NULL);
    listen_on("socks", SOCKS, NULL);
    listen_on("socks_auth", SOCKS_AUTH, NULL);
    print_port("v6", listen_v6());
    if (options->unix_path)
        listen_unix(options->unix_path);
    int refused;
    open_port(&refused, -1); /* bound and never listening: nobody else can get the port either */
    print_port("refused", refused);
    print_port("backlog", open_full_port());
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    if (!read_options(&options, argc, argv)) {
        fprintf(stderr, "usage: faultd [--ca FILE] [--client-cert FILE] [--client-key FILE] "
                        "[--unix PATH] [--parent PID]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    now_ms = clock_ms();
    open_all(&options);
    serve(options.parent ? (pid_t)strtol(options.parent, NULL, 10) : 0);
    return 0;
}
