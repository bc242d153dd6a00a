#include "exchange.h"
#include <string.h>

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

/* RFC 9110 15.4: what the next request is. */
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

/* The parts of the new URL; the strings are curl's. */
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

static CURLUcode resolve(struct target *t, CURLU *base, const char *location)
{
    t->handle = curl_url_dup(base);
    if (!t->handle)
        return CURLUE_OUT_OF_MEMORY;
    CURLUcode code = curl_url_set(t->handle, CURLUPART_URL, location,
                                  CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME);
    /* Credentials that a server hands out in a redirect are not ours to use. */
    if (code == CURLUE_OK)
        code = curl_url_set(t->handle, CURLUPART_USER, NULL, 0);
    if (code == CURLUE_OK)
        code = curl_url_set(t->handle, CURLUPART_PASSWORD, NULL, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(t->handle, CURLUPART_SCHEME, &t->scheme, 0);
    if (code != CURLUE_OK)
        return code;
    if (strcmp(t->scheme, "http") != 0 && strcmp(t->scheme, "https") != 0)
        return CURLUE_UNSUPPORTED_SCHEME;
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
    CURLUcode code = resolve(&to, x->url->handle, location);
    enum err_kind kind = ERR_NONE;
    if (code == CURLUE_OUT_OF_MEMORY)
        kind = err_set(err, ERR_MEMORY, "no memory for a redirect");
    else if (code == CURLUE_UNSUPPORTED_SCHEME)
        kind = fail(err, ERR_DENIED, x, "to something that is not http or https");
    else if (code != CURLUE_OK)
        kind = fail(err, ERR_PROTOCOL, x, "to something that is no URL");
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
        /* For good: what was dropped does not come back with a redirect that leads home. */
        if (strcasecmp(key, from->key) != 0)
            x->foreign = true;
    }
    target_fini(&to);
    return kind;
}
