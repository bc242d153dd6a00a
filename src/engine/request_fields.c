#include "engine/request_fields.h"
#include "engine/exchange_cookies.h"
#include "engine/exchange_types.h"
#include <string.h>
#include <strings.h>

static bool kept_across_origins(const char *name)
{
    return strcasecmp(name, "accept") == 0 || strcasecmp(name, "accept-language") == 0 ||
           strcasecmp(name, "user-agent") == 0 || strcasecmp(name, "content-type") == 0;
}

/* False if a header of the caller is not sent in this hop. */
static bool is_sent(const struct exchange *x, const char *name)
{
    if (x->foreign && !kept_across_origins(name))
        return false;
    return !(x->drop_body && strncasecmp(name, "content-", 8) == 0);
}

bool request_expects(const struct exchange *x)
{
    size_t len = 0;
    const char *expect = headers_get(&x->transfer->spec.headers, "expect", NULL, &len);
    return expect && len == 12 && strncasecmp(expect, "100-continue", 12) == 0 &&
           is_sent(x, "expect");
}

/* Which fields the caller's own headers have, so that they are not added. */
struct given {
    bool host, user_agent, accept, accept_encoding;
};

static struct given find_given(const struct exchange *x)
{
    const struct headers *h = &x->transfer->spec.headers;
    struct given g = {0};
    for (size_t i = 0; i < h->count; i++) {
        const char *name = headers_name(h, i);
        size_t len = h->rows[i].name_len;
        if (!is_sent(x, name))
            continue;
        g.host = g.host || (len == 4 && strcasecmp(name, "host") == 0);
        g.accept = g.accept || (len == 6 && strcasecmp(name, "accept") == 0);
        g.user_agent = g.user_agent || (len == 10 && strcasecmp(name, "user-agent") == 0);
        g.accept_encoding =
            g.accept_encoding || (len == 15 && strcasecmp(name, "accept-encoding") == 0);
    }
    return g;
}

struct receiver {
    request_field_fn fn;
    void *arg;
    enum err_kind kind;
};

static void give(struct receiver *r, const char *name, const char *value)
{
    if (r->kind == ERR_NONE)
        r->kind = r->fn(r->arg, name, strlen(name), value, strlen(value));
}

static void give_cookies(struct receiver *r, const struct exchange *x)
{
    struct buf value;
    if (r->kind != ERR_NONE)
        return;
    buf_init(&value, x->engine->mem, HEADER_BYTES_MAX);
    r->kind = exchange_put_cookies(x, &value);
    if (r->kind == ERR_NONE && value.len > 0)
        r->kind = r->fn(r->arg, "Cookie", 6, value.data, value.len);
    buf_fini(&value);
}

/* Gives the caller's own headers as they are. */
static void give_own(struct receiver *r, const struct exchange *x)
{
    const struct headers *h = &x->transfer->spec.headers;
    bool has_jar = x->transfer->spec.jar;
    for (size_t i = 0; i < h->count && r->kind == ERR_NONE; i++) {
        const char *name = headers_name(h, i), *value = headers_value(h, i);
        size_t blank = strspn(value, " \t");
        if (!is_sent(x, name) || (has_jar && strcasecmp(name, "cookie") == 0))
            continue; /* give_cookies has the caller's cookies, too */
        r->kind =
            r->fn(r->arg, name, h->rows[i].name_len, value + blank, h->rows[i].value_len - blank);
    }
}

enum err_kind request_fields(const struct exchange *x, request_field_fn fn, void *arg)
{
    struct receiver r = {.fn = fn, .arg = arg};
    struct given given = find_given(x);
    if (!given.host)
        give(&r, "Host", x->url->origin->authority);
    if (!given.user_agent)
        give(&r, "User-Agent", x->engine->config.user_agent);
    if (!given.accept)
        give(&r, "Accept", "*/*");
    give_own(&r, x);
    if (x->transfer->spec.jar)
        give_cookies(&r, x);
    if (x->transfer->spec.compressed && !given.accept_encoding)
        give(&r, "Accept-Encoding", "gzip, deflate");
    return r.kind;
}

static enum err_kind add_field(void *headers, const char *name, size_t name_len, const char *value,
                               size_t value_len)
{
    return headers_add(headers, name, name_len, value, value_len);
}

enum err_kind request_fields_into(const struct exchange *x, struct headers *h)
{
    return request_fields(x, add_field, h);
}
