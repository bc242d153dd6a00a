#include "engine/transfer.h"
#include "ground/base64.h"
#include "ground/redact.h"
#include "ground/secret.h"
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

enum { URL_MAX = 64 * 1024, METHOD_MAX = 32 };

/* A larger body buffer is not worth keeping for the next exchange. */
enum { SMALL_BODY = 8 * 1024 };

/* The largest piece of an upload. The next piece waits until this one is sent. */
#define UPLOAD_MAX ((size_t)256 * 1024 * 1024)

static void set_defaults(struct transfer *t)
{
    t->spec.limits = (struct transfer_limits){
        .connect_ms = 10 * 1000, .first_byte_ms = 120 * 1000, .idle_ms = 120 * 1000};
    t->spec.max_body_bytes = (size_t)64 * 1024 * 1024;
    t->spec.max_redirects = 5;
    t->wanted = t->window = TRANSFER_WINDOW;
    t->result.expected_bytes = -1;
    t->result.timing = (struct transfer_timing){-1, -1, -1, -1, -1, -1};
}

static void init_links(struct transfer *t)
{
    list_init(&t->event_node);
    list_init(&t->crossing.command_node);
    list_init(&t->crossing.event_node);
}

struct transfer *transfer_new(struct mem *mem)
{
    struct transfer *t = mem_calloc(mem, sizeof *t);
    if (!t)
        return NULL;
    t->mem = mem;
    init_links(t);
    set_defaults(t);
    headers_init(&t->spec.headers, mem, 256, 256 * 1024);
    headers_init(&t->result.headers, mem, 256, 256 * 1024);
    headers_init(&t->result.trailers, mem, 256, 256 * 1024);
    buf_init(&t->result.body, mem, t->spec.max_body_bytes);
    buf_init(&t->upload, mem, UPLOAD_MAX);
    buf_init(&t->crossing.fed, mem, UPLOAD_MAX);
    buf_init(&t->crossing.came, mem, 0);
    buf_init(&t->unread, mem, 0);
    return t;
}

static void free_strings(struct transfer *t)
{
    mem_free(t->mem, t->spec.url);
    mem_free(t->mem, t->spec.method);
    mem_free(t->mem, t->spec.body);
    mem_free(t->mem, t->spec.ca_file);
    mem_free(t->mem, t->spec.cert);
    mem_free(t->mem, t->spec.key);
    mem_free(t->mem, t->spec.unix_socket);
    mem_free(t->mem, t->spec.proxy);
    mem_free(t->mem, t->spec.connect_to);
    cookie_jar_unref(t->spec.jar);
    mem_free(t->mem, t->result.url);
}

void transfer_reset(struct transfer *t)
{
    ASSERT(!t->exchange && !list_linked(&t->event_node));
    free_strings(t);
    struct transfer kept = *t;
    *t = (struct transfer){.mem = kept.mem};
    init_links(t);
    set_defaults(t);
    t->spec.headers = kept.spec.headers;
    t->result.headers = kept.result.headers;
    t->result.trailers = kept.result.trailers;
    t->result.body = kept.result.body;
    t->upload = kept.upload;
    t->crossing.fed = kept.crossing.fed;
    t->crossing.came = kept.crossing.came;
    t->unread = kept.unread;
    buf_fini(&t->upload); /* a next upload or stream is rare */
    buf_fini(&t->crossing.fed);
    buf_fini(&t->crossing.came);
    buf_fini(&t->unread);
    headers_clear(&t->spec.headers);
    headers_clear(&t->result.headers);
    headers_clear(&t->result.trailers);
    buf_clear(&t->result.body);
    t->result.body.max_bytes = t->spec.max_body_bytes;
    if (t->result.body.cap > SMALL_BODY) {
        buf_fini(&t->result.body);
        buf_init(&t->result.body, t->mem, t->spec.max_body_bytes);
    }
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    ASSERT(!t->exchange && !list_linked(&t->event_node));
    free_strings(t);
    headers_fini(&t->spec.headers);
    headers_fini(&t->result.headers);
    headers_fini(&t->result.trailers);
    buf_fini(&t->result.body);
    buf_fini(&t->upload);
    buf_fini(&t->crossing.fed);
    buf_fini(&t->crossing.came);
    buf_fini(&t->unread);
    mem_free(t->mem, t);
}

