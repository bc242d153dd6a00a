#include "engine/exchange.h"
#include <string.h>
#include <strings.h>

static CURLcode trust(CURL *c, const struct engine *e)
{
    CURLcode code = curl_easy_setopt(c, CURLOPT_CAINFO, e->ca_file);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_CAPATH, e->ca_folder);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_PROXY_CAINFO, e->ca_file);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_PROXY_CAPATH, e->ca_folder);
    return code;
}

bool opts_base(struct exchange *x)
{
    CURL *c = x->easy;
    const struct engine_config *config = &x->engine->config;
    CURLcode code = CURLE_OK;
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_USERAGENT, config->user_agent);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    /* Without a proxy in it, spares curl the look through the environment at each request. */
    if (!code && !x->engine->proxied[0] && !x->engine->proxied[1])
        code = curl_easy_setopt(c, CURLOPT_PROXY, "");
    /* One per request in flight, used or not: 16 KB each is the largest part of a waiting one. A
     * stream is read in larger pieces, as that is what its reader waits for. Refused, and taken for
     * another size, where libcurl has kept the handle's buffer, as it does behind requests that
     * shared a connection. */
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_BUFFERSIZE, x->roomy ? 40960L : 4096L);
    if (!code)
        code = trust(c, x->engine);
    if (code)
        return false;
    curl_easy_setopt(c, CURLOPT_PRIVATE, x);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->curl_text);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, response_on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, response_on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, response_on_prereq);
    curl_easy_setopt(c, CURLOPT_PREREQDATA, x);
    curl_easy_setopt(c, CURLOPT_DEBUGFUNCTION, response_on_debug);
    curl_easy_setopt(c, CURLOPT_DEBUGDATA, x);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, shard_open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(c, CURLOPT_CLOSESOCKETFUNCTION, shard_close_socket);
    curl_easy_setopt(c, CURLOPT_CLOSESOCKETDATA, x->engine);
    x->easy_dirty = false;
    return true;
}

bool exchange_keeps_across_origins(const char *name)
{
    return strcasecmp(name, "accept") == 0 || strcasecmp(name, "accept-language") == 0 ||
           strcasecmp(name, "user-agent") == 0 || strcasecmp(name, "content-type") == 0;
}

/* One line of the list, in curl's spelling: "Name;" sends the field empty, "Name:" suppresses it.
 */
static enum err_kind add_line(struct exchange *x, size_t *count, const char *name,
                              const char *separator, const char *value, size_t value_len)
{
    enum err_kind kind = buf_append_str(&x->text, name);
    if (kind == ERR_NONE)
        kind = buf_append_str(&x->text, separator);
    if (kind == ERR_NONE)
        kind = buf_append(&x->text, value, value_len);
    if (kind == ERR_NONE)
        kind = buf_append(&x->text, "", 1);
    (*count)++;
    return kind;
}

static enum err_kind add_cookies(struct exchange *x, size_t *count)
{
    size_t before = x->text.len;
    enum err_kind kind = exchange_put_cookies(x, &x->text);
    if (kind != ERR_NONE || x->text.len == before)
        return kind;
    (*count)++;
    return buf_append(&x->text, "", 1);
}

static enum err_kind build_text(struct exchange *x, bool has_body, size_t *count)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct headers *h = &spec->headers;
    bool has_type = false, has_expect = false, has_encoding = false;
    enum err_kind kind = ERR_NONE;
    buf_clear(&x->text);
    for (size_t i = 0; i < h->count && kind == ERR_NONE; i++) {
        const char *name = headers_name(h, i);
        if (x->foreign && !exchange_keeps_across_origins(name))
            continue;
        if (x->drop_body && strncasecmp(name, "content-", 8) == 0)
            continue;
        if (spec->jar && strcasecmp(name, "cookie") == 0)
            continue; /* add_cookies does it */
        has_type = has_type || strcasecmp(name, "content-type") == 0;
        has_expect = has_expect || strcasecmp(name, "expect") == 0;
        has_encoding = has_encoding || strcasecmp(name, "accept-encoding") == 0;
        /* Curl would take a blank value as the wish to send no such field. */
        const char *value = headers_value(h, i);
        size_t blank = strspn(value, " \t"), len = h->rows[i].value_len - blank;
        kind = add_line(x, count, name, len ? ": " : ";", value + blank, len);
    }
    if (kind == ERR_NONE && spec->jar)
        kind = add_cookies(x, count);
    if (kind == ERR_NONE && spec->compressed && !has_encoding)
        kind = add_line(x, count, "Accept-Encoding", ": ", "gzip, deflate", 13);
    /* A server that ignores Expect would cost a second. */
    if (kind == ERR_NONE && has_body && !has_expect)
        kind = add_line(x, count, "Expect", ":", "", 0);
    if (kind == ERR_NONE && has_body && !has_type)
        kind = add_line(x, count, "Content-Type", ":", "", 0);
    return kind;
}

