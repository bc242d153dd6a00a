#include "h2d.h"

enum { MAX_BODY = 4 << 20 }; /* of a request, kept for /echo */

static char *copy(const void *data, size_t len)
{
    char *text = xmalloc(len + 1);
    memcpy(text, data, len);
    return text;
}

/* ---- streams */

static struct stream *stream_of(nghttp2_session *ng, int32_t id)
{
    return id ? nghttp2_session_get_stream_user_data(ng, id) : NULL;
}

static void stream_free(struct stream *s)
{
    struct session *c = s->session;
    if (s->prev)
        s->prev->next = s->next;
    else
        c->streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    c->open--;
    h2_stats()->streams_open--;
    stream_timer_clear(s);
    for (size_t i = 0; i < s->req.header_count; i++) {
        free((void *)s->req.headers[i].name);
        free((void *)s->req.headers[i].value);
    }
    free((void *)s->req.method);
    request_free(&s->req);
    bytes_free(&s->out);
    EVP_MD_CTX_free(s->sha);
    free(s);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct session *c = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct stream *s = xmalloc(sizeof *s);
    s->session = c;
    s->id = frame->hd.stream_id;
    s->rounds = 1;
    s->req.path = s->req.query = s->req.version = "";
    s->next = c->streams;
    if (s->next)
        s->next->prev = s;
    c->streams = s;
    h2_stats()->streams_open++;
    if (++c->open > h2_stats()->peak_streams)
        h2_stats()->peak_streams = c->open;
    nghttp2_session_set_stream_user_data(ng, s->id, s);
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags;
    (void)user;
    struct stream *s = stream_of(ng, frame->hd.stream_id);
    if (!s || s->routed)
        return 0;
    struct request *req = &s->req;
    if (name_len == 7 && memcmp(name, ":method", 7) == 0) {
        req->method = copy(value, value_len);
    } else if (name_len == 5 && memcmp(name, ":path", 5) == 0) {
        req->path = req->head = copy(value, value_len);
        char *query = strchr(req->head, '?');
        req->query = query ? query + 1 : "";
        if (query)
            *query = 0;
    } else if (req->header_count < MAX_REQUEST_HEADERS) {
        req->headers[req->header_count].name = copy(name, name_len);
        req->headers[req->header_count++].value = copy(value, value_len);
    }
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    (void)user;
    struct stream *s = stream_of(ng, frame->hd.stream_id);
    if (!s || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !s->routed) {
        s->routed = true;
        s->ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        route_head(s);
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        s->ended = true;
        route_end(s);
    }
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *user)
{
    (void)flags;
    (void)user;
    struct stream *s = stream_of(ng, id);
    if (s)
        s->body_len += len;
    if (s && s->on_body)
        s->on_body(s, data, len);
    else if (s && s->req.body.len < MAX_BODY)
        bytes_add(&s->req.body, data, len);
    /* A slow reader gives the connection's window back at once, its stream's in its own time. */
    if (s && s->rate) {
        s->unread += len;
        nghttp2_session_consume_connection(ng, len);
    } else {
        nghttp2_session_consume(ng, id, len);
    }
    return 0;
}

static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct session *c = user;
    struct stream *s = stream_of(ng, frame->hd.stream_id);
    if (!s || (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS))
        return 0;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (end && s->id > c->answered)
        c->answered = s->id;
    if (end && s->reset_at_end && !s->ended)
        nghttp2_submit_rst_stream(ng, 0, s->id, s->reset_code);
    return 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    (void)code;
    (void)user;
    struct stream *s = stream_of(ng, id);
    if (s)
        stream_free(s);
    return 0;
}

/* ---- sessions */

void session_start(struct session *c, bool one_stream)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        exit(2);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_send_header_block_length(option, 64u << 20);
    /* Clients that cancel a lot are what this server is for: no GOAWAY after 1,000 resets. */
    nghttp2_option_set_stream_reset_rate_limit(option, 1u << 30, 1u << 30);
    nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                       one_stream ? 1 : 128};
    if (nghttp2_session_server_new2(&c->ng, callbacks, c, option) != 0 ||
        nghttp2_submit_settings(c->ng, 0, &settings, 1) != 0)
        exit(2);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
}

void session_fini(struct session *c)
{
    while (c->streams)
        stream_free(c->streams);
    stream_timer_clear(&c->idle);
    nghttp2_session_del(c->ng);
    c->ng = NULL;
    bytes_free(&c->in);
    bytes_free(&c->out);
}

/* The length of the preface or frame at `p`; 0: not all there yet. */
static size_t frame_length(const struct session *c, const char *p, size_t len)
{
    if (!c->preface) {
        /* What is no preface goes to nghttp2 as it is, which then complains. */
        size_t same = len < NGHTTP2_CLIENT_MAGIC_LEN ? len : NGHTTP2_CLIENT_MAGIC_LEN;
        if (memcmp(p, NGHTTP2_CLIENT_MAGIC, same) != 0)
            return len;
        return len < NGHTTP2_CLIENT_MAGIC_LEN ? 0 : NGHTTP2_CLIENT_MAGIC_LEN;
    }
    const unsigned char *u = (const unsigned char *)p;
    size_t whole = len < 9 ? 0 : 9 + ((size_t)u[0] << 16 | (size_t)u[1] << 8 | u[2]);
    return whole > 9 + 16384 ? len : whole > len ? 0 : whole;
}

/* Frame by frame, so that an answer may leave between a request's head and a body that came along
 * with it. */
bool session_read(struct session *c, void (*flush)(struct session *c))
{
    size_t at = 0, n;
    bool good = true;
    while (good && at < c->in.len && (n = frame_length(c, c->in.data + at, c->in.len - at)) > 0) {
        ssize_t taken = nghttp2_session_mem_recv(c->ng, (uint8_t *)c->in.data + at, n);
        c->preface = true;
        at += n;
        good = taken >= 0;
        if (c->flush && good)
            flush(c);
        c->flush = false;
        if (c->end >= END_AFTER_FLUSH)
            break;
    }
    memmove(c->in.data, c->in.data + at, c->in.len - at);
    c->in.len -= at;
    return good;
}
