#include "engine/http1.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_report.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "engine/http1_request.h"
#include "engine/request_fields.h"
#include "engine/response.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

enum {
    READS_MAX = 4, /* in one turn, so that other connections have theirs */
    UPLOAD_PIECE = 16 * 1024,
    UPLOAD_FRAME = 16,        /* bytes around a piece that is a chunk */
    STREAM_FIRST_READ = 4096, /* the head, and what comes with it */
    EXPECT_MS = 1000,         /* RFC 9110 10.1.1: do not wait for ever */
};

static void on_ready(struct channel *c, bool can_read, bool can_write);
static void on_expect_timer(struct timer *t);

void http1_init(struct http1 *h, struct exchange *x)
{
    h->x = x;
    timer_init(&h->expect_timer, on_expect_timer);
    buf_init(&h->in, x->engine->mem, HEADER_BYTES_MAX + SCRATCH_BYTES);
    buf_init(&h->out, x->engine->mem, 4 * 1024 * 1024);
}

void http1_fini(struct http1 *h)
{
    ASSERT(!h->channel);
    buf_fini(&h->in);
    buf_fini(&h->out);
}

/* Gives the channel back: to its pool, if the message that it carries has ended in order. */
static void leave(struct http1 *h, bool keep)
{
    struct channel *c = h->channel;
    h->channel = NULL;
    h->x->transport = NULL;
    loop_timer_stop(h->x->engine->loop, &h->expect_timer);
    if (h->in.cap > HTTP1_KEPT_BYTES)
        buf_fini(&h->in);
    if (h->out.cap > HTTP1_KEPT_BYTES)
        buf_fini(&h->out);
    buf_clear(&h->in);
    if (keep)
        pool_keep_channel(c);
    else
        pool_close_channel(c);
}

/* Always false, which its callers return. */
static bool end(struct http1 *h, enum hop_end how, const struct err *why)
{
    struct exchange *x = h->x;
    leave(h, false);
    x->engine->upcalls->hop_done(x, how, why);
    return false;
}

/* ---- sending ---- */

static bool is_upload(const struct http1 *h)
{
    return h->x->transfer->spec.upload && exchange_sends_body(h->x);
}

static size_t body_left(const struct http1 *h)
{
    if (is_upload(h) || !exchange_sends_body(h->x) || h->waits_for_100)
        return 0;
    return h->x->transfer->spec.body_len - h->body_sent;
}

/* Takes the next part of an upload into `out`. False: there is none now, or the upload is over. */
static bool take_upload(struct http1 *h)
{
    struct exchange *x = h->x;
    bool chunked = x->transfer->spec.body_len == TRANSFER_LENGTH_UNKNOWN;
    char frame[UPLOAD_FRAME];
    buf_clear(&h->out);
    h->out_sent = 0;
    if (!x->uploading || h->waits_for_100)
        return false;
    /* The size of a chunk stands before it, so room for it is left free. */
    if (buf_reserve(&h->out, UPLOAD_PIECE + 2 * UPLOAD_FRAME) != ERR_NONE) {
        err_set(&x->stop, ERR_MEMORY, "no memory for the request body");
        return false;
    }
    char *piece = h->out.data + UPLOAD_FRAME;
    size_t n = response_take_upload(x, piece, UPLOAD_PIECE);
    if (x->starved)
        return false;
    size_t begins = UPLOAD_FRAME, len = n;
    if (chunked) {
        int digits = snprintf(frame, sizeof frame, "%zx\r\n", n);
        begins -= (size_t)digits;
        memcpy(h->out.data + begins, frame, (size_t)digits);
        memcpy(piece + n, "\r\n", 2); /* after the last chunk, this ends the empty trailers */
        len += (size_t)digits + 2;
    }
    buf_commit(&h->out, begins + len);
    h->out_sent = begins;
    return len > 0;
}

static void note_sent(struct http1 *h)
{
    struct exchange *x = h->x;
    h->is_sent = true;
    x->uploading = false;
    x->sent_ns = x->activity_ns;
    exchange_rearm(x);
    connection_want(&h->channel->conn, !x->paused, false);
}

/* The head first, then the body from where the caller has it. */
static enum io_state write_some(struct http1 *h)
{
    struct exchange *x = h->x;
    struct iovec parts[2];
    int count = 0;
    size_t out_left = h->out.len - h->out_sent, body = body_left(h), sent = 0;
    if (out_left)
        parts[count++] = (struct iovec){h->out.data + h->out_sent, out_left};
    if (body) {
        char *from = (char *)(uintptr_t)(x->transfer->spec.body + h->body_sent);
        parts[count++] = (struct iovec){from, body};
    }
    enum io_state state = connection_write(&h->channel->conn, parts, count, &sent);
    if (state != IO_DONE)
        return state;
    size_t of_out = MIN(sent, out_left);
    h->out_sent += of_out;
    h->body_sent += sent - of_out;
    x->activity_ns = loop_now_ns(x->engine->loop);
    return IO_DONE;
}

