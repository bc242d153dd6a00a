#include "faultd_relay.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* So much is kept for a side that does not read; then the other is not read either. */
enum { MAX_PENDING = 1 << 18 };

static struct relay *dead;

static void side_event(struct watch *w, uint32_t events);

static void side_close(struct side *s, bool reset)
{
    if (s->fd < 0)
        return;
    if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(s->fd);
    s->fd = -1;
    s->events = 0;
}

static void relay_end(struct relay *r, bool reset)
{
    side_close(&r->client, reset);
    side_close(&r->server, reset);
    r->dead = true;
    r->next = dead;
    dead = r;
}

void relay_bury(void)
{
    while (dead) {
        struct relay *r = dead;
        dead = r->next;
        bytes_free(&r->in);
        bytes_free(&r->client.out);
        bytes_free(&r->server.out);
        free(r);
    }
}

static size_t pending(const struct side *s)
{
    return s->out.len - s->sent;
}

static void side_want(struct side *s, uint32_t events)
{
    if (s->fd < 0 || s->events == events)
        return;
    /* One with nothing to say is taken out, or its hang-up would be reported without end. */
    if (!events)
        watch_remove(s->fd);
    else if (!s->events)
        watch_add(&s->watch, s->fd, events);
    else
        watch_change(&s->watch, s->fd, events);
    s->events = events;
}

/* Sends what can be sent, and passes the other side's end on behind it. */
static void side_flush(struct relay *r, struct side *s)
{
    bool connecting = r->phase == RELAY_CONNECTING && s == &r->server;
    if (r->dead || s->fd < 0 || connecting)
        return;
    while (pending(s)) {
        ssize_t n = send(s->fd, s->out.data + s->sent, pending(s), MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            relay_end(r, true);
            return;
        }
        s->sent += (size_t)n;
    }
    s->out.len = s->sent = 0;
    if (s->other->ended && !s->shut) {
        shutdown(s->fd, SHUT_WR);
        s->shut = true;
    }
}

static void relay_update(struct relay *r)
{
    if (r->client.ended && r->server.fd < 0)
        r->server.ended = true; /* there will be none any more */
    side_flush(r, &r->client);
    side_flush(r, &r->server);
    if (!r->dead && r->client.shut && r->server.shut)
        relay_end(r, false);
    if (r->dead)
        return;
    uint32_t client = pending(&r->client) ? EPOLLOUT : 0;
    uint32_t server = pending(&r->server) ? EPOLLOUT : 0;
    if (r->phase == RELAY_CONNECTING) {
        client |= EPOLLRDHUP;
        server = EPOLLOUT;
    } else {
        if (!r->client.ended && pending(&r->server) < MAX_PENDING)
            client |= EPOLLIN;
        if (!r->server.ended && pending(&r->client) < MAX_PENDING)
            server |= EPOLLIN;
    }
    side_want(&r->client, client);
    side_want(&r->server, server);
}

static void look(struct relay *r)
{
    while (!r->dead && (r->socks ? socks_advance(r) : http_advance(r)))
        ;
}

static void connected(struct relay *r)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(r->server.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        side_close(&r->server, false);
        r->server.shut = true;
        r->target[0] = 0;
    }
    if (r->socks)
        socks_connected(r, !error);
    else
        http_connected(r, !error);
    look(r);
}

static void side_read(struct relay *r, struct side *s)
{
    char block[65536];
    ssize_t n = recv(s->fd, block, sizeof block, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            relay_end(r, true);
        return;
    }
    if (n == 0)
        s->ended = true;
    else if (s == &r->server)
        bytes_add(&r->client.out, block, (size_t)n);
    else
        bytes_add(&r->in, block, (size_t)n);
    if (s == &r->client)
        look(r);
}

static void side_event(struct watch *w, uint32_t events)
{
    struct side *s = (struct side *)w;
    struct relay *r = s->relay;
    if (r->dead || s->fd < 0)
        return;
    if (r->phase == RELAY_CONNECTING) {
        if (s == &r->server && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
            connected(r);
        else if (s == &r->client && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            relay_end(r, false);
    } else if ((s->events & EPOLLIN) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        side_read(r, s);
    } else if (events & EPOLLERR) {
        relay_end(r, true);
    }
    if (!r->dead)
        relay_update(r);
}

static void side_init(struct relay *r, struct side *s, struct side *other, int fd)
{
    s->watch.on_event = side_event;
    s->relay = r;
    s->other = other;
    s->fd = fd;
}

void relay_accept(int fd, bool socks, bool auth)
{
    struct relay *r = xmalloc(sizeof *r);
    side_init(r, &r->client, &r->server, fd);
    side_init(r, &r->server, &r->client, -1);
    r->server.shut = true; /* as long as there is none */
    r->socks = socks;
    r->auth = auth;
    r->phase = socks ? RELAY_SOCKS_HELLO : RELAY_HTTP_HEAD;
    relay_update(r);
}

void relay_finish(struct relay *r)
{
    r->server.ended = r->server.shut = true;
    r->client.ended = true;
    r->in.len = 0;
}

bool target_of(struct target *out, const char *host, long port)
{
    struct in_addr v4;
    struct in6_addr v6;
    size_t len = strlen(host);
    *out = (struct target){.v4 = INADDR_LOOPBACK, .port = (uint16_t)port};
    if (port <= 0 || port > 65535)
        return false;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        out->v4 = ntohl(v4.s_addr);
        return out->v4 >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        out->v6 = true;
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return strcasecmp(host, "localhost") == 0 ||
           (len > 5 && strcasecmp(host + len - 5, ".test") == 0);
}

void relay_connect(struct relay *r, const struct target *target)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons(target->port),
                             .sin_addr.s_addr = htonl(target->v4)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(target->port),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct side *s = &r->server;
    side_close(s, false);
    s->out.len = s->sent = 0;
    s->ended = s->shut = false;
    r->phase = RELAY_CONNECTING;
    s->fd = socket(target->v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const struct sockaddr *addr =
        target->v6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
    if (s->fd < 0 ||
        (connect(s->fd, addr, target->v6 ? sizeof v6 : sizeof v4) != 0 && errno != EINPROGRESS)) {
        side_close(s, false);
        s->shut = true;
        if (r->socks)
            socks_connected(r, false);
        else
            http_connected(r, false);
    }
}

void proxy_stats_json(struct bytes *out)
{
    http_stats_json(out);
    bytes_printf(out, ",");
    socks_stats_json(out);
}

void proxy_stats_reset(void)
{
    http_stats_reset();
    socks_stats_reset();
}
