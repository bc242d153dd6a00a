/* HTTP/2 with peers that flood, lie, break off or starve us of memory. Most write their frames byte
 * by byte. */
#include "h2server.h"

#include "engine/http2_session.h"

enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { CONTINUATION = 9, UNKNOWN = 0x55 };

/* ---- a peer that writes frames */

static void put(struct h2rig *r, const void *bytes, size_t len)
{
    const char *p = bytes;
    for (int tries = 0; len > 0 && tries < 10000; tries++) {
        ssize_t n = send(r->fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return; /* closed */
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        if (len > 0)
            h2rig_turn(r);
    }
}

static void put_frame(struct h2rig *r, int type, int flags, int id, const void *payload, size_t len)
{
    unsigned char head[9] = {(unsigned char)(len >> 16),
                             (unsigned char)(len >> 8),
                             (unsigned char)len,
                             (unsigned char)type,
                             (unsigned char)flags,
                             0,
                             0,
                             (unsigned char)(id >> 8),
                             (unsigned char)id};
    put(r, head, sizeof head);
    put(r, payload, len);
}

static void turns(struct h2rig *r, int n)
{
    for (int i = 0; i < n; i++)
        h2rig_turn(r);
}

/* Reads and forgets what we sent. */
static void swallow(struct h2rig *r)
{
    char in[65536];
    while (recv(r->fd, in, sizeof in, 0) > 0)
        ;
}

static bool get(struct h2rig *r, struct client *c, const char *path)
{
    struct http2_request request = h2rig_get(path);
    return h2rig_start(r, c, &request);
}

/* A session with the peer's settings, and one request that was sent. */
static bool begin(struct h2rig *r, struct client *c)
{
    h2rig_begin(r);
    put_frame(r, SETTINGS, 0, 0, "", 0);
    bool started = get(r, c, "/");
    turns(r, 3);
    swallow(r);
    return started;
}

static void head_200(struct h2rig *r, int id, int flags)
{
    put_frame(r, HEADERS, END_HEADERS | flags, id, "\x88", 1);
}

/* ---- floods */

struct flood {
    const char *name;
    int type, flags, id;
    const char *payload;
    size_t len;
    bool head_first; /* a response has begun */
};

static const struct flood floods[] = {
    {"PING", PING, 0, 0, "12345678", 8, false},
    {"PING ACK", PING, ACK, 0, "12345678", 8, false},
    {"SETTINGS", SETTINGS, 0, 0, "", 0, false},
    {"SETTINGS that change the windows", SETTINGS, 0, 0, "\0\4\0\0\1\0", 6, false},
    {"RST_STREAM of a closed stream", RST_STREAM, 0, 1, "\0\0\0\x8", 4, false},
    {"PRIORITY", PRIORITY, 0, 1, "\0\0\0\0\1", 5, false},
    {"WINDOW_UPDATE", WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4, false},
    {"empty DATA", DATA, 0, 3, "", 0, true},
    {"DATA of padding", DATA, 8, 3, "\3\0\0\0", 4, true},
    {"GOAWAY", GOAWAY, 0, 0, "\x7f\xff\xff\xff\0\0\0\0", 8, false},
    {"HEADERS of a closed stream", HEADERS, END_HEADERS, 1, "\x88", 1, false},
};

/* Returns how many frames it took. */
static int run_flood(const struct flood *k, bool peer_reads)
{
    struct h2rig r;
    struct client first = {0}, c = {0};
    if (!begin(&r, &first) || !get(&r, &c, "/"))
        return -1;
    turns(&r, 2);
    head_200(&r, 1, END_STREAM); /* stream 1 is closed now, 3 is open */
    if (k->head_first)
        head_200(&r, 3, 0);
    turns(&r, 2);
    CHECK_EQ(first.how, HTTP2_COMPLETE);
    size_t used = r.mem.used_bytes, most = used;
    int frames = 0;
    for (; !r.over && frames < 20000; frames++) {
        put_frame(&r, k->type, k->flags, k->id, k->payload, k->len);
        if (frames % 64 == 63) {
            turns(&r, 2);
            if (peer_reads)
                swallow(&r);
            most = MAX(most, (size_t)r.mem.used_bytes);
        }
    }
    CHECK(r.over);
    CHECK_EQ(r.why.kind, ERR_PROTOCOL);
    CHECK_STR(r.why.reason, "flood");
    CHECK(strstr(r.why.message, "floods") != NULL);
    CHECK(most < used + 300000);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_LOST);
    h2rig_end(&r);
    return frames;
}