/* The peer takes no more. What it has answered is still to be read: a 413, for example. */
static bool cannot_write(struct http1 *h)
{
    bool untouched = h->channel->conn.bytes_out == h->first_byte_out;
    if (untouched && h->channel->uses > 1)
        return end(h, HOP_UNSENT, NULL);
    h->cannot_write = true;
    h->x->uploading = false;
    connection_want(&h->channel->conn, !h->x->paused, false);
    connection_again(&h->channel->conn); /* not here: the reader may be what sends */
    return true;
}

/* False: that has ended the hop. */
static bool send_more(struct http1 *h)
{
    struct exchange *x = h->x;
    while (!h->is_sent && !h->cannot_write) {
        bool has_more = h->out_sent < h->out.len || body_left(h) > 0;
        if (!has_more && is_upload(h))
            has_more = take_upload(h);
        if (x->stop.kind != ERR_NONE)
            return end(h, HOP_STOPPED, NULL);
        if (!has_more) {
            if (!x->starved && !h->waits_for_100)
                note_sent(h);
            else
                connection_want(&h->channel->conn, !x->paused, false);
            return true;
        }
        enum io_state state = write_some(h);
        if (state == IO_WAIT) {
            connection_want(&h->channel->conn, !x->paused, true);
            return true;
        }
        if (state != IO_DONE)
            return cannot_write(h);
    }
    return true;
}

static void on_expect_timer(struct timer *t)
{
    struct http1 *h = CONTAINER_OF(t, struct http1, expect_timer);
    struct engine *e = h->x->engine;
    h->waits_for_100 = false;
    if (!send_more(h))
        e->upcalls->pump(e);
}

/* ---- reading ---- */

static bool stopped(struct http1 *h)
{
    return end(h, HOP_STOPPED, NULL);
}

/* A server that closes a kept connection may say so by a 408 that crosses our request. */
static bool is_farewell(const struct http1 *h, const struct http1_head *head)
{
    return head->status == 408 && h->channel->uses > 1 && !head->keep_alive;
}

static bool on_head(struct http1 *h, const struct http1_head *head)
{
    struct exchange *x = h->x;
    if (head->informational) {
        if (head->status == 100 && h->waits_for_100) {
            h->waits_for_100 = false;
            loop_timer_stop(x->engine->loop, &h->expect_timer);
            return send_more(h);
        }
        return true;
    }
    if (is_farewell(h, head) && exchange_may_resend(x))
        return end(h, HOP_LOST, NULL);
    h->keep_alive = head->keep_alive;
    if (!response_take_head(x, head))
        return stopped(h);
    return true;
}

/* Puts what cannot be used now to the front of `in`. `rest` may lie in `in`. */
static bool keep(struct http1 *h, const char *rest, size_t len)
{
    struct buf *in = &h->in;
    if (in->data && rest >= in->data && rest <= in->data + in->len) {
        memmove(in->data, rest, len);
        in->len = len;
        return true;
    }
    buf_clear(in);
    if (buf_append(in, rest, len) == ERR_NONE)
        return true;
    err_set(&h->x->stop, ERR_MEMORY, "no memory for the response");
    return stopped(h);
}

/* The response is complete; `left` bytes follow it. */
static bool complete(struct http1 *h, size_t left)
{
    struct exchange *x = h->x;
    leave(h, h->keep_alive && h->is_sent && left == 0 && !x->close_after);
    x->engine->upcalls->hop_done(x, HOP_DONE, NULL);
    return false;
}

/* Uses what has been read, as far as the reader has room. False: that has ended the hop. */
static bool use(struct http1 *h, const char *data, size_t len)
{
    struct exchange *x = h->x;
    struct http1_event *ev = &x->engine->http1_event;
    struct err err;
    for (;;) {
        switch (http1_parse_next(&h->parser, &data, &len, ev, &err)) {
        case HTTP1_HEAD:
            if (!on_head(h, &ev->head))
                return false;
            break;
        case HTTP1_BODY:
            switch (response_take_body(x, ev->data, ev->len)) {
            case RESPONSE_TAKEN:
                break;
            case RESPONSE_FULL:
                h->piece = ev->len;
                return keep(h, ev->data, ev->len + len);
            case RESPONSE_STOPPED:
                return stopped(h);
            }
            break;
        case HTTP1_TRAILERS:
            if (!response_take_trailers(x, &ev->head))
                return stopped(h);
            break;
        case HTTP1_MORE:
            return keep(h, data, len);
        case HTTP1_DONE:
            return complete(h, len);
        case HTTP1_FAILED:
            return end(h, HOP_FAILED, &err);
        }
    }
}

/* New bytes, which lie in the engine's scratch buffer. */
static bool take(struct http1 *h, const char *data, size_t len)
{
    struct exchange *x = h->x;
    response_note_bytes(x, len);
    if (h->in.len == 0)
        return use(h, data, len);
    if (buf_append(&h->in, data, len) != ERR_NONE) {
        err_set(&x->stop, ERR_MEMORY, "no memory for the response");
        return stopped(h);
    }
    return use(h, h->in.data, h->in.len);
}

