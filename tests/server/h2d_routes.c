#include "h2d.h"

/* ---- answering */

struct header {
    const char *name, *value;
};

static ssize_t read_out(nghttp2_session *ng, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
                        nghttp2_data_source *source, void *user)
{
    (void)user;
    struct stream *s = source->ptr;
    size_t n = 0;
    while (n < size) {
        size_t part = s->out.len - s->sent;
        if (part == 0 && (s->rounds <= 1 || s->out.len == 0))
            break;
        if (part == 0) {
            s->rounds--;
            s->sent = 0;
            continue;
        }
        part = part < size - n ? part : size - n;
        memcpy(to + n, s->out.data + s->sent, part);
        s->sent += part;
        n += part;
    }
    if (s->finished && s->sent == s->out.len && (s->rounds <= 1 || !s->out.len)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_nv sum = {(uint8_t *)"x-sum", (uint8_t *)"42", 5, 2, NGHTTP2_NV_FLAG_NONE};
            nghttp2_submit_trailer(ng, id, &sum, 1);
        }
        return (ssize_t)n;
    }
    return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

/* The head; what is in `out`, and comes to it later, follows. */
static void head(struct stream *s, const char *status, const struct header *extra, size_t count)
{
    nghttp2_nv *nv = xmalloc((count + 1) * sizeof *nv);
    nv[0] = (nghttp2_nv){(uint8_t *)":status", (uint8_t *)(uintptr_t)status, 7, strlen(status), 0};
    for (size_t i = 0; i < count; i++)
        nv[i + 1] =
            (nghttp2_nv){(uint8_t *)(uintptr_t)extra[i].name, (uint8_t *)(uintptr_t)extra[i].value,
                         strlen(extra[i].name), strlen(extra[i].value), 0};
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_out};
    bool bodiless = s->req.method && strcmp(s->req.method, "HEAD") == 0;
    nghttp2_submit_response(s->session->ng, s->id, nv, count + 1, bodiless ? NULL : &data);
    free(nv);
}

static void head_typed(struct stream *s, const char *status, const char *type)
{
    head(s, status, &(struct header){"content-type", type}, 1);
}

static void answer(struct stream *s, const char *status, const char *type)
{
    s->finished = true;
    head_typed(s, status, type);
}

static void answer_ok(struct stream *s)
{
    bytes_printf(&s->out, "ok\n");
    answer(s, "200", "text/plain");
}

static void resume(struct stream *s)
{
    nghttp2_session_resume_data(s->session->ng, s->id);
}

/* ---- well-behaved */

static void ok(struct stream *s)
{
    effect(s);
    answer_ok(s);
}

static void echo(struct stream *s)
{
    const struct request *req = &s->req;
    struct bytes *out = &s->out;
    effect(s);
    bytes_printf(out, "{\"method\":");
    bytes_json(out, req->method, strlen(req->method));
    bytes_printf(out, ",\"path\":");
    bytes_json(out, req->path, strlen(req->path));
    bytes_printf(out, ",\"query\":");
    bytes_json(out, req->query, strlen(req->query));
    bytes_printf(out, ",\"connection\":%lu,\"stream\":%d,\"headers\":{",
                 (unsigned long)s->session->id, (int)s->id);
    for (size_t i = 0; i < req->header_count; i++) {
        bytes_printf(out, i ? "," : "");
        bytes_json(out, req->headers[i].name, strlen(req->headers[i].name));
        bytes_printf(out, ":");
        bytes_json(out, req->headers[i].value, strlen(req->headers[i].value));
    }
    bytes_printf(out, "},\"body_length\":%lu,\"body\":", (unsigned long)s->body_len);
    bytes_json(out, req->body.data ? req->body.data : "", req->body.len);
    bytes_printf(out, "}\n");
    answer(s, "200", "application/json");
}

static void stats(struct stream *s)
{
    h2_stats_json(&s->out);
    answer(s, "200", "application/json");
}

static void clear_stats(struct stream *s)
{
    h2_stats_reset();
    answer_ok(s);
}