/* The length of "http://" or "https://" at the start, any case; 0: neither. */
static size_t scheme_length(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0 ? 7 : strncasecmp(url, "https://", 8) == 0 ? 8 : 0;
}

static enum err_kind check_bytes(const char *url, bool *has_high, struct err *err)
{
    *has_high = false;
    for (const char *p = url; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f)
            return err_set(err, ERR_INVALID, "url: a control byte (0x%02x) at offset %zu", c,
                           (size_t)(p - url));
        if (c == ' ')
            return err_set(err, ERR_INVALID, "url: a space at offset %zu (write %%20)",
                           (size_t)(p - url));
        if (c == '\\') /* read as "/" by some, as a plain byte by others */
            return err_set(err, ERR_INVALID, "url: a backslash at offset %zu (write %%5C)",
                           (size_t)(p - url));
        *has_high = *has_high || c >= 0x80;
    }
    return ERR_NONE;
}

/* A plain URL is known to be good without libcurl's parser, which is the most expensive part of the
 * check. */
static bool url_is_plain(const char *url, size_t scheme_len)
{
    static const char host_bytes[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    if (strncmp(url, "http", 4) != 0 || (scheme_len == 8 && url[4] != 's'))
        return false;
    const char *host = url + scheme_len;
    size_t len = strspn(host, host_bytes);
    if (len == 0 || len > 253 || host[0] == '.' || host[0] == '-')
        return false;
    const char *p = host + len;
    if (*p == ':') {
        size_t digits = strspn(++p, "0123456789");
        if (digits == 0 || digits > 5)
            return false;
        unsigned long port = strtoul(p, NULL, 10);
        if (port == 0 || port > 65535)
            return false;
        p += digits;
    }
    return (*p == '\0' || *p == '/' || *p == '?') && !strchr(p, '#');
}

static enum err_kind from_curl(CURLUcode code, struct err *err)
{
    switch (code) {
    case CURLUE_OUT_OF_MEMORY:
        return err_set(err, ERR_MEMORY, "no memory for a URL");
    case CURLUE_BAD_PORT_NUMBER:
        return err_set(err, ERR_INVALID, "url: the port is not a number from 1 to 65535");
    case CURLUE_NO_HOST:
    case CURLUE_BAD_HOSTNAME:
        return err_set(err, ERR_INVALID, "url: the host name is missing or not usable");
    case CURLUE_BAD_IPV6:
        return err_set(err, ERR_INVALID, "url: the IPv6 address is not usable");
    default:
        return err_set(err, ERR_INVALID, "url: not usable (%s)", curl_url_strerror(code));
    }
}

/* An Authorization header the caller gave wins. */
static enum err_kind add_basic(struct transfer *t, const char *user, const char *password,
                               struct err *err)
{
    if (headers_get(&t->spec.headers, "authorization", NULL, NULL))
        return ERR_NONE;
    char pair[1024];
    int n = snprintf(pair, sizeof pair, "%s:%s", user, password);
    if (n < 0 || (size_t)n >= sizeof pair)
        return err_set(err, ERR_INVALID, "url: user name and password are too long");
    if (strchr(user, ':') || !headers_valid_value(pair, (size_t)n))
        return err_set(err, ERR_INVALID, "url: user name or password has a forbidden byte");
    struct buf value;
    buf_init(&value, t->mem, 2 * sizeof pair);
    enum err_kind kind = buf_append_str(&value, "Basic ");
    if (kind == ERR_NONE)
        kind = base64_append(&value, pair, (size_t)n);
    if (kind == ERR_NONE)
        kind = headers_add(&t->spec.headers, "Authorization", 13, value.data, value.len);
    buf_fini(&value);
    return kind ? err_set(err, kind, "no room for the Authorization header") : ERR_NONE;
}

static enum err_kind take_userinfo(struct transfer *t, CURLU *u, struct err *err)
{
    char *user = NULL, *password = NULL;
    CURLUcode code = curl_url_get(u, CURLUPART_USER, &user, CURLU_URLDECODE);
    if (code == CURLUE_OK || code == CURLUE_NO_USER)
        code = curl_url_get(u, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
    enum err_kind kind = ERR_NONE;
    if (code != CURLUE_OK && code != CURLUE_NO_PASSWORD)
        kind = from_curl(code, err);
    else if (user || password)
        kind = add_basic(t, user ? user : "", password ? password : "", err);
    curl_free(user);
    curl_free(password);
    if (kind == ERR_NONE && curl_url_set(u, CURLUPART_USER, NULL, 0) != CURLUE_OK)
        kind = from_curl(CURLUE_OUT_OF_MEMORY, err);
    if (kind == ERR_NONE && curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) != CURLUE_OK)
        kind = from_curl(CURLUE_OUT_OF_MEMORY, err);
    return kind;
}

bool transfer_host_usable(const char *host)
{
    for (; *host; host++) {
        unsigned char c = (unsigned char)*host;
        if (c <= ' ' || c >= 0x7f)
            return false;
    }
    return true;
}

/* Writes the URL anew, without what does not go on the wire. */
static enum err_kind rewrite_url(struct transfer *t, bool has_high, struct err *err)
{
    CURLU *u = curl_url();
    if (!u)
        return from_curl(CURLUE_OUT_OF_MEMORY, err);
    char *text = NULL, *host = NULL, *port = NULL;
    enum err_kind kind = ERR_NONE;
    CURLUcode code = curl_url_set(u, CURLUPART_URL, t->spec.url, has_high ? CURLU_URLENCODE : 0);
    if (code == CURLUE_OK)
        kind = take_userinfo(t, u, err);
    if (code == CURLUE_OK && kind == ERR_NONE)
        code = curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
    if (code == CURLUE_OK && kind == ERR_NONE)
        code = curl_url_get(u, CURLUPART_HOST, &host, 0);
    if (code == CURLUE_OK && kind == ERR_NONE && !transfer_host_usable(host))
        kind =
            err_set(err, ERR_INVALID,
                    "url: the host name is not plain ASCII (write the form that begins with xn--)");
    if (code == CURLUE_OK && kind == ERR_NONE)
        code = curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    if (code == CURLUE_OK && kind == ERR_NONE && strcmp(port, "0") == 0)
        code = CURLUE_BAD_PORT_NUMBER;
    if (code == CURLUE_OK && kind == ERR_NONE)
        code = curl_url_get(u, CURLUPART_URL, &text, 0);
    if (code != CURLUE_OK)
        kind = from_curl(code, err);
    if (kind == ERR_NONE) {
        char *copy = mem_strndup(t->mem, text, strlen(text));
        if (copy) {
            mem_free(t->mem, t->spec.url);
            t->spec.url = copy;
        } else {
            kind = from_curl(CURLUE_OUT_OF_MEMORY, err);
        }
    }
    curl_free(text);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return kind;
}

static enum err_kind check_url(struct transfer *t, struct err *err)
{
    const char *url = t->spec.url;
    if (!url || !*url)
        return err_set(err, ERR_INVALID, "url: empty");
    if (strlen(url) > URL_MAX)
        return err_set(err, ERR_INVALID, "url: longer than %d bytes", URL_MAX);
    bool has_high;
    if (check_bytes(url, &has_high, err) != ERR_NONE)
        return err->kind;
    size_t scheme_len = scheme_length(url);
    if (scheme_len == 0) {
        char shown[100];
        redact_url(shown, sizeof shown, url, strlen(url));
        return err_set(err, ERR_INVALID, "url: must begin with http:// or https:// (%s)",
                       secret_hidden(shown));
    }
    /* Parsers of URLs disagree on these, so a request could go to another host than the one that
     * was checked. */
    size_t authority_len = strcspn(url + scheme_len, "/?#");
    const char *at = memchr(url + scheme_len, '@', authority_len);
    if (authority_len == 0)
        return from_curl(CURLUE_NO_HOST, err);
    if (at && memchr(at + 1, '@', authority_len - (size_t)(at + 1 - (url + scheme_len))))
        return err_set(err, ERR_INVALID, "url: more than one '@' before the path (write %%40)");
    if (url_is_plain(url, scheme_len) && !has_high)
        return ERR_NONE;
    return rewrite_url(t, has_high, err);
}

static enum err_kind check_method(const char *method, struct err *err)
{
    if (!method)
        return ERR_NONE;
    size_t len = strlen(method);
    if (len > METHOD_MAX || !headers_valid_method(method, len))
        return err_set(err, ERR_INVALID,
                       "method: not a word of letters, digits and !#$%%&'*+-.^_`|~");
    if (strcmp(method, "CONNECT") == 0)
        return err_set(err, ERR_INVALID, "method: CONNECT is for proxies");
    return ERR_NONE;
}

static enum err_kind check_headers(const struct headers *h, struct err *err)
{
    static const char *const ours[] = {"content-length", "transfer-encoding"};
    for (size_t i = 0; i < h->count; i++) {
        const char *name = headers_name(h, i);
        if (!headers_valid_name(name, h->rows[i].name_len))
            return err_set(err, ERR_INVALID, "headers: a name is empty or has a forbidden byte");
        if (!headers_valid_value(headers_value(h, i), h->rows[i].value_len))
            return err_set(err, ERR_INVALID, "headers: the value of '%.60s' has a control byte",
                           secret_hidden(name));
        for (size_t k = 0; k < ARRAY_LEN(ours); k++) {
            if (strcasecmp(name, ours[k]) == 0)
                return err_set(err, ERR_INVALID, "headers: '%s' is set by the runtime", ours[k]);
        }
    }
    return ERR_NONE;
}

static enum err_kind check_proxy(const char *proxy, struct err *err)
{
    static const char *const schemes[] = {"http://",    "https://",  "socks4://",
                                          "socks4a://", "socks5://", "socks5h://"};
    if (!proxy || !*proxy)
        return ERR_NONE;
    for (const char *p = proxy; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '\\')
            return err_set(err, ERR_INVALID, "proxy: a forbidden byte at offset %zu",
                           (size_t)(p - proxy));
    }
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strncasecmp(proxy, schemes[i], strlen(schemes[i])) == 0)
            return ERR_NONE;
    }
    return err_set(err, ERR_INVALID,
                   "proxy: must begin with http://, https://, socks5:// or socks5h:// (the last "
                   "leaves the look-up to the proxy)");
}

enum err_kind transfer_prepare(struct transfer *t, struct err *err)
{
    if (check_method(t->spec.method, err) != ERR_NONE)
        return err->kind;
    if (check_headers(&t->spec.headers, err) != ERR_NONE)
        return err->kind;
    if (check_proxy(t->spec.proxy, err) != ERR_NONE)
        return err->kind;
    return check_url(t, err);
}

const char *transfer_method(const struct transfer *t)
{
    return t->spec.method ? t->spec.method : "GET";
}

bool transfer_idempotent_as(const struct transfer *t, const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(method, methods[i]) == 0)
            return true;
    }
    return t->spec.idempotent || headers_get(&t->spec.headers, "idempotency-key", NULL, NULL);
}

bool transfer_idempotent(const struct transfer *t)
{
    return transfer_idempotent_as(t, transfer_method(t));
}
