/* The HTTP proxy: requests for absolute http:// addresses, and CONNECT. */
#include "faultd_relay.h"
#include <strings.h>

/* requests: passed on, or tried to. connects: tunnels that came about. refused: turned away, for
 * want of credentials or because the target is none of ours. */
static struct {
    unsigned long requests, connects, refused;
} counts;

/* Hosts that a CONNECT gets these bytes for; then the connection ends. */
static const struct {
    const char *host, *text;
} broken[] = {
    {"fold-first.test", "HTTP/1.1 200 OK\r\n X: y\r\nX-Proxy: faultd\r\n\r\n"},
    {"fold.test", "HTTP/1.1 502 Bad Gateway\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n"},
    {"fold-length.test", "HTTP/1.1 407 No\r\nContent-Length:\r\n 5\r\n\r\nproxy"},
    {"no-http.test", "hello from 1991\r\n\r\n"},
    {"cut.test", "HTTP/1.1 200 O"},
    {"empty.test", ""},
    {"bad-chunk.test", "HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"},
};

/* base64 of u:p:ss */
static const char credentials[] = "Basic dTpwOnNz";

void http_stats_json(struct bytes *out)
{
    bytes_printf(out, "\"proxy\":{\"requests\":%lu,\"connects\":%lu,\"refused\":%lu}",
                 counts.requests, counts.connects, counts.refused);
}

void http_stats_reset(void)
{
    counts.requests = counts.connects = counts.refused = 0;
}

static void answer(struct relay *r, const char *status, const char *extra)
{
    bytes_printf(&r->client.out,
                 "HTTP/1.1 %s\r\n%sX-Proxy: faultd\r\nContent-Length: 6\r\n\r\nproxy\n", status,
                 extra);
}

static void turn_away(struct relay *r, const char *status, const char *extra)
{
    counts.refused++;
    answer(r, status, extra);
    r->phase = RELAY_HTTP_BODY;
    r->discard = true;
}

/* HOST:PORT, [V6]:PORT or a host alone. */
static bool parse_authority(const char *text, size_t len, long absent_port, struct target *out)
{
    char host[256];
    bool bracket = len && *text == '[';
    const char *end = bracket ? memchr(text, ']', len) : NULL;
    const char *colon =
        memchr(bracket && end ? end : text, ':', len - (bracket && end ? (size_t)(end - text) : 0));
    if (bracket && !end)
        return false;
    const char *from = text + bracket;
    const char *to = bracket ? end : colon ? colon : text + len;
    if (to == from || (size_t)(to - from) >= sizeof host)
        return false;
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    return target_of(out, host, colon ? strtol(colon + 1, NULL, 10) : absent_port);
}

/* The request as its target is to get it. */
static void pass_on(struct relay *r, const struct request *req, const char *path)
{
    struct bytes *out = &r->server.out;
    bytes_printf(out, "%s %s%s%s%s %s\r\n", req->method, *path == '/' ? "" : "/", path,
                 *req->query ? "?" : "", req->query, req->version);
    for (size_t i = 0; i < req->header_count; i++) {
        if (strncasecmp(req->headers[i].name, "proxy-", 6) != 0)
            bytes_printf(out, "%s: %s\r\n", req->headers[i].name, req->headers[i].value);
    }
    bytes_printf(out, "Via: 1.1 faultd\r\n\r\n");
    counts.requests++;
}

static bool say_broken(struct relay *r, const char *authority)
{
    size_t len = strcspn(authority, ":");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        if (strlen(broken[i].host) != len || memcmp(broken[i].host, authority, len) != 0)
            continue;
        bytes_printf(&r->client.out, "%s", broken[i].text);
        relay_finish(r);
        return true;
    }
    return false;
}

static void take_request(struct relay *r, const struct request *req)
{
    struct target target;
    const char *given = request_header(req, "proxy-authorization");
    bool connect = strcmp(req->method, "CONNECT") == 0;
    const char *authority = connect ? req->path : req->path + 7;
    r->discard = false;
    body_begin(&r->body, req);
    if (r->auth && (!given || strcmp(given, credentials) != 0)) {
        turn_away(r, "407 Proxy Authentication Required",
                  "Proxy-Authenticate: Basic realm=\"faultd\"\r\n");
        return;
    }
    if (!connect && strncasecmp(req->path, "http://", 7) != 0) {
        turn_away(r, "400 Bad Request", "");
        return;
    }
    if (connect && say_broken(r, authority))
        return;
    size_t len = strcspn(authority, "/");
    if (len >= sizeof r->target || !parse_authority(authority, len, connect ? 0 : 80, &target)) {
        turn_away(r, "403 Forbidden", "");
        return;
    }
    r->connect = connect;
    /* The connection to the target is kept for the next request to it. */
    bool kept = r->server.fd >= 0 && !r->server.ended && !connect &&
                strncmp(r->target, authority, len) == 0 && !r->target[len];
    memcpy(r->target, authority, len);
    r->target[len] = 0;
    if (kept)
        r->phase = RELAY_HTTP_BODY;
    else
        relay_connect(r, &target);
    if (!connect && r->server.fd >= 0)
        pass_on(r, req, authority + len);
}

void http_connected(struct relay *r, bool ok)
{
    if (ok && r->connect) {
        counts.connects++;
        bytes_printf(&r->client.out, "HTTP/1.1 200 Connected\r\n\r\n");
        r->phase = RELAY_TUNNEL;
        return;
    }
    r->phase = RELAY_HTTP_BODY;
    if (ok)
        return;
    r->discard = true;
    r->server.out.len = 0;
    answer(r, "502 Bad Gateway", "");
}

/* Passes on what is there of a request's body. */
static void take_body(struct relay *r)
{
    const char *data;
    size_t at = 0, used, len;
    while ((used = body_next(&r->body, r->in.data + at, r->in.len - at, &data, &len)))
        at += used;
    if (!r->discard)
        bytes_add(&r->server.out, r->in.data, at);
    bytes_drop(&r->in, at);
}

bool http_advance(struct relay *r)
{
    struct request req;
    int got;
    switch (r->phase) {
    case RELAY_HTTP_HEAD:
        got = request_take_head(&r->in, &req);
        if (got < 0)
            relay_finish(r);
        if (got <= 0)
            return false;
        take_request(r, &req);
        request_free(&req);
        return true;
    case RELAY_HTTP_BODY:
        take_body(r);
        if (r->body.broken)
            relay_finish(r);
        if (!r->body.done)
            return false;
        r->phase = RELAY_HTTP_HEAD;
        return r->in.len > 0;
    case RELAY_TUNNEL:
        bytes_add(&r->server.out, r->in.data, r->in.len);
        r->in.len = 0;
        return false;
    default: /* RELAY_CONNECTING */
        return false;
    }
}
