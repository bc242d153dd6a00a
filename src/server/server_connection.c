#include "server/server_connection.h"

#include "server/server_head.h"
#include "server/server_peer.h"
#include "server/server_request.h"
#include "server/server_response.h"

#include <limits.h>
#include <math.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>

/* If a body is too large, at most this much more of it is read and discarded before the 413 is
 * sent. */
#define MAX_DISCARD_BYTES ((size_t)16 << 20)
/* libmicrohttpd's own limit is higher than ours: at its limit it would break connections off, while
 * we let them wait. */
#define CONNECTIONS_MARGIN 64u

/* A request that arrived over a connection. */
struct wired {
    struct server_request request;     /* first: the two are one block of memory */
    struct MHD_Connection *connection; /* NULL: libmicrohttpd has finished with it */
    struct server_peer *peer;          /* NULL: its connection is closed */
    const char *sent_target; /* the target in libmicrohttpd's memory, until the head is taken */
    bool suspended;
    enum err_kind refused; /* what is wrong with its body, whose rest is read and discarded */
    size_t discarded;      /* the number of bytes discarded */
    struct MHD_Response *response; /* the response, until it is queued */
    struct buf out;                /* for a stream: the bytes after out_sent are not sent yet */
    size_t out_sent;
};

_Static_assert(offsetof(struct wired, request) == 0, "server_request_free frees the block");

static struct wired *wired_of(struct server_request *r)
{
    return CONTAINER_OF(r, struct wired, request);
}

/* MHD_resume_connection only records the resume: as another loop runs libmicrohttpd, it wakes
 * nobody. So libmicrohttpd is run in the loop's next turn, once for all connections that were
 * resumed until then. */
static void resume(struct wired *w)
{
    if (!w->connection || !w->suspended)
        return;
    w->suspended = false;
    MHD_resume_connection(w->connection);
    server_daemon_run_soon(server_daemon_of(w->request.server));
}

static void suspend(struct wired *w)
{
    w->suspended = true;
    MHD_suspend_connection(w->connection);
}

/* ---- answering */

static size_t unsent(const struct server_request *r)
{
    const struct wired *w = (const void *)r;
    return w->out.len - w->out_sent;
}

static void forget_out(struct wired *w)
{
    buf_clear(&w->out);
    w->out_sent = 0;
}

/* In HTTP/1.0, a body without a length ends with the connection. Only a reset can say that it was
 * cut short. It must come before libmicrohttpd's own orderly shutdown. */
static void reset_connection(struct wired *w)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    if (w->peer)
        (void)!connect(w->peer->fd, &none, sizeof none);
}

