/* Routes whose answers are long, come in pieces, or depend on a header. */
#include "faultd.h"
#include <openssl/evp.h>
#include <sys/socket.h>
#include <zlib.h>

static bool is_head(const struct request *req)
{
    return strcmp(req->method, "HEAD") == 0;
}

static void add_chunk(struct bytes *out, const void *data, size_t len)
{
    bytes_printf(out, "%zx\r\n", len);
    bytes_add(out, data, len);
    bytes_add(out, "\r\n", 2);
}

/* The head of an answer in chunks. False: the client wants no more than that. */
static bool begin_chunks(struct conn *c, const struct request *req, const char *absent_type)
{
    char type[256], extra[512];
    snprintf(extra, sizeof extra, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n",
             query_str(req, "type", type, sizeof type, absent_type));
    respond_head(c, req, 200, extra);
    return !is_head(req);
}

/* ---- /play: the request's body, in the pieces that were asked for
 *
 *     type=text/event-stream  status=200
 *     split=N   pieces of N bytes, each sent by itself (default: one piece)
 *     gap=MS    between pieces
 *     framing=chunked|length|none
 *     encoding=gzip   flushed after each piece
 *     end=ok|close|reset|hang   anything but `ok` comes after all pieces and before the end, which
 * is the last chunk, the last of 100 announced bytes more, and gzip's last block after=MS  before
 * the end, whatever it is
 */

struct play {
    struct bytes wire; /* all pieces */
    size_t *cuts;      /* where each ends */
    size_t count, next;
    uint64_t gap_ms;
    bool chunked;
};

static void play_free(void *state)
{
    struct play *p = state;
    bytes_free(&p->wire);
    free(p->cuts);
    free(p);
}

static bool play_piece(struct step *s)
{
    struct play *p = s->state;
    if (p->next == p->count)
        return false;
    size_t from = p->next ? p->cuts[p->next - 1] : 0, to = p->cuts[p->next];
    if (p->chunked)
        add_chunk(&s->data, p->wire.data + from, to - from);
    else
        bytes_add(&s->data, p->wire.data + from, to - from);
    p->next++;
    s->wait_ms = p->next < p->count ? p->gap_ms : 0;
    return true;
}

static void deflate_into(z_stream *z, struct bytes *out, const char *data, size_t len, int flush)
{
    char block[16384];
    z->next_in = (unsigned char *)data;
    z->avail_in = (unsigned)len;
    do {
        z->next_out = (unsigned char *)block;
        z->avail_out = sizeof block;
        if (deflate(z, flush) == Z_STREAM_ERROR)
            exit(2);
        bytes_add(out, block, sizeof block - z->avail_out);
    } while (z->avail_out == 0);
}

