/* Servers whose requests come from the engine's queue of calls instead of a socket. */
#include "lua/lua_serve.h"

#include <string.h>

enum err_kind server_simulate(struct server **out, struct rt *rt, const char *url, size_t max_body,
                              struct err *err)
{
    struct server *s = server_new(rt, max_body);
    if (!s)
        return err_set(err, ERR_MEMORY, "simulate: not enough memory");
    enum err_kind rc = ERR_NONE;
    s->url = mem_strndup(&rt->mem, url, strlen(url));
    if (!s->url)
        rc = err_set(err, ERR_MEMORY, "simulate: not enough memory");
    else
        rc = engine_simulate(rt->engine, url, max_body, STREAM_MAX_BYTES, s, &s->simulation, err);
    if (rc != ERR_NONE) {
        server_release(s);
        return rc;
    }
    server_started(s);
    *out = s;
    return ERR_NONE;
}

void server_stop_simulation(struct server *s)
{
    struct simulation *simulation = s->simulation;
    s->simulation = NULL;
    s->quiet = true;
    while (!list_empty(&s->requests)) {
        struct incoming *r = CONTAINER_OF(s->requests.next, struct incoming, node);
        struct call *c = r->call;
        incoming_over(r, INCOMING_SERVER_CLOSED);
        engine_call_free(s->rt->engine, c);
    }
    engine_simulate_end(s->rt->engine, simulation);
}

static void refuse(struct engine *e, struct call *c, int status, const char *message)
{
    char text[256];
    struct headers none;
    headers_init(&none, c->out.mem, 0, 0);
    int n = snprintf(text, sizeof text, "{\"error\":{\"message\":\"%s\"}}", message);
    engine_call_head(e, c, status, MHD_get_reason_phrase_for((unsigned)status), &none);
    if (engine_call_write(e, c, text, (size_t)n) == ERR_NONE)
        engine_call_end(e, c, false);
    else
        server_log_lost(call_owner(c));
    engine_call_free(e, c);
}

static bool fill(struct incoming *r, struct call *c)
{
    struct mem *mem = &r->server->rt->mem;
    const char *method;
    size_t len;
    if (engine_call_request(c, &method, &r->target, &r->headers) != ERR_NONE)
        return false;
    r->method = mem_strndup(mem, method, strlen(method));
    r->version = mem_strndup(mem, "1.1", 3);
    const char *body = engine_call_body(c, &len);
    return r->method && r->version && buf_append(&r->body, body, len) == ERR_NONE;
}

static void take(struct rt *rt, struct call *c)
{
    struct server *s = call_owner(c);
    struct engine *e = rt->engine;
    size_t len;
    engine_call_body(c, &len);
    s->received++;
    if (s->quiet) {
        refuse(e, c, 503, "the server is closing");
        return;
    }
    if (c->too_large || len > s->max_body) {
        refuse(e, c, 413, "the request's body is too large");
        return;
    }
    struct incoming *r = incoming_new(s, NULL);
    if (!r || !fill(r, c)) {
        if (r) {
            list_unlink(&r->node);
            incoming_free(r);
        }
        server_log_lost(s);
        refuse(e, c, 503, "the server has not enough memory");
        return;
    }
    snprintf(r->address, sizeof r->address, "simulated");
    r->no_body = strcmp(r->method, "HEAD") == 0;
    r->call = c;
    c->owner = r;
    incoming_put_in_line(r);
}

void lua_serve_drain(struct rt *rt)
{
    struct call *c;
    unsigned events;
    while ((c = engine_next_call(rt->engine, &events)) != NULL) {
        if (events & CALL_ASKED) {
            take(rt, c);
            continue;
        }
        struct incoming *r = c->owner;
        if (events & CALL_ROOM)
            incoming_wake_writer(r);
        if (events & CALL_OVER) {
            incoming_over(r, c->complete ? INCOMING_SENT : INCOMING_CLIENT_GONE);
            engine_call_free(rt->engine, c);
        }
    }
}

void incoming_answer_call(struct incoming *r)
{
    char text[32];
    struct engine *e = r->server->rt->engine;
    struct call *c = r->call;
    bool stream = r->state == INCOMING_STREAM;
    bool bare = r->status == 204 || r->status == 304;
    int n = snprintf(text, sizeof text, "%zu", r->response_len);
    enum err_kind rc = ERR_NONE;
    if (stream && !r->no_body)
        rc = headers_add(&r->answer, "Transfer-Encoding", 17, "chunked", 7);
    else if (!stream && !bare)
        rc = headers_add(&r->answer, "Content-Length", 14, text, (size_t)n);
    if (rc == ERR_NONE) {
        engine_call_head(e, c, (int)r->status, MHD_get_reason_phrase_for(r->status), &r->answer);
        if (stream)
            return;
        rc = r->no_body ? ERR_NONE : engine_call_write(e, c, r->response_body, r->response_len);
    }
    if (rc != ERR_NONE)
        server_log_lost(r->server);
    engine_call_end(e, c, rc != ERR_NONE);
}
