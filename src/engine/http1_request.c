#include "engine/exchange.h"
#include "engine/http1.h"
#include "ground/base64.h"
#include <string.h>
#include <strings.h>

struct writer {
    struct buf *out;
    enum err_kind kind;
};

static void put(struct writer *w, const char *text, size_t len)
{
    if (w->kind == ERR_NONE)
        w->kind = buf_append(w->out, text, len);
}

static void put_str(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void field(struct writer *w, const char *name, const char *value)
{
    put_str(w, name);
    put(w, ": ", 2);
    put_str(w, value);
    put(w, "\r\n", 2);
}

/* What the caller's own headers name, so that it is not added. */
struct given {
    bool host, user_agent, accept, accept_encoding;
};

static void note(struct given *g, const char *name, size_t len)
{
    g->host = g->host || (len == 4 && strcasecmp(name, "host") == 0);
    g->accept = g->accept || (len == 6 && strcasecmp(name, "accept") == 0);
    g->user_agent = g->user_agent || (len == 10 && strcasecmp(name, "user-agent") == 0);
    g->accept_encoding =
        g->accept_encoding || (len == 15 && strcasecmp(name, "accept-encoding") == 0);
}

static void put_line(struct writer *w, const struct exchange *x)
{
    put_str(w, x->method);
    put(w, " ", 1);
    if (exchange_asks_proxy(x)) { /* the absolute form */
        put_str(w, "http://");
        put_str(w, x->url->origin->authority);
    }
    put_str(w, x->url->target);
    put(w, " HTTP/1.1\r\n", 11);
}

/* What a proxy on the way needs that is asked for the URL. */
static void put_proxy_fields(struct writer *w, const struct exchange *x)
{
    char *pair = NULL;
    struct err err;
    if (w->kind == ERR_NONE)
        w->kind = proxy_credentials(x->proxy, x->engine->mem, &pair, &err);
    if (pair) {
        put_str(w, "Proxy-Authorization: Basic ");
        if (w->kind == ERR_NONE)
            w->kind = base64_append(w->out, pair, strlen(pair));
        put(w, "\r\n", 2);
        mem_free(x->engine->mem, pair);
    }
    field(w, "Proxy-Connection", "Keep-Alive");
}

static void put_length(struct writer *w, const struct exchange *x)
{
    char text[32];
    size_t len = x->transfer->spec.body_len;
    if (!exchange_sends_body(x))
        return;
    if (x->transfer->spec.upload && len == TRANSFER_LENGTH_UNKNOWN) {
        field(w, "Transfer-Encoding", "chunked");
        return;
    }
    snprintf(text, sizeof text, "%zu", len);
    field(w, "Content-Length", text);
}

static void put_cookies(struct writer *w, const struct exchange *x)
{
    size_t before = w->out->len;
    if (w->kind == ERR_NONE)
        w->kind = exchange_put_cookies(x, w->out);
    if (w->out->len > before)
        put(w, "\r\n", 2);
}

enum err_kind http1_write_head(const struct exchange *x, struct buf *out)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct headers *h = &spec->headers;
    struct writer w = {.out = out};
    struct given given = {0};
    for (size_t i = 0; i < h->count; i++) {
        if (exchange_sends_header(x, headers_name(h, i)))
            note(&given, headers_name(h, i), h->rows[i].name_len);
    }
    put_line(&w, x);
    if (!given.host)
        field(&w, "Host", x->url->origin->authority);
    if (!given.user_agent)
        field(&w, "User-Agent", x->engine->config.user_agent);
    if (!given.accept)
        field(&w, "Accept", "*/*");
    for (size_t i = 0; i < h->count; i++) {
        const char *name = headers_name(h, i);
        if (!exchange_sends_header(x, name))
            continue;
        if (spec->jar && strcasecmp(name, "cookie") == 0)
            continue; /* put_cookies does it */
        const char *value = headers_value(h, i);
        size_t len = h->rows[i].value_len;
        for (; len > 0 && (*value == ' ' || *value == '\t'); value++)
            len--;
        put(&w, name, h->rows[i].name_len);
        put(&w, ": ", len ? 2 : 1);
        put(&w, value, len);
        put(&w, "\r\n", 2);
    }
    if (spec->jar)
        put_cookies(&w, x);
    if (spec->compressed && !given.accept_encoding)
        field(&w, "Accept-Encoding", "gzip, deflate");
    if (exchange_asks_proxy(x))
        put_proxy_fields(&w, x);
    put_length(&w, x);
    put(&w, "\r\n", 2);
    return w.kind;
}
