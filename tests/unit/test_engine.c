#include "rig.h"
#include <arpa/inet.h>
#include <zlib.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\n"

static char big_header[250 * 1024], many_headers[420 * 1024], many_hundreds[5000 * 26 + 100];
static char one_too_many[300 * 8 + 100], fat_body[70 * 1024];
static char gzip_whole[512], gzip_half[512], gzip_two[1024], gzip_crc[512], gzip_bomb[200 * 1024];
static size_t gzip_whole_len, gzip_half_len, gzip_two_len, gzip_crc_len, gzip_bomb_len;

static struct canned_answer table[] = {
    {"/ok", OK_HEAD "Content-Length: 5\r\nX-A: b\r\n\r\nhello", 0, CANNED_KEEP, 0},
    {"/reset", "", 0, CANNED_RESET, 0},
    {"/empty", "", 0, CANNED_CLOSE, 0},
    {"/drop-second", OK_HEAD "Content-Length: 2\r\n\r\nok", 0, CANNED_KEEP, 0},
    {"/short", OK_HEAD "Content-Length: 100\r\n\r\nhello", 0, CANNED_CLOSE, 0},
    {"/chunk-cut", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0, CANNED_CLOSE, 0},
    {"/chunk-bad", OK_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", 0, CANNED_CLOSE, 0},
    {"/negative", OK_HEAD "Content-Length: -5\r\n\r\nhello", 0, CANNED_CLOSE, 0},
    {"/nul", OK_HEAD "X: a\0b\r\n\r\n", sizeof OK_HEAD + 10, CANNED_CLOSE, 0},
    {"/two-lengths", OK_HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 0,
     CANNED_CLOSE, 0},
    {"/both",
     OK_HEAD "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0,
     CANNED_KEEP, 0},
    {"/eof", OK_HEAD "\r\nhello", 0, CANNED_CLOSE, 0},
    {"/eof-reset", OK_HEAD "Content-Length: 50\r\n\r\nhello", 0, CANNED_RESET, 0},
    {"/garbage", "\x16\x03\x01 nonsense\r\n\r\n", 0, CANNED_CLOSE, 0},
    {"/http09", "hello world\n", 0, CANNED_CLOSE, 0},
    {"/big-header", big_header, 0, CANNED_CLOSE, 0},
    {"/many-headers", many_headers, 0, CANNED_CLOSE, 0},
    {"/many-fields", one_too_many, 0, CANNED_CLOSE, 0},
    {"/many-100", many_hundreds, 0, CANNED_CLOSE, 0},
    {"/100", "HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\n" OK_HEAD "Content-Length: 2\r\n\r\nok", 0,
     CANNED_KEEP, 0},
    {"/204-body", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 666 Evil\r\nContent-Length: 0\r\n\r\n",
     0, CANNED_KEEP, 0},
    {"/extra", OK_HEAD "Content-Length: 2\r\n\r\nokHTTP/1.1 666 Evil\r\nContent-Length: 0\r\n\r\n",
     0, CANNED_KEEP, 0},
    {"/trailers",
     OK_HEAD "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: end\r\n\r\n",
     0, CANNED_KEEP, 0},
    {"/folded", OK_HEAD "X-F: one\r\n  two\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/no-colon", OK_HEAD "what is this\r\nContent-Length: 0\r\n\r\n", 0, CANNED_CLOSE, 0},
    {"/br", OK_HEAD "Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", 0, CANNED_KEEP, 0},
    {"/gzip-empty", OK_HEAD "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/drip", OK_HEAD "Content-Length: 100000\r\n\r\n", 0, CANNED_DRIP, 0},
    {"/body-stops", OK_HEAD "Content-Length: 100\r\n\r\nhello", 0, CANNED_HANG, 0},
    {"/head-stops", OK_HEAD "X-A: b\r\n", 0, CANNED_HANG, 0},
    {"/silent", "", 0, CANNED_HANG, 0},
    {"/fat", fat_body, 0, CANNED_KEEP, 0},
    {"/gzip", gzip_whole, 0, CANNED_KEEP, 0},
    {"/gzip-half", gzip_half, 0, CANNED_KEEP, 0},
    {"/gzip-two", gzip_two, 0, CANNED_KEEP, 0},
    {"/gzip-crc", gzip_crc, 0, CANNED_KEEP, 0},
    {"/gzip-bomb", gzip_bomb, 0, CANNED_KEEP, 0},
    {"", NULL, 0, CANNED_CLOSE, 0},
};

static size_t gzip_to(unsigned char *out, size_t size, const void *in, size_t len)
{
    z_stream z = {0};
    if (deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    z.next_in = (Bytef *)(uintptr_t)in;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = (uInt)size;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    size_t n = size - z.avail_out;
    deflateEnd(&z);
    return n;
}

static size_t gzip_answer(char *out, const unsigned char *body, size_t len)
{
    int n = sprintf(out, OK_HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", len);
    memcpy(out + n, body, len);
    return (size_t)n + len;
}

__attribute__((constructor)) static void fill_table(void)
{
    char *p = big_header + sprintf(big_header, OK_HEAD "X-Big: ");
    memset(p, 'a', 200 * 1024);
    strcpy(p + 200 * 1024, "\r\nContent-Length: 0\r\n\r\n");
    p = many_headers + sprintf(many_headers, OK_HEAD);
    for (int i = 0; i < 100; i++) {
        p += sprintf(p, "X-%d: ", i);
        memset(p, 'a', 4000);
        p += 4000;
        p += sprintf(p, "\r\n");
    }
    strcpy(p, "Content-Length: 0\r\n\r\n");
    p = one_too_many + sprintf(one_too_many, OK_HEAD);
    for (int i = 0; i < 257; i++)
        p += sprintf(p, "X: %d\r\n", i);
    strcpy(p, "\r\n");
    p = many_hundreds;
    for (int i = 0; i < 5000; i++)
        p += sprintf(p, "HTTP/1.1 100 Continue\r\n\r\n");
    strcpy(p, OK_HEAD "\r\n");
    p = fat_body + sprintf(fat_body, OK_HEAD "Content-Length: 65536\r\n\r\n");
    memset(p, 'f', 65536);

    unsigned char zipped[256];
    size_t n = gzip_to(zipped, sizeof zipped, "hello gzip", 10);
    gzip_whole_len = gzip_answer(gzip_whole, zipped, n);
    gzip_half_len = gzip_answer(gzip_half, zipped, n - 6);
    unsigned char two[512];
    memcpy(two, zipped, n);
    memcpy(two + n, zipped, n);
    gzip_two_len = gzip_answer(gzip_two, two, 2 * n);
    zipped[n - 7] ^= 1;
    gzip_crc_len = gzip_answer(gzip_crc, zipped, n);
    size_t zeros = 20 * 1024 * 1024;
    char *bomb = calloc(1, zeros);
    unsigned char *bomb_zip = malloc(150 * 1024);
    if (!bomb || !bomb_zip)
        abort();
    n = gzip_to(bomb_zip, 150 * 1024, bomb, zeros);
    gzip_bomb_len = gzip_answer(gzip_bomb, bomb_zip, n);
    free(bomb);
    free(bomb_zip);
    for (struct canned_answer *a = table; *a->path; a++) {
        if (a->bytes == gzip_whole)
            a->len = gzip_whole_len;
        if (a->bytes == gzip_half)
            a->len = gzip_half_len;
        if (a->bytes == gzip_two)
            a->len = gzip_two_len;
        if (a->bytes == gzip_crc)
            a->len = gzip_crc_len;
        if (a->bytes == gzip_bomb)
            a->len = gzip_bomb_len;
    }
}

static const char *body_of(const struct transfer *t)
{
    return t->result.body.data ? t->result.body.data : "";
}

TEST(a_request_and_its_answer)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_get(&r, "/ok");
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK_EQ(t->result.status, 200);
    CHECK_STR(t->result.reason, "OK");
    CHECK_STR(t->result.version, "1.1");
    CHECK_STR(body_of(t), "hello");
    CHECK_STR(headers_get(&t->result.headers, "x-a", NULL, NULL), "b");
    CHECK_EQ(t->result.wire_attempts, 1);
    CHECK_EQ(t->result.expected_bytes, 5);
    CHECK(!t->result.complete_unknown);
    CHECK(t->result.timing.connect >= 0 && t->result.timing.tls < 0 && t->result.timing.dns < 0);
    CHECK(t->result.timing.first_byte <= t->result.timing.total);
    transfer_free(t);
    rig_end(&r);
}

TEST(what_goes_out_is_what_was_asked_for)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_to(&r, "POST", "/ok", "abc");
    CHECK_EQ(headers_add(&t->spec.headers, "X-Empty", 7, "", 0), ERR_NONE);
    CHECK_EQ(headers_add(&t->spec.headers, "X-Two", 5, "a", 1), ERR_NONE);
    CHECK_EQ(headers_add(&t->spec.headers, "X-Two", 5, "b", 1), ERR_NONE);
    t->spec.compressed = true;
    transfer_free(rig_run(&r, t));
    CHECK(strncmp(canned_last(&r.server), "POST /ok HTTP/1.1\r\n", 19) == 0);
    CHECK(strstr(canned_last(&r.server), "\r\nX-Empty:\r\n"));
    CHECK(strstr(canned_last(&r.server), "\r\nX-Two: a\r\nX-Two: b\r\n"));
    CHECK(strstr(canned_last(&r.server), "\r\nAccept-Encoding: gzip, deflate\r\n"));
    CHECK(strstr(canned_last(&r.server), "\r\nUser-Agent: leat/"));
    CHECK(strstr(canned_last(&r.server), "\r\nContent-Length: 3\r\n"));
    CHECK(!strstr(canned_last(&r.server), "Content-Type"));
    CHECK(!strstr(canned_last(&r.server), "Expect"));
    CHECK(strstr(canned_last(&r.server), "\r\n\r\nabc"));
    static const char *const rows[][3] = {
        {"PUT", NULL, "Content-Length: 0"},
        {"POST", NULL, "Content-Length: 0"},
        {"PUT", "xy", "Content-Length: 2"},
        {"DELETE", NULL, NULL},
        {"PURGE", "p", "Content-Length: 1"},
        {"GET", "g", "Content-Length: 1"},
        {"OPTIONS", NULL, NULL},
        {"GET", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        t = rig_run(&r, rig_to(&r, rows[i][0], "/ok", rows[i][1]));
        CHECK_EQ(t->result.status, 200);
        transfer_free(t);
        CHECK(strncmp(canned_last(&r.server), rows[i][0], strlen(rows[i][0])) == 0);
        if (rows[i][2])
            CHECK(strstr(canned_last(&r.server), rows[i][2]));
        else
            CHECK(!strstr(canned_last(&r.server), "Content-Length"));
    }
    CHECK_EQ(r.server.connections, 1);
    rig_end(&r);
}

TEST(a_refused_connection_is_reported_at_once)
{
    struct rig r;
    char url[64];
    int port;
    REQUIRE(rig_begin(&r, table));
    close(canned_listen(&port, 1));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/?key=canary", port);
    struct transfer *t = rig_get(&r, url);
    CHECK_EQ(t->result.err.kind, ERR_CONNECT);
    CHECK_STR(t->result.err.reason, "refused");
    CHECK(t->result.err.retryable);
    CHECK(strstr(t->result.err.message, "refused"));
    CHECK(!strstr(t->result.err.message, "canary"));
    transfer_free(t);
    rig_end(&r);
}

struct fault {
    const char *path;
    enum err_kind kind;
    const char *reason;
    bool retryable;
};

TEST(each_broken_answer_has_its_kind)
{
    static const struct fault faults[] = {
        {"/reset", ERR_CLOSED, "reset", true},
        {"/empty", ERR_CLOSED, "reset", true},
        {"/short", ERR_CLOSED, "truncated", true},
        {"/chunk-cut", ERR_CLOSED, "truncated", true},
        {"/chunk-bad", ERR_PROTOCOL, "chunk_size", false},
        {"/negative", ERR_PROTOCOL, "content_length", false},
        {"/nul", ERR_PROTOCOL, "nul", false},
        {"/two-lengths", ERR_PROTOCOL, "content_length", false},
        {"/eof-reset", ERR_CLOSED, "reset", true},
        {"/garbage", ERR_PROTOCOL, "status_line", false},
        {"/http09", ERR_PROTOCOL, "status_line", false},
        {"/big-header", ERR_TOO_LARGE, "", false},
        {"/many-headers", ERR_TOO_LARGE, "", false},
        {"/many-fields", ERR_TOO_LARGE, "", false},
        {"/many-100", ERR_TOO_LARGE, "", false},
        {"/no-colon", ERR_PROTOCOL, "header_name", false},
        {"/folded", ERR_PROTOCOL, "folded_line", false},
        {"/gzip-half", ERR_PROTOCOL, "decode", false},
        {"/gzip-crc", ERR_PROTOCOL, "decode", false},
    };
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct transfer *t = rig_to(&r, "GET", faults[i].path, NULL);
        t->spec.compressed = true;
        rig_run(&r, t);
        const struct err *err = &t->result.err;
        if (err->kind != faults[i].kind || strcmp(err->reason, faults[i].reason) != 0 ||
            err->retryable != faults[i].retryable || !err->message[0]) {
            printf("  %s: %s/%s %d: %s\n", faults[i].path, err_kind_name(err->kind), err->reason,
                   err->retryable, err->message);
            test_failed = true;
        }
        transfer_free(t);
        rig_check_idle(&r);
    }
    struct transfer *t = rig_get(&r, "/ok");
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    transfer_free(t);
    rig_end(&r);
}

TEST(a_truncated_body_says_how_much_came)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_get(&r, "/short");
    CHECK_EQ(t->result.got_bytes, 5);
    CHECK_EQ(t->result.expected_bytes, 100);
    CHECK_STR(body_of(t), "hello");
    CHECK(strstr(t->result.err.message, "5 of 100"));
    transfer_free(t);
    rig_end(&r);
}

