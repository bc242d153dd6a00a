/* The server of the tests of HTTP/2: a server session of nghttp2 on the other end of an h2rig, in
 * the same thread. What it answers is in the path:
 *
 *     /N          200 with a body of N bytes; HEAD: its head
 *     /len        200; x-len is the length of the request's body
 *     /hold       nothing, until h2server_answer
 *     /status/N   that status without a body
 *     /interim    103 twice, then 200 with 10 bytes
 *     /trailer    200 with 10 bytes and a trailer
 *     /early      200 with 10 bytes as soon as the head is there, and RST_STREAM NO_ERROR
 *     /refuse     RST_STREAM REFUSED_STREAM as soon as the head is there
 *     /reset/N    200, 10 bytes, then RST_STREAM with the code N
 *     /short      a Content-Length of 20 and 10 bytes */
#pragma once

#include "h2rig.h"
#include <nghttp2/nghttp2.h>

enum { SERVER_STREAMS = 4096 };

struct h2stream {
    int id;
    char method[16], path[64];
    char headers[1024];
    size_t got;  /* of the request's body */
    size_t left; /* of the response's */
    size_t sent;
    bool trailer, open, ended;
    int reset_after; /* code of the RST_STREAM after the body; -1: none */
};

struct h2server {
    nghttp2_session *ng;
    struct h2rig *rig;
    struct h2stream *streams; /* by id / 2 */
    int count, resets;        /* of requests; of RST_STREAM frames that came */
    uint32_t last_reset_code;
    int pings, goaways, window_updates, data_frames;
    uint64_t window_given;
    bool closed;
    bool stalled;      /* reads nothing */
    bool keeps_window; /* sends no window updates by itself */
    int most_frames;   /* that are sent in one turn; 0: no limit */
};

static struct h2stream *h2server_stream(struct h2server *sv, int id)
{
    ASSERT(id > 0 && id / 2 < SERVER_STREAMS);
    return &sv->streams[id / 2];
}

static ssize_t h2server_read(nghttp2_session *ng, int32_t id, uint8_t *out, size_t cap,
                             uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2server *sv = arg;
    struct h2stream *st = h2server_stream(sv, id);
    (void)source;
    size_t n = MIN(MIN(cap, st->left), (size_t)8000);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)('a' + (st->sent + i) % 23);
    st->left -= n;
    st->sent += n;
    if (st->left > 0)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (st->trailer || st->reset_after >= 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (st->trailer) {
        nghttp2_nv nv = {(uint8_t *)"x-sum", (uint8_t *)"42", 5, 2, 0};
        nghttp2_submit_trailer(ng, id, &nv, 1);
    }
    return (ssize_t)n;
}

/* `name`: of one more header; NULL: none. */
static void h2server_respond(struct h2server *sv, struct h2stream *st, const char *status,
                             size_t body, const char *name, const char *value)
{
    nghttp2_nv nv[] = {
        {(uint8_t *)":status", (uint8_t *)status, 7, strlen(status), 0},
        {(uint8_t *)"server", (uint8_t *)"tests", 6, 5, 0},
        {(uint8_t *)name, (uint8_t *)value, name ? strlen(name) : 0, name ? strlen(value) : 0, 0},
    };
    bool none = body == 0 || strcmp(st->method, "HEAD") == 0;
    st->left = body;
    nghttp2_data_provider p = {.read_callback = h2server_read};
    nghttp2_submit_response(sv->ng, st->id, nv, name ? 3 : 2, none ? NULL : &p);
}

__attribute__((unused)) static void h2server_answer(struct h2server *sv, int nth, size_t body)
{
    h2server_respond(sv, &sv->streams[nth], "200", body, NULL, NULL);
}

static void h2server_interim(struct h2server *sv, int id)
{
    nghttp2_nv nv[] = {{(uint8_t *)":status", (uint8_t *)"103", 7, 3, 0},
                       {(uint8_t *)"link", (uint8_t *)"</x>", 4, 4, 0}};
    nghttp2_submit_headers(sv->ng, NGHTTP2_FLAG_NONE, id, NULL, nv, 2, NULL);
}

static void h2server_on_head(struct h2server *sv, struct h2stream *st)
{
    if (strcmp(st->path, "/early") == 0) {
        st->reset_after = -1;
        h2server_respond(sv, st, "200", 10, NULL, NULL);
    }
    if (strcmp(st->path, "/refuse") == 0)
        nghttp2_submit_rst_stream(sv->ng, 0, st->id, NGHTTP2_REFUSED_STREAM);
}

static void h2server_on_end(struct h2server *sv, struct h2stream *st)
{
    const char *p = st->path;
    char text[32];
    if (strcmp(p, "/len") == 0) {
        snprintf(text, sizeof text, "%zu", st->got);
        h2server_respond(sv, st, "200", 0, "x-len", text);
    } else if (strncmp(p, "/status/", 8) == 0) {
        h2server_respond(sv, st, p + 8, 0, NULL, NULL);
    } else if (strcmp(p, "/interim") == 0) {
        h2server_interim(sv, st->id);
        h2server_interim(sv, st->id);
        h2server_respond(sv, st, "200", 10, NULL, NULL);
    } else if (strcmp(p, "/trailer") == 0) {
        st->trailer = true;
        h2server_respond(sv, st, "200", 10, NULL, NULL);
    } else if (strncmp(p, "/reset/", 7) == 0) {
        st->reset_after = (int)strtol(p + 7, NULL, 10);
        h2server_respond(sv, st, "200", 10, NULL, NULL);
    } else if (strcmp(p, "/short") == 0) {
        h2server_respond(sv, st, "200", 10, "content-length", "20");
    } else if (p[1] >= '0' && p[1] <= '9') {
        size_t n = strtoul(p + 1, NULL, 10);
        snprintf(text, sizeof text, "%zu", n);
        h2server_respond(sv, st, "200", n, "content-length", text);
    }
}

