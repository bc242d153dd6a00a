/* h2d [--ca FILE] [--key FILE] [--parent PID]: see h2d.h. Prints one line when it is ready,
 *
 *     tls=PORT plain=PORT tls_one=PORT
 *
 * where `plain` wants prior knowledge and `tls_one` allows one stream at a time. FILE gets the
 * certificate, or its key for other servers to use. With --parent it ends when that process is
 * gone.
 *
 * h2d --free-ports N: prints N ports of loopback that are free now. */
#include "h2d.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct listener {
    int fd;
    bool tls, one_stream;
};

enum { LISTENERS = 3, OUT_ENOUGH = 65536 };

static struct listener listeners[LISTENERS];
static struct session *sessions;
static int epoll_fd;
static SSL_CTX *tls;
static uint64_t now_ms, next_id = 1;

static void die(const char *what)
{
    fprintf(stderr, "h2d: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- timers: a list by due_ms. Most are as long as the last, so the place is looked for from the
 * end. */

static struct stream *timers, *last_timer;

void stream_timer_clear(struct stream *s)
{
    if (!s->on_timer)
        return;
    if (s->timer_prev)
        s->timer_prev->timer_next = s->timer_next;
    else
        timers = s->timer_next;
    if (s->timer_next)
        s->timer_next->timer_prev = s->timer_prev;
    else
        last_timer = s->timer_prev;
    s->timer_next = s->timer_prev = NULL;
    s->on_timer = NULL;
}

void stream_timer(struct stream *s, long ms, void (*fire)(struct stream *s))
{
    stream_timer_clear(s);
    s->on_timer = fire;
    s->due_ms = now_ms + (uint64_t)(ms > 0 ? ms : 0);
    struct stream *before = last_timer;
    while (before && before->due_ms > s->due_ms)
        before = before->timer_prev;
    s->timer_prev = before;
    s->timer_next = before ? before->timer_next : timers;
    if (before)
        before->timer_next = s;
    else
        timers = s;
    if (s->timer_next)
        s->timer_next->timer_prev = s;
    else
        last_timer = s;
}

/* ---- reading and writing: bytes moved, 0: closed, -1: not now, -2: broken, -3: not before the
 * handshake has gone on */

static ssize_t moved(struct session *c, ssize_t n)
{
    if (n > 0)
        return n;
    if (!c->ssl)
        return n == 0 ? 0 : errno == EAGAIN || errno == EINTR ? -1 : -2;
    int error = SSL_get_error(c->ssl, (int)n);
    ERR_clear_error();
    return error == SSL_ERROR_ZERO_RETURN  ? 0
           : error == SSL_ERROR_WANT_WRITE ? -1
           : error == SSL_ERROR_WANT_READ  ? -3
                                           : -2;
}

static ssize_t pull(struct session *c, char *out, size_t size)
{
    return moved(c, c->ssl ? SSL_read(c->ssl, out, (int)size) : recv(c->fd, out, size, 0));
}

static ssize_t push(struct session *c, const char *data, size_t len)
{
    if (len > 16384)
        len = 16384;
    return moved(c,
                 c->ssl ? SSL_write(c->ssl, data, (int)len) : send(c->fd, data, len, MSG_NOSIGNAL));
}

static void want(struct session *c, uint32_t events)
{
    if (c->stopped)
        events = 0;
    if (c->events == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
    c->events = events;
}

/* Sends what there is, as far as it goes now. */
static void pump(struct session *c)
{
    for (;;) {
        while (c->out.len - c->out_at < OUT_ENOUGH) {
            const uint8_t *data;
            ssize_t n = nghttp2_session_mem_send(c->ng, &data);
            if (n < 0)
                c->end = END_NOW;
            if (n <= 0)
                break;
            bytes_add(&c->out, data, (size_t)n);
        }
        if (c->out.len == c->out_at || c->end == END_NOW)
            break;
        ssize_t n = push(c, c->out.data + c->out_at, c->out.len - c->out_at);
        if (n == -1 || n == -3) {
            want(c, n == -1 ? EPOLLIN | EPOLLOUT : EPOLLIN);
            return;
        }
        if (n <= 0) {
            c->end = END_NOW;
            break;
        }
        c->out_at += (size_t)n;
        if (c->out_at == c->out.len)
            c->out_at = c->out.len = 0;
    }
    want(c, EPOLLIN);
}

/* ---- ends */

static void session_free(struct session *c)
{
    if (!c->drained) {
        session_fini(c);
        h2_stats()->connections_open--;
    }
    if (c->ssl) {
        ERR_clear_error();
        SSL_free(c->ssl);
    }
    close(c->fd);
    if (c->prev)
        c->prev->next = c->next;
    else
        sessions = c->next;
    if (c->next)
        c->next->prev = c->prev;
    free(c);
}

void sessions_goaway_idle(const struct session *but, void (*refuse)(struct stream *s))
{
    for (struct session *c = sessions; c; c = c->next) {
        if (c == but || c->streams || c->drained)
            continue;
        nghttp2_submit_goaway(c->ng, 0, c->processed, NGHTTP2_NO_ERROR, NULL, 0);
        pump(c);
    }
    for (struct session *c = sessions; c; c = c->next) {
        for (struct stream *s = c->streams; s; s = s->next) {
            if (s->to_refuse)
                refuse(s);
        }
        if (c != but && !c->drained)
            pump(c);
    }
}

void sessions_shut(const struct session *but, bool reset)
{
    const struct linger at_once = {.l_onoff = reset};
    for (struct session *c = sessions; c; c = c->next) {
        if (c == but)
            continue;
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        shutdown(c->fd, reset ? SHUT_RD : SHUT_RDWR); /* its end is found, and it is closed */
    }
}

static void end_idle(struct stream *idle)
{
    struct session *c = idle->session;
    const struct linger at_once = {.l_onoff = c->resets};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (c->says_bye)
        nghttp2_submit_goaway(c->ng, 0, c->processed, NGHTTP2_NO_ERROR, NULL, 0);
    c->end = c->says_bye ? END_AFTER_FLUSH : END_NOW;
}

static void look_idle(struct stream *idle)
{
    enum { DEAF_MS = 3 };
    struct session *c = idle->session;
    if (c->deaf) {
        c->stopped = true;
        stream_timer(idle, DEAF_MS, end_idle);
    } else if (!c->streams) {
        end_idle(idle);
    }
}

void session_end_idle(struct session *c, long ms)
{
    c->idle.session = c;
    stream_timer(&c->idle, ms, look_idle);
}

/* Says goodbye and reads on until the client closes too: closing with its bytes unread would be a
 * TCP reset, which can overtake the last frames. */
static void session_drain(struct session *c)
{
    session_fini(c);
    h2_stats()->connections_open--;
    if (c->ssl && SSL_is_init_finished(c->ssl))
        SSL_shutdown(c->ssl);
    shutdown(c->fd, SHUT_WR);
    c->drained = true;
}

/* After whatever may have given the session something to send, or an end. */
static void session_advance(struct session *c)
{
    if (c->end != END_NOW)
        pump(c);
    bool flushed = c->out.len == c->out_at;
    bool over = !nghttp2_session_want_read(c->ng) && !nghttp2_session_want_write(c->ng);
    if (c->end == END_NOW)
        session_free(c);
    else if (flushed &&
             (over || c->end == END_AFTER_FLUSH || (c->end == END_AFTER_STREAMS && !c->streams)))
        session_drain(c);
}

static void session_event(struct session *c)
{
    char block[65536];
    while (c->end < END_AFTER_FLUSH) {
        /* (Not through TLS: after close_notify it would refuse to read.) */
        ssize_t n = c->drained ? moved(&(struct session){0}, recv(c->fd, block, sizeof block, 0))
                               : pull(c, block, sizeof block);
        if (n == -1 || n == -3)
            break;
        if (n <= 0) {
            session_free(c);
            return;
        }
        if (c->drained)
            continue;
        bytes_add(&c->in, block, (size_t)n);
        if (!session_read(c, pump)) {
            session_free(c);
            return;
        }
    }
    if (!c->drained)
        session_advance(c);
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
        struct session *c = xmalloc(sizeof *c);
        c->fd = fd;
        c->id = next_id++;
        c->next = sessions;
        if (sessions)
            sessions->prev = c;
        sessions = c;
        if (l->tls) {
            c->ssl = SSL_new(tls);
            if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
                die("SSL_new");
            SSL_set_accept_state(c->ssl);
        }
        session_start(c, l->one_stream);
        h2_stats()->connections++;
        h2_stats()->connections_open++;
        c->events = EPOLLIN;
        struct epoll_event ev = {.events = c->events, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
            die("epoll_ctl");
    }
}

static void run_timers(void)
{
    while (timers && timers->due_ms <= now_ms) {
        struct stream *s = timers;
        struct session *c = s->session;
        void (*fire)(struct stream *) = s->on_timer;
        stream_timer_clear(s);
        fire(s);
        session_advance(c);
    }
}

static bool is_listener(const void *p)
{
    return (const char *)p >= (const char *)listeners &&
           (const char *)p < (const char *)(listeners + LISTENERS);
}

static void serve(pid_t parent)
{
    struct epoll_event events[256];
    uint64_t looked_ms = now_ms;
    for (;;) {
        int timeout = parent ? 1000 : -1;
        if (timers) {
            uint64_t left = timers->due_ms > now_ms ? timers->due_ms - now_ms : 0;
            timeout = left < 1000 ? (int)left : 1000;
        }
        int n = epoll_wait(epoll_fd, events, sizeof events / sizeof events[0], timeout);
        now_ms = clock_ms();
        if (parent && now_ms - looked_ms >= 1000) {
            if (kill(parent, 0) != 0)
                return;
            looked_ms = now_ms;
        }
        for (int i = 0; i < n; i++) {
            if (is_listener(events[i].data.ptr))
                accept_all(events[i].data.ptr);
            else
                session_event(events[i].data.ptr);
        }
        run_timers();
    }
}

/* ---- start */

/* That one, or -1: somebody has it. 0: one that is free. */
static int open_port(int wanted, int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)wanted),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&addr, len) == 0;
    if (fd >= 0 && !bound && wanted != 0 && errno == EADDRINUSE) {
        close(fd);
        return -1;
    }
    if (!bound || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
        die("opening a port");
    *port = ntohs(addr.sin_port);
    return fd;
}

static int listen_on(int i, bool with_tls, bool one_stream)
{
    int port;
    listeners[i] = (struct listener){open_port(0, &port), with_tls, one_stream};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &listeners[i]};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listeners[i].fd, &ev) != 0)
        die("epoll_ctl");
    return port;
}

