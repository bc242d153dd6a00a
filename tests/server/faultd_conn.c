/* Connections: reading requests, playing scripts, timers. */
#include "faultd.h"
#include <errno.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* So much is read or sent for one connection before the others have their turn. */
enum { READ_BLOCK = 65536, READ_BLOCKS = 16, SEND_TURN = 1 << 20 };

static long flaky_left;
static struct conn *conns;
static uint64_t next_conn_id = 1;
static uint64_t now_ms;

void conn_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    now_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
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
                exit(2);
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

int conn_next_timer(void)
{
    if (!heap_len)
        return -1;
    uint64_t left = heap[1]->due_ms > now_ms ? heap[1]->due_ms - now_ms : 0;
    return left < 1000 ? (int)left : 1000;
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
    if (c->prev)
        c->prev->next = c->next;
    else
        conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
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
    case STEP_SPOIL:
        send(c->fd, "these bytes are no TLS", 22, MSG_NOSIGNAL);
        if (c->ssl)
            SSL_set_quiet_shutdown(c->ssl, 1);
        conn_end(c, false);
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
        if (s->kind == STEP_HALF) {
            shutdown(c->fd, SHUT_WR);
            step_pop(c);
            continue;
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
        strncmp(req.path, "/seen", 5) != 0) {
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
    if (c->heap_at && c->steps->idle && c->in.len > 0) {
        timer_clear(c);
        step_pop(c);
    }
    if (!c->silent && !c->heap_at)
        conn_advance(c);
}

void conn_end_others(const struct conn *but)
{
    for (struct conn *c = conns; c; c = c->next) {
        if (c != but)
            shutdown(c->fd, SHUT_RDWR); /* its end is found, and it is closed */
    }
}

void flaky_set(long n)
{
    flaky_left = n;
}

void conn_accept(int fd, SSL_CTX *tls, bool silent, bool flaky)
{
    struct conn *c = xmalloc(sizeof *c);
    c->watch.on_event = conn_event;
    c->next = conns;
    if (conns)
        conns->prev = c;
    conns = c;
    c->fd = fd;
    c->silent = silent;
    c->flaky = flaky;
    c->id = next_conn_id++;
    if (tls) {
        c->ssl = SSL_new(tls);
        if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
            exit(2);
        SSL_set_accept_state(c->ssl);
    }
    counter_connection(1);
    c->events = EPOLLIN | EPOLLRDHUP;
    watch_add(&c->watch, fd, c->events);
}

void conn_run_timers(void)
{
    while (heap_len && heap[1]->due_ms <= now_ms) {
        struct conn *c = heap[1];
        timer_clear(c);
        c->waited = true;
        conn_advance(c);
    }
}
