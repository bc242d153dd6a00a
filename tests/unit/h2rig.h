/* What the tests of HTTP/2 stand on: a session of ours on one end of a socket pair, and on the
 * other end either a server session of nghttp2 (h2server.h) or a test that writes frames byte by
 * byte. At the end it proves that nothing is left. */
#pragma once

#include "engine/http2.h"
#include "test.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* A request of a test, and what came of it. */
struct client {
    int status, interims, heads, sents, ends;
    struct http2_stream s;
    struct h2rig *rig;
    enum http2_end how;
    uint32_t code;
    char fields[512]; /* "name=value;" each; trailers as "+name=value;" */
    int field_count;
    size_t got, offered; /* bytes that it took; that it was offered and had no room for */
    unsigned long sum;   /* of all bytes by their places */
    size_t upload_left, upload_ready;
    bool full;       /* takes nothing */
    bool full_again; /* takes one piece, then nothing */
    bool frees;      /* it lies on the heap, and is freed where it is cancelled or ends */
    bool stop_field, stop_head, stop_body; /* answers so */
    bool cancel_status, cancel_field, cancel_head, cancel_body, cancel_upload, cancel_sent;
    bool close_in_status, close_in_field, close_in_body, close_in_end, close_in_upload;
    struct client *next;    /* cancelled in `end` */
    struct client *restart; /* started in `end` */
};

struct h2rig {
    struct mem mem;
    struct loop loop;
    struct poller *poller;
    struct connection connection;
    struct http2 *h;
    int fd; /* the server's end */
    int files;
    bool asked, over;
    int asks, ends;
    struct err why;
    struct http2_request restart_with;
};

static void h2rig_close(struct h2rig *r)
{
    struct http2 *h = r->h;
    r->h = NULL;
    http2_close(h);
    connection_close(&r->connection);
}

/* ---- the functions of a stream */

static void client_cancel(struct client *c)
{
    http2_stream_cancel(&c->s);
    if (c->frees)
        free(c);
}

static void client_status(struct http2_stream *s, int status)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    if (status < 200)
        c->interims++;
    else
        c->status = status;
    if (c->close_in_status)
        h2rig_close(c->rig);
    if (c->cancel_status)
        client_cancel(c);
}

static bool client_field(struct http2_stream *s, const char *name, size_t name_len,
                         const char *value, size_t value_len, bool is_trailer)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    size_t len = strlen(c->fields);
    CHECK_EQ(strlen(name), name_len);
    if (value_len < 100)
        snprintf(c->fields + len, sizeof c->fields - len, "%s%s=%s;", is_trailer ? "+" : "", name,
                 value);
    c->field_count++;
    if (c->close_in_field)
        h2rig_close(c->rig);
    bool go_on = !c->stop_field;
    if (c->cancel_field)
        client_cancel(c);
    return go_on;
}

static bool client_head_end(struct http2_stream *s)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    c->heads++;
    bool go_on = !c->stop_head;
    if (c->cancel_head)
        client_cancel(c);
    return go_on;
}

static enum http2_took client_body(struct http2_stream *s, const char *data, size_t len)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    CHECK(len > 0 && len <= 16384);
    CHECK_EQ(c->ends, 0);
    if (c->full) {
        c->offered += len;
        return HTTP2_FULL;
    }
    for (size_t i = 0; i < len; i++)
        c->sum += (unsigned char)data[i] * (unsigned long)(1 + (c->got + i) % 1009);
    c->got += len;
    if (c->close_in_body && c->rig->h)
        h2rig_close(c->rig);
    c->full = c->full_again;
    enum http2_took answer = c->stop_body ? HTTP2_STOP : HTTP2_TOOK;
    if (c->cancel_body)
        client_cancel(c);
    return answer;
}

static size_t client_upload(struct http2_stream *s, char *out, size_t cap, bool *ended)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    size_t n = MIN(MIN(cap, c->upload_left), c->upload_ready);
    memset(out, 'u', n);
    c->upload_left -= n;
    c->upload_ready -= n;
    *ended = c->upload_left == 0;
    if (c->close_in_upload)
        h2rig_close(c->rig);
    if (c->cancel_upload)
        client_cancel(c);
    return n;
}

