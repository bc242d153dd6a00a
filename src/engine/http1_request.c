#include "engine/http1_request.h"
#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include "engine/request_fields.h"
#include "ground/base64.h"
#include <string.h>

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

/* The fields that a proxy needs if it is asked for the whole URL. */
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

static enum err_kind put_field(void *arg, const char *name, size_t name_len, const char *value,
                               size_t value_len)
{
    struct writer *w = arg;
    put(w, name, name_len);
    put(w, ": ", value_len ? 2 : 1);
    put(w, value, value_len);
    put(w, "\r\n", 2);
    return w->kind;
}

enum err_kind http1_write_head(const struct exchange *x, struct buf *out)
{
    struct writer w = {.out = out};
    put_line(&w, x);
    if (w.kind == ERR_NONE)
        w.kind = request_fields(x, put_field, &w);
    if (exchange_asks_proxy(x))
        put_proxy_fields(&w, x);
    put_length(&w, x);
    put(&w, "\r\n", 2);
    return w.kind;
}