/* Nothing more will come. */
static bool ended(struct http1 *h, enum io_state how)
{
    struct exchange *x = h->x;
    struct err err;
    if (how == IO_END && http1_parse_end(&h->parser, &err) == HTTP1_DONE) {
        h->keep_alive = false;
        return complete(h, 0);
    }
    if (x->bytes_in == 0)
        return end(h, HOP_LOST, NULL);
    return end(h, how == IO_FAILED ? HOP_RESET : HOP_CUT, NULL);
}

/* How much to read at once. A stream is read only as far as its reader has room, so that nothing
 * has to be kept here; 0: it has none. */
static size_t read_size(const struct exchange *x)
{
    if (!x->transfer->spec.stream || x->discards)
        return SCRATCH_BYTES;
    if (!x->head_done)
        return STREAM_FIRST_READ;
    return MIN(response_stream_room(x), (size_t)SCRATCH_BYTES);
}

/* False: that has ended the hop. */
static bool read_some(struct http1 *h)
{
    struct exchange *x = h->x;
    struct connection *conn = &h->channel->conn;
    char *scratch = x->engine->scratch;
    for (int i = 0; i < READS_MAX && !x->paused; i++) {
        size_t n = 0, size = read_size(x);
        if (size == 0) {
            x->paused = true;
            break;
        }
        enum io_state state = connection_read(conn, scratch, size, &n);
        /* If the peer takes no more, its answer is there already: nothing else will come. */
        if (state == IO_WAIT && h->cannot_write)
            return ended(h, IO_FAILED);
        if (state == IO_WAIT)
            return true;
        if (state != IO_DONE)
            return ended(h, state);
        if (!take(h, scratch, n))
            return false;
        if (n < size && !connection_has_more(conn) && !h->cannot_write)
            break;
    }
    if (x->paused)
        connection_want(conn, false, !h->is_sent && !x->starved && !h->cannot_write);
    else if (connection_has_more(conn) || h->cannot_write)
        connection_again(conn);
    return true;
}

static void on_ready(struct channel *c, bool can_read, bool can_write)
{
    struct http1 *h = c->user;
    struct engine *e = h->x->engine;
    bool goes_on = true;
    if (can_write && !h->is_sent && !h->cannot_write)
        goes_on = send_more(h);
    if (goes_on && can_read && !h->x->paused)
        goes_on = read_some(h);
    if (!goes_on)
        e->upcalls->pump(e);
}

/* ---- the exchange's side ---- */

bool http1_start(struct http1 *h, struct channel *c)
{
    struct exchange *x = h->x;
    struct engine *e = x->engine;
    h->channel = c;
    c->on_ready = on_ready;
    c->user = h;
    c->uses++;
    x->transport = &http1_transport;
    http1_parse_init(&h->parser, HTTP1_RESPONSE, NULL);
    h->parser.to_head = strcmp(x->method, "HEAD") == 0;
    buf_clear(&h->in);
    buf_clear(&h->out);
    h->out_sent = h->body_sent = h->piece = 0;
    h->is_sent = h->cannot_write = h->keep_alive = false;
    h->waits_for_100 = exchange_sends_body(x) && request_expects(x);
    h->first_byte_out = c->conn.bytes_out;
    if (http1_write_head(x, &h->out) != ERR_NONE) {
        err_set(&x->stop, ERR_MEMORY, "the request headers do not fit into memory");
        return stopped(h);
    }
    e->stats.bytes_out += h->out.len;
    exchange_sending(x);
    if (h->waits_for_100)
        loop_timer_start(e->loop, &h->expect_timer, x->sent_ns + EXPECT_MS * NS_PER_MS);
    connection_want(&c->conn, true, false);
    return send_more(h);
}

/* What was read while the reader was full comes first. */
static bool use_kept(struct http1 *h)
{
    struct exchange *x = h->x;
    size_t piece = h->piece;
    if (piece > 0) {
        switch (response_take_body(x, h->in.data, piece)) {
        case RESPONSE_TAKEN:
            break;
        case RESPONSE_FULL:
            return true;
        case RESPONSE_STOPPED:
            return stopped(h);
        }
        h->piece = 0;
    }
    if (h->in.len > 0 && !use(h, h->in.data + piece, h->in.len - piece))
        return false;
    return true;
}

static bool go_on(struct exchange *x)
{
    struct http1 *h = &x->http1;
    struct connection *conn = &h->channel->conn;
    if (!x->starved && !send_more(h))
        return false;
    if (x->paused)
        return true;
    if (!use_kept(h))
        return false;
    if (x->paused)
        return true;
    connection_want(conn, true, !h->is_sent && !x->starved && !h->cannot_write);
    if (connection_has_more(conn) || h->cannot_write)
        connection_again(conn);
    return true;
}

static void leave_hop(struct exchange *x)
{
    leave(&x->http1, false);
}

const struct transport http1_transport = {.go_on = go_on, .leave = leave_hop};
