/* Fuzzes the client of HTTP/2 with frames of a hostile server (see run.sh). What must hold for any
 * bytes: each request ends once, the functions of its stream are called in order, a full reader
 * keeps no more than a window, memory has a bound, and nothing is left. The connection beneath is a
 * fake one; the first bytes choose how it cuts the input, how the requests behave, and which
 * allocation fails. */
#include "engine/http2.h"
#include "chunking.h"
#include "engine/http2_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_BYTE = CHUNKING_BYTES, MEMORY_BYTE, FIRST_BYTE, REQUESTS = 4 };
enum {
    MODE_FULL = 1,
    MODE_BLOCKED = 2, /* every other write has to wait */
    MODE_CANCEL_FIELD = 4,
    MODE_STOP_BODY = 8,
    MODE_CLOSE_BODY = 16,
    MODE_CANCEL_LATE = 32,
    MODE_RESTART = 64,
};

struct request {
    struct http2_stream s;
    struct world *world;
    int nth, ends;
    bool started, cancelled, has_status, has_head, has_body;
};

struct world {
    struct mem mem;
    struct loop loop;
    struct connection connection;
    struct http2 *h;
    struct request requests[2 * REQUESTS];
    struct chunking input;
    const char *piece;
    size_t piece_len;
    uint8_t mode;
    bool ended, blocked, over, full;
};

/* ---- the connection and the clock */

static struct world *world_of(const struct connection *c)
{
    return CONTAINER_OF(c, struct world, connection);
}

enum io_state connection_read(struct connection *c, void *out, size_t size, size_t *len)
{
    struct world *w = world_of(c);
    while (w->piece_len == 0) {
        if (!chunking_next(&w->input, &w->piece, &w->piece_len)) {
            w->ended = true;
            return IO_END;
        }
        if (w->piece_len == 0)
            return IO_WAIT;
    }
    *len = MIN(size, w->piece_len);
    memcpy(out, w->piece, *len);
    w->piece += *len;
    w->piece_len -= *len;
    return IO_DONE;
}

enum io_state connection_write(struct connection *c, const struct iovec *parts, int count,
                               size_t *sent)
{
    struct world *w = world_of(c);
    ASSERT(count == 1 && parts->iov_len > 0 && parts->iov_len <= HTTP2_RECORD);
    w->blocked = (w->mode & MODE_BLOCKED) && !w->blocked;
    if (w->blocked)
        return IO_WAIT;
    *sent = parts->iov_len > 100 ? parts->iov_len / 2 : parts->iov_len;
    return IO_DONE;
}

void connection_want(struct connection *c, bool read, bool write)
{
    UNUSED(c), UNUSED(read), UNUSED(write);
}

bool connection_has_more(const struct connection *c)
{
    return world_of(c)->piece_len > 0;
}

void connection_again(struct connection *c)
{
    UNUSED(c);
}

uint64_t loop_now_ns(const struct loop *l)
{
    UNUSED(l);
    return 1;
}

/* ---- the requests */

static struct request *request_of(struct http2_stream *s)
{
    struct request *r = CONTAINER_OF(s, struct request, s);
    ASSERT(r->started && !r->cancelled && r->ends == 0);
    return r;
}

static void on_status(struct http2_stream *s, int status)
{
    struct request *r = request_of(s);
    ASSERT(status >= 100 && status <= 999 && status != 101 && !r->has_head);
    r->has_status = r->has_status || status >= 200;
}

static bool on_field(struct http2_stream *s, const char *name, size_t name_len, const char *value,
                     size_t value_len, bool is_trailer)
{
    struct request *r = request_of(s);
    ASSERT(r->has_status && is_trailer == r->has_head);
    ASSERT(name_len > 0 && name[0] != ':' && strlen(name) == name_len);
    ASSERT(headers_valid_name(name, name_len) && headers_valid_value(value, value_len));
    if ((r->world->mode & MODE_CANCEL_FIELD) && r->nth == 1) {
        r->cancelled = true;
        http2_stream_cancel(s);
    }
    return true;
}

static bool on_head_end(struct http2_stream *s)
{
    struct request *r = request_of(s);
    ASSERT(r->has_status && !r->has_head);
    r->has_head = true;
    return true;
}

static void close_session(struct world *w)
{
    struct http2 *h = w->h;
    w->h = NULL;
    http2_close(h);
}