/* How many effects ?id= has had. */
static void seen(struct stream *s)
{
    char id[256];
    bytes_printf(&s->out, "{\"count\":%lu}\n",
                 seen_count(query_str(&s->req, "id", id, sizeof id, "")));
    answer(s, "200", "application/json");
}

static void seen_all(struct stream *s)
{
    seen_list(&s->out);
    answer(s, "200", "text/plain");
}

static void large(struct stream *s)
{
    effect(s);
    char block[65536];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)('a' + i % 1024 % 26);
    s->rounds = (uint64_t)query_num(&s->req, "mb", 1) * 16;
    if (s->rounds)
        bytes_add(&s->out, block, sizeof block);
    char length[32];
    snprintf(length, sizeof length, "%" PRIu64, s->rounds * sizeof block);
    s->finished = true;
    size_t told = query_num(&s->req, "length", 1) != 0;
    head(s, "200", &(struct header){"content-length", length}, told);
}

static void trailers(struct stream *s)
{
    effect(s);
    bytes_printf(&s->out, "ok\n");
    s->trailers = s->finished = true;
    head(s, "200", &(struct header){"trailer", "x-sum"}, 1);
}

static void many_headers(struct stream *s)
{
    size_t n = (size_t)query_num(&s->req, "n", 200);
    struct header *list = xmalloc(n * sizeof *list);
    struct bytes text = {0};
    effect(s);
    for (size_t i = 0; i < n; i++) /* 32 bytes each: a name with its NUL, a value with its NUL */
        bytes_printf(&text, "x-header-%06zu%c%015zu%c", i, 0, i, 0);
    for (size_t i = 0; i < n; i++)
        list[i] = (struct header){text.data + i * 32, text.data + i * 32 + 16};
    bytes_printf(&s->out, "ok\n");
    s->finished = true;
    head(s, "200", list, n);
    bytes_free(&text);
    free(list);
}

static void big_header(struct stream *s)
{
    size_t len = (size_t)query_num(&s->req, "kb", 200) * 1024;
    char *value = xmalloc(len + 1);
    memset(value, 'b', len);
    effect(s);
    bytes_printf(&s->out, "ok\n");
    s->finished = true;
    head(s, "200", &(struct header){"x-big", value}, 1);
    free(value);
}

/* ---- uploads */

static void hash_body(struct stream *s, const uint8_t *data, size_t len)
{
    EVP_DigestUpdate(s->sha, data, len);
}

static void hash_end(struct stream *s)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_DigestFinal_ex(s->sha, sum, &len);
    bytes_printf(&s->out, "{\"bytes\":%lu,\"sha256\":\"", (unsigned long)s->body_len);
    for (unsigned i = 0; i < len; i++)
        bytes_printf(&s->out, "%02x", sum[i]);
    bytes_printf(&s->out, "\"}\n");
    answer(s, "200", "application/json");
}

static void upload(struct stream *s)
{
    s->sha = EVP_MD_CTX_new();
    if (!s->sha || EVP_DigestInit_ex(s->sha, EVP_sha256(), NULL) != 1)
        exit(2);
    effect(s);
    s->on_body = hash_body;
    s->on_end = hash_end;
}

enum { TICK_MS = 20 };

static void read_some(struct stream *s)
{
    size_t n = s->unread < s->rate ? s->unread : s->rate;
    s->unread -= n;
    if (n)
        nghttp2_session_consume_stream(s->session->ng, s->id, n);
    stream_timer(s, TICK_MS, read_some);
}

/* Takes ?kbps= kilobytes a second of the body: the window opens no faster. */
static void upload_slow(struct stream *s)
{
    upload(s);
    s->rate = (size_t)query_num(&s->req, "kbps", 64) * 1024 * TICK_MS / 1000 + 1;
    stream_timer(s, TICK_MS, read_some);
}

/* ---- slow */

static void delay(struct stream *s)
{
    effect(s);
    stream_timer(s, query_num(&s->req, "ms", 1000), answer_ok);
}