TEST(odd_but_good_answers_are_taken)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_get(&r, "/eof");
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK(t->result.complete_unknown);
    CHECK_STR(body_of(t), "hello");
    transfer_free(t);

    t = rig_get(&r, "/100");
    CHECK_EQ(t->result.status, 200);
    CHECK(!headers_get(&t->result.headers, "x-no", NULL, NULL));
    transfer_free(t);

    t = rig_get(&r, "/trailers");
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK(!headers_get(&t->result.headers, "x-t", NULL, NULL));
    CHECK_STR(headers_get(&t->result.trailers, "x-t", NULL, NULL), "end");
    CHECK_STR(body_of(t), "ok");
    transfer_free(t);

    t = rig_to(&r, "HEAD", "/ok", NULL);
    rig_run(&r, t);
    CHECK_EQ(t->result.status, 200);
    CHECK_EQ(t->result.body.len, 0);
    CHECK(!t->result.complete_unknown);
    transfer_free(t);
    rig_end(&r);
}

TEST(chunking_wins_over_a_length_and_the_connection_ends)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (int i = 0; i < 2; i++) {
        struct transfer *t = rig_get(&r, "/both");
        CHECK_EQ(t->result.err.kind, ERR_NONE);
        CHECK_STR(body_of(t), "hello");
        transfer_free(t);
    }
    CHECK_EQ(r.server.connections, 2);
    rig_end(&r);
}

