/* faultd [--ca FILE] [--client-cert FILE] [--client-key FILE] [--unix PATH] [--parent PID]: see
 * faultd.h. Prints one line NAME=PORT ... when it is ready:
 *
 *     http tls tls_expired tls_wrong_host, and mtls, which wants a client certificate
 *     v6                      http on [::1]; 0 where there is none
 *     flaky                   answers like /ok; resets the next n connections after /flaky-set?n=
 *     silent refused backlog  accepts and never speaks; refuses; a connect to it hangs
 *     proxy socks             an HTTP and a SOCKS5 proxy; they reach loopback alone
 *     proxy_auth socks_auth   the same for user `u`, password `p:ss`
 *
 * The CA file gets the certificates to trust, the client's files what `mtls` accepts; at PATH is
 * http on a Unix socket. With --parent it ends when that process is gone. */
#include "faultd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum listener_kind { HTTP, SILENT, FLAKY, PROXY, PROXY_AUTH, SOCKS, SOCKS_AUTH };

struct listener {
    struct watch watch; /* the first member */
    int fd;
    enum listener_kind kind;
    SSL_CTX *tls;
};

enum { LISTENERS = 16 };

static struct listener listeners[LISTENERS];
static size_t listener_count;
static int epoll_fd;

static void die(const char *what)
{
    fprintf(stderr, "faultd: %s: %s\n", what, strerror(errno));
    exit(2);
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

/* ---- the loop */

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
            conn_accept(fd, l->tls, l->kind == SILENT, l->kind == FLAKY);
    }
}

static void serve(pid_t parent)
{
    struct epoll_event events[512];
    for (;;) {
        int timeout = conn_next_timer();
        if (parent && (timeout < 0 || timeout > 1000))
            timeout = 1000;
        int n = epoll_wait(epoll_fd, events, sizeof events / sizeof events[0], timeout);
        conn_clock();
        if (n == 0 && parent && kill(parent, 0) != 0)
            return;
        for (int i = 0; i < n; i++) {
            struct watch *w = events[i].data.ptr;
            w->on_event(w, events[i].events);
        }
        conn_run_timers();
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
    if (listener_count == LISTENERS)
        abort();
    struct listener *l = &listeners[listener_count++];
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
    conn_clock();
    open_all(&options);
    serve(options.parent ? (pid_t)strtol(options.parent, NULL, 10) : 0);
    return 0;
}