static enum err_kind build_lines(struct exchange *x, bool has_body, struct curl_slist **out,
                                 struct err *err)
{
    size_t count = 0;
    enum err_kind kind = build_text(x, has_body, &count);
    if (kind != ERR_NONE)
        return err_set(err, kind, "the request headers do not fit into memory");
    if (count > x->line_cap) {
        struct curl_slist *lines = mem_realloc(x->engine->mem, x->lines, count * sizeof *lines);
        if (!lines)
            return err_set(err, ERR_MEMORY, "no memory for the request headers");
        x->lines = lines;
        x->line_cap = count;
    }
    char *p = x->text.data;
    for (size_t i = 0; i < count; i++) {
        x->lines[i].data = p;
        x->lines[i].next = i + 1 < count ? &x->lines[i + 1] : NULL;
        p += strlen(p) + 1;
    }
    *out = count ? x->lines : NULL;
    return ERR_NONE;
}

bool exchange_sends_body(const struct exchange *x)
{
    if (x->drop_body || strcmp(x->method, "HEAD") == 0)
        return false;
    return x->transfer->spec.body || x->transfer->spec.upload || strcmp(x->method, "POST") == 0 ||
           strcmp(x->method, "PUT") == 0 || strcmp(x->method, "PATCH") == 0;
}

/* UPLOAD rather than POST: it sends in chunks where the length is not known. */
static CURLcode set_upload(struct exchange *x)
{
    CURL *c = x->easy;
    size_t len = x->transfer->spec.body_len;
    x->easy_dirty = true;
    curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
    curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE,
                     len == TRANSFER_LENGTH_UNKNOWN ? (curl_off_t)-1 : (curl_off_t)len);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, response_on_upload);
    curl_easy_setopt(c, CURLOPT_READDATA, x);
    return curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->method);
}

static CURLcode set_method(struct exchange *x, bool has_body)
{
    if (has_body && x->transfer->spec.upload)
        return set_upload(x);
    CURL *c = x->easy;
    const struct transfer_spec *spec = &x->transfer->spec;
    const char *custom = NULL;
    if (strcmp(x->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
        if (has_body) {
            curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)spec->body_len);
            curl_easy_setopt(c, CURLOPT_POSTFIELDS, spec->body ? spec->body : "");
            custom = strcmp(x->method, "POST") == 0 ? NULL : x->method;
        } else {
            curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
            custom = strcmp(x->method, "GET") == 0 ? NULL : x->method;
        }
    }
    return curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, custom);
}

static CURLcode set_tls(struct exchange *x)
{
    CURL *c = x->easy;
    const struct transfer_spec *spec = &x->transfer->spec;
    struct origin *g = x->url->origin;
    long version = CURL_HTTP_VERSION_1_1;
    bool prior = spec->http_version == HTTP_VERSION_2_PRIOR && !g->https;
    x->multiplexes = prior || (g->https && spec->http_version != HTTP_VERSION_1_1 &&
                               g->protocol != ORIGIN_HTTP1);
    /* libcurl (7.88) reads a connection for all its streams: one whose reader is slow would
     * hold up the others, and fail for the bytes that come meanwhile. */
    x->alone = x->multiplexes && spec->stream;
    x->shares = prior && !x->fresh && (x->alone ? g->idle_count > 0 : g->h2c);
    if (g->https ? spec->http_version != HTTP_VERSION_1_1 : x->shares)
        version = CURL_HTTP_VERSION_2TLS;
    else if (prior)
        version = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    g->h2c = g->h2c || (prior && !x->alone);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, version);
    /* Waiting for a connection that may multiplex saves handshakes; a host known to speak only
     * HTTP/1.1 would be served one by one. */
    bool wait = version == CURL_HTTP_VERSION_2TLS && x->multiplexes && !x->alone;
    curl_easy_setopt(c, CURLOPT_PIPEWAIT, wait ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, x->fresh ? 1L : 0L);
    /* Makes libcurl tell what it does, which is how we hear of a GOAWAY. */
    curl_easy_setopt(c, CURLOPT_VERBOSE, x->multiplexes ? 1L : 0L);
    /* Of HTTP this tells libcurl one thing: that a used connection which ended without an
     * answer is no reason to send again. What is left is the stream that the server refused. (The
     * library takes an answer that is followed by a reset at once for no answer.) */
    bool once = spec->once || (x->multiplexes && !exchange_idempotent(x));
    curl_easy_setopt(c, CURLOPT_RTSP_REQUEST, once ? CURL_RTSPREQ_RECEIVE : CURL_RTSPREQ_OPTIONS);
    CURLcode code = CURLE_OK;
    if (spec->insecure) {
        x->easy_dirty = true;
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (spec->ca_file) {
        x->easy_dirty = true;
        code = curl_easy_setopt(c, CURLOPT_CAINFO, spec->ca_file);
        if (!code)
            code = curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (!code && spec->cert)
        code = curl_easy_setopt(c, CURLOPT_SSLCERT, spec->cert);
    if (!code && spec->key)
        code = curl_easy_setopt(c, CURLOPT_SSLKEY, spec->key);
    x->easy_dirty = x->easy_dirty || spec->cert || spec->key;
    return code;
}

bool exchange_proxied(const struct exchange *x)
{
    const char *proxy = x->transfer->spec.proxy;
    return proxy ? *proxy != '\0' : x->engine->proxied[x->url->origin->https];
}

const char *exchange_connect_to(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    const char *line = spec->connect_to;
    size_t host_len = strlen(g->host);
    for (size_t i = 0; i < spec->connect_to_count; i++, line += strlen(line) + 1) {
        if (strncasecmp(line, g->host, host_len) != 0 || line[host_len] != ':')
            continue;
        const char *port = line + host_len + 1;
        if (*port == ':' || (unsigned)strtoul(port, NULL, 10) == g->port)
            return line;
    }
    return NULL;
}

/* How the connection is made, where few say anything about it. */
static CURLcode set_route(struct exchange *x)
{
    CURL *c = x->easy;
    const struct transfer_spec *spec = &x->transfer->spec;
    CURLcode code = CURLE_OK;
    const char *line = exchange_connect_to(x);
    if (!spec->proxy && !spec->unix_socket && !line)
        return code;
    x->easy_dirty = true;
    if (spec->proxy) {
        code = curl_easy_setopt(c, CURLOPT_PROXY, spec->proxy);
        if (!code)
            code = curl_easy_setopt(c, CURLOPT_NOPROXY, "");
    }
    if (!code && spec->unix_socket)
        code = curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, spec->unix_socket);
    if (!code && line) {
        /* Not by the address book: what it leads to would be shared with other requests. */
        x->connect_to_line = (struct curl_slist){.data = (char *)(uintptr_t)line};
        code = curl_easy_setopt(c, CURLOPT_CONNECT_TO, &x->connect_to_line);
    }
    return code;
}