TEST(each_kind_of_flood_ends_the_session)
{
    for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
        int frames = run_flood(&floods[i], true);
        if (frames < 500 || frames > 3000) {
            printf("  %s: ended after %d frames\n", floods[i].name, frames);
            CHECK(false);
        }
        CHECK(run_flood(&floods[i], false) < 3000);
    }
}

TEST(continuations_without_end_end_the_session)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, 0, 1, "\x88", 1);
    int frames = 0;
    for (; !r.over && frames < 1000; frames++) {
        put_frame(&r, CONTINUATION, 0, 1, "", 0);
        turns(&r, 1);
    }
    CHECK(frames <= HTTP2_MAX_CONTINUATIONS + 1);
    CHECK_STR(r.why.reason, "flood");
    CHECK_EQ(c.ends, 1);
    h2rig_end(&r);
}

TEST(a_head_in_many_frames_arrives)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_STREAM, 1, "\x88", 1);
    for (int i = 1; i <= HTTP2_MAX_CONTINUATIONS; i++)
        put_frame(&r, CONTINUATION, i == HTTP2_MAX_CONTINUATIONS ? END_HEADERS : 0, 1, "\x90", 1);
    turns(&r, 3);
    CHECK(!r.over);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    CHECK_EQ(c.field_count, HTTP2_MAX_CONTINUATIONS);
    h2rig_end(&r);
}

TEST(a_busy_connection_is_no_flood)
{
    /* Twenty PINGs and as many window updates for each request. */
    struct h2rig r;
    struct client first = {0};
    REQUIRE(begin(&r, &first));
    head_200(&r, 1, END_STREAM);
    turns(&r, 2);
    for (int id = 3; id < 2000 && !r.over; id += 2) {
        struct client c = {0};
        REQUIRE(get(&r, &c, "/"));
        turns(&r, 2);
        for (int i = 0; i < 20; i++) {
            put_frame(&r, PING, 0, 0, "12345678", 8);
            put_frame(&r, WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
        }
        head_200(&r, id, END_STREAM);
        turns(&r, 2);
        swallow(&r);
        REQUIRE(c.how == HTTP2_COMPLETE && c.ends == 1);
    }
    CHECK(!r.over);
    h2rig_end(&r);
}

TEST(a_server_that_reads_an_upload_in_small_pieces_is_no_flood)
{
    struct h2rig r;
    struct client c = {0}, up = {.upload_left = 1 << 20};
    REQUIRE(begin(&r, &c));
    struct http2_request request = h2rig_get("/");
    request.uploads = true;
    REQUIRE(h2rig_start(&r, &up, &request));
    /* A window update on the connection and one on the stream for each 100 bytes. */
    for (int i = 0; i < 40 && !r.over; i++) {
        up.upload_ready = 10000;
        http2_stream_fed(&up.s);
        turns(&r, 2);
        for (int at = 0; at < 10000; at += 100) {
            put_frame(&r, WINDOW_UPDATE, 0, 0, "\0\0\0\x64", 4);
            put_frame(&r, WINDOW_UPDATE, 0, 3, "\0\0\0\x64", 4);
        }
        turns(&r, 2);
        swallow(&r);
    }
    CHECK(!r.over);
    CHECK_EQ(up.upload_left, (1 << 20) - 400000);
    h2rig_end(&r);
}

TEST(the_guard_gives_tokens_back_with_time)
{
    struct http2_guard g;
    http2_guard_init(&g, 5 * NS_PER_S);
    for (int i = 0; i < HTTP2_GUARD_FIRST; i++)
        CHECK(http2_guard_spend(&g));
    CHECK(!http2_guard_spend(&g));
    http2_guard_refill(&g, 5 * NS_PER_S + NS_PER_S / HTTP2_GUARD_PER_S - 1);
    CHECK(!http2_guard_spend(&g));
    http2_guard_refill(&g, 5 * NS_PER_S + NS_PER_S / HTTP2_GUARD_PER_S);
    CHECK(http2_guard_spend(&g));
    CHECK(!http2_guard_spend(&g));
    http2_guard_refill(&g, UINT64_MAX);
    CHECK_EQ(g.tokens, HTTP2_GUARD_FIRST);
    http2_guard_earn(&g, UINT32_MAX);
    CHECK_EQ(g.tokens, HTTP2_GUARD_MOST);
}

/* ---- bombs */

/* A head whose field block is `block`, in as many frames as it takes. */
static void put_block(struct h2rig *r, int id, const char *block, size_t len)
{
    size_t n = MIN(len, (size_t)16384);
    put_frame(r, HEADERS, n == len ? END_HEADERS : 0, id, block, n);
    for (size_t at = n; at < len; at += n) {
        n = MIN(len - at, (size_t)16384);
        put_frame(r, CONTINUATION, at + n == len ? END_HEADERS : 0, id, block + at, n);
    }
}

static void expect_too_large(const char *block, size_t len)
{
    struct h2rig r;
    struct client c = {0}, after = {0};
    REQUIRE(begin(&r, &c));
    put_block(&r, 1, block, len);
    turns(&r, 20);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_TOO_LARGE);
    CHECK(c.field_count <= HTTP2_MAX_FIELDS);
    /* The connection goes on, and so does its header compression. */
    CHECK(!r.over);
    REQUIRE(get(&r, &after, "/"));
    turns(&r, 2);
    head_200(&r, 3, END_STREAM);
    turns(&r, 2);
    CHECK_EQ(after.how, HTTP2_COMPLETE);
    h2rig_end(&r);
}

