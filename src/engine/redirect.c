#include "engine/redirect.h"
#include "engine/exchange_types.h"
#include "ground/reference.h"
#include <string.h>
#include <strings.h>

/* For an absolute URL that is made of two. A header line is shorter than this, and so is a base
 * that came in one. */
#define REFERENCE_BYTES_MAX ((size_t)1 << 20)

bool redirect_wanted(const struct exchange *x)
{
    int status = x->transfer->result.status;
    bool is_redirect =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    return is_redirect && x->transfer->spec.follow &&
           headers_get(&x->transfer->result.headers, "location", NULL, NULL);
}

static enum err_kind fail(struct err *err, enum err_kind kind, const struct exchange *x,
                          const char *what)
{
    err_set(err, kind, "%s redirects %s", x->url->origin->key, what);
    return err_reason(err, "redirect");
}

/* The method of the next request (RFC 9110 15.4). */
static void choose_method(struct exchange *x)
{
    int status = x->transfer->result.status;
    bool post = strcmp(x->method, "POST") == 0;
    bool safe = strcmp(x->method, "HEAD") == 0 || strcmp(x->method, "GET") == 0;
    if ((status == 303 && !safe) || ((status == 301 || status == 302) && post)) {
        x->method = "GET";
        x->drop_body = true;
    }
}

/* The parts of the new URL; the strings belong to libcurl. */
struct target {
    CURLU *handle;
    char *scheme, *host, *port, *url;
};

static void target_fini(struct target *t)
{
    curl_free(t->scheme);
    curl_free(t->host);
    curl_free(t->port);
    curl_free(t->url);
    if (t->handle)
        curl_url_cleanup(t->handle);
}

/* Spaces behind the authority are encoded as libcurl 7.88 encodes them. There it leaves those of
 * the fragment, and then does not read its own URL; libcurl 8 refuses all of them. */
static enum err_kind encode_spaces(struct buf *out, const char *url)
{
    const char *rest = strstr(url, "://");
    char part = '/'; /* of the URL: '/', '?' or '#' */
    rest = rest ? rest + 3 + strcspn(rest + 3, "/?#") : url;
    enum err_kind kind = buf_append(out, url, (size_t)(rest - url));
    while (kind == ERR_NONE && *rest) {
        size_t len = strcspn(rest, " ?#");
        kind = buf_append(out, rest, len);
        rest += len;
        if (kind != ERR_NONE || !*rest)
            break;
        if (*rest == ' ')
            kind = buf_append_str(out, part == '?' ? "+" : "%20");
        else
            kind = buf_append(out, rest, 1);
        if (*rest == '#' || (*rest == '?' && part == '/'))
            part = *rest;
        rest++;
    }
    return kind;
}

/* The whole URL that `location` leads to. libcurl (7.88) loses the last segment and the query where
 * only a fragment, or nothing, is given, and empty segments; so it gets the absolute form. */
static enum err_kind make_absolute(struct buf *out, const char *base, const char *location,
                                   struct mem *mem)
{
    struct buf raw;
    buf_init(&raw, mem, REFERENCE_BYTES_MAX);
    enum err_kind kind = reference_resolve(&raw, base, location);
    if (kind == ERR_NONE)
        kind = encode_spaces(out, raw.data);
    buf_fini(&raw);
    return kind;
}

static CURLUcode set_url(CURLU *handle, CURLU *base, const char *location, struct mem *mem)
{
    char *from = NULL;
    struct buf absolute;
    buf_init(&absolute, mem, 3 * REFERENCE_BYTES_MAX); /* each byte may be a space */
    CURLUcode code = curl_url_get(base, CURLUPART_URL, &from, 0);
    if (code == CURLUE_OK) {
        enum err_kind kind = make_absolute(&absolute, from, location, mem);
        code = kind == ERR_NONE     ? CURLUE_OK
               : kind == ERR_MEMORY ? CURLUE_OUT_OF_MEMORY
                                    : CURLUE_MALFORMED_INPUT;
    }
    if (code == CURLUE_OK && strncasecmp(absolute.data, "http:", 5) != 0 &&
        strncasecmp(absolute.data, "https:", 6) != 0)
        code = CURLUE_UNSUPPORTED_SCHEME;
    if (code == CURLUE_OK)
        code = curl_url_set(handle, CURLUPART_URL, absolute.data, CURLU_URLENCODE);
    curl_free(from);
    buf_fini(&absolute);
    return code;
}

static CURLUcode resolve(struct target *t, CURLU *base, const char *location, struct mem *mem)
{
    t->handle = curl_url();
    if (!t->handle)
        return CURLUE_OUT_OF_MEMORY;
    CURLUcode code = set_url(t->handle, base, location, mem);
    /* Credentials that a server hands out in a redirect are not ours to use. */
    if (code == CURLUE_OK)
        code = curl_url_set(t->handle, CURLUPART_USER, NULL, 0);
    if (code == CURLUE_OK)
        code = curl_url_set(t->handle, CURLUPART_PASSWORD, NULL, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(t->handle, CURLUPART_SCHEME, &t->scheme, 0);
    if (code != CURLUE_OK)
        return code;
    code = curl_url_get(t->handle, CURLUPART_HOST, &t->host, 0);
    if (code == CURLUE_OK && !transfer_host_usable(t->host))
        code = CURLUE_BAD_HOSTNAME;
    if (code == CURLUE_OK)
        code = curl_url_get(t->handle, CURLUPART_PORT, &t->port, CURLU_DEFAULT_PORT);
    if (code == CURLUE_OK)
        code = curl_url_get(t->handle, CURLUPART_URL, &t->url, 0);
    return code;
}

enum err_kind redirect_next(struct exchange *x, char **url, struct err *err)
{
    const struct transfer *t = x->transfer;
    const struct origin *from = x->url->origin;
    size_t len = 0;
    const char *location = headers_get(&t->result.headers, "location", NULL, &len);
    if (t->result.redirects >= t->spec.max_redirects)
        return fail(err, ERR_PROTOCOL, x, "too often");
    struct target to = {0};
    CURLUcode code = resolve(&to, x->url->handle, location, t->mem);
    enum err_kind kind = ERR_NONE;
    if (code == CURLUE_OUT_OF_MEMORY)
        kind = err_set(err, ERR_MEMORY, "no memory for a redirect");
    else if (code == CURLUE_UNSUPPORTED_SCHEME)
        kind = fail(err, ERR_DENIED, x, "to something that is not http or https");
    else if (code != CURLUE_OK)
        kind = fail(err, ERR_PROTOCOL, x, "to something that is not a URL");
    else if (from->https && strcmp(to.scheme, "https") != 0)
        kind = fail(err, ERR_DENIED, x, "from https to http");
    choose_method(x);
    if (kind == ERR_NONE && t->spec.upload && !x->drop_body)
        kind = fail(err, ERR_PROTOCOL, x, "a body that cannot be sent a second time");
    if (kind == ERR_NONE) {
        *url = mem_strndup(t->mem, to.url, strlen(to.url));
        if (!*url)
            kind = err_set(err, ERR_MEMORY, "no memory for a redirect");
    }
    if (kind == ERR_NONE) {
        char key[320];
        snprintf(key, sizeof key, "%s://%s:%s", to.scheme, to.host, to.port);
        /* This holds for the rest of the transfer: what was dropped does not come back if a later
         * redirect leads home. */
        if (strcasecmp(key, from->key) != 0)
            x->foreign = true;
    }
    target_fini(&to);
    return kind;
}
