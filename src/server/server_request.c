#include "server/server_request.h"

#define MAX_HEADERS 256u
#define MAX_HEADER_BYTES ((size_t)64 << 10)
/* A header has at least a name of one byte, ": " and a line end. */
#define LEAST_HEADER_BYTES 5u

struct server_request *server_request_new(struct server *s, size_t size,
                                          const struct server_carrier *carrier, char *target)
{
    struct server_request *r = mem_calloc(s->mem, size);
    if (!r) {
        mem_free(s->mem, target);
        return NULL;
    }
    r->server = s;
    r->carrier = carrier;
    r->open = true;
    r->target = target;
    server_hold(s);
    list_init(&r->line_node);
    headers_init(&r->headers, s->mem, MAX_HEADERS, MAX_HEADER_BYTES);
    headers_init(&r->headers_out, s->mem, SERVER_HEAD_BYTES / LEAST_HEADER_BYTES,
                 2 * SERVER_HEAD_BYTES);
    buf_init(&r->body, s->mem, s->max_body);
    list_push_back(&s->requests, &r->node);
    return r;
}

static void leave_line(struct server_request *r)
{
    if (list_linked(&r->line_node)) {
        list_unlink(&r->line_node);
        r->server->waiting--;
    }
}

void server_request_free(struct server_request *r)
{
    struct server *s = r->server;
    list_unlink(&r->node);
    r->carrier->fini(r);
    headers_fini(&r->headers);
    headers_fini(&r->headers_out);
    buf_fini(&r->body);
    mem_free(s->mem, r->target);
    mem_free(s->mem, r->method);
    mem_free(s->mem, r->version);
    mem_free(s->mem, r->body_out);
    mem_free(s->mem, r);
    server_release(s);
}

bool server_request_unanswered(const struct server_request *r)
{
    return r->state == SERVER_REQUEST_WAITING ||
           (r->state == SERVER_REQUEST_STREAM && !r->finished);
}

void server_request_room(struct server_request *r)
{
    if (r->owner)
        r->server->events->room(r);
}

/* ---- for the carrier */

void server_request_put_in_line(struct server_request *r)
{
    struct server *s = r->server;
    r->state = SERVER_REQUEST_WAITING;
    s->active++;
    list_push_back(&s->line, &r->line_node);
    s->waiting++;
    s->events->arrived(s);
}

static void end_for_owner(struct server_request *r, const char *reason)
{
    if (r->owner)
        r->server->events->ended(r, reason);
}

void server_request_client_gone(struct server_request *r)
{
    if (r->gone || r->aborted || !server_request_unanswered(r))
        return;
    r->gone = true;
    r->server->gone++;
    server_request_room(r);
    if (list_linked(&r->line_node))
        server_request_abort(r);
    else
        end_for_owner(r, "the client went away");
}

void server_request_over(struct server_request *r, enum server_request_end how)
{
    struct server *s = r->server;
    if (r->state >= SERVER_REQUEST_WAITING)
        s->active--;
    leave_line(r);
    list_unlink(&r->node);
    r->open = false;
    if (how == SERVER_REQUEST_CLIENT_GONE)
        server_request_client_gone(r);
    else if (how == SERVER_REQUEST_SERVER_CLOSED && server_request_unanswered(r) && !r->gone)
        end_for_owner(r, "the server was closed");
    server_request_room(r);
    if (s->active == 0)
        s->events->idle(s);
    if (!r->owner)
        server_request_free(r);
}

/* ---- for the owner */

struct server_request *server_request_take(struct server *s, void *owner)
{
    if (list_empty(&s->line))
        return NULL;
    struct server_request *r = CONTAINER_OF(s->line.next, struct server_request, line_node);
    leave_line(r);
    r->owner = owner;
    s->taken = r;
    return r;
}

static void untake(struct server_request *r)
{
    if (r->server->taken == r)
        r->server->taken = NULL;
}

const char *server_request_claim(struct server_request *r)
{
    untake(r);
    if (r->gone)
        return "the client went away";
    return !r->open && server_request_unanswered(r) ? "the server was closed" : NULL;
}

void server_request_release(struct server_request *r)
{
    untake(r);
    r->owner = NULL;
    server_request_abort(r);
    if (!r->open)
        server_request_free(r);
}

static void lose(struct server_request *r)
{
    server_log_lost(r->server);
    server_request_abort(r);
}

void server_request_lose_taken(struct server *s)
{
    if (s->taken)
        lose(s->taken);
    s->taken = NULL;
}

bool server_request_drop(struct server *s)
{
    if (list_empty(&s->line))
        return false;
    lose(CONTAINER_OF(s->line.next, struct server_request, line_node));
    return true;
}

bool server_request_reachable(const struct server_request *r)
{
    return r->open && !r->gone && !r->aborted;
}

enum err_kind server_request_write(struct server_request *r, const char *data, size_t len)
{
    if (r->no_body)
        return ERR_NONE;
    if (!server_request_reachable(r))
        return ERR_CLOSED;
    return r->carrier->write(r, data, len);
}

size_t server_request_unsent(const struct server_request *r)
{
    return r->carrier->unsent(r);
}

void server_request_finish(struct server_request *r)
{
    if (r->state != SERVER_REQUEST_STREAM || r->finished)
        return;
    r->finished = true;
    if (r->open)
        r->carrier->finish(r);
}

void server_request_abort(struct server_request *r)
{
    if (r->aborted || !server_request_unanswered(r))
        return;
    r->aborted = true;
    leave_line(r);
    server_request_room(r);
    if (r->open)
        r->carrier->abort(r);
}