TEST(too_many_fields_end_the_stream)
{
    static char block[301] = "\x88";
    memset(block + 1, 0x90, 300); /* "accept-encoding: gzip, deflate", one byte each */
    expect_too_large(block, 301);
}

TEST(as_many_fields_as_are_allowed_arrive)
{
    static char block[257] = "\x88";
    memset(block + 1, 0x90, 256);
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_HEADERS | END_STREAM, 1, block, sizeof block);
    turns(&r, 3);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    CHECK_EQ(c.field_count, 256);
    h2rig_end(&r);
}

TEST(a_bomb_of_indexed_fields_ends_the_stream)
{
    /* A field of 4 KB goes into the table; then each byte of the block is one more of it. */
    static char block[4200];
    size_t n = 0;
    block[n++] = (char)0x88;
    memcpy(block + n, "\x40\x01x\x7f\xa1\x1e", 6); /* literal with indexing: "x", 4000 bytes */
    n += 6;
    memset(block + n, 'v', 4000);
    n += 4000;
    memset(block + n, 0xbe, 100);
    n += 100;
    expect_too_large(block, n);
}

TEST(a_field_longer_than_a_line_may_be_ends_the_stream)
{
    static char block[70000];
    size_t n = 0;
    block[n++] = (char)0x88;
    memcpy(block + n, "\x00\x01x\x7f\x80\xff\x03", 7); /* 127 + 65408 = 65535 bytes */
    n += 7;
    memset(block + n, 'v', 65535);
    n += 65535;
    /* With its name it has 65536 bytes, which is allowed. */
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_block(&r, 1, block, n);
    turns(&r, 20);
    CHECK_EQ(c.heads, 1);
    CHECK_EQ(c.ends, 0);
    h2rig_end(&r);
    memcpy(block + 1, "\x00\x02xy\x7f\x80\xff\x03", 8);
    memset(block + 9, 'v', 65535);
    expect_too_large(block, 9 + 65535);
}

TEST(interim_responses_without_end_end_the_stream)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    for (int i = 0; i < 40; i++)
        put_frame(&r, HEADERS, END_HEADERS, 1,
                  "\x08\x03"
                  "103",
                  5);
    turns(&r, 3);
    CHECK_EQ(c.interims, HTTP2_MAX_INTERIMS);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_TOO_LARGE);
    CHECK(!r.over);
    h2rig_end(&r);
}

/* ---- lies */

static void expect_invalid(const char *block, size_t len, int flags)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_HEADERS | flags, 1, block, len);
    turns(&r, 5);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_INVALID);
    CHECK_EQ(c.heads, 0);
    CHECK_EQ(c.field_count, 0);
    CHECK(!r.over);
    h2rig_end(&r);
}

