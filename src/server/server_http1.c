#include "server/server_http1.h"

#include "server/server_connection.h"
#include "server/server_request.h"
#include "server/server_response.h"

#include <string.h>

static const struct http1_limits limits = {
    .head_bytes = SERVER_HEAD_BYTES,
    .line_bytes = SERVER_HEAD_BYTES,
    .headers = HTTP1_MAX_HEADERS,
    .extension_bytes = 1024,
};

/* A request that arrived over a connection. */
struct wired {
    struct server_request request;        /* first: the two are one block of memory */
    struct server_connection *connection; /* used only while the request is open */
};

_Static_assert(offsetof(struct wired, request) == 0, "server_request_free frees the block");

static struct server_connection *connection_of(const struct server_request *r)
{
    return ((const struct wired *)(const void *)r)->connection;
}

/* The carrier is called by tasks, which must not see that a client has gone in the middle of their
 * call. So the bytes go out in the next turn of the loop, those of one turn together. */
static void send_soon(struct server_connection *c)
{
    struct server_listener *l = c->listener;
    if (!list_linked(&c->ready_node))
        list_push_back(&l->ready, &c->ready_node);
    if (!l->ready_timer.active)
        loop_timer_start(l->loop, &l->ready_timer, loop_now_ns(l->loop));
}

static const char *date_of(struct server_listener *l)
{
    time_t now = (time_t)loop_date_s(l->loop);
    if (now != l->date_s || l->date[0] == '\0') {
        l->date_s = now;
        server_response_date(l->date, sizeof l->date, now);
    }
    return l->date;
}

/* ---- answering: the carrier */

static enum err_kind answer(struct server_request *r, bool stream, struct err *err)
{
    struct server_connection *c = connection_of(r);
    struct server_response_frame frame = {
        .stream = stream, .keeps = c->keeps && !c->half_open, .date = date_of(c->listener)};
    server_connection_compact(c);
    if (server_response_head(&c->out, r, &frame) != ERR_NONE)
        return err_set(err, ERR_MEMORY, "respond: not enough memory");
    c->keeps = frame.keeps;
    c->chunked = frame.chunked;
    c->last_chunk = false;
    if (!stream && !r->no_body) {
        c->rest = r->body_out;
        c->rest_len = r->body_out_len;
    }
    send_soon(c);
    return ERR_NONE;
}

static enum err_kind write_out(struct server_request *r, const char *data, size_t len)
{
    struct server_connection *c = connection_of(r);
    char size[24];
    if (len == 0)
        return ERR_NONE; /* a chunk of no bytes would be the last one */
    if (len > SERVER_STREAM_MAX_BYTES - MIN(server_connection_unsent(c), SERVER_STREAM_MAX_BYTES))
        return ERR_TOO_LARGE;
    server_connection_compact(c);
    size_t n = c->chunked ? (size_t)snprintf(size, sizeof size, "%zx\r\n", len) : 0;
    enum err_kind rc = buf_reserve(&c->out, n + len + 2);
    if (rc != ERR_NONE)
        return rc;
    (void)!buf_append(&c->out, size, n);
    (void)!buf_append(&c->out, data, len);
    (void)!buf_append(&c->out, "\r\n", c->chunked ? 2 : 0);
    send_soon(c);
    return ERR_NONE;
}

static size_t unsent(const struct server_request *r)
{
    return r->open ? server_connection_unsent(connection_of(r)) : 0;
}

/* Sending finds the end of the stream, or its abort. */
static void go_on(struct server_request *r)
{
    send_soon(connection_of(r));
}

static void fini(struct server_request *r)
{
    UNUSED(r);
}

static const struct server_carrier carrier = {.answer = answer,
                                              .write = write_out,
                                              .unsent = unsent,
                                              .finish = go_on,
                                              .abort = go_on,
                                              .fini = fini};

/* ---- refusing */

static void refuse(struct server_connection *c, unsigned status, const char *message)
{
    struct server_listener *l = c->listener;
    struct server_request *r = c->request;
    c->request = NULL;
    if (r)
        server_request_over(r, SERVER_REQUEST_CLIENT_GONE);
    server_connection_compact(c);
    /* Without memory for the response, the connection is closed without one. */
    (void)!server_response_refuse(&c->out, status, message, !c->to_head, date_of(l));
    c->state = SERVER_REFUSES;
    send_soon(c);
}

/* Reports to the log and to the client that memory was missing. */
static void refuse_lost(struct server_connection *c)
{
    server_log_lost(&c->listener->server);
    refuse(c, 503, "the server does not have enough memory");
}

static void refuse_bad(struct server_connection *c, const struct err *err)
{
    static const struct {
        const char *reason;
        unsigned status;
    } others[] = {
        {"version", 505},
        {"too_many_headers", 431},
        {"head_too_large", 431},
        {"line_too_long", 431},
    };
    unsigned status = 400;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (strcmp(err->reason, others[i].reason) == 0)
            status = others[i].status;
    }
    refuse(c, status, err->message);
}

/* ---- reading a request */

