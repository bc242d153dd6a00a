#include "engine/exchange_cookies.h"
#include "engine/exchange_types.h"
#include <string.h>
#include <strings.h>

/* A Host that the caller sets names the site whose cookies these are, as in libcurl. */
static const char *host_of(const struct exchange *x, char out[static 256])
{
    size_t len = 0;
    const char *host =
        x->foreign ? NULL : headers_get(&x->transfer->spec.headers, "host", NULL, &len);
    if (!host)
        return x->url->origin->host;
    host += strspn(host, " \t");
    len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ": \t");
    snprintf(out, 256, "%.*s", (int)MIN(len, (size_t)255), host);
    return out[0] ? out : x->url->origin->host;
}

static struct cookie_jar_site site_of(const struct exchange *x, char host[static 256])
{
    const char *target = x->url->target;
    return (struct cookie_jar_site){.https = x->url->origin->https,
                                    .host = host_of(x, host),
                                    .path = target,
                                    .path_len = strcspn(target, "?")};
}

static int64_t date_s(const struct exchange *x)
{
    return (int64_t)loop_date_s(x->engine->loop);
}

static enum err_kind separate(struct buf *out, size_t begin)
{
    return out->len > begin ? buf_append_str(out, "; ") : ERR_NONE;
}

/* The caller's own cookies come first: most servers that see a name twice take the first one. They
 * are for the first origin alone. */
static enum err_kind put_own(const struct exchange *x, struct buf *out, size_t begin)
{
    const struct headers *h = &x->transfer->spec.headers;
    enum err_kind kind = ERR_NONE;
    size_t from = 0, len = 0;
    if (x->foreign)
        return kind;
    for (const char *own; kind == ERR_NONE && (own = headers_get(h, "cookie", &from, &len));) {
        size_t blank = strspn(own, " \t");
        if (len > blank)
            kind = separate(out, begin);
        if (kind == ERR_NONE)
            kind = buf_append(out, own + blank, len - blank);
    }
    return kind;
}

enum err_kind exchange_put_cookies(const struct exchange *x, struct buf *out)
{
    char host[256];
    struct cookie_jar_site site = site_of(x, host);
    size_t begin = out->len;
    enum err_kind kind = put_own(x, out, begin);
    size_t end_of_own = out->len;
    if (kind == ERR_NONE)
        kind = separate(out, begin);
    size_t begin_of_jar = out->len;
    if (kind == ERR_NONE)
        kind = cookie_jar_header(x->transfer->spec.jar, &site, date_s(x), out);
    if (out->len == begin_of_jar)
        out->len = end_of_own; /* nothing follows the separator */
    return kind;
}

enum err_kind exchange_take_cookies(const struct exchange *x)
{
    const struct headers *h = &x->transfer->result.headers;
    char host[256];
    size_t from = 0, len = 0;
    enum err_kind kind = ERR_NONE;
    for (const char *text;
         kind == ERR_NONE && (text = headers_get(h, "set-cookie", &from, &len));) {
        struct cookie_jar_site site = site_of(x, host);
        kind = cookie_jar_store(x->transfer->spec.jar, &site, text, len, date_s(x));
    }
    return kind;
}