TEST(fields_that_are_not_allowed_make_a_response_invalid)
{
    expect_invalid("\x88\x00\x01X\x01v", 6, 0);    /* upper case */
    expect_invalid("\x88\x00\x01x\x01\x01", 6, 0); /* a control byte */
    expect_invalid("\x88\x00\x01x\x01\0", 6, 0);   /* NUL */
    expect_invalid("\x88\x00\x01x\x02\r\n", 7, 0); /* a line of its own */
    expect_invalid("\x88\x00\x02x \x01v", 7, 0);   /* a space in a name */
    expect_invalid("\x88\x00\x0a"
                   "connection\x01v",
                   15, 0);                  /* of a connection */
    expect_invalid("\x00\x01x\x01v", 5, 0); /* no status */
    expect_invalid("\x08\x03"
                   "050",
                   5, 0); /* no status at all */
    expect_invalid("\x08\x03"
                   "1a0",
                   5, 0); /* not a number */
    expect_invalid("\x08\x03"
                   "101",
                   5, 0); /* no switch of protocols */
    expect_invalid("\x08\x03"
                   "103",
                   5, END_STREAM);    /* the real response never comes */
    expect_invalid("\x88\x88", 2, 0); /* two statuses */
}

TEST(white_space_around_a_value_is_accepted)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_HEADERS | END_STREAM, 1, "\x88\x00\x01x\x03 v ", 8);
    turns(&r, 5);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    CHECK_STR(c.fields, "x= v ;");
    h2rig_end(&r);
}

static void expect_broken(struct h2rig *r, const struct client *c, const char *words)
{
    turns(r, 5);
    CHECK(r->over);
    CHECK_EQ(r->why.kind, ERR_PROTOCOL);
    if (!strstr(r->why.message, words))
        CHECK_STR(r->why.message, words);
    CHECK_EQ(c->ends, 1);
    /* The peer is told. */
    char in[65536];
    ssize_t n = recv(r->fd, in, sizeof in, 0);
    bool said = false;
    for (ssize_t at = 0; at + 9 <= n; at += 9 + in[at + 2])
        said = said || in[at + 3] == GOAWAY;
    CHECK(said);
    h2rig_end(r);
}

static const char promise[] = "\0\0\0\2\x82\x84\x87\x41\x01h";

TEST(a_push_before_the_peer_knows_our_settings_is_refused)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, PUSH_PROMISE, END_HEADERS, 1, promise, sizeof promise - 1);
    head_200(&r, 2, 0);
    put_frame(&r, DATA, END_STREAM, 2, "pushed", 6);
    head_200(&r, 1, 0);
    put_frame(&r, DATA, END_STREAM, 1, "ours", 4);
    turns(&r, 5);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    CHECK_EQ(c.got, 4);
    CHECK_EQ(c.field_count, 0);
    CHECK(!r.over);
    h2rig_end(&r);
}

TEST(frames_of_unknown_types_are_ignored)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    size_t used = r.mem.used_bytes;
    for (int i = 0; i < 5000; i++)
        put_frame(&r, UNKNOWN, 0xff, i % 3, "abc", 3);
    turns(&r, 20);
    CHECK(r.mem.used_bytes <= used);
    head_200(&r, 1, END_STREAM);
    turns(&r, 2);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    h2rig_end(&r);
}

TEST(what_breaks_the_protocol_ends_the_session)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, SETTINGS, ACK, 0, "", 0);
    put_frame(&r, PUSH_PROMISE, END_HEADERS, 1, promise, sizeof promise - 1);
    expect_broken(&r, &c, "PUSH_PROMISE");

    memset(&c, 0, sizeof c);
    REQUIRE(begin(&r, &c));
    put_frame(&r, DATA, 0, 9, "x", 1);
    expect_broken(&r, &c, "DATA");

    memset(&c, 0, sizeof c);
    REQUIRE(begin(&r, &c));
    put_frame(&r, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
    expect_broken(&r, &c, "FLOW_CONTROL_ERROR");

    memset(&c, 0, sizeof c);
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6);
    expect_broken(&r, &c, "COMPRESSION_ERROR");

    memset(&c, 0, sizeof c);
    REQUIRE(begin(&r, &c));
    put_frame(&r, SETTINGS, 0, 0, "\0\2\0\0\0\7", 6);
    expect_broken(&r, &c, "invalid SETTINGS");

    memset(&c, 0, sizeof c);
    REQUIRE(begin(&r, &c));
    put_frame(&r, GOAWAY, 0, 0, "\0\0\0\2\0\0\0\0", 8);
    expect_broken(&r, &c, "GOAWAY");
}

