#include "lua/lua_serve_simulate.h"

#include "engine/simulate.h"
#include "server/server_listen.h"
#include "server/server_request.h"
#include "server/server_response.h"

#include <errno.h>
#include <string.h>

/* Ports for servers under virtual time: IANA's dynamic range. */
#define FIRST_PORT 49152u
#define PORTS 16384u

struct simulated {
    struct server server; /* first: the two are one block of memory */
    struct engine *engine;
    struct simulation *simulation;
};

struct simulated_request {
    struct server_request request; /* first: the two are one block of memory */
    struct engine *engine;
    struct call *call; /* NULL: the engine is done with it */
};

_Static_assert(offsetof(struct simulated, server) == 0, "server_release frees the block");
_Static_assert(offsetof(struct simulated_request, request) == 0,
               "server_request_free frees the block");

static struct simulated_request *simulated_of(struct server_request *r)
{
    return CONTAINER_OF(r, struct simulated_request, request);
}

/* ---- starting and stopping */

enum err_kind lua_serve_simulate_start(struct server **out, struct rt *rt, const char *url,
                                       const struct server_config *config, struct err *err)
{
    struct simulated *s = mem_calloc(config->mem, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "simulate: not enough memory");
    server_init(&s->server, config);
    s->engine = rt->engine;
    enum err_kind rc = simulate_begin(s->engine, url, config->max_body, SERVER_STREAM_MAX_BYTES, s,
                                      &s->simulation, err);
    if (rc != ERR_NONE) {
        server_release(&s->server);
        return rc;
    }
    s->server.open = true;
    *out = &s->server;
    return ERR_NONE;
}

enum err_kind lua_serve_simulate_listen(struct server **out, struct rt *rt, const char *host,
                                        uint16_t *port, char **url,
                                        const struct server_config *config, struct err *err)
{
    char text[96];
    uint16_t given = *port;
    enum err_kind rc = server_listen_check_host(host, err);
    if (rc != ERR_NONE)
        return rc;
    bool in_use;
    do {
        if (given == 0)
            *port = (uint16_t)(FIRST_PORT + rt->virtual_ports++ % PORTS);
        snprintf(text, sizeof text, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host,
                 *port);
        rc = lua_serve_simulate_start(out, rt, text, config, err);
        in_use = rc == ERR_INVALID && strcmp(err->reason, "in_use") == 0;
    } while (given == 0 && in_use && rt->virtual_ports < PORTS);
    if (in_use)
        return server_listen_refused(err, host, *port, EADDRINUSE);
    if (rc != ERR_NONE)
        return rc;
    *url = mem_strndup(config->mem, text, strlen(text));
    if (*url)
        return ERR_NONE;
    lua_serve_simulate_stop(*out);
    server_release(*out);
    return err_set(err, ERR_MEMORY, "serve: not enough memory");
}

void lua_serve_simulate_stop(struct server *server)
{
    struct simulated *s = CONTAINER_OF(server, struct simulated, server);
    struct simulation *simulation = s->simulation;
    if (!server->open)
        return;
    server->open = false;
    server->quiet = true;
    s->simulation = NULL;
    while (!list_empty(&server->requests)) {
        struct server_request *r = CONTAINER_OF(server->requests.next, struct server_request, node);
        struct call *c = simulated_of(r)->call;
        simulated_of(r)->call = NULL;
        server_request_over(r, SERVER_REQUEST_SERVER_CLOSED);
        simulate_call_free(s->engine, c);
    }
    simulate_end(s->engine, simulation);
}

/* ---- answering */

static enum err_kind frame(struct server_request *r, bool stream)
{
    char text[32];
    bool bare = r->status == 204 || r->status == 304;
    int n = snprintf(text, sizeof text, "%zu", r->body_out_len);
    if (stream && !r->no_body)
        return headers_add(&r->headers_out, "Transfer-Encoding", 17, "chunked", 7);
    if (!stream && !bare)
        return headers_add(&r->headers_out, "Content-Length", 14, text, (size_t)n);
    return ERR_NONE;
}