/* Cuts the body up; gzip's end goes to `tail`. */
static void cut(struct play *p, const struct bytes *body, size_t split, bool gzip,
                struct bytes *tail)
{
    z_stream z = {0};
    if (gzip && deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        exit(2);
    p->cuts = xmalloc((body->len / split + 1) * sizeof *p->cuts);
    for (size_t at = 0; at < body->len; at += split) {
        size_t len = body->len - at < split ? body->len - at : split;
        if (gzip)
            deflate_into(&z, &p->wire, body->data + at, len, Z_SYNC_FLUSH);
        else
            bytes_add(&p->wire, body->data + at, len);
        p->cuts[p->count++] = p->wire.len;
    }
    if (gzip) {
        deflate_into(&z, tail, NULL, 0, Z_FINISH);
        deflateEnd(&z);
    }
}

static void play_end(struct conn *c, const char *end, bool ok, bool by_close,
                     const struct bytes *tail, uint64_t after_ms)
{
    struct step *s = NULL;
    if (!ok) {
        s = step_add(c, strcmp(end, "reset") == 0  ? STEP_RESET
                        : strcmp(end, "hang") == 0 ? STEP_HANG
                                                   : STEP_CLOSE);
    } else {
        if (tail->len) {
            s = step_add(c, STEP_SEND);
            bytes_add(&s->data, tail->data, tail->len);
            s->wait_ms = after_ms;
        }
        if (by_close)
            s = step_add(c, STEP_CLOSE);
    }
    if (s && !(ok && tail->len))
        s->wait_ms = after_ms;
}

static void play_body(struct conn *c, const struct request *req)
{
    char type[256], framing[16], encoding[16], end[16], length[64], extra[512];
    query_str(req, "type", type, sizeof type, NULL);
    const char *how = query_str(req, "framing", framing, sizeof framing, "chunked");
    const char *ending = query_str(req, "end", end, sizeof end, "ok");
    bool gzip = strcmp(query_str(req, "encoding", encoding, sizeof encoding, ""), "gzip") == 0;
    bool ok = strcmp(ending, "ok") == 0;
    long split = query_num(req, "split", 0);

    struct play *p = xmalloc(sizeof *p);
    struct bytes tail = {0}, gzip_end = {0};
    size_t piece = split > 0 ? (size_t)split : req->body.len ? req->body.len : 1;
    cut(p, &req->body, piece, gzip, &gzip_end);
    p->gap_ms = (uint64_t)query_num(req, "gap", 0);
    p->chunked = strcmp(how, "chunked") == 0;
    if (p->chunked) {
        if (gzip_end.len)
            add_chunk(&tail, gzip_end.data, gzip_end.len);
        bytes_printf(&tail, "0\r\n\r\n");
        snprintf(length, sizeof length, "Transfer-Encoding: chunked\r\n");
    } else {
        bytes_add(&tail, gzip_end.data, gzip_end.len);
        if (strcmp(how, "length") == 0)
            snprintf(length, sizeof length, "Content-Length: %zu\r\n",
                     p->wire.len + gzip_end.len + (ok ? 0 : 100));
        else
            length[0] = 0;
    }
    snprintf(extra, sizeof extra, "Content-Type: %s\r\n%s%s",
             query_str(req, "type", type, sizeof type, "text/event-stream"), length,
             gzip ? "Content-Encoding: gzip\r\n" : "");
    respond_head(c, req, (int)query_num(req, "status", 200), extra);

    struct step *s = step_add(c, STEP_SEND);
    s->make = play_piece;
    s->state = p;
    s->free_state = play_free;
    play_end(c, ending, ok, !length[0], &tail, (uint64_t)query_num(req, "after", 0));
    bytes_free(&gzip_end);
    bytes_free(&tail);
}

/* ---- /pattern and /range: bytes that a test can make, too
 *
 * A block of 4093 bytes, again and again (not 4096: what is swapped or lost in round sizes shows):
 *     x = seed % 2147483646 + 1; 4093 times: x = x * 16807 % 2147483647, byte = x % 256
 */

enum { PATTERN_BLOCK = 4093 };

struct pattern {
    unsigned char block[PATTERN_BLOCK];
    uint64_t at, end;
    size_t piece;
    uint64_t gap_ms;
};

static void pattern_init(struct pattern *p, long seed)
{
    uint64_t x = (uint64_t)seed % 2147483646 + 1;
    for (size_t i = 0; i < PATTERN_BLOCK; i++) {
        x = x * 16807 % 2147483647;
        p->block[i] = (unsigned char)(x % 256);
    }
}

static bool pattern_piece(struct step *s)
{
    struct pattern *p = s->state;
    uint64_t to = p->end - p->at < p->piece ? p->end : p->at + p->piece;
    if (p->at == p->end)
        return false;
    while (p->at < to) {
        size_t from = p->at % PATTERN_BLOCK, n = PATTERN_BLOCK - from;
        if (n > to - p->at)
            n = (size_t)(to - p->at);
        bytes_add(&s->data, p->block + from, n);
        p->at += n;
    }
    s->wait_ms = p->at < p->end ? p->gap_ms : 0;
    return true;
}

static void pattern_sha256(const struct pattern *p, char out[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
        exit(2);
    for (uint64_t at = 0; at < p->end; at += PATTERN_BLOCK)
        EVP_DigestUpdate(hash, p->block,
                         p->end - at < PATTERN_BLOCK ? (size_t)(p->end - at) : PATTERN_BLOCK);
    EVP_DigestFinal_ex(hash, sum, &len);
    EVP_MD_CTX_free(hash);
    for (unsigned i = 0; i < len && i < 32; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", sum[i]);
}

static void pattern_send(struct conn *c, const struct request *req, struct pattern *p)
{
    if (is_head(req)) {
        free(p);
        return;
    }
    struct step *s = step_add(c, STEP_SEND);
    s->make = pattern_piece;
    s->state = p;
    s->free_state = free;
}

/* bytes=N seed=K; split=N: sent in pieces of that; kbps=R: about R thousand bytes a second. The
 * header X-SHA256 has the hash of up to 16 MB. */
static void pattern(struct conn *c, const struct request *req)
{
    long bytes = query_num(req, "bytes", 10000), split = query_num(req, "split", 0),
         kbps = query_num(req, "kbps", 0);
    struct pattern *p = xmalloc(sizeof *p);
    pattern_init(p, query_num(req, "seed", 1));
    p->end = bytes > 0 ? (uint64_t)bytes : 0;
    p->piece = split > 0 ? (size_t)split : kbps > 0 ? (size_t)kbps * 10 : 65536;
    p->gap_ms = kbps > 0 ? p->piece / (size_t)kbps : 0;
    char extra[256], sum[65];
    int len = snprintf(extra, sizeof extra,
                       "Content-Type: application/octet-stream\r\nContent-Length: %llu\r\n",
                       (unsigned long long)p->end);
    if (p->end <= 16u << 20) {
        pattern_sha256(p, sum);
        snprintf(extra + len, sizeof extra - (size_t)len, "X-SHA256: %s\r\n", sum);
    }
    respond_head(c, req, 200, extra);
    pattern_send(c, req, p);
}

enum { RANGE_SIZE = 10000 };

/* `bytes=a-b`, `bytes=a-`, `bytes=-n`. 206, 416, or 200 for what is no range or several. */
static int parse_range(const char *text, uint64_t *from, uint64_t *to)
{
    *from = 0;
    *to = RANGE_SIZE;
    if (!text || strncmp(text, "bytes=", 6) != 0 || strchr(text, ','))
        return 200;
    text += 6;
    char *end = NULL;
    if (*text == '-') {
        uint64_t n = strtoull(text + 1, &end, 10);
        if (end == text + 1 || *end)
            return 200;
        *from = n < RANGE_SIZE ? RANGE_SIZE - n : 0;
        return n ? 206 : 416;
    }
    *from = strtoull(text, &end, 10);
    if (end == text || *end != '-')
        return 200;
    const char *last = end + 1;
    uint64_t b = strtoull(last, &end, 10);
    if (*end || (*last && b < *from)) {
        *from = 0;
        return 200;
    }
    if (*last && b < RANGE_SIZE)
        *to = b + 1;
    return *from < RANGE_SIZE ? 206 : 416;
}

/* 10,000 bytes of /pattern with seed 1. */
static void range(struct conn *c, const struct request *req)
{
    struct pattern *p = xmalloc(sizeof *p);
    pattern_init(p, 1);
    p->piece = RANGE_SIZE;
    int status = parse_range(request_header(req, "range"), &p->at, &p->end);
    char extra[256];
    if (status == 416) {
        snprintf(extra, sizeof extra, "Accept-Ranges: bytes\r\nContent-Range: bytes */%d\r\n",
                 RANGE_SIZE);
        respond(c, req, 416, extra, "", 0);
        free(p);
        return;
    }
    unsigned long long from = p->at, to = p->end;
    int len = snprintf(extra, sizeof extra, "Accept-Ranges: bytes\r\nContent-Length: %llu\r\n",
                       to - from);
    if (status == 206)
        snprintf(extra + len, sizeof extra - (size_t)len, "Content-Range: bytes %llu-%llu/%d\r\n",
                 from, to - 1, RANGE_SIZE);
    respond_head(c, req, status, extra);
    pattern_send(c, req, p);
}

/* ---- streams of records: n=N, ms=M between them (0: as fast as they are read) */

struct records {
    void (*add)(struct bytes *out, long i, long size);
    const char *last; /* behind the n-th */
    long i, n, size;
    uint64_t ms;
};

static bool record_piece(struct step *s)
{
    struct records *r = s->state;
    struct bytes one = {0};
    if (r->i > r->n)
        return false;
    /* With nothing between them many go into one send; each is a chunk all the same. */
    do {
        one.len = 0;
        if (r->i < r->n)
            r->add(&one, r->i + 1, r->size);
        else
            bytes_printf(&one, "%s", r->last);
        if (one.len)
            add_chunk(&s->data, one.data, one.len);
        if (r->i == r->n)
            bytes_printf(&s->data, "0\r\n\r\n");
        r->i++;
    } while (!r->ms && r->i <= r->n && s->data.len < 16384);
    bytes_free(&one);
    s->wait_ms = r->i <= r->n ? r->ms : 0;
    return true;
}

static void send_records(struct conn *c, const struct request *req, struct records records)
{
    struct records *r = xmalloc(sizeof *r);
    *r = records;
    r->n = query_num(req, "n", 10);
    r->ms = (uint64_t)query_num(req, "ms", 0);
    r->size = query_num(req, "size", 0);
    struct step *s = step_add(c, STEP_SEND);
    s->make = record_piece;
    s->state = r;
    s->free_state = free;
}

static void add_token(struct bytes *out, long i, long size)
{
    bytes_printf(out, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
                      "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,"
                      "\"delta\":{\"content\":\"");
    size_t from = out->len;
    bytes_printf(out, "tok %ld ", i);
    while (out->len - from < (size_t)size)
        bytes_add(out, "x", 1);
    bytes_printf(out, "\"},\"finish_reason\":null}]}\n\n");
}

/* size=S: contents of at least S bytes. */
static void tokens(struct conn *c, const struct request *req)
{
    if (begin_chunks(c, req, "text/event-stream"))
        send_records(c, req, (struct records){.add = add_token, .last = "data: [DONE]\n\n"});
}

static void add_line(struct bytes *out, long i, long size)
{
    (void)size;
    bytes_printf(out, "{\"n\":%ld}\n", i);
}

static void lines(struct conn *c, const struct request *req)
{
    if (begin_chunks(c, req, "application/x-ndjson"))
        send_records(c, req, (struct records){.add = add_line, .last = ""});
}

/* Records without end. The kernel is to hold little of it, so that a client that stops reading
 * shows soon in the counters. */
static void endless(struct conn *c, const struct request *req)
{
    int size = 65536;
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (!begin_chunks(c, req, "text/event-stream"))
        return;
    struct bytes block = {0};
    while (block.len < 65536) {
        bytes_printf(&block, "data: ");
        for (int i = 0; i < 1000; i++)
            bytes_add(&block, "x", 1);
        bytes_printf(&block, "\n\n");
    }
    struct step *s = step_add(c, STEP_SEND);
    add_chunk(&s->data, block.data, block.len);
    s->rounds = UINT64_MAX;
    bytes_free(&block);
}

/* mb=N megabytes without a line's end. */
static void long_line(struct conn *c, const struct request *req)
{
    long mb = query_num(req, "mb", 1);
    uint64_t size = mb > 0 ? (uint64_t)mb << 20 : 0;
    char type[256], extra[512];
    snprintf(extra, sizeof extra, "Content-Type: %s\r\nContent-Length: %llu\r\n",
             query_str(req, "type", type, sizeof type, "text/plain"), (unsigned long long)size);
    respond_head(c, req, 200, extra);
    if (is_head(req) || !size)
        return;
    struct step *s = step_add(c, STEP_SEND);
    char block[65536];
    memset(block, 'x', sizeof block);
    bytes_add(&s->data, block, sizeof block);
    s->rounds = size / sizeof block;
}

static void sse_error(struct conn *c, const struct request *req)
{
    static const char text[] =
        "data: one\n\ndata: two\n\n"
        "event: error\n"
        "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    if (!begin_chunks(c, req, "text/event-stream"))
        return;
    struct step *s = step_add(c, STEP_SEND);
    add_chunk(&s->data, text, sizeof text - 1);
    bytes_printf(&s->data, "0\r\n\r\n");
}

/* ---- cookies */

static void cookie_set(struct conn *c, const struct request *req)
{
    static const char *const attributes[][2] = {
        {"path", "Path"}, {"domain", "Domain"}, {"max_age", "Max-Age"}, {"same_site", "SameSite"}};
    char name[256], value[8192];
    struct bytes extra = {0};
    bytes_printf(&extra, "Set-Cookie: %s=", query_str(req, "name", name, sizeof name, "name"));
    bytes_printf(&extra, "%s", query_str(req, "value", value, sizeof value, ""));
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        if (query_str(req, attributes[i][0], value, sizeof value, NULL))
            bytes_printf(&extra, "; %s=%s", attributes[i][1], value);
    }
    if (query_num(req, "secure", 0))
        bytes_printf(&extra, "; Secure");
    bytes_printf(&extra, "\r\n");
    respond(c, req, 200, extra.data, "ok\n", 3);
    bytes_free(&extra);
}

const struct route_row stream_routes[] = {
    {"/play", play_body},
    {"/pattern", pattern},
    {"/range", range},
    {"/tokens", tokens},
    {"/chat/completions", tokens},
    {"/lines", lines},
    {"/endless", endless},
    {"/long-line", long_line},
    {"/sse-error", sse_error},
    {"/cookie-set", cookie_set},
    {NULL, NULL},
};