TEST(bytes_after_the_body_never_become_an_answer)
{
    static const char *const paths[] = {"/204-body", "/extra"};
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct transfer *t = rig_get(&r, paths[i]);
        CHECK_EQ(t->result.err.kind, ERR_NONE);
        CHECK(t->result.status == 204 || strcmp(body_of(t), "ok") == 0);
        transfer_free(t);
        t = rig_get(&r, "/ok");
        CHECK_EQ(t->result.status, 200);
        CHECK_STR(body_of(t), "hello");
        transfer_free(t);
    }
    rig_end(&r);
}

TEST(compressed_bodies_are_decoded)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    static const char *const rows[][2] = {
        {"/gzip", "hello gzip"}, {"/gzip-two", "hello gziphello gzip"}, {"/gzip-empty", ""}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct transfer *t = rig_to(&r, "GET", rows[i][0], NULL);
        t->spec.compressed = true;
        rig_run(&r, t);
        CHECK_EQ(t->result.err.kind, ERR_NONE);
        CHECK_STR(body_of(t), rows[i][1]);
        CHECK(!t->result.encoding_unknown);
        transfer_free(t);
    }
    struct transfer *t = rig_to(&r, "GET", "/br", NULL);
    t->spec.compressed = true;
    rig_run(&r, t);
    CHECK(t->result.encoding_unknown);
    CHECK_STR(body_of(t), "abc");
    transfer_free(t);
    rig_end(&r);
}