TEST(a_server_that_speaks_another_protocol_is_named_so)
{
    struct h2rig r;
    struct client c = {0};
    h2rig_begin(&r);
    REQUIRE(get(&r, &c, "/"));
    turns(&r, 2);
    swallow(&r);
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    put(&r, text, sizeof text - 1);
    expect_broken(&r, &c, "SETTINGS expected");
}

TEST(data_past_the_window_resets_the_stream)
{
    struct h2rig r;
    struct client c = {.full = true}, other = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, SETTINGS, ACK, 0, "", 0);
    head_200(&r, 1, 0);
    static char block[16384];
    for (int i = 0; i < 4; i++)
        put_frame(&r, DATA, 0, 1, block, sizeof block);
    turns(&r, 20);
    CHECK_EQ(c.ends, 0);
    CHECK_EQ(c.s.kept.len, HTTP2_STREAM_WINDOW);
    put_frame(&r, DATA, 0, 1, block, 1);
    turns(&r, 5);
    c.full = false;
    http2_stream_go_on(&c.s);
    CHECK_EQ(c.got, HTTP2_STREAM_WINDOW);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_INVALID);
    CHECK_EQ(c.code, NGHTTP2_FLOW_CONTROL_ERROR);
    CHECK(!r.over);
    REQUIRE(get(&r, &other, "/"));
    h2rig_end(&r);
}

TEST(a_body_where_none_may_be_is_invalid)
{
    struct h2rig r;
    struct client c = {0};
    REQUIRE(begin(&r, &c));
    put_frame(&r, HEADERS, END_HEADERS, 1, "\x89", 1); /* 204 */
    put_frame(&r, DATA, END_STREAM, 1, "x", 1);
    turns(&r, 5);
    CHECK_EQ(c.status, 204);
    CHECK_EQ(c.got, 0);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_INVALID);
    h2rig_end(&r);
}

/* ---- breaking off */

enum { TALKERS = 5 };

/* Five requests that end in five ways. */
static bool talk(struct h2rig *r, struct client c[TALKERS])
{
    static const char *const paths[TALKERS] = {"/10", "/trailer", "/interim", "/reset/2", "/9000"};
    bool started = true;
    memset(c, 0, TALKERS * sizeof *c);
    for (int i = 0; i < TALKERS; i++)
        started = started && get(r, &c[i], paths[i]);
    return started;
}

static void check_talk(const struct client c[TALKERS])
{
    static const size_t lengths[TALKERS] = {10, 10, 10, 10, 9000};
    for (int i = 0; i < TALKERS; i++) {
        CHECK_EQ(c[i].ends, 1);
        CHECK_EQ(c[i].how, i == 3 ? HTTP2_RESET : HTTP2_COMPLETE);
        CHECK_EQ(c[i].got, lengths[i]);
    }
    CHECK_STR(c[1].fields, "server=tests;+x-sum=42;");
}

/* The bytes of the server in that conversation. */
static size_t record(unsigned char *out, size_t size)
{
    struct h2rig r;
    struct h2server sv;
    struct client c[TALKERS];
    const uint8_t *data;
    ssize_t n;
    size_t len = 0;
    h2rig_begin(&r);
    h2server_begin(&sv, &r, NULL, 0);
    if (!talk(&r, c))
        return 0;
    for (int i = 0; i < 20; i++) {
        h2rig_turn(&r);
        h2server_take(&sv);
        while ((n = nghttp2_session_mem_send(sv.ng, &data)) > 0) {
            if (len + (size_t)n > size)
                return 0;
            memcpy(out + len, data, (size_t)n);
            len += (size_t)n;
            put(&r, data, (size_t)n);
        }
    }
    check_talk(c);
    h2server_end(&sv);
    h2rig_end(&r);
    return len;
}