static void client_sent(struct http2_stream *s)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    c->sents++;
    if (c->cancel_sent)
        client_cancel(c);
}

static const struct http2_stream_ops client_ops;

static void client_end(struct http2_stream *s, enum http2_end how, uint32_t code)
{
    struct client *c = CONTAINER_OF(s, struct client, s);
    c->ends++;
    c->rig->ends++;
    c->how = how;
    c->code = code;
    if (c->next)
        http2_stream_cancel(&c->next->s);
    if (c->restart && c->rig->h) {
        c->restart->rig = c->rig;
        (void)!http2_start(c->rig->h, &c->restart->s, &client_ops, &c->rig->restart_with, NULL);
    }
    if (c->close_in_end && c->rig->h)
        h2rig_close(c->rig);
    if (c->frees)
        free(c);
}

static const struct http2_stream_ops client_ops = {
    .status = client_status,
    .field = client_field,
    .head_end = client_head_end,
    .body = client_body,
    .upload = client_upload,
    .sent = client_sent,
    .end = client_end,
};

/* ---- the session */

static void h2rig_to_send(struct http2 *h, void *owner)
{
    struct h2rig *r = owner;
    (void)h;
    r->asked = true;
    r->asks++;
}

static void h2rig_over(struct http2 *h, void *owner)
{
    struct h2rig *r = owner;
    CHECK(!r->over);
    r->over = true;
    r->why = *http2_why(h);
    CHECK(r->why.kind != ERR_NONE);
    h2rig_close(r);
}

static void h2rig_ready(struct connection *c, bool can_read, bool can_write)
{
    struct h2rig *r = CONTAINER_OF(c, struct h2rig, connection);
    http2_ready(r->h, can_read, can_write);
}

__attribute__((unused)) static int h2rig_open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

static const struct http2_ops h2rig_ops = {.to_send = h2rig_to_send, .over = h2rig_over};

/* False: no memory (where a test lets it run out). */
__attribute__((unused)) static bool h2rig_begin_in(struct h2rig *r, long fail_in)
{
    struct err err;
    memset(r, 0, sizeof *r);
    mem_init(&r->mem, 0);
    int ends[2];
    CHECK_EQ(loop_init(&r->loop, &r->mem, NULL, false, &err), ERR_NONE);
    CHECK_EQ(poller_new(&r->poller, &r->loop, &r->mem, &err), ERR_NONE);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    r->fd = ends[1];
    r->mem.fail_in = fail_in;
    enum err_kind kind =
        connection_open(&r->connection, r->poller, &r->mem, ends[0], h2rig_ready, &err);
    if (kind == ERR_NONE)
        kind = http2_open(&r->h, &r->connection, &r->loop, &r->mem, &h2rig_ops, r, &err);
    CHECK(kind == ERR_NONE || (kind == ERR_MEMORY && fail_in >= 0));
    if (kind != ERR_NONE)
        connection_close(&r->connection);
    return kind == ERR_NONE;
}

__attribute__((unused)) static void h2rig_begin(struct h2rig *r)
{
    h2rig_begin_in(r, -1);
}

__attribute__((unused)) static void h2rig_end(struct h2rig *r)
{
    if (r->h)
        h2rig_close(r);
    r->mem.fail_in = -1;
    if (r->fd >= 0)
        close(r->fd);
    poller_free(r->poller);
    loop_fini(&r->loop);
    CHECK_EQ(r->mem.blocks, 0);
    CHECK_EQ(r->mem.used_bytes, 0);
}

/* A turn of our side. */
__attribute__((unused)) static void h2rig_turn(struct h2rig *r)
{
    if (r->asked && r->h) {
        r->asked = false;
        http2_flush(r->h);
    }
    loop_turn(&r->loop, false);
}

__attribute__((unused)) static struct http2_request h2rig_get(const char *path)
{
    return (struct http2_request){
        .method = "GET", .scheme = "http", .authority = "localhost", .path = path, .length = -1};
}

/* *c is zeroed, or set up before. */
__attribute__((unused)) static bool h2rig_start(struct h2rig *r, struct client *c,
                                                const struct http2_request *request)
{
    c->rig = r;
    return http2_start(r->h, &c->s, &client_ops, request, NULL) == ERR_NONE;
}