static ssize_t read_stream(void *arg, uint64_t pos, char *out, size_t max)
{
    UNUSED(pos);
    struct wired *w = arg;
    struct server_request *r = &w->request;
    size_t n = MIN(unsent(r), max);
    if (n > 0) {
        memcpy(out, w->out.data + w->out_sent, n);
        w->out_sent += n;
        if (w->out_sent == w->out.len)
            forget_out(w);
        if (unsent(r) <= SERVER_STREAM_LOW_BYTES)
            server_request_room(r);
        return (ssize_t)n;
    }
    if (r->aborted) {
        if (strcmp(r->version, "1.0") == 0)
            reset_connection(w);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (r->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(w);
    return 0;
}

static enum err_kind answer(struct server_request *r, bool stream, struct err *err)
{
    struct wired *w = wired_of(r);
    w->response = server_response_build(r, stream ? read_stream : NULL, w, err);
    if (!w->response)
        return err->kind;
    resume(w);
    return ERR_NONE;
}

static enum err_kind write_out(struct server_request *r, const char *data, size_t len)
{
    struct wired *w = wired_of(r);
    if (w->out_sent > SERVER_STREAM_LOW_BYTES && w->out_sent > w->out.len / 2) {
        memmove(w->out.data, w->out.data + w->out_sent, w->out.len - w->out_sent);
        w->out.len -= w->out_sent;
        w->out_sent = 0;
    }
    enum err_kind rc = buf_append(&w->out, data, len);
    if (rc == ERR_NONE && len > 0)
        resume(w);
    return rc;
}

/* libmicrohttpd's next call finds the end of the stream, or its abort. */
static void go_on(struct server_request *r)
{
    resume(wired_of(r));
}

static void fini(struct server_request *r)
{
    struct wired *w = wired_of(r);
    if (w->response)
        MHD_destroy_response(w->response);
    buf_fini(&w->out);
}

static const struct server_carrier carrier = {.answer = answer,
                                              .write = write_out,
                                              .unsent = unsent,
                                              .finish = go_on,
                                              .abort = go_on,
                                              .fini = fini};

/* ---- libmicrohttpd's callbacks: connections */

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct server_peer *p = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        /* If there is no memory for the peer, all requests of the connection are refused. */
        *context = server_peer_new(
            arg, fd,
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
        return;
    }
    *context = NULL;
    if (!p)
        return;
    struct wired *w = p->request;
    if (w)
        w->peer = NULL;
    server_peer_free(p);
}

static struct server_peer *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* ---- libmicrohttpd's callbacks: requests */

static void *on_request_line(void *arg, const char *target, struct MHD_Connection *connection)
{
    struct server_daemon *d = arg;
    struct server *s = &d->server;
    struct server_peer *p = peer_of(connection);
    char *copy = p ? mem_strndup(s->mem, target, strlen(target)) : NULL;
    struct server_request *r =
        copy ? server_request_new(s, sizeof(struct wired), &carrier, copy) : NULL;
    if (!r)
        return NULL; /* on_request reports it */
    struct wired *w = wired_of(r);
    buf_init(&w->out, s->mem, SERVER_STREAM_MAX_BYTES);
    w->peer = p;
    w->sent_target = target;
    w->connection = connection;
    p->request = w;
    memcpy(r->address, p->address, sizeof r->address);
    return w;
}

static enum MHD_Result refuse(struct wired *w, unsigned status, const char *message)
{
    return server_response_refuse(w->connection, status, message) ? MHD_YES : MHD_NO;
}

/* Reports to the log and to the client that memory was missing. */
static enum MHD_Result refuse_lost(struct server *s, struct MHD_Connection *connection)
{
    server_log_lost(s);
    return server_response_refuse(connection, 503, "the server does not have enough memory")
               ? MHD_YES
               : MHD_NO;
}

static enum MHD_Result take_head(struct wired *w, const char *method, const char *version)
{
    struct server_request *r = &w->request;
    struct server *s = r->server;
    const char *message;
    r->state = SERVER_REQUEST_BODY;
    if (w->peer)
        server_peer_await_nothing(w->peer);
    s->received++;
    struct server_head head = {w->connection, w->sent_target, method, version};
    unsigned status = server_head_take(r, &head, &message);
    if (status == 503)
        return refuse_lost(s, w->connection);
    if (status != 0)
        return refuse(w, status, message);
    if (w->peer)
        server_peer_await(w->peer);
    if (server_head_too_long_body(r))
        return refuse(w, 413, "the request's body is too large");
    if (s->quiet)
        return refuse(w, 503, "the server is closing");
    return MHD_YES;
}

static enum MHD_Result take_body(struct wired *w, const char *data, size_t *len)
{
    struct server_request *r = &w->request;
    if (w->peer)
        w->peer->received += *len;
    if (w->refused == ERR_NONE) {
        w->refused = buf_append(&r->body, data, *len);
        if (w->refused != ERR_NONE) {
            buf_fini(&r->body);
            buf_init(&r->body, r->server->mem, 0);
        }
    } else {
        w->discarded += *len;
        if (w->discarded > MAX_DISCARD_BYTES)
            return MHD_NO;
    }
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result put_in_line(struct wired *w)
{
    struct server_request *r = &w->request;
    if (w->peer)
        server_peer_await_nothing(w->peer);
    if (w->refused == ERR_MEMORY)
        return refuse_lost(r->server, w->connection);
    if (w->refused != ERR_NONE)
        return refuse(w, 413, "the request's body is too large");
    if (w->peer && w->peer->gone) {
        r->gone = true;
        r->server->gone++;
        return MHD_NO;
    }
    suspend(w);
    server_request_put_in_line(r);
    return MHD_YES;
}

static enum MHD_Result give_answer(struct wired *w)
{
    if (w->response) {
        struct MHD_Response *response = w->response;
        w->response = NULL;
        enum MHD_Result rc = MHD_queue_response(w->connection, w->request.status, response);
        MHD_destroy_response(response);
        return rc;
    }
    if (w->request.aborted)
        return MHD_NO;
    suspend(w); /* libmicrohttpd called us although nothing is ready */
    return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **context)
{
    UNUSED(url);
    struct server_daemon *d = arg;
    struct wired *w = *context;
    if (!w)
        return refuse_lost(&d->server, connection);
    switch (w->request.state) {
    case SERVER_REQUEST_HEAD:
        return take_head(w, method, version);
    case SERVER_REQUEST_BODY:
        return *len > 0 ? take_body(w, data, len) : put_in_line(w);
    default:
        return give_answer(w);
    }
}

/* In whole seconds; 0: no limit. */
static unsigned whole_timeout(const struct server_daemon *d)
{
    return d->timeout_s < UINT_MAX ? (unsigned)ceil(d->timeout_s) : 0;
}

/* If libmicrohttpd has closed a connection in the middle of a response, it keeps the descriptor
 * until it looks at the connection again. Its epoll set does not make it do so. With a time limit,
 * the connection is looked at whenever libmicrohttpd runs. */
static void let_go(struct server_daemon *d, struct MHD_Connection *connection)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, whole_timeout(d) + 1);
    server_daemon_run_soon(d);
}