TEST(a_conversation_may_be_cut_at_every_byte)
{
    static unsigned char bytes[20000];
    size_t len = record(bytes, sizeof bytes);
    REQUIRE(len > 9000);
    for (size_t cut = 0; cut <= len; cut += cut > 900 && cut + 700 < len ? 61 : 1) {
        struct h2rig r;
        struct client c[TALKERS];
        h2rig_begin(&r);
        REQUIRE(talk(&r, c));
        turns(&r, 2);
        put(&r, bytes, cut);
        if (cut % 2)
            turns(&r, 1);
        shutdown(r.fd, SHUT_WR);
        turns(&r, 4);
        CHECK(r.over);
        CHECK_EQ(r.why.kind, ERR_CLOSED);
        for (int i = 0; i < TALKERS; i++) {
            CHECK_EQ(c[i].ends, 1);
            CHECK(c[i].how == HTTP2_LOST || c[i].how == HTTP2_COMPLETE || c[i].how == HTTP2_RESET);
            CHECK(c[i].how != HTTP2_COMPLETE || c[i].got == (i == 4 ? 9000 : 10));
        }
        if (cut == 0)
            CHECK_EQ(c[0].how, HTTP2_LOST);
        if (cut == len)
            check_talk(c);
        h2rig_end(&r);
    }
}

TEST(a_conversation_may_come_byte_by_byte)
{
    static unsigned char bytes[20000];
    size_t len = record(bytes, sizeof bytes);
    struct h2rig r;
    struct client c[TALKERS];
    h2rig_begin(&r);
    REQUIRE(talk(&r, c));
    turns(&r, 2);
    for (size_t i = 0; i < len; i++) {
        put(&r, bytes + i, 1);
        turns(&r, 1);
    }
    check_talk(c);
    CHECK(!r.over);
    h2rig_end(&r);
}

/* ---- no memory */

/* All that allocates, with the nth allocation failing. True: it was reached. */
static bool run_short_of_memory(long nth)
{
    struct h2rig r;
    struct h2server sv;
    struct client c[TALKERS], slow = {.full = true}, up = {.upload_left = 5000};
    memset(c, 0, sizeof c);
    bool started[TALKERS + 2] = {false};
    if (!h2rig_begin_in(&r, nth)) {
        h2rig_end(&r);
        return true;
    }
    h2server_begin(&sv, &r, NULL, 0);
    struct http2_request put_it = h2rig_get("/len");
    put_it.uploads = true;
    static const char *const paths[TALKERS] = {"/10", "/trailer", "/interim", "/reset/2", "/90000"};
    for (int i = 0; i < TALKERS && r.h; i++)
        started[i] = get(&r, &c[i], paths[i]);
    started[5] = r.h && get(&r, &slow, "/50000");
    started[6] = r.h && h2rig_start(&r, &up, &put_it);
    h2server_settle(&sv);
    up.upload_ready = 5000;
    http2_stream_fed(&up.s);
    h2server_settle(&sv);
    slow.full = false;
    http2_stream_go_on(&slow.s);
    h2server_settle(&sv);
    http2_stream_cancel(&c[4].s);
    if (r.h)
        http2_on_silence(r.h);
    h2server_settle(&sv);
    bool reached = r.mem.fail_in < 0;
    CHECK(!r.over || r.why.kind == ERR_MEMORY || r.why.kind == ERR_PROTOCOL);
    for (int i = 0; i < TALKERS; i++)
        CHECK_EQ(c[i].ends, started[i]);
    CHECK_EQ(slow.ends, started[5]);
    CHECK_EQ(up.ends, started[6]);
    if (!reached) {
        CHECK(!r.over);
        CHECK_EQ(slow.got, 50000);
        CHECK_EQ(c[0].how, HTTP2_COMPLETE);
        CHECK_EQ(up.how, HTTP2_COMPLETE);
    }
    h2server_end(&sv);
    h2rig_end(&r);
    return reached;
}

TEST(each_allocation_may_fail)
{
    long n = 0;
    while (n < 5000 && run_short_of_memory(n)) {
        n++;
        if (test_failed) {
            printf("  at allocation %ld\n", n - 1);
            return;
        }
    }
    CHECK(n > 50 && n < 5000);
}

TEST_MAIN