/* n=N events, ms=M between them, with contents of at least size=S bytes. */
static void next_chunk(struct stream *s)
{
    static const char start[] =
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
        "\"created\":1700000000,\"model\":\"h2d\",\"choices\":[{\"index\":0,"
        "\"delta\":";
    if (s->step < s->steps) {
        bytes_printf(&s->out, "%s{\"content\":\"", start);
        size_t from = s->out.len;
        bytes_printf(&s->out, "word%ld ", ++s->step);
        while (s->out.len - from < s->pad)
            bytes_add(&s->out, "x", 1);
        bytes_printf(&s->out, "\"},\"finish_reason\":null}]}\n\n");
        stream_timer(s, s->step_ms, next_chunk);
    } else {
        bytes_printf(&s->out, "%s{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", start);
        s->finished = true;
    }
    resume(s);
}

static void stream(struct stream *s)
{
    effect(s);
    s->steps = query_num(&s->req, "n", 5);
    s->step_ms = query_num(&s->req, "ms", 10);
    s->pad = (size_t)query_num(&s->req, "size", 0);
    head_typed(s, "200", "text/event-stream");
    stream_timer(s, 0, next_chunk);
}

static void never(struct stream *s)
{
    effect(s);
}

/* All that the length says, and no end of the stream. */
static void whole(struct stream *s)
{
    effect(s);
    bytes_printf(&s->out, "whole\n");
    head(s, "200", &(struct header){"content-length", "6"}, 1);
}

static void stall(struct stream *s)
{
    effect(s);
    bytes_printf(&s->out, "x");
    head(s, "200", &(struct header){"content-length", "100"}, 1);
}

/* ---- resets */

/* What nginx does where it needs no body (`return 200`): a whole answer, then RST_STREAM(NO_ERROR)
 * if the request has not come to its end. */
static void early(struct stream *s)
{
    effect(s);
    s->reset_at_end = true;
    s->reset_code = NGHTTP2_NO_ERROR;
    s->session->flush = true;
    answer_ok(s);
}

static void reset_stream(struct stream *s, uint32_t code)
{
    s->session->flush = true;
    nghttp2_submit_rst_stream(s->session->ng, 0, s->id, code);
}

static void reset_later(struct stream *s)
{
    reset_stream(s, s->reset_code);
}

static void reset(struct stream *s)
{
    char when[16];
    uint32_t code = (uint32_t)query_num(&s->req, "code", NGHTTP2_INTERNAL_ERROR);
    bool body = strcmp(query_str(&s->req, "when", when, sizeof when, "head"), "body") == 0;
    if (body || code != NGHTTP2_REFUSED_STREAM)
        effect(s);
    if (body) {
        s->reset_code = code;
        /* By itself: together with the reset the client would not see the half. */
        stream_timer(s, query_num(&s->req, "ms", 20), reset_later);
        bytes_printf(&s->out, "half of ");
        head(s, "200", &(struct header){"content-length", "1000"}, 1);
    } else {
        reset_stream(s, code);
    }
}

static void refuse_first(struct stream *s)
{
    char id[200], key[256];
    const char *own = request_header(&s->req, "x-id");
    snprintf(key, sizeof key, "refused %s",
             query_str(&s->req, "id", id, sizeof id, own ? own : ""));
    if (seen_add(key) <= (unsigned long)query_num(&s->req, "n", 1))
        reset_stream(s, NGHTTP2_REFUSED_STREAM);
    else if (s->ended)
        ok(s);
    else
        s->on_end = ok;
}

/* ---- connections that go away */

static void say_goaway(struct session *c, int32_t last, enum session_end end)
{
    nghttp2_submit_goaway(c->ng, 0, last, NGHTTP2_NO_ERROR, NULL, 0);
    c->flush = true;
    c->end = end;
}

/* A stream above one that was processed cannot be called unprocessed by its id: then, and with
 * ?last=processed, it is processed too. */
static void goaway(struct stream *s)
{
    char last[16];
    struct session *c = s->session;
    bool unprocessed =
        strcmp(query_str(&s->req, "last", last, sizeof last, "processed"), "unprocessed") == 0;
    if (unprocessed && c->processed < s->id) {
        say_goaway(c, s->id - 2 > 0 ? s->id - 2 : 0, END_AFTER_STREAMS);
        return;
    }
    ok(s);
    say_goaway(c, c->processed, END_AFTER_STREAMS);
}