static enum http2_took on_body(struct http2_stream *s, const char *data, size_t len)
{
    struct request *r = request_of(s);
    struct world *w = r->world;
    ASSERT(r->has_head && len > 0 && len <= 16384);
    volatile char last = data[len - 1];
    UNUSED(last);
    r->has_body = true;
    if (w->full && r->nth == 0)
        return HTTP2_FULL;
    if ((w->mode & MODE_CLOSE_BODY) && r->nth == 2 && w->h)
        close_session(w);
    return (w->mode & MODE_STOP_BODY) && r->nth == 1 ? HTTP2_STOP : HTTP2_TOOK;
}

static size_t on_upload(struct http2_stream *s, char *out, size_t cap, bool *ended)
{
    struct request *r = request_of(s);
    ASSERT(!*ended);
    memset(out, 'u', MIN(cap, (size_t)10));
    *ended = r->nth % 2 == 1;
    return r->nth % 2 ? MIN(cap, (size_t)10) : 0;
}

static void on_sent(struct http2_stream *s)
{
    request_of(s);
}

static void start(struct world *w, struct request *r);

static void on_end(struct http2_stream *s, enum http2_end how, uint32_t code)
{
    struct request *r = request_of(s);
    struct world *w = r->world;
    UNUSED(code);
    ASSERT(how != HTTP2_COMPLETE || r->has_head);
    ASSERT(how != HTTP2_REFUSED || !r->has_status);
    r->ends++;
    if ((w->mode & MODE_RESTART) && r->nth < REQUESTS && w->h)
        start(w, &w->requests[REQUESTS + r->nth]);
}

static const struct http2_stream_ops ops = {
    .status = on_status,
    .field = on_field,
    .head_end = on_head_end,
    .body = on_body,
    .upload = on_upload,
    .sent = on_sent,
    .end = on_end,
};

static void start(struct world *w, struct request *r)
{
    const struct http2_request request = {
        .method = r->nth % 4 == 1 ? "HEAD" : "GET",
        .scheme = "https",
        .authority = "a",
        .path = "/",
        .uploads = r->nth % 4 >= 2,
        .length = -1,
    };
    r->started = true;
    r->started = http2_start(w->h, &r->s, &ops, &request, NULL) == ERR_NONE;
}

static void on_over(struct http2 *h, void *owner)
{
    struct world *w = owner;
    ASSERT(!w->over && http2_why(h)->kind != ERR_NONE);
    w->over = true;
    close_session(w);
}

/* ---- a run */

static void check(const struct world *w)
{
    ASSERT(w->mem.used_bytes < 1 << 20);
    for (int i = 0; i < 2 * REQUESTS; i++)
        ASSERT(w->requests[i].s.kept.len <= HTTP2_STREAM_MOST);
}

static void run(struct world *w)
{
    for (int i = 0; i < REQUESTS; i++)
        start(w, &w->requests[i]);
    http2_flush(w->h);
    for (int turn = 0; w->h && !w->ended; turn++) {
        http2_ready(w->h, true, true);
        check(w);
        if (turn == 3 && (w->mode & MODE_CANCEL_LATE) && w->requests[3].started) {
            w->requests[3].cancelled = w->requests[3].ends == 0;
            http2_stream_cancel(&w->requests[3].s);
        }
        if (turn == 2 && w->h)
            http2_on_silence(w->h);
    }
    if (w->h)
        close_session(w);
    w->full = false;
    http2_stream_go_on(&w->requests[0].s);
    for (int i = 0; i < 2 * REQUESTS; i++) {
        const struct request *r = &w->requests[i];
        ASSERT(r->ends == (r->started && !r->cancelled));
        ASSERT(!http2_stream_active(&r->s));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http2_ops session_ops = {.over = on_over};
    if (size < FIRST_BYTE)
        return 0;
    struct world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    mem_init(&w->mem, 0);
    w->mode = data[MODE_BYTE];
    w->full = w->mode & MODE_FULL;
    w->input = chunking_of(data, data + FIRST_BYTE, size - FIRST_BYTE);
    for (int i = 0; i < 2 * REQUESTS; i++) {
        w->requests[i].world = w;
        w->requests[i].nth = i;
    }
    w->mem.fail_in = data[MEMORY_BYTE] == 0 ? -1 : data[MEMORY_BYTE];
    if (http2_open(&w->h, &w->connection, &w->loop, &w->mem, &session_ops, w, NULL) == ERR_NONE)
        run(w);
    ASSERT(w->mem.blocks == 0 && w->mem.used_bytes == 0);
    free(w->input.piece);
    free(w);
    return 0;
}

#define FUZZ_BYTES                                                                                 \
    "\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x10\x20\x40\x7f\x80\xff\x88\x89\xbe" \
    "\x82\x84\x3f"
#include "standalone.h"