TEST(a_body_ends_at_the_cap_before_and_after_decoding)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_to(&r, "GET", "/gzip-bomb", NULL);
    t->spec.compressed = true;
    t->spec.max_body_bytes = 100000;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TOO_LARGE);
    CHECK(t->result.body.len <= 100000);
    transfer_free(t);
    CHECK(r.mem.peak_bytes < 1024 * 1024);
    t = rig_to(&r, "GET", "/fat", NULL);
    t->spec.max_body_bytes = 65535;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TOO_LARGE);
    transfer_free(t);
    t = rig_to(&r, "GET", "/fat", NULL);
    t->spec.max_body_bytes = 65536;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK_EQ(t->result.body.len, 65536);
    transfer_free(t);
    rig_end(&r);
}

TEST(each_limit_names_itself)
{
    struct rig r;
    int port;
    REQUIRE(rig_begin(&r, table));
    /* Nobody accepts: a TLS handshake to it hangs. */
    int plain = canned_listen(&port, 8);
    char tls_url[64];
    snprintf(tls_url, sizeof tls_url, "https://127.0.0.1:%d/", port);
    struct {
        const char *path;
        struct transfer_limits limits;
        enum err_phase phase;
    } rows[] = {
        {"/silent", {.first_byte_ms = 60}, PHASE_FIRST_BYTE},
        {"/silent", {.total_ms = 60, .first_byte_ms = 5000}, PHASE_TOTAL},
        {"/head-stops", {.idle_ms = 60}, PHASE_IDLE},
        {"/body-stops", {.idle_ms = 60}, PHASE_IDLE},
        {"/drip", {.idle_ms = 10}, PHASE_IDLE},
        {"/drip", {.total_ms = 120, .idle_ms = 5000}, PHASE_TOTAL},
        {tls_url, {.connect_ms = 1500}, PHASE_TLS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct transfer *t = rig_to(&r, "GET", rows[i].path, NULL);
        t->spec.limits = rows[i].limits;
        uint64_t began = loop_now_ns(&r.loop);
        rig_run(&r, t);
        /* What the first handshake reads may take a busy machine that long: then once more. */
        if (rows[i].phase == PHASE_TLS && t->result.err.phase == PHASE_CONNECT) {
            transfer_free(t);
            t = rig_to(&r, "GET", rows[i].path, NULL);
            t->spec.limits = (struct transfer_limits){.connect_ms = 30000};
            rig_run(&r, t);
        }
        CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
        CHECK_STR(err_phase_name(t->result.err.phase), err_phase_name(rows[i].phase));
        CHECK(t->result.err.retryable);
        CHECK(loop_now_ns(&r.loop) - began >= t->result.err.limit_ms * NS_PER_MS);
        transfer_free(t);
        rig_check_idle(&r);
    }
    close(plain);
    rig_end(&r);
}

TEST(waiting_in_the_queue_has_its_own_limit)
{
    struct rig r;
    REQUIRE(rig_begin_with(&r, table, (struct engine_config){.max_total = 1}));
    struct transfer *first = rig_to(&r, "GET", "/silent", NULL);
    struct transfer *second = rig_to(&r, "GET", "/ok", NULL);
    second->spec.limits.queue_ms = 50;
    engine_submit(r.engine, first);
    engine_submit(r.engine, second);
    struct transfer *t = rig_wait(&r);
    CHECK(t == second);
    CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
    CHECK_EQ(t->result.err.phase, PHASE_QUEUE);
    engine_cancel(r.engine, first);
    CHECK(rig_wait(&r) == first);
    transfer_free(first);
    transfer_free(second);
    rig_end(&r);
}

/* A look-up that hangs until told, then finds the canned server. */
static int lookup_slow(const char *name, char *out, size_t size, void *arg)
{
    atomic_bool *release = arg;
    while (!*release)
        usleep(1000);
    snprintf(out, size, "%s", strcmp(name, "nowhere.test") == 0 ? "" : "127.0.0.1");
    return strcmp(name, "nowhere.test") == 0 ? -2 /* EAI_NONAME */ : 0;
}

TEST(names_are_looked_up_off_the_loop_and_limited)
{
    struct rig r;
    atomic_bool release = false;
    REQUIRE(rig_begin_with(&r, table,
                           (struct engine_config){.lookup = lookup_slow, .lookup_arg = &release}));
    char url[64];
    snprintf(url, sizeof url, "http://some.test:%d/ok", r.server.port);
    struct transfer *t = rig_to(&r, "GET", url, NULL);
    t->spec.limits.connect_ms = 50;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
    CHECK_EQ(t->result.err.phase, PHASE_DNS);
    transfer_free(t);
    t = rig_to(&r, "GET", url, NULL);
    engine_submit(r.engine, t);
    engine_cancel(r.engine, t);
    CHECK(rig_wait(&r) == t);
    CHECK_EQ(t->result.err.kind, ERR_CANCELLED);
    transfer_free(t);
    release = true;
    t = rig_get(&r, url);
    CHECK_EQ(t->result.status, 200);
    CHECK(t->result.timing.dns >= 0);
    char host[64];
    snprintf(host, sizeof host, "\r\nHost: some.test:%d\r\n", r.server.port);
    CHECK(strstr(canned_last(&r.server), host));
    transfer_free(t);
    t = rig_get(&r, "http://nowhere.test/");
    CHECK_EQ(t->result.err.kind, ERR_DNS);
    transfer_free(t);
    while (engine_threads_busy(r.engine))
        loop_turn(&r.loop, true);
    rig_end(&r);
}

TEST(cancel_in_every_phase_gives_everything_back)
{
    struct rig r;
    int port;
    REQUIRE(rig_begin_with(&r, table, (struct engine_config){.max_per_host = 2}));
    int plain = canned_listen(&port, 8);
    char tls_url[64];
    snprintf(tls_url, sizeof tls_url, "https://127.0.0.1:%d/", port);
    const char *paths[] = {"/silent", "/head-stops", "/body-stops", "/drip", tls_url};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        for (int turns = 0; turns < 6; turns++) {
            struct transfer *t = rig_to(&r, "GET", paths[i], NULL);
            struct transfer *queued[2];
            engine_submit(r.engine, t);
            for (int k = 0; k < turns; k++)
                loop_turn(&r.loop, k < 3 && !engine_pending(r.engine));
            for (int k = 0; k < 2; k++) {
                queued[k] = rig_to(&r, "GET", "/silent", NULL);
                engine_submit(r.engine, queued[k]);
            }
            engine_cancel(r.engine, queued[1]);
            engine_cancel(r.engine, t);
            engine_cancel(r.engine, t);
            engine_cancel(r.engine, queued[0]);
            for (int k = 0; k < 3; k++) {
                struct transfer *done = engine_next_event(r.engine, &(unsigned){0});
                REQUIRE(done);
                CHECK_EQ(done->result.err.kind, ERR_CANCELLED);
                CHECK(done->cancelled);
                transfer_free(done);
            }
            rig_check_idle(&r);
        }
    }
    close(plain);
    struct transfer *t = rig_get(&r, "/ok");
    CHECK_EQ(t->result.status, 200);
    transfer_free(t);
    rig_end(&r);
}

