#include "engine/connection.h"

#include "engine/tls_failure.h"
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The content of one TLS record. */
enum { RECORD_MAX = 16 * 1024, PARTS_MAX = 64 };

/* ---- The descriptor. */

static ssize_t note_read(struct connection *c, ssize_t n)
{
    if (n > 0)
        c->bytes_in += (uint64_t)n;
    else if (n < 0 && errno != EAGAIN)
        c->os_error = errno;
    return n;
}

static ssize_t note_write(struct connection *c, ssize_t n)
{
    if (n > 0)
        c->bytes_out += (uint64_t)n;
    else if (n < 0 && errno != EAGAIN)
        c->os_error = errno;
    return n;
}

static ssize_t fd_read(struct tls_carrier *carrier, void *out, size_t size)
{
    struct connection *c = CONTAINER_OF(carrier, struct connection, carrier);
    ssize_t n;
    do
        n = recv(c->fd, out, size, 0);
    while (n < 0 && errno == EINTR);
    return note_read(c, n);
}

static ssize_t fd_write(struct tls_carrier *carrier, const void *data, size_t size)
{
    struct connection *c = CONTAINER_OF(carrier, struct connection, carrier);
    ssize_t n;
    do
        n = send(c->fd, data, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return note_write(c, n);
}

static ssize_t fd_write_parts(struct connection *c, const struct iovec *parts, int count)
{
    /* sendmsg does not write to the parts, but its type says that it may. */
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)MIN(count, PARTS_MAX)};
    ssize_t n;
    do
        n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return note_write(c, n);
}

/* ---- The same by libcurl. */

static ssize_t via_read(struct tls_carrier *carrier, void *out, size_t size)
{
    struct connection *c = CONTAINER_OF(carrier, struct connection, carrier);
    size_t n = 0;
    CURLcode code = curl_easy_recv(c->via.easy, out, size, &n);
    c->via_drained = code != CURLE_OK || n == 0;
    errno = code == CURLE_AGAIN ? EAGAIN : EIO;
    return note_read(c, code == CURLE_OK ? (ssize_t)n : -1);
}

static ssize_t via_write(struct tls_carrier *carrier, const void *data, size_t size)
{
    struct connection *c = CONTAINER_OF(carrier, struct connection, carrier);
    size_t n = 0;
    CURLcode code = curl_easy_send(c->via.easy, data, size, &n);
    bool later = code == CURLE_AGAIN || (code == CURLE_OK && n == 0);
    errno = later ? EAGAIN : EIO;
    return note_write(c, n > 0 ? (ssize_t)n : -1);
}

static void via_release(struct connection *c)
{
    if (c->via.easy)
        c->via.release(c->via.arg, c->via.easy);
    c->via.easy = NULL;
    mem_free(c->mem, c->via_room);
    c->via_room = NULL;
}

/* ---- Events. */

static void watch(struct connection *c)
{
    uint32_t events = 0;
    if (c->handshaking) {
        events = c->handshake_needs;
    } else {
        if (c->want_read)
            events |= c->read_needs_write ? EPOLLOUT : EPOLLIN;
        if (c->want_write)
            events |= c->write_needs_read ? EPOLLIN : EPOLLOUT;
    }
    poller_watch(&c->watch, events);
}

