#include "faultd.h"
#include <zlib.h>

/* ---- well-behaved */

void say_ok(struct conn *c, const struct request *req)
{
    respond(c, req, 200, "Content-Type: text/plain\r\n", "ok\n", 3);
}

static void add_headers_json(struct bytes *out, const struct request *req)
{
    bytes_printf(out, "[");
    for (size_t i = 0; i < req->header_count; i++) {
        bytes_printf(out, i ? ",[" : "[");
        bytes_json(out, req->headers[i].name, strlen(req->headers[i].name));
        bytes_printf(out, ",");
        bytes_json(out, req->headers[i].value, strlen(req->headers[i].value));
        bytes_printf(out, "]");
    }
    bytes_printf(out, "]");
}

void add_headers_members(struct bytes *out, const struct request *req)
{
    bytes_printf(out, "\"header_list\":");
    add_headers_json(out, req);
    bytes_printf(out, ",\"headers\":{");
    for (size_t i = 0; i < req->header_count; i++) {
        char name[256];
        size_t n = 0;
        for (const char *p = req->headers[i].name; *p && n + 1 < sizeof name; p++)
            name[n++] = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        bytes_printf(out, i ? "," : "");
        bytes_json(out, name, n);
        bytes_printf(out, ":");
        bytes_json(out, req->headers[i].value, strlen(req->headers[i].value));
    }
    bytes_printf(out, "}");
}

void respond_json(struct conn *c, const struct request *req, struct bytes *json)
{
    respond(c, req, 200, "Content-Type: application/json\r\n", json->data, json->len);
    bytes_free(json);
}

/* What arrived, as JSON. */
static void echo(struct conn *c, const struct request *req)
{
    struct bytes out = {0};
    bytes_printf(&out, "{\"method\":");
    bytes_json(&out, req->method, strlen(req->method));
    bytes_printf(&out, ",\"path\":");
    bytes_json(&out, req->path, strlen(req->path));
    bytes_printf(&out, ",\"query\":");
    bytes_json(&out, req->query, strlen(req->query));
    bytes_printf(&out, ",\"connection\":%lu,\"request_on_connection\":%u,\"tls\":%s",
                 (unsigned long)c->id, c->requests, c->ssl ? "true" : "false");
    char name[256];
    if (c->ssl && tls_peer_name(c->ssl, name, sizeof name)) {
        bytes_printf(&out, ",\"client_cn\":");
        bytes_json(&out, name, strlen(name));
    }
    bytes_printf(&out, ",");
    add_headers_members(&out, req);
    bytes_printf(&out, ",\"body_length\":%zu,\"body\":", req->body.len);
    bytes_json(&out, req->body.data ? req->body.data : "", req->body.len);
    bytes_printf(&out, "}\n");
    respond_json(c, req, &out);
}

static void headers_echo(struct conn *c, const struct request *req)
{
    struct bytes out = {0};
    add_headers_json(&out, req);
    respond_json(c, req, &out);
}

static void stats(struct conn *c, const struct request *req)
{
    struct bytes out = {0};
    stats_json(&out);
    respond_json(c, req, &out);
}

static void stats_clear(struct conn *c, const struct request *req)
{
    stats_reset();
    say_ok(c, req);
}

static void seen(struct conn *c, const struct request *req)
{
    char id[256];
    struct bytes out = {0};
    bytes_printf(&out, "{\"count\":%lu}", seen_count(query_str(req, "id", id, sizeof id, "")));
    respond_json(c, req, &out);
}

static void seen_all(struct conn *c, const struct request *req)
{
    struct bytes out = {0};
    seen_list(&out);
    respond(c, req, 200, "", out.data, out.len);
    bytes_free(&out);
}

static void status(struct conn *c, const struct request *req)
{
    respond(c, req, (int)query_num(req, "code", 200), "Content-Type: text/plain\r\n", "status\n",
            7);
}

/* 429 (or ?status=) with Retry-After: ?v=; with ?n=&id=: only the first n requests of that id. */
static void retry_after(struct conn *c, const struct request *req)
{
    char v[128], id[128], extra[256];
    const char *key = query_str(req, "id", id, sizeof id, NULL);
    if (key && seen_add(key) > (unsigned long)query_num(req, "n", 1)) {
        say_ok(c, req);
        return;
    }
    const char *value = query_str(req, "v", v, sizeof v, NULL);
    snprintf(extra, sizeof extra, value ? "Retry-After: %s\r\n" : "%s", value ? value : "");
    respond(c, req, (int)query_num(req, "status", 429), extra, "slow down\n", 10);
}