/* ---- nghttp2's functions */

static int h2server_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name,
                           size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                           void *arg)
{
    struct h2stream *st = h2server_stream(arg, f->hd.stream_id);
    (void)ng, (void)name_len, (void)value_len, (void)flags;
    const char *n = (const char *)name, *v = (const char *)value;
    st->id = f->hd.stream_id;
    if (strcmp(n, ":method") == 0)
        snprintf(st->method, sizeof st->method, "%s", v);
    else if (strcmp(n, ":path") == 0)
        snprintf(st->path, sizeof st->path, "%s", v);
    size_t len = strlen(st->headers);
    snprintf(st->headers + len, sizeof st->headers - len, "%s=%.40s;", n, v);
    return 0;
}

static int h2server_frame(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct h2server *sv = arg;
    (void)ng;
    uint8_t type = f->hd.type;
    if (type == NGHTTP2_RST_STREAM) {
        sv->resets++;
        sv->last_reset_code = f->rst_stream.error_code;
    }
    sv->pings += type == NGHTTP2_PING && !(f->hd.flags & NGHTTP2_FLAG_ACK);
    sv->goaways += type == NGHTTP2_GOAWAY;
    sv->data_frames += type == NGHTTP2_DATA;
    if (type == NGHTTP2_WINDOW_UPDATE) {
        sv->window_updates++;
        if (f->hd.stream_id == 0)
            sv->window_given += (uint64_t)f->window_update.window_size_increment;
    }
    if (type != NGHTTP2_DATA && type != NGHTTP2_HEADERS)
        return 0;
    struct h2stream *st = h2server_stream(sv, f->hd.stream_id);
    if (type == NGHTTP2_HEADERS && !st->open) {
        st->open = true;
        st->reset_after = -1;
        sv->count++;
        h2server_on_head(sv, st);
    }
    if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) && !st->ended) {
        st->ended = true;
        h2server_on_end(sv, st);
    }
    return 0;
}

static int h2server_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    struct h2server *sv = arg;
    (void)flags, (void)data;
    h2server_stream(sv, id)->got += len;
    if (!sv->keeps_window)
        nghttp2_session_consume(ng, id, len);
    return 0;
}

static int h2server_sent(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct h2server *sv = arg;
    if (f->hd.type != NGHTTP2_DATA)
        return 0;
    struct h2stream *st = h2server_stream(sv, f->hd.stream_id);
    if (st->left == 0 && st->reset_after >= 0)
        nghttp2_submit_rst_stream(ng, 0, st->id, (uint32_t)st->reset_after);
    else if (st->left == 0 && strcmp(st->path, "/early") == 0)
        nghttp2_submit_rst_stream(ng, 0, st->id, NGHTTP2_NO_ERROR);
    return 0;
}

/* ---- its life */

__attribute__((unused)) static void h2server_begin(struct h2server *sv, struct h2rig *r,
                                                   const nghttp2_settings_entry *settings,
                                                   size_t count)
{
    memset(sv, 0, sizeof *sv);
    sv->rig = r;
    sv->streams = calloc(SERVER_STREAMS, sizeof *sv->streams);
    nghttp2_session_callbacks *c;
    nghttp2_session_callbacks_new(&c);
    nghttp2_session_callbacks_set_on_header_callback(c, h2server_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, h2server_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, h2server_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, h2server_sent);
    nghttp2_option *o;
    nghttp2_option_new(&o);
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_session_server_new2(&sv->ng, c, sv, o);
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(c);
    nghttp2_submit_settings(sv->ng, NGHTTP2_FLAG_NONE, settings, count);
    nghttp2_session_set_local_window_size(sv->ng, 0, 0, 1 << 24);
}

__attribute__((unused)) static void h2server_end(struct h2server *sv)
{
    nghttp2_session_del(sv->ng);
    free(sv->streams);
}

static void h2server_take(struct h2server *sv)
{
    static uint8_t in[65536];
    for (;;) {
        ssize_t n = recv(sv->rig->fd, in, sizeof in, 0);
        if (n <= 0)
            return;
        if (nghttp2_session_mem_recv(sv->ng, in, (size_t)n) < 0)
            sv->closed = true;
    }
}

static void h2server_put(const struct h2server *sv, const uint8_t *data, size_t len)
{
    for (int tries = 0; len > 0 && tries < 1000; tries++) {
        ssize_t n = send(sv->rig->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return;
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        if (len > 0)
            loop_turn(&sv->rig->loop, false);
    }
}

/* A turn of the server's. */
__attribute__((unused)) static bool h2server_turn(struct h2server *sv)
{
    const uint8_t *data;
    ssize_t n;
    bool moved = false;
    if (!sv->stalled)
        h2server_take(sv);
    for (int i = 0; (sv->most_frames == 0 || i < sv->most_frames) &&
                    (n = nghttp2_session_mem_send(sv->ng, &data)) > 0;
         i++) {
        h2server_put(sv, data, (size_t)n);
        moved = true;
    }
    return moved;
}

/* Both sides take turns until neither has anything to say. */
__attribute__((unused)) static void h2server_settle(struct h2server *sv)
{
    for (int quiet = 0; quiet < 3;) {
        uint64_t before = sv->rig->connection.bytes_in + sv->rig->connection.bytes_out;
        h2rig_turn(sv->rig);
        bool moved = h2server_turn(sv);
        uint64_t after = sv->rig->connection.bytes_in + sv->rig->connection.bytes_out;
        quiet = moved || after != before || (sv->rig->asked && sv->rig->h) ? 0 : quiet + 1;
    }
}