TEST(a_cancelled_request_closes_its_connection)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_to(&r, "GET", "/body-stops", NULL);
    engine_submit(r.engine, t);
    while (t->result.got_bytes == 0)
        loop_turn(&r.loop, true);
    CHECK_EQ(r.server.open, 1);
    engine_cancel(r.engine, t);
    CHECK(rig_wait(&r) == t);
    transfer_free(t);
    while (r.server.open > 0)
        usleep(1000);
    rig_end(&r);
}

/* A port that takes connections and never reads. */
static int listen_silently(unsigned *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        abort();
    *port = ntohs(at.sin_port);
    return fd;
}

/* Our end of the connection to the port; -1: there is none. */
static int find_connection(unsigned port)
{
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == port)
            return fd;
    }
    return -1;
}

TEST(a_failed_send_ends_the_request_although_the_peer_is_silent)
{
    struct rig r;
    unsigned port;
    char url[64];
    int listener = listen_silently(&port);
    REQUIRE(rig_begin(&r, table));
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    struct transfer *t = rig_to(&r, "POST", url, NULL);
    t->spec.upload = true;
    t->spec.body_len = TRANSFER_LENGTH_UNKNOWN;
    t->spec.limits.total_ms = 5000; /* ends it if the failure of the send does not */
    engine_submit(r.engine, t);
    while (t->result.wire_attempts == 0)
        loop_turn(&r.loop, true);
    CHECK_EQ(shutdown(find_connection(port), SHUT_WR), 0);
    CHECK_EQ(engine_feed(r.engine, t, "x", 1), ERR_NONE);
    unsigned events = 0;
    while (!(events & TRANSFER_DONE)) {
        if (!engine_next_event(r.engine, &events))
            loop_turn(&r.loop, true);
    }
    CHECK_EQ(t->result.err.kind, ERR_CLOSED);
    CHECK_STR(t->result.err.reason, "reset");
    transfer_free(t);
    rig_end(&r);
    close(listener);
}