/* With HTTP/2 what one read of the connection brings (32 KB) must fit: of what does not libcurl
 * (7.88) keeps the rest aside, holds the whole connection up for it, and forgets the stream's end
 * if that was in it. */
bool opts_need_room(const struct transfer_spec *spec, bool https)
{
    return spec->stream || spec->http_version >= HTTP_VERSION_2 ||
           (https && spec->http_version != HTTP_VERSION_1_1);
}

enum err_kind opts_hop(struct exchange *x, struct err *err)
{
    CURL *c = x->easy;
    /* A handle that had a stream refused may keep the note of it (libcurl 7.88 has two ways to send
     * again, and clears it on one), and would send the next request twice if its connection is
     * lost. After some failures (a proxy without a host) libcurl reads more than the handle's
     * buffer holds when that is set up anew: a fresh handle has a fresh buffer. */
    bool too_small = !x->roomy && opts_need_room(&x->transfer->spec, x->url->origin->https);
    bool usable = !x->easy_spent && !too_small;
    /* All that a request may set is set below each time, so only what few set needs the reset. */
    if (usable && x->easy_dirty) {
        curl_easy_reset(c);
        usable = opts_base(x);
    }
    if (!usable) {
        CURL *fresh = curl_easy_init();
        if (!fresh)
            return err_set(err, ERR_MEMORY, "no memory for a request");
        curl_easy_cleanup(c);
        x->easy = c = fresh;
        x->easy_spent = false;
        x->roomy = x->roomy || too_small;
        if (!opts_base(x))
            return err_set(err, ERR_MEMORY, "no memory for a request");
    }
    bool has_body = exchange_sends_body(x);
    struct curl_slist *lines = NULL;
    if (build_lines(x, has_body, &lines, err) != ERR_NONE)
        return err->kind;
    CURLcode code = set_method(x, has_body);
    if (!code)
        code = set_tls(x);
    if (!code)
        code = set_route(x);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_CURLU, x->url->handle);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_HTTPHEADER, lines);
    struct curl_slist *resolve = NULL;
    if (x->addresses.len > 0) {
        x->address_line = (struct curl_slist){.data = x->addresses.data};
        resolve = &x->address_line;
    }
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_RESOLVE, resolve);
    /* Ours decides. libcurl's own stays a little above it, because it divides that time among
     * the addresses of a host that has several. */
    uint64_t connect_ms = x->transfer->spec.limits.connect_ms;
    if (connect_ms == 0 || connect_ms > 0x7fff0000)
        connect_ms = 0x7fff0000;
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms + 1000);
    curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 0L);
    x->uploading = has_body && (x->transfer->spec.upload || x->transfer->spec.body_len > 64 * 1024);
    if (code == CURLE_OK)
        return ERR_NONE;
    err_set(err, code == CURLE_OUT_OF_MEMORY ? ERR_MEMORY : ERR_INTERNAL,
            "libcurl refused an option: %s", curl_easy_strerror(code));
    err->code = (int)code;
    return err->kind;
}

bool exchange_idempotent(const struct exchange *x)
{
    return transfer_idempotent_as(x->transfer, x->method);
}

const char *exchange_environment_proxy(bool https)
{
    /* HTTP_PROXY in capitals may come from a request header (CGI): curl ignores it, too. */
    const char *const names[] = {https ? "https_proxy" : "http_proxy",
                                 https ? "HTTPS_PROXY" : "all_proxy", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return value;
    }
    return NULL;
}
