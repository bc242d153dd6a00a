#include "engine/simulate.h"
#include "engine/exchange_failure.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "engine/request_fields.h"
#include "engine/response.h"
#include <string.h>
#include <strings.h>

/* So many bytes are handed over at once. */
enum { PIECE = 16 * 1024 };

struct simulation {
    struct url_entry *url; /* keeps the origin */
    struct list calls;
    size_t max_body, max_unread;
    void *owner;
};

/* ---- origins ---- */

enum err_kind simulate_begin(struct engine *e, const char *url, size_t max_body, size_t max_unread,
                             void *owner, struct simulation **out, struct err *err)
{
    if (e->threads)
        return err_set(err, ERR_INVALID,
                       "an origin cannot be simulated while network threads are in use");
    struct simulation *s = mem_calloc(e->mem, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory to simulate an origin");
    if (origins_get(&e->origins, url, &s->url, err) != ERR_NONE) {
        mem_free(e->mem, s);
        return err->kind;
    }
    struct origin *g = s->url->origin;
    if (g->simulation) {
        err_set(err, ERR_INVALID, "%s is already simulated", g->key);
        err_reason(err, "in_use");
        origins_release(&e->origins, s->url);
        mem_free(e->mem, s);
        return err->kind;
    }
    list_init(&s->calls);
    s->max_body = max_body;
    s->max_unread = max_unread;
    s->owner = owner;
    g->simulation = s;
    *out = s;
    return ERR_NONE;
}

void simulate_end(struct engine *e, struct simulation *s)
{
    if (!s)
        return;
    s->url->origin->simulation = NULL;
    e->pumping = true; /* no request gets a place meanwhile */
    while (!list_empty(&s->calls)) {
        struct call *c = CONTAINER_OF(s->calls.next, struct call, node);
        c->origin = NULL;
        if (!c->taken) {
            simulate_call_free(e, c);
            continue;
        }
        list_unlink(&c->node);
        c->out_sent = c->out.len;
        c->ended = c->broken = true;
        if (c->exchange)
            simulate_go_on(c->exchange);
    }
    e->pumping = false;
    origins_release(&e->origins, s->url);
    mem_free(e->mem, s);
    e->upcalls->pump(e);
    loop_wake(e->loop);
}

void *simulate_call_owner(const struct call *c)
{
    return c->origin ? c->origin->owner : NULL;
}

/* ---- calls ---- */

static void tell(struct engine *e, struct call *c, unsigned events)
{
    c->events |= events;
    if (!list_linked(&c->event_node))
        list_push_back(&e->call_events, &c->event_node);
    loop_wake(e->loop);
}

struct call *simulate_next_call(struct engine *e, unsigned *events)
{
    struct list *node = list_pop_front(&e->call_events);
    if (!node)
        return NULL;
    struct call *c = CONTAINER_OF(node, struct call, event_node);
    *events = c->events;
    c->events = 0;
    c->taken = true;
    return c;
}

static void asked(struct exchange *x)
{
    x->sent_ns = x->activity_ns = loop_now_ns(x->engine->loop);
    x->uploading = false;
    exchange_rearm(x);
    tell(x->engine, x->call, CALL_ASKED);
}

/* Our side has stopped the hop: see x->stop. */
static void stop(struct exchange *x)
{
    x->engine->upcalls->hop_done(x, HOP_STOPPED, NULL);
}

void simulate_launch(struct exchange *x)
{
    struct engine *e = x->engine;
    struct simulation *s = x->url->origin->simulation;
    x->state = EXCHANGE_WAITING;
    x->launched_ns = loop_now_ns(e->loop);
    response_begin(x);
    struct call *c = NULL;
    if (!(c = mem_calloc(e->mem, sizeof *c))) {
        err_set(&x->stop, ERR_MEMORY, "no memory for a request");
        stop(x);
        return;
    }
    list_init(&c->event_node);
    buf_init(&c->body, e->mem, s->max_body);
    buf_init(&c->out, e->mem, s->max_unread);
    c->mark = SIZE_MAX;
    c->origin = s;
    c->exchange = x;
    list_push_back(&s->calls, &c->node);
    x->call = c;
    x->hop_attempts++;
    x->transfer->result.wire_attempts++;
    e->stats.wire_attempts++;
    x->uploading = x->transfer->spec.upload && exchange_sends_body(x);
    if (x->uploading)
        simulate_go_on(x);
    else
        asked(x);
}

void simulate_leave(struct exchange *x)
{
    struct call *c = x->call;
    if (!c)
        return;
    x->call = NULL;
    c->exchange = NULL;
    c->origin = NULL;
    list_unlink(&c->node);
    if (c->taken)
        tell(x->engine, c, CALL_OVER);
    else
        simulate_call_free(x->engine, c);
}

static enum hop_end broken_off(const struct exchange *x)
{
    return x->head_done ? HOP_CUT : HOP_LOST;
}

void simulate_call_free(struct engine *e, struct call *c)
{
    struct exchange *x = c->exchange;
    list_unlink(&c->event_node);
    list_unlink(&c->node);
    c->exchange = NULL;
    buf_fini(&c->body);
    buf_fini(&c->out);
    mem_free(e->mem, c);
    if (x) {
        x->call = NULL;
        x->engine->upcalls->hop_done(x, broken_off(x), NULL);
        e->upcalls->pump(e);
        loop_wake(e->loop);
    }
}

/* ---- what was asked for ---- */

const char *simulate_call_body(const struct call *c, size_t *len)
{
    const struct exchange *x = c->exchange;
    if (!x || !exchange_sends_body(x)) {
        *len = 0;
        return "";
    }
    const struct transfer_spec *spec = &x->transfer->spec;
    *len = spec->upload ? c->body.len : spec->body_len;
    const char *body = spec->upload ? c->body.data : spec->body;
    return body ? body : "";
}

static enum err_kind add(struct headers *h, const char *name, const char *value)
{
    return headers_add(h, name, strlen(name), value, strlen(value));
}

static enum err_kind fill_headers(const struct exchange *x, struct headers *h, size_t body_len)
{
    char text[32];
    enum err_kind kind = request_fields_into(x, h);
    if (kind == ERR_NONE && exchange_sends_body(x)) {
        snprintf(text, sizeof text, "%zu", body_len);
        kind = add(h, "Content-Length", text);
    }
    return kind;
}

enum err_kind simulate_call_request(const struct call *c, const char **method, char **target,
                                    struct headers *headers)
{
    const struct exchange *x = c->exchange;
    size_t body_len;
    ASSERT(x);
    simulate_call_body(c, &body_len);
    *method = x->method;
    const char *path = x->url->url + strlen(x->url->origin->https ? "https://" : "http://");
    path += strcspn(path, "/?#");
    size_t len = strcspn(path, "#");
    char *text = mem_alloc(x->engine->mem, len + 2);
    if (!text)
        return ERR_MEMORY;
    snprintf(text, len + 2, "%s%.*s", *path == '/' ? "" : "/", (int)len, path);
    *target = text;
    enum err_kind kind = fill_headers(x, headers, body_len);
    if (kind != ERR_NONE) {
        mem_free(x->engine->mem, text);
        *target = NULL;
    }
    return kind;
}

/* ---- the answer ---- */

size_t simulate_call_unread(const struct call *c)
{
    return c->out.len - c->out_sent;
}

/* Refuses what the reader of a real connection would refuse. */
static bool is_good_field(struct exchange *x, const char *name, size_t name_len, const char *value,
                          size_t value_len)
{
    const char *fault = NULL;
    if (name_len + value_len + 4 > HEADER_LINE_MAX)
        exchange_failure_too_large(x, "bytes in one header", HEADER_LINE_MAX, &x->stop);
    else if (!headers_valid_name(name, name_len))
        fault = "a line that is not a header";
    else if (!headers_valid_value(value, value_len))
        fault = "a control byte in a header value";
    else if (strcasecmp(name, "transfer-encoding") == 0 && strcasecmp(value, "chunked") != 0 &&
             strcasecmp(value, "identity") != 0)
        fault = "a Transfer-Encoding that was not asked for";
    if (fault)
        err_set(&x->stop, ERR_PROTOCOL, "%s sent %s", x->url->origin->key, fault);
    return x->stop.kind == ERR_NONE;
}

static bool take_head(struct exchange *x, int status, const char *reason, const struct headers *h)
{
    response_take_status(x, "1.1", status, reason);
    size_t bytes = strlen(reason) + 16;
    bool good = true;
    for (size_t i = 0; i < h->count && good; i++) {
        const char *name = headers_name(h, i), *value = headers_value(h, i);
        size_t name_len = h->rows[i].name_len, len = h->rows[i].value_len;
        for (; len > 0 && (*value == ' ' || *value == '\t'); value++)
            len--;
        while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
            len--;
        bytes += name_len + len + 4;
        good = is_good_field(x, name, name_len, value, len) &&
               response_take_field(x, name, name_len, value, len, false);
    }
    response_note_bytes(x, bytes);
    return good && response_take_head_end(x);
}

void simulate_call_head(struct engine *e, struct call *c, int status, const char *reason,
                        const struct headers *headers)
{
    struct exchange *x = c->exchange;
    if (!x)
        return;
    if (!take_head(x, status, reason, headers)) {
        stop(x);
        e->upcalls->pump(e);
    }
    loop_wake(e->loop);
}

/* Takes all of an upload that is there: no slow connection holds it up. */
static void take_upload(struct exchange *x)
{
    struct call *c = x->call;
    char piece[4096];
    while (x->uploading) {
        size_t n = response_take_upload(x, piece, sizeof piece);
        if (x->starved)
            return;
        if (n > 0 && !c->too_large && buf_append(&c->body, piece, n) != ERR_NONE) {
            c->too_large = true;
            buf_clear(&c->body);
        }
        if (n == 0)
            asked(x);
    }
}

/* False: that ended the hop. */
static bool give_body(struct exchange *x)
{
    struct call *c = x->call;
    while (c->out_sent < c->out.len && !x->paused && !x->ended) {
        size_t n = MIN(c->out.len - c->out_sent, (size_t)PIECE);
        enum response_take taken = response_take_body(x, c->out.data + c->out_sent, n);
        if (taken == RESPONSE_FULL)
            break;
        if (taken == RESPONSE_STOPPED) {
            stop(x);
            return false;
        }
        response_note_bytes(x, n);
        c->out_sent += n;
    }
    if (c->out_sent == c->out.len) {
        buf_clear(&c->out);
        c->out_sent = 0;
    }
    if (c->mark != SIZE_MAX && simulate_call_unread(c) <= c->mark) {
        c->mark = SIZE_MAX;
        tell(x->engine, c, CALL_ROOM);
    }
    return true;
}

bool simulate_go_on(struct exchange *x)
{
    struct call *c = x->call;
    if (x->uploading && !x->starved)
        take_upload(x);
    if (!give_body(x))
        return false;
    if (!c->ended || c->out_sent < c->out.len || x->ended)
        return true;
    c->complete = !c->broken;
    x->engine->upcalls->hop_done(x, c->broken ? broken_off(x) : HOP_DONE, NULL);
    return c->exchange == x;
}

static void go_on(struct engine *e, struct call *c)
{
    simulate_go_on(c->exchange);
    e->upcalls->pump(e);
    loop_wake(e->loop);
}

enum err_kind simulate_call_write(struct engine *e, struct call *c, const char *data, size_t len)
{
    if (!c->exchange || len == 0)
        return ERR_NONE;
    if (c->out_sent > c->out.len / 2) {
        memmove(c->out.data, c->out.data + c->out_sent, c->out.len - c->out_sent);
        c->out.len -= c->out_sent;
        c->out_sent = 0;
    }
    enum err_kind kind = buf_append(&c->out, data, len);
    if (kind == ERR_NONE)
        go_on(e, c);
    return kind;
}

void simulate_call_end(struct engine *e, struct call *c, bool broken)
{
    if (!c->exchange || c->ended)
        return;
    c->ended = true;
    c->broken = broken;
    go_on(e, c);
}