TEST(the_total_and_the_host_limit_hold_on_the_wire)
{
    enum { N = 60 };
    struct rig r;
    REQUIRE(rig_begin_with(&r, table, (struct engine_config){.max_total = 9, .max_per_host = 5}));
    r.server.hold_ms = 2;
    for (int i = 0; i < N; i++)
        engine_submit(r.engine, rig_to(&r, "GET", "/ok", NULL));
    for (int i = 0; i < N; i++) {
        struct transfer *t = rig_wait(&r);
        CHECK_EQ(t->result.status, 200);
        transfer_free(t);
    }
    CHECK_EQ(r.server.peak_open, 5);
    CHECK_EQ(r.server.connections, 5);
    CHECK_EQ(r.server.requests, N);
    rig_end(&r);
}

TEST(as_many_connections_as_were_needed_are_kept)
{
    enum { N = 40 };
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    r.server.hold_ms = 10;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            engine_submit(r.engine, rig_to(&r, "GET", "/ok", NULL));
        for (int i = 0; i < N; i++) {
            struct transfer *t = rig_wait(&r);
            CHECK_EQ(t->result.status, 200);
            transfer_free(t);
        }
    }
    CHECK_EQ(r.server.connections, N);
    rig_end(&r);
}

static const struct canned_answer drops[] = {
    /* The second request on a connection is read, then the connection breaks. */
    {"/x", "", 0, CANNED_RESET, 1},
    {"/x", OK_HEAD "Content-Length: 2\r\n\r\nok", 0, CANNED_KEEP, 0},
    {"/gone", OK_HEAD "Content-Length: 2\r\n\r\nok", 0, CANNED_CLOSE, 0},
    {"", NULL, 0, CANNED_CLOSE, 0},
};