static enum err_kind answer(struct server_request *r, bool stream, struct err *err)
{
    struct engine *e = simulated_of(r)->engine;
    struct call *c = simulated_of(r)->call;
    if (frame(r, stream) != ERR_NONE)
        return err_set(err, ERR_MEMORY, "respond: not enough memory");
    simulate_call_head(e, c, (int)r->status, server_response_reason(r->status), &r->headers_out);
    if (stream)
        return ERR_NONE;
    enum err_kind rc =
        r->no_body ? ERR_NONE : simulate_call_write(e, c, r->body_out, r->body_out_len);
    if (rc != ERR_NONE)
        server_log_lost(r->server);
    simulate_call_end(e, c, rc != ERR_NONE);
    return ERR_NONE;
}

static size_t unsent(const struct server_request *r)
{
    const struct simulated_request *q = (const void *)r;
    return q->call ? simulate_call_unread(q->call) : 0;
}

static enum err_kind write_out(struct server_request *r, const char *data, size_t len)
{
    struct call *c = simulated_of(r)->call;
    enum err_kind rc = simulate_call_write(simulated_of(r)->engine, c, data, len);
    if (simulate_call_unread(c) > SERVER_STREAM_HIGH_BYTES)
        c->mark = SERVER_STREAM_LOW_BYTES;
    return rc;
}

static void finish(struct server_request *r)
{
    simulate_call_end(simulated_of(r)->engine, simulated_of(r)->call, false);
}

static void break_off(struct server_request *r)
{
    simulate_call_end(simulated_of(r)->engine, simulated_of(r)->call, true);
}

static void fini(struct server_request *r)
{
    UNUSED(r);
}

static const struct server_carrier carrier = {.answer = answer,
                                              .write = write_out,
                                              .unsent = unsent,
                                              .finish = finish,
                                              .abort = break_off,
                                              .fini = fini};

/* ---- taking */

static void refuse(struct simulated *s, struct call *c, unsigned status, const char *message)
{
    char text[256];
    struct engine *e = s->engine;
    struct headers none;
    headers_init(&none, s->server.mem, 0, 0);
    size_t n = server_response_error_body(text, sizeof text, message);
    simulate_call_head(e, c, (int)status, server_response_reason(status), &none);
    if (simulate_call_write(e, c, text, n) == ERR_NONE)
        simulate_call_end(e, c, false);
    else
        server_log_lost(&s->server);
    simulate_call_free(e, c);
}

static bool fill(struct server_request *r, struct call *c)
{
    struct mem *mem = r->server->mem;
    const char *method;
    size_t len;
    if (simulate_call_request(c, &method, &r->target, &r->headers) != ERR_NONE)
        return false;
    r->method = mem_strndup(mem, method, strlen(method));
    r->version = mem_strndup(mem, "1.1", 3);
    const char *body = simulate_call_body(c, &len);
    return r->method && r->version && buf_append(&r->body, body, len) == ERR_NONE;
}

static void take(struct call *c)
{
    struct simulated *s = simulate_call_owner(c);
    struct server *server = &s->server;
    size_t len;
    simulate_call_body(c, &len);
    server->received++;
    if (server->quiet) {
        refuse(s, c, 503, "the server is closing");
        return;
    }
    if (c->too_large || len > server->max_body) {
        refuse(s, c, 413, "the request's body is too large");
        return;
    }
    struct server_request *r =
        server_request_new(server, sizeof(struct simulated_request), &carrier, NULL);
    if (!r || !fill(r, c)) {
        if (r)
            server_request_free(r);
        server_log_lost(server);
        refuse(s, c, 503, "the server does not have enough memory");
        return;
    }
    struct simulated_request *q = simulated_of(r);
    snprintf(r->address, sizeof r->address, "simulated");
    r->no_body = strcmp(r->method, "HEAD") == 0;
    q->engine = s->engine;
    q->call = c;
    c->owner = q;
    server_request_put_in_line(r);
}

void lua_serve_simulate_take_calls(struct rt *rt)
{
    struct call *c;
    unsigned events;
    while ((c = simulate_next_call(rt->engine, &events)) != NULL) {
        if (events & CALL_ASKED) {
            take(c);
            continue;
        }
        struct simulated_request *q = c->owner;
        if (events & CALL_ROOM)
            server_request_room(&q->request);
        if (events & CALL_OVER) {
            q->call = NULL;
            server_request_over(&q->request,
                                c->complete ? SERVER_REQUEST_SENT : SERVER_REQUEST_CLIENT_GONE);
            simulate_call_free(rt->engine, c);
        }
    }
}