static struct server_request *new_request(struct server_connection *c,
                                          const struct http1_head *head)
{
    struct server *s = &c->listener->server;
    char *target = mem_strndup(s->mem, head->target, head->target_len);
    struct server_request *r =
        target ? server_request_new(s, sizeof(struct wired), &carrier, target) : NULL;
    if (!r)
        return NULL;
    CONTAINER_OF(r, struct wired, request)->connection = c;
    memcpy(r->address, c->address, sizeof r->address);
    r->no_body = c->to_head;
    r->method = mem_strndup(s->mem, head->word, head->word_len);
    r->version = mem_strndup(s->mem, head->minor == 0 ? "1.0" : "1.1", 3);
    if (r->method && r->version &&
        headers_add_rows(&r->headers, head->fields, head->fields_len, head->rows, head->count) ==
            ERR_NONE)
        return r;
    server_request_free(r);
    return NULL;
}

/* RFC 9110 10.1.1: not for HTTP/1.0, and not if the body is already on its way. */
static bool must_continue(const struct http1_head *head, size_t more)
{
    return head->expect && head->minor > 0 && more == 0 &&
           (head->body == HTTP1_CHUNKED || head->content_length > 0);
}

/* `more`: the bytes that came behind the head. */
static void take_head(struct server_connection *c, const struct http1_head *head, size_t more)
{
    struct server *s = &c->listener->server;
    s->received++;
    c->to_head = head->word_len == 4 && memcmp(head->word, "HEAD", 4) == 0;
    c->keeps = head->keep_alive;
    if (head->coded) {
        refuse(c, 400, "the only supported Transfer-Encoding is chunked");
    } else if (head->content_length > 0 && (uint64_t)head->content_length > s->max_body) {
        refuse(c, 413, "the request's body is too large");
    } else if (s->quiet) {
        refuse(c, 503, "the server is closing");
    } else if ((c->request = new_request(c, head)) == NULL) {
        refuse_lost(c);
    } else {
        c->request->state = SERVER_REQUEST_BODY;
        c->state = SERVER_READS_BODY;
        server_connection_await(c);
        if (must_continue(head, more) &&
            buf_append_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n") == ERR_NONE)
            send_soon(c);
    }
}

static void take_body(struct server_connection *c, const char *data, size_t len)
{
    c->received += len;
    enum err_kind rc = buf_append(&c->request->body, data, len);
    if (rc == ERR_TOO_LARGE)
        refuse(c, 413, "the request's body is too large");
    else if (rc != ERR_NONE)
        refuse_lost(c);
}

static void put_in_line(struct server_connection *c)
{
    c->state = SERVER_ANSWERS;
    server_connection_await_nothing(c);
    server_request_put_in_line(c->request);
}

/* Reads what there is of a request. *data and *len are set to the rest. */
static void read_request(struct server_connection *c, const char **data, size_t *len)
{
    struct http1_event *event = &c->listener->event;
    while (c->state == SERVER_READS_HEAD || c->state == SERVER_READS_BODY) {
        struct err err;
        switch (http1_parse_next(&c->parser, data, len, event, &err)) {
        case HTTP1_MORE:
            return;
        case HTTP1_HEAD:
            take_head(c, &event->head, *len);
            break;
        case HTTP1_BODY:
            take_body(c, event->data, event->len);
            break;
        case HTTP1_TRAILERS:
            break; /* they must not change what the head said, and nobody asks for them */
        case HTTP1_DONE:
            put_in_line(c);
            return;
        case HTTP1_FAILED:
            refuse_bad(c, &err);
            break;
        }
    }
}

/* Reads from what was kept and listener.bytes[0..len), and keeps the rest. */
static void take_bytes(struct server_connection *c, size_t len)
{
    struct server_listener *l = c->listener;
    enum err_kind rc = ERR_NONE;
    const char *data = l->bytes;
    bool kept = c->in.len > 0;
    if (kept) {
        rc = buf_append(&c->in, data, len);
        data = c->in.data;
        len = c->in.len;
    }
    if (rc == ERR_NONE)
        read_request(c, &data, &len);
    if (rc == ERR_NONE && !kept && len > 0 && c->state != SERVER_REFUSES)
        rc = buf_append(&c->in, data, len);
    if (rc != ERR_NONE) {
        refuse_lost(c);
    } else if (kept) {
        memmove(c->in.data, data, len);
        c->in.len = len;
    }
    if (c->in.len == 0 || c->state == SERVER_REFUSES)
        buf_fini(&c->in);
}

/* ---- sending */

/* The next request of the connection. The client may have sent it already. */
static void next_request(struct server_connection *c)
{
    c->state = SERVER_READS_HEAD;
    c->holds = c->to_head = false;
    c->served = true;
    http1_parse_init(&c->parser, HTTP1_REQUEST, &limits);
    server_connection_await(c);
    if (c->in.len > 0)
        take_bytes(c, 0);
    server_connection_watch(c);
    server_connection_make_room(c->listener); /* last: it may close this connection */
}

static void end_response(struct server_connection *c)
{
    struct server_request *r = c->request;
    c->request = NULL;
    server_request_over(r, SERVER_REQUEST_SENT);
    if (c->keeps)
        next_request(c);
    else
        server_connection_linger(c);
}

/* In HTTP/1.0, a body without a length ends with the connection. Only a reset can say that it was
 * cut short. */
static void break_off(struct server_connection *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (strcmp(c->request->version, "1.0") == 0)
        (void)!setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    server_connection_close(c, SERVER_REQUEST_CLIENT_GONE);
}

/* All bytes that there were of the response were sent. */
static void go_on_answering(struct server_connection *c)
{
    const struct server_request *r = c->request;
    bool is_stream = r->state == SERVER_REQUEST_STREAM;
    if (r->aborted)
        break_off(c);
    else if (r->state == SERVER_REQUEST_ANSWERED || (is_stream && (r->no_body || r->finished)))
        end_response(c);
    else
        server_connection_watch(c);
}

static void sent_all(struct server_connection *c)
{
    if (c->state == SERVER_REFUSES)
        server_connection_linger(c);
    else if (c->state == SERVER_ANSWERS)
        go_on_answering(c);
    else
        server_connection_watch(c);
}

/* A response is being sent: its reader has its time limit while bytes have to wait for it. */
static void note_progress(struct server_connection *c, bool progress)
{
    struct server_request *r = c->request;
    if (!c->blocked)
        server_connection_await_nothing(c);
    else if (progress || !list_linked(&c->wait_node))
        server_connection_await(c);
    if (r && progress && server_connection_unsent(c) <= SERVER_STREAM_LOW_BYTES)
        server_request_room(r);
}

static void send_bytes(struct server_connection *c)
{
    const struct server_request *r = c->request;
    if (c->chunked && c->state == SERVER_ANSWERS && r->finished && !c->last_chunk) {
        c->last_chunk = true;
        c->rest = "0\r\n\r\n";
        c->rest_len = 5;
    }
    size_t before = server_connection_unsent(c) + c->rest_len;
    enum server_connection_sent sent = server_connection_send(c);
    if (sent == SERVER_SENT_NOT) {
        server_connection_close(c, SERVER_REQUEST_CLIENT_GONE);
        return;
    }
    c->blocked = sent == SERVER_SENT_SOME;
    if (c->state == SERVER_ANSWERS || c->state == SERVER_REFUSES)
        note_progress(c, server_connection_unsent(c) + c->rest_len < before);
    if (c->blocked)
        server_connection_watch(c);
    else
        sent_all(c);
}

/* Each may be closed by what another one of them does. */
static void on_ready_timer(struct timer *t)
{
    struct server_listener *l = CONTAINER_OF(t, struct server_listener, ready_timer);
    struct list now;
    list_init(&now);
    list_append_all(&now, &l->ready);
    struct list *node;
    while ((node = list_pop_front(&now)) != NULL)
        send_bytes(CONTAINER_OF(node, struct server_connection, ready_node));
}

/* ---- what the socket reports */

static void on_readable(struct server_connection *c)
{
    ssize_t n = server_connection_read(c);
    if (n < 0) {
        server_connection_close(c, SERVER_REQUEST_CLIENT_GONE);
    } else if (n > 0 && c->state != SERVER_LINGERS) {
        take_bytes(c, (size_t)n);
        server_connection_watch(c);
    }
}

/* Something came while a response is due. */
static void on_answering(struct server_connection *c, uint32_t events)
{
    const struct server_request *r = c->request;
    bool is_end = events & (EPOLLERR | EPOLLHUP);
    if (is_end || (events & EPOLLRDHUP && r && server_request_unanswered(r))) {
        server_connection_close(c, SERVER_REQUEST_CLIENT_GONE);
        return;
    }
    c->half_open |= (events & EPOLLRDHUP) != 0;
    c->keeps &= !c->half_open;
    c->holds |= (events & EPOLLIN) != 0;
    server_connection_watch(c);
    if (events & EPOLLOUT)
        send_bytes(c);
}

static void on_event(struct poller_fd *f, uint32_t events)
{
    struct server_connection *c = CONTAINER_OF(f, struct server_connection, poll);
    if (c->state == SERVER_ANSWERS || c->state == SERVER_REFUSES)
        on_answering(c, events);
    else if (events & ~(uint32_t)EPOLLOUT)
        on_readable(c);
    else
        send_bytes(c);
}

/* ---- beginning and end */

void server_http1_init(struct server_listener *l)
{
    list_init(&l->ready);
    timer_init(&l->ready_timer, on_ready_timer);
}

void server_http1_begin(struct server_listener *l, int fd, const struct sockaddr *address)
{
    struct server_connection *c = server_connection_new(l, fd, on_event, address);
    if (!c)
        return;
    http1_parse_init(&c->parser, HTTP1_REQUEST, &limits);
    server_connection_make_room(l);
}

void server_http1_stop(struct server_listener *l)
{
    loop_timer_stop(l->loop, &l->ready_timer);
}