TEST(a_post_is_never_sent_twice_behind_the_callers_back)
{
    static const struct {
        const char *method, *body, *key;
        bool idempotent, second_ok;
    } rows[] = {
        {"POST", "abc", NULL, false, false}, {"POST", NULL, NULL, false, false},
        {"PATCH", "x", NULL, false, false},  {"GET", NULL, NULL, false, true},
        {"PUT", "x", NULL, false, true},     {"DELETE", NULL, NULL, false, true},
        {"POST", "abc", "k1", false, true},  {"POST", "abc", NULL, true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig r;
        REQUIRE(rig_begin(&r, drops));
        for (int k = 0; k < 2; k++) {
            struct transfer *t = rig_to(&r, rows[i].method, "/x", rows[i].body);
            t->spec.idempotent = rows[i].idempotent;
            if (rows[i].key)
                CHECK_EQ(headers_add(&t->spec.headers, "Idempotency-Key", 15, rows[i].key, 2),
                         ERR_NONE);
            rig_run(&r, t);
            if (k == 0 || rows[i].second_ok) {
                CHECK_EQ(t->result.status, 200);
                CHECK_EQ(t->result.wire_attempts, k + 1);
            } else {
                CHECK_EQ(t->result.err.kind, ERR_CLOSED);
                CHECK_STR(t->result.err.reason, "reset");
                CHECK(t->result.err.retryable);
                CHECK_EQ(t->result.wire_attempts, 1);
            }
            transfer_free(t);
        }
        CHECK_EQ(r.server.requests, rows[i].second_ok ? 3 : 2);
        rig_end(&r);
    }
}

TEST(a_caller_that_counts_attempts_learns_what_would_be_sent_again)
{
    static const struct {
        const char *method, *body;
        bool at_once;
    } rows[] = {{"GET", NULL, true}, {"PUT", "x", true}, {"POST", "x", false}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig r;
        REQUIRE(rig_begin(&r, drops));
        for (int k = 0; k < 3; k++) {
            struct transfer *t = rig_to(&r, rows[i].method, "/x", rows[i].body);
            t->spec.once = true;
            rig_run(&r, t);
            CHECK_EQ(t->result.wire_attempts, 1);
            CHECK_EQ(t->result.err.kind, k == 1 ? ERR_CLOSED : ERR_NONE);
            CHECK_EQ(t->result.at_once, k == 1 && rows[i].at_once);
            CHECK(!t->result.untouched);
            transfer_free(t);
        }
        CHECK_EQ(r.server.requests, 3);
        CHECK_EQ(r.server.connections, 2);
        rig_end(&r);
    }
}

TEST(a_connection_that_the_server_closed_while_idle_is_not_used)
{
    struct rig r;
    REQUIRE(rig_begin(&r, drops));
    for (int i = 0; i < 3; i++) {
        struct transfer *t = rig_run(&r, rig_to(&r, "POST", "/gone", "abc"));
        CHECK_EQ(t->result.status, 200);
        transfer_free(t);
        while (r.server.open > 0)
            usleep(1000);
        for (int k = 0; k < 5; k++) /* the parked socket's event must not make the loop spin */
            loop_turn(&r.loop, false);
    }
    CHECK_EQ(r.server.requests, 3);
    rig_end(&r);
}

TEST(a_large_post_does_not_wait_for_a_continue)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    size_t len = 3 * 1024 * 1024;
    struct transfer *t = rig_to(&r, "POST", "/ok", NULL);
    t->spec.body = mem_calloc(&r.mem, len);
    t->spec.body_len = len;
    REQUIRE(t->spec.body);
    memset(t->spec.body, 'p', len);
    rig_run(&r, t);
    CHECK_EQ(t->result.status, 200);
    CHECK(!strstr(canned_last(&r.server), "Expect"));
    transfer_free(t);
    rig_end(&r);
}