static void large(struct conn *c, const struct request *req)
{
    unsigned long mb = (unsigned long)query_num(req, "mb", 1);
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %lu\r\n\r\n", mb << 20);
    struct step *s = step_add(c, STEP_SEND);
    char block[1024];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)('a' + i % 26);
    for (int i = 0; i < 64; i++)
        bytes_add(&s->data, block, sizeof block);
    s->rounds = mb * 16;
    if (!mb)
        s->data.len = 0, s->rounds = 1;
}

/* ---- slow */

static void delay(struct conn *c, const struct request *req)
{
    respond(c, req, 200, "", "ok\n", 3)->wait_ms = (uint64_t)query_num(req, "ms", 1000);
}

static void chat(struct conn *c, const struct request *req)
{
    static const char answer[] =
        "{\"id\":\"chatcmpl-9f8e7d6c5b4a\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":"
        "\"It is known for being a perfectly ordinary number.\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":31,\"completion_tokens\":11,\"total_tokens\":42}}";
    respond(c, req, 200, "Content-Type: application/json\r\n", answer, sizeof answer - 1)->wait_ms =
        (uint64_t)query_num(req, "ms", 0);
}

static void never(struct conn *c, const struct request *req)
{
    (void)req;
    step_add(c, STEP_HANG);
}

static void slow_head(struct conn *c, const struct request *req)
{
    step_printf(c, "HTTP/1.1 200 OK\r\nX-Slow: y");
    step_printf(c, "es\r\nContent-Length: 3\r\n\r\nok\n")->wait_ms =
        (uint64_t)query_num(req, "ms", 1000);
}

static void slow_body(struct conn *c, const struct request *req)
{
    step_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    struct step *s = step_printf(c, "6\r\nchunk\n\r\n");
    s->rounds = (uint64_t)query_num(req, "chunks", 5);
    s->wait_ms = (uint64_t)query_num(req, "ms", 100);
    step_printf(c, "0\r\n\r\n");
}

/* The head and one byte, then silence until the client leaves. */
static void stall_body(struct conn *c, const struct request *req)
{
    (void)req;
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
    step_add(c, STEP_HANG);
}

static void drip(struct conn *c, const struct request *req)
{
    long bps = query_num(req, "bps", 5), bytes = query_num(req, "bytes", 1000);
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n\r\n", bytes);
    struct step *s = step_printf(c, ".");
    s->wait_ms = (uint64_t)(1000 / (bps > 0 ? bps : 1));
    s->rounds = (uint64_t)(bytes > 0 ? bytes : 1);
}

/* ---- broken */

static void reset_before_head(struct conn *c, const struct request *req)
{
    (void)req;
    step_add(c, STEP_RESET);
}

static void reset_in_body(struct conn *c, const struct request *req)
{
    (void)req;
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of ");
    step_add(c, STEP_RESET)->wait_ms = 20; /* after the client has read the half */
}

static void spoil_in_body(struct conn *c, const struct request *req)
{
    (void)req;
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of ");
    step_add(c, STEP_SPOIL);
}

static void empty_reply(struct conn *c, const struct request *req)
{
    (void)req;
    step_add(c, STEP_CLOSE);
}

static void no_length(struct conn *c, const struct request *req)
{
    (void)req;
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end\n");
    step_add(c, STEP_CLOSE);
}

static void garbage(struct conn *c, const struct request *req)
{
    (void)req;
    struct step *s = step_add(c, STEP_SEND);
    uint32_t x = 2463534242u;
    for (int i = 0; i < 4096; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        char byte = (char)(x >> 24);
        bytes_add(&s->data, &byte, 1);
    }
    step_add(c, STEP_CLOSE);
}

static void nul_header(struct conn *c, const struct request *req)
{
    (void)req;
    static const char text[] = "HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 3\r\n\r\nok\n";
    bytes_add(&step_add(c, STEP_SEND)->data, text, sizeof text - 1);
    step_add(c, STEP_CLOSE);
}

/* The request's body is the answer, head and all. end=close|reset|hang|keep: what comes after it;
 * gap=MS: before that. */