/* Not among those that connections are given: while a server is restarted, none takes its port. */
static int print_free_ports(long n)
{
    enum { LOWEST = 10000 };
    int above = 0;
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (range && fscanf(range, "%d", &above) != 1)
        above = 0;
    if (range)
        fclose(range);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    srandom((unsigned)ts.tv_nsec ^ (unsigned)getpid() << 12);
    while (n > 0) {
        int port, wanted = above > LOWEST + 1000 ? LOWEST + (int)(random() % (above - LOWEST)) : 0;
        if (open_port(wanted, &port) < 0) /* it stays open, so that the next is another */
            continue;
        printf("%d%c", port, n > 1 ? ' ' : '\n');
        n--;
    }
    return 0;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    return nghttp2_select_next_protocol((unsigned char **)(uintptr_t)out, out_len, in, in_len) == 1
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static FILE *open_file(const char *path)
{
    FILE *file = path ? fopen(path, "w") : NULL;
    if (path && !file)
        die(path);
    return file;
}

int main(int argc, char **argv)
{
    const char *ca_path = NULL, *key_path = NULL;
    pid_t parent = 0;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--ca") == 0) {
            ca_path = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--key") == 0) {
            key_path = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--parent") == 0) {
            parent = (pid_t)strtol(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--free-ports") == 0) {
            return print_free_ports(strtol(argv[i + 1], NULL, 10));
        } else {
            fprintf(stderr, "usage: h2d [--ca FILE] [--key FILE] [--parent PID] | "
                            "h2d --free-ports N\n");
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    FILE *ca = open_file(ca_path), *key = open_file(key_path);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    now_ms = clock_ms();
    tls = tls_context(CERT_GOOD, ca);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    if (key && !PEM_write_PrivateKey(key, SSL_CTX_get0_privatekey(tls), NULL, NULL, 0, NULL, NULL))
        die("writing the key");
    if (ca)
        fclose(ca);
    if (key)
        fclose(key);
    int tls_port = listen_on(0, true, false);
    int plain_port = listen_on(1, false, false);
    int one_port = listen_on(2, true, true);
    printf("tls=%d plain=%d tls_one=%d\n", tls_port, plain_port, one_port);
    fflush(stdout);
    serve(parent);
    return 0;
}