TEST(a_closed_engine_hands_every_request_back)
{
    struct rig r;
    REQUIRE(rig_begin_with(&r, table, (struct engine_config){.max_total = 3}));
    for (int i = 0; i < 10; i++)
        engine_submit(r.engine, rig_to(&r, "GET", "/silent", NULL));
    for (int i = 0; i < 5; i++)
        loop_turn(&r.loop, false);
    engine_close(r.engine);
    for (int i = 0; i < 10; i++) {
        struct transfer *t = engine_next_event(r.engine, &(unsigned){0});
        REQUIRE(t);
        CHECK_EQ(t->result.err.kind, ERR_CANCELLED);
        transfer_free(t);
    }
    rig_end(&r);
}

TEST(random_cancels_leave_nothing_behind)
{
    enum { LIVE = 60, STEPS = 6000 };
    static const char *const paths[] = {"/ok", "/ok", "/silent", "/short", "/body-stops", "/gzip"};
    struct rig r;
    uint32_t seed = 7;
    REQUIRE(rig_begin_with(&r, table, (struct engine_config){.max_total = 20}));
    struct transfer *live[LIVE] = {0};
    size_t done = 0, started = 0;
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 1664525u + 1013904223u;
        size_t i = (seed >> 8) % LIVE;
        if (!live[i]) {
            live[i] = rig_to(&r, "GET", paths[(seed >> 16) % ARRAY_LEN(paths)], NULL);
            engine_submit(r.engine, live[i]);
            started++;
        } else {
            engine_cancel(r.engine, live[i]);
        }
        if (seed >> 29 == 0)
            loop_turn(&r.loop, false);
        for (struct transfer *t; (t = engine_next_event(r.engine, &(unsigned){0})); done++) {
            for (size_t k = 0; k < LIVE; k++) {
                if (live[k] == t)
                    live[k] = NULL;
            }
            transfer_free(t);
        }
    }
    engine_close(r.engine);
    for (struct transfer *t; (t = engine_next_event(r.engine, &(unsigned){0})); done++)
        transfer_free(t);
    CHECK_EQ(done, started);
    struct transfer *t = rig_get(&r, "/ok");
    CHECK_EQ(t->result.status, 200);
    transfer_free(t);
    rig_end(&r);
}

TEST(every_allocation_of_a_request_may_fail)
{
    struct rig r;
    long n = 0;
    REQUIRE(rig_begin(&r, table));
    for (; n < 200; n++) {
        struct transfer *t = rig_to(&r, "POST", n % 2 ? "/ok" : "/gzip", "abc");
        t->spec.compressed = true;
        CHECK_EQ(headers_add(&t->spec.headers, "X-A", 3, "b", 1), ERR_NONE);
        r.mem.fail_in = n / 2;
        rig_run(&r, t);
        bool spared = r.mem.fail_in >= 0;
        r.mem.fail_in = -1;
        CHECK(t->result.err.kind == ERR_NONE || t->result.err.kind == ERR_MEMORY);
        CHECK(!spared || t->result.err.kind == ERR_NONE);
        transfer_free(t);
        rig_check_idle(&r);
        if (spared && n % 2)
            break;
    }
    CHECK(n < 200);
    rig_end(&r);
}

TEST_MAIN