/* Names the highest stream that was processed, as a server must; with ?last=answered the highest
 * that was answered, which is a lie about those in /delay. */
static void goaway_now(struct stream *s)
{
    char last[16];
    struct session *c = s->session;
    bool lie = strcmp(query_str(&s->req, "last", last, sizeof last, ""), "answered") == 0;
    say_goaway(c, lie ? c->answered : c->processed, END_AFTER_FLUSH);
}

/* ?ms= ?how= (fin, reset, bye) ?deaf=: see session_end_idle. */
static void idle(struct stream *s)
{
    char how[16];
    struct session *c = s->session;
    ok(s);
    query_str(&s->req, "how", how, sizeof how, "fin");
    c->resets = strcmp(how, "reset") == 0;
    c->says_bye = strcmp(how, "bye") == 0;
    c->deaf = query_num(&s->req, "deaf", 0) != 0;
    session_end_idle(c, query_num(&s->req, "ms", 1));
}

static void refuse(struct stream *s)
{
    s->to_refuse = false;
    reset_stream(s, NGHTTP2_REFUSED_STREAM);
}

static void goaway_idle(struct stream *s)
{
    sessions_goaway_idle(s->session, refuse);
    answer_ok(s);
}

/* Refused by /goaway-idle; answered when it comes again. */
static void refuse_later(struct stream *s)
{
    char key[256];
    const char *id = request_header(&s->req, "x-id");
    snprintf(key, sizeof key, "later %s", id ? id : "");
    s->to_refuse = seen_add(key) == 1;
    if (!s->to_refuse)
        ok(s);
}

static void die_others(struct stream *s)
{
    char how[16];
    bool reset = strcmp(query_str(&s->req, "how", how, sizeof how, ""), "reset") == 0;
    sessions_shut(s->session, reset);
    answer_ok(s);
}

static void die_at_once(struct stream *s)
{
    effect(s);
    s->session->end = END_NOW;
}

/* ---- the table */

static void not_found(struct stream *s)
{
    bytes_printf(&s->out, "no such fault\n");
    answer(s, "404", "text/plain");
}

static const struct route {
    const char *path;
    void (*play)(struct stream *s);
    bool at_head; /* does not wait for the body, but for ?at=end */
} routes[] = {
    {"/ok", ok, false},
    {"/echo", echo, false},
    {"/stats", stats, false},
    {"/stats/reset", clear_stats, false},
    {"/seen", seen, false},
    {"/seen-all", seen_all, false},
    {"/large", large, false},
    {"/trailers", trailers, false},
    {"/many-headers", many_headers, false},
    {"/big-header", big_header, false},
    {"/upload", upload, true},
    {"/upload-slow", upload_slow, true},
    {"/delay", delay, false},
    {"/stream", stream, false},
    {"/never", never, false},
    {"/stall", stall, false},
    {"/whole", whole, false},
    {"/early", early, true},
    {"/reset", reset, true},
    {"/refuse-first", refuse_first, true},
    {"/goaway", goaway, false},
    {"/goaway-now", goaway_now, false},
    {"/goaway-idle", goaway_idle, false},
    {"/idle", idle, false},
    {"/refuse-later", refuse_later, false},
    {"/die-others", die_others, false},
    {"/die", die_at_once, false},
};

void route_head(struct stream *s)
{
    static const struct route absent = {"", not_found, false};
    const struct route *r = &absent;
    char at[8];
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, s->req.path) == 0)
            r = &routes[i];
    }
    /* The witness's own pages are not counted: reading the counters must not change them. */
    if (r->play != stats && r->play != clear_stats && r->play != seen && r->play != seen_all)
        h2_stats()->requests++;
    s->on_end = r->play;
    if (r->at_head && strcmp(query_str(&s->req, "at", at, sizeof at, ""), "end") != 0) {
        s->on_end = NULL;
        r->play(s);
    }
}

void route_end(struct stream *s)
{
    void (*play)(struct stream *) = s->on_end;
    s->on_end = NULL;
    if (play)
        play(s);
}