static void raw(struct conn *c, const struct request *req)
{
    char text[16];
    const char *end = query_str(req, "end", text, sizeof text, "close");
    bytes_add(&step_add(c, STEP_SEND)->data, req->body.data, req->body.len);
    if (strcmp(end, "keep") == 0)
        return;
    struct step *s = step_add(c, strcmp(end, "reset") == 0  ? STEP_RESET
                                 : strcmp(end, "hang") == 0 ? STEP_HANG
                                                            : STEP_CLOSE);
    s->wait_ms = (uint64_t)query_num(req, "gap", 0);
}

/* Answers that are nothing but text. */
static const struct fixed {
    const char *path, *text;
    bool close;
} fixed_answers[] = {
    {"/short-length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this\n", true},
    {"/trunc-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this\n",
     true},
    {"/no-last-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n", true},
    {"/bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\n\r\n0\r\n\r\n",
     true},
    {"/neg-length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nok\n", true},
    {"/two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nok\nno",
     true},
    {"/cl-and-te",
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
     "3\r\nok\n\r\n0\r\n\r\n",
     false},
    {"/http09", "hello from 1991\n", true},
    {"/204-body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nextra", false},
    {"/extra-bytes", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\nextra bytes", false},
    {"/trailers",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nX-Head: 1\r\n\r\n"
     "3\r\nok\n\r\n0\r\nX-Sum: 42\r\n\r\n",
     false},
    {"/repeated-headers",
     "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Many: one\r\nSet-Cookie: b=2\r\nx-many: two\r\n"
     "Content-Length: 3\r\n\r\nok\n",
     false},
    {"/cookie-early",
     "HTTP/1.1 103 Early Hints\r\nSet-Cookie: early=1\r\n\r\n"
     "HTTP/1.1 200 OK\r\nSet-Cookie: late=1\r\nContent-Length: 3\r\n\r\nok\n",
     false},
    {"/cookie-redirect",
     "HTTP/1.1 302 Found\r\nSet-Cookie: hop=1\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n",
     false},
    {"/encoding-unknown",
     "HTTP/1.1 200 OK\r\nContent-Encoding: x-leat\r\nContent-Length: 3\r\n\r\nok\n", false},
    {"/redirect-to-file",
     "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", false},
};

static void big_header(struct conn *c, const struct request *req)
{
    struct step *s = step_printf(c, "HTTP/1.1 200 OK\r\nX-Big: ");
    for (long i = query_num(req, "kb", 200) * 1024; i > 0; i--)
        bytes_add(&s->data, "b", 1);
    bytes_printf(&s->data, "\r\nContent-Length: 3\r\n\r\nok\n");
}

static void many_headers(struct conn *c, const struct request *req)
{
    struct step *s = step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n");
    for (long i = query_num(req, "n", 4000); i > 0; i--)
        bytes_printf(&s->data, "X-Header-%ld: %090ld\r\n", i, i);
    bytes_printf(&s->data, "\r\nok\n");
}

static void many_1xx(struct conn *c, const struct request *req)
{
    struct step *s = step_add(c, STEP_SEND);
    for (long i = query_num(req, "n", 5000); i > 0; i--)
        bytes_printf(&s->data, "HTTP/1.1 100 Continue\r\nX-Interim: %ld\r\n\r\n", i);
    bytes_printf(&s->data, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
}

/* ---- connections that go away */

static void drop_after_post(struct conn *c, const struct request *req)
{
    if (c->requests >= 2)
        step_add(c, STEP_CLOSE);
    else
        say_ok(c, req);
}

static void close_idle(struct conn *c, const struct request *req)
{
    say_ok(c, req);
    step_add(c, STEP_CLOSE)->wait_ms = (uint64_t)query_num(req, "ms", 0);
}

/* Answers, and after ?ms= ends the connection by ?how= (fin, reset, half), if nothing has come
 * meanwhile. With ?deaf=1 it ends it in any case, and what has come is not looked at. */
static void idle(struct conn *c, const struct request *req)
{
    char how[16];
    query_str(req, "how", how, sizeof how, "fin");
    say_ok(c, req);
    struct step *s = step_add(c, strcmp(how, "reset") == 0  ? STEP_RESET
                                 : strcmp(how, "half") == 0 ? STEP_HALF
                                                            : STEP_CLOSE);
    s->wait_ms = (uint64_t)query_num(req, "ms", 1);
    s->idle = query_num(req, "deaf", 0) == 0;
}

static void end_others(struct conn *c, const struct request *req)
{
    conn_end_others(c);
    say_ok(c, req);
}

/* Answers, and then, unasked, with what a next request could take for its answer. */
static void talk_idle(struct conn *c, const struct request *req)
{
    say_ok(c, req);
    step_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nnobody")->wait_ms =
        (uint64_t)query_num(req, "ms", 0);
}

/* The first ?n= requests of ?id= get ?status= (0: an empty reply), the later ones 200. */
static void fail_first(struct conn *c, const struct request *req)
{
    char id[128];
    int code = (int)query_num(req, "status", 500);
    if (seen_add(query_str(req, "id", id, sizeof id, "")) > (unsigned long)query_num(req, "n", 1))
        say_ok(c, req);
    else if (code)
        respond(c, req, code, "", "not yet\n", 8);
    else
        step_add(c, STEP_CLOSE);
}

static void flaky(struct conn *c, const struct request *req)
{
    flaky_set(query_num(req, "n", 1));
    say_ok(c, req);
}

/* ---- redirects */

static void redirect(struct conn *c, const struct request *req)
{
    char to[16384];
    long n = query_num(req, "n", 1), code = query_num(req, "code", 302);
    const char *target = query_str(req, "to", to, sizeof to, "/ok");
    struct bytes extra = {0};
    if (n > 1) {
        bytes_printf(&extra, "Location: /redirect?n=%ld&code=%ld&to=", n - 1, code);
        for (const char *p = target; *p; p++)
            bytes_printf(&extra, "%%%02x", (unsigned char)*p);
    } else {
        bytes_printf(&extra, "Location: %s", target);
    }
    bytes_printf(&extra, "\r\n");
    respond(c, req, (int)code, extra.data, "elsewhere\n", 10);
    bytes_free(&extra);
}

static void redirect_loop(struct conn *c, const struct request *req)
{
    respond(c, req, 302, "Location: /redirect-loop\r\n", "again\n", 6);
}

/* ---- compressed */

static void lines(struct bytes *out, long from, long to)
{
    for (long i = from; i <= to; i++)
        bytes_printf(out, "this is line %06ld\n", i);
}

/* window_bits as zlib wants them: 31 gzip, 15 zlib, -15 raw deflate. */
static void compress_to(struct bytes *out, const struct bytes *in, int window_bits, long repeat)
{
    z_stream z = {0};
    if (deflateInit2(&z, 9, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        exit(2);
    for (int result = Z_OK; result != Z_STREAM_END;) {
        if (z.avail_in == 0 && repeat-- > 0) {
            z.next_in = (unsigned char *)in->data;
            z.avail_in = (unsigned)in->len;
        }
        char block[16384];
        z.next_out = (unsigned char *)block;
        z.avail_out = sizeof block;
        result = deflate(&z, repeat > 0 ? Z_NO_FLUSH : Z_FINISH);
        bytes_add(out, block, sizeof block - z.avail_out);
    }
    deflateEnd(&z);
}

static void respond_encoded(struct conn *c, const struct request *req, const char *encoding,
                            struct bytes *body)
{
    char extra[128];
    snprintf(extra, sizeof extra, "Content-Type: text/plain\r\nContent-Encoding: %s\r\n", encoding);
    respond(c, req, 200, extra, body->data, body->len);
    bytes_free(body);
}

static void text(struct conn *c, const struct request *req)
{
    struct bytes plain = {0};
    lines(&plain, 1, query_num(req, "lines", 1000));
    respond(c, req, 200, "Content-Type: text/plain\r\n", plain.data ? plain.data : "", plain.len);
    bytes_free(&plain);
}

static void encoded_text(struct conn *c, const struct request *req, const char *encoding, int bits)
{
    struct bytes plain = {0}, packed = {0};
    lines(&plain, 1, query_num(req, "lines", 1000));
    compress_to(&packed, &plain, bits, 1);
    bytes_free(&plain);
    if (strcmp(req->path, "/gzip-cut") == 0)
        packed.len /= 2;
    else if (strcmp(req->path, "/gzip-no-trailer") == 0)
        packed.len -= 8;
    else if (strcmp(req->path, "/gzip-badcrc") == 0)
        packed.data[packed.len - 6] ^= 0x55;
    else if (strcmp(req->path, "/gzip-junk") == 0)
        bytes_add(&packed, "junk behind the last member", 27);
    respond_encoded(c, req, encoding, &packed);
}

static void gzip(struct conn *c, const struct request *req)
{
    encoded_text(c, req, "gzip", 31);
}

static void deflate_zlib(struct conn *c, const struct request *req)
{
    encoded_text(c, req, "deflate", 15);
}

static void deflate_raw(struct conn *c, const struct request *req)
{
    encoded_text(c, req, "deflate", -15);
}

static void gzip_two(struct conn *c, const struct request *req)
{
    struct bytes plain = {0}, packed = {0};
    lines(&plain, 1, 500);
    compress_to(&packed, &plain, 31, 1);
    plain.len = 0;
    lines(&plain, 501, 1000);
    compress_to(&packed, &plain, 31, 1);
    bytes_free(&plain);
    respond_encoded(c, req, "gzip", &packed);
}

static void gzip_bomb(struct conn *c, const struct request *req)
{
    struct bytes zeros = {0}, packed = {0};
    char block[65536] = {0};
    for (int i = 0; i < 16; i++)
        bytes_add(&zeros, block, sizeof block);
    compress_to(&packed, &zeros, 31, query_num(req, "mb", 100));
    bytes_free(&zeros);
    respond_encoded(c, req, "gzip", &packed);
}

/* ---- the table */

static const struct route_row routes[] = {
    {"/ok", say_ok},
    {"/echo", echo},
    {"/headers-echo", headers_echo},
    {"/stats", stats},
    {"/stats/reset", stats_clear},
    {"/seen", seen},
    {"/seen-all", seen_all},
    {"/status", status},
    {"/retry-after", retry_after},
    {"/fail-first", fail_first},
    {"/large", large},
    {"/text", text},
    {"/delay", delay},
    {"/hold", delay},
    {"/chat", chat},
    {"/never", never},
    {"/slow-head", slow_head},
    {"/slow-body", slow_body},
    {"/stall-body", stall_body},
    {"/drip", drip},
    {"/reset-before-head", reset_before_head},
    {"/reset-in-body", reset_in_body},
    {"/spoil-in-body", spoil_in_body},
    {"/empty-reply", empty_reply},
    {"/no-length", no_length},
    {"/raw", raw},
    {"/garbage", garbage},
    {"/nul-header", nul_header},
    {"/big-header", big_header},
    {"/many-headers", many_headers},
    {"/many-1xx", many_1xx},
    {"/drop-after-post", drop_after_post},
    {"/close-idle", close_idle},
    {"/idle", idle},
    {"/end-others", end_others},
    {"/talk-idle", talk_idle},
    {"/redirect", redirect},
    {"/redirect-loop", redirect_loop},
    {"/gzip", gzip},
    {"/gzip-cut", gzip},
    {"/gzip-no-trailer", gzip},
    {"/gzip-badcrc", gzip},
    {"/gzip-junk", gzip},
    {"/gzip-two", gzip_two},
    {"/gzip-bomb", gzip_bomb},
    {"/deflate", deflate_zlib},
    {"/deflate-raw", deflate_raw},
    {"/flaky-set", flaky},
    {NULL, NULL},
};

static const struct route_row *find_row(const struct route_row *row, const char *path)
{
    while (row->path && strcmp(row->path, path) != 0)
        row++;
    return row->path ? row : NULL;
}

bool route_is_early(const char *path)
{
    return find_row(upload_routes, path);
}

void route(struct conn *c, const struct request *req)
{
    const struct route_row *row = find_row(routes, req->path);
    if (!row)
        row = find_row(stream_routes, req->path);
    if (!row)
        row = find_row(upload_routes, req->path);
    if (row) {
        row->play(c, req);
        return;
    }
    for (size_t i = 0; i < sizeof fixed_answers / sizeof fixed_answers[0]; i++) {
        if (strcmp(fixed_answers[i].path, req->path) == 0) {
            step_printf(c, "%s", fixed_answers[i].text);
            if (fixed_answers[i].close)
                step_add(c, STEP_CLOSE);
            return;
        }
    }
    respond(c, req, 404, "Content-Type: text/plain\r\n", "no such fault\n", 14);
}