static void on_event(struct poller_fd *f, uint32_t events)
{
    struct connection *c = CONTAINER_OF(f, struct connection, watch);
    bool in = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
    bool out = (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    bool can_read = c->want_read && (c->read_needs_write ? out : in);
    bool can_write = c->want_write && (c->write_needs_read ? in : out);
    if (c->handshaking)
        can_read = can_write = true;
    if (can_read || can_write)
        c->fn(c, can_read, can_write);
    else
        watch(c);
}

/* ---- Opening and closing. */

static enum err_kind start(struct connection *c, struct poller *poller, struct err *err)
{
    /* It goes into the set at once: every connection is read sooner or later, and a full set can be
     * reported here. An event that nobody wants takes it out again. */
    enum err_kind kind = poller_add(poller, &c->watch, c->fd, EPOLLIN, on_event, err);
    if (kind != ERR_NONE) {
        close(c->fd);
        c->fd = -1;
        via_release(c);
        return kind;
    }
    c->open = true;
    return ERR_NONE;
}

enum err_kind connection_open(struct connection *c, struct poller *poller, struct mem *mem, int fd,
                              connection_fn fn, struct err *err)
{
    *c = (struct connection){
        .fd = fd, .mem = mem, .fn = fn, .carrier = {.read = fd_read, .write = fd_write}};
    return start(c, poller, err);
}

enum err_kind connection_open_via(struct connection *c, struct poller *poller, struct mem *mem,
                                  int fd, const struct connection_via *via, connection_fn fn,
                                  struct err *err)
{
    *c = (struct connection){.fd = fd,
                             .mem = mem,
                             .fn = fn,
                             .carrier = {.read = via_read, .write = via_write},
                             .via = *via,
                             .via_room = mem_alloc(mem, RECORD_MAX)};
    if (c->via_room)
        return start(c, poller, err);
    close(fd);
    c->fd = -1;
    via_release(c);
    return err_set(err, ERR_MEMORY, "no memory for a connection");
}

void connection_close(struct connection *c)
{
    if (!c->open)
        return;
    c->open = false;
    tls_link_close(&c->tls);
    poller_drop(&c->watch);
    close(c->fd);
    c->fd = -1;
    via_release(c);
    mem_free(c->mem, c->host);
    c->host = NULL;
}

/* ---- TLS. */

enum err_kind connection_secure(struct connection *c, struct tls_context *context, const char *host,
                                unsigned port, struct err *err)
{
    ASSERT(c->open && !c->tls.ssl);
    c->host = mem_strndup(c->mem, host, strlen(host));
    if (!c->host)
        return err_set(err, ERR_MEMORY, "no memory for TLS");
    enum err_kind kind = tls_link_open(&c->tls, context, &c->carrier, c->host, port, err);
    if (kind != ERR_NONE)
        return kind;
    c->handshaking = true;
    c->handshake_needs = EPOLLIN;
    return ERR_NONE;
}

static enum io_state fail_handshake(struct connection *c, struct err *err)
{
    c->tls_error = c->tls.error;
    c->handshaking = false;
    const struct tls_failed_handshake f = {
        .ssl = c->tls.ssl,
        .settings = &c->tls.context->settings,
        .host = c->host,
        .port = c->tls.peer.port,
        .os_error = c->os_error,
        .ended = c->carrier.ended,
        .answered = c->answered,
    };
    tls_failure_handshake(&f, err);
    watch(c);
    return IO_FAILED;
}

enum io_state connection_handshake(struct connection *c, struct err *err)
{
    ASSERT(c->handshaking);
    enum tls_result r = tls_link_handshake(&c->tls);
    if (r == TLS_WANT_READ || r == TLS_WANT_WRITE) {
        c->handshake_needs = r == TLS_WANT_READ ? EPOLLIN : EPOLLOUT;
        watch(c);
        return IO_WAIT;
    }
    if (r != TLS_DONE)
        return fail_handshake(c, err);
    /* The watched events stay until connection_want, which mostly asks for the same. */
    c->handshaking = false;
    c->is_reused_session = tls_link_is_resumed(&c->tls);
    tls_link_protocol(&c->tls, c->protocol);
    return IO_DONE;
}

static enum io_state state_of(struct connection *c, enum tls_result r)
{
    switch (r) {
    case TLS_DONE:
        return IO_DONE;
    case TLS_WANT_READ:
    case TLS_WANT_WRITE:
        return IO_WAIT;
    case TLS_END:
        return IO_END;
    case TLS_CUT:
        return IO_CUT;
    case TLS_FAILED:
        break;
    }
    c->tls_error = c->tls.error;
    return IO_FAILED;
}

static void set_need(struct connection *c, bool *need, bool value)
{
    if (*need == value)
        return;
    *need = value;
    watch(c);
}

/* ---- Reading and writing. */

enum io_state connection_read(struct connection *c, void *out, size_t size, size_t *len)
{
    ASSERT(c->open && !c->handshaking);
    if (c->tls.ssl) {
        enum tls_result r = tls_link_read(&c->tls, out, size, len);
        set_need(c, &c->read_needs_write, r == TLS_WANT_WRITE);
        return state_of(c, r);
    }
    *len = 0;
    if (c->has_probed) {
        c->has_probed = false;
        *(char *)out = c->probed;
        *len = 1;
        return IO_DONE;
    }
    ssize_t n = c->carrier.read(&c->carrier, out, size);
    if (n == 0)
        return IO_END;
    if (n < 0)
        return errno == EAGAIN ? IO_WAIT : IO_FAILED;
    *len = (size_t)n;
    return IO_DONE;
}

/* Where writing stands in a list of parts. */
struct cursor {
    const struct iovec *parts;
    int count;
    size_t skip; /* of the first part */
};

static void advance(struct cursor *at, size_t len)
{
    at->skip += len;
    while (at->count > 0 && at->skip >= at->parts->iov_len) {
        at->skip -= at->parts->iov_len;
        at->parts++;
        at->count--;
    }
}

/* The next bytes to be sent, at most a record: where they lie if they are in one part, else a copy
 * in `room`. The same bytes make the same record when they are offered again. */
static const char *next_record(const struct cursor *at, char room[static RECORD_MAX], size_t *len)
{
    const char *first = (const char *)at->parts->iov_base + at->skip;
    size_t left = at->parts->iov_len - at->skip;
    *len = MIN(left, (size_t)RECORD_MAX);
    if (at->count == 1 || left >= RECORD_MAX)
        return first;
    memcpy(room, first, left);
    for (int i = 1; i < at->count && *len < RECORD_MAX; i++) {
        size_t n = MIN(at->parts[i].iov_len, RECORD_MAX - *len);
        if (n > 0)
            memcpy(room + *len, at->parts[i].iov_base, n);
        *len += n;
    }
    return room;
}

static enum io_state write_tls(struct connection *c, struct cursor *at, size_t *sent)
{
    char room[RECORD_MAX];
    enum tls_result r = TLS_DONE;
    while (at->count > 0 && r == TLS_DONE) {
        size_t len, taken;
        const char *data = next_record(at, room, &len);
        r = tls_link_write(&c->tls, data, len, &taken);
        *sent += taken;
        advance(at, taken);
    }
    set_need(c, &c->write_needs_read, r == TLS_WANT_READ);
    /* The next call reports what broke. */
    return *sent > 0 ? IO_DONE : state_of(c, r);
}

/* To the TLS library beneath libcurl, too, a record may be half written: it must get the same bytes
 * again, and those at the same place. */
static ssize_t write_via(struct connection *c, const struct cursor *at)
{
    if (c->via_pending == 0) {
        const char *data = next_record(at, c->via_room, &c->via_pending);
        if (data != c->via_room)
            memcpy(c->via_room, data, c->via_pending);
    }
    ssize_t n = via_write(&c->carrier, c->via_room, c->via_pending);
    if (n >= 0)
        c->via_pending = 0;
    return n;
}

static enum io_state write_plain(struct connection *c, struct cursor *at, size_t *sent)
{
    ssize_t n = c->via.easy ? write_via(c, at) : fd_write_parts(c, at->parts, at->count);
    if (n < 0)
        return errno == EAGAIN ? IO_WAIT : IO_FAILED;
    *sent = (size_t)n;
    return IO_DONE;
}

enum io_state connection_write(struct connection *c, const struct iovec *parts, int count,
                               size_t *sent)
{
    ASSERT(c->open && !c->handshaking);
    struct cursor at = {.parts = parts, .count = count};
    *sent = 0;
    advance(&at, 0); /* past empty parts */
    if (at.count == 0)
        return IO_DONE;
    return c->tls.ssl ? write_tls(c, &at, sent) : write_plain(c, &at, sent);
}

void connection_want(struct connection *c, bool read, bool write)
{
    if (!c->open)
        return;
    c->want_read = read;
    c->want_write = write;
    watch(c);
    if (read && connection_has_more(c))
        connection_again(c);
}

bool connection_has_more(const struct connection *c)
{
    if (!c->open || c->handshaking)
        return false;
    return (c->tls.ssl && tls_link_has_more(&c->tls)) || (c->via.easy && !c->via_drained) ||
           c->has_probed;
}

void connection_again(struct connection *c)
{
    if (c->open && c->want_read && !c->handshaking)
        poller_again(&c->watch);
}

static enum io_state probe_fd(struct connection *c)
{
    char byte;
    ssize_t n;
    do
        n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return IO_END;
    if (n > 0)
        return IO_DONE;
    if (errno == EAGAIN)
        return IO_WAIT;
    c->os_error = errno;
    return IO_FAILED;
}

/* libcurl has no way to look without taking. */
static enum io_state probe_via(struct connection *c)
{
    size_t n;
    if (c->has_probed)
        return IO_DONE;
    enum io_state state = connection_read(c, &c->probed, 1, &n);
    c->has_probed = state == IO_DONE;
    return state;
}

enum io_state connection_probe(struct connection *c)
{
    ASSERT(c->open && !c->handshaking);
    if (c->tls.ssl) {
        enum tls_result r = tls_link_peek(&c->tls);
        set_need(c, &c->read_needs_write, r == TLS_WANT_WRITE);
        return state_of(c, r);
    }
    return c->via.easy ? probe_via(c) : probe_fd(c);
}