static enum server_request_end end_of(enum MHD_RequestTerminationCode code)
{
    switch (code) {
    case MHD_REQUEST_TERMINATED_COMPLETED_OK:
        return SERVER_REQUEST_SENT;
    case MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN:
        return SERVER_REQUEST_SERVER_CLOSED;
    default:
        return SERVER_REQUEST_CLIENT_GONE;
    }
}

static void on_done(void *arg, struct MHD_Connection *connection, void **context,
                    enum MHD_RequestTerminationCode code)
{
    struct wired *w = *context;
    enum server_request_end end = end_of(code);
    *context = NULL;
    if (!w)
        return;
    if (w->peer)
        server_peer_served(w->peer);
    if (w->peer && end == SERVER_REQUEST_CLIENT_GONE)
        let_go(arg, connection);
    if (end == SERVER_REQUEST_CLIENT_GONE)
        forget_out(w);
    w->peer = NULL;
    w->connection = NULL;
    w->suspended = false;
    server_request_over(&w->request, end);
}

/* ---- clients that go away */

void server_connection_on_watch(uv_poll_t *poll, int status, int events)
{
    UNUSED(status);
    UNUSED(events);
    struct server_peer *broken[64];
    int n = server_peer_broken(poll->data, broken, ARRAY_LEN(broken));
    for (int i = 0; i < n; i++) {
        struct wired *w = broken[i]->request;
        if (!w)
            continue;
        server_request_client_gone(&w->request);
        if (w->request.gone)
            forget_out(w);
    }
}

/* ---- the daemon */

bool server_connection_start(struct server_daemon *d)
{
    timer_init(&d->head_timer, server_peer_end_slow);
    d->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET,
                              0, NULL, NULL, on_request, d, MHD_OPTION_CONNECTION_LIMIT,
                              d->most + CONNECTIONS_MARGIN, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                              SERVER_POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, whole_timeout(d),
                              MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK,
                              on_request_line, d, MHD_OPTION_NOTIFY_CONNECTION, on_connection, d,
                              MHD_OPTION_NOTIFY_COMPLETED, on_done, d, MHD_OPTION_END);
    return d->mhd != NULL;
}

void server_connection_stop(struct server_daemon *d)
{
    struct MHD_Daemon *mhd = d->mhd;
    d->mhd = NULL;
    loop_timer_stop(d->loop, &d->head_timer);
    /* libmicrohttpd aborts the process if it is stopped with a connection suspended. */
    LIST_FOR(node, &d->server.requests)
    {
        go_on(CONTAINER_OF(node, struct server_request, node));
    }
    MHD_stop_daemon(mhd);
}
