#include "h2server.h"

#include "engine/http2_session.h"

struct fixture {
    struct h2rig rig;
    struct h2server server;
};

static void begin_with(struct fixture *f, const nghttp2_settings_entry *settings, size_t count)
{
    h2rig_begin(&f->rig);
    h2server_begin(&f->server, &f->rig, settings, count);
}

static void begin(struct fixture *f)
{
    const nghttp2_settings_entry many = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 200};
    begin_with(f, &many, 1);
}

static void finish(struct fixture *f)
{
    h2server_end(&f->server);
    h2rig_end(&f->rig);
}

static bool get(struct fixture *f, struct client *c, const char *path)
{
    struct http2_request r = h2rig_get(path);
    return h2rig_start(&f->rig, c, &r);
}

static unsigned long sum_of(size_t len)
{
    unsigned long sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += (unsigned long)('a' + i % 23) * (1 + i % 1009);
    return sum;
}

static void check_whole(const struct client *c, size_t len)
{
    CHECK_EQ(c->status, 200);
    CHECK_EQ(c->heads, 1);
    CHECK_EQ(c->got, len);
    CHECK_EQ(c->sum, sum_of(len));
    CHECK_EQ(c->ends, 1);
    CHECK_EQ(c->how, HTTP2_COMPLETE);
}

/* ---- requests and responses */

TEST(a_response_arrives_whole)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/1000"));
    h2server_settle(&f.server);
    check_whole(&c, 1000);
    CHECK_EQ(c.sents, 1);
    CHECK_STR(c.fields, "server=tests;content-length=1000;");
    CHECK(!http2_stream_active(&c.s));
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    CHECK(http2_can_take(f.rig.h));
    finish(&f);
}

TEST(a_hundred_streams_share_the_connection)
{
    struct fixture f;
    begin(&f);
    static struct client c[100];
    memset(c, 0, sizeof c);
    for (int i = 0; i < 100; i++)
        REQUIRE(get(&f, &c[i], i % 2 ? "/100000" : "/10"));
    CHECK_EQ(f.rig.asks, 1); /* one flush serves them all */
    h2server_settle(&f.server);
    for (int i = 0; i < 100; i++)
        check_whole(&c[i], i % 2 ? 100000 : 10);
    CHECK_EQ(f.server.count, 100);
    finish(&f);
}

TEST(a_body_is_sent)
{
    struct fixture f;
    begin(&f);
    static char body[300000];
    memset(body, 'b', sizeof body);
    struct client c = {0};
    struct http2_request r = h2rig_get("/len");
    r.method = "POST";
    r.body = body;
    r.body_len = sizeof body;
    r.length = (int64_t)sizeof body;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    CHECK_EQ(c.sents, 0);
    h2server_settle(&f.server);
    CHECK_STR(c.fields, "server=tests;x-len=300000;");
    CHECK(strstr(f.server.streams[0].headers, "content-length=300000;") != NULL);
    CHECK_EQ(c.sents, 1);
    CHECK_EQ(c.how, HTTP2_COMPLETE);
    finish(&f);
}

TEST(an_upload_waits_for_what_it_is_fed)
{
    struct fixture f;
    begin(&f);
    struct client c = {.upload_left = 50000}, other = {0};
    struct http2_request r = h2rig_get("/len");
    r.method = "PUT";
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    for (int i = 0; i < 5; i++) {
        h2server_settle(&f.server);
        CHECK_EQ(f.server.streams[0].got, i * 10000);
        CHECK_EQ(c.sents, 0);
        c.upload_ready = 10000;
        http2_stream_fed(&c.s);
        /* Others go on meanwhile. */
        memset(&other, 0, sizeof other);
        REQUIRE(get(&f, &other, "/10"));
        h2server_settle(&f.server);
        check_whole(&other, 10);
    }
    h2server_settle(&f.server);
    CHECK_EQ(c.sents, 1);
    CHECK_STR(c.fields, "server=tests;x-len=50000;");
    CHECK(strstr(f.server.streams[0].headers, "content-length") == NULL);
    finish(&f);
}

TEST(an_empty_upload_ends)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    struct http2_request r = h2rig_get("/len");
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    h2server_settle(&f.server);
    CHECK_STR(c.fields, "server=tests;x-len=0;");
    CHECK_EQ(c.sents, 1);
    finish(&f);
}

TEST(an_answer_before_the_upload_has_ended_is_a_success)
{
    struct fixture f;
    begin(&f);
    struct client c = {.upload_left = 1000000, .upload_ready = 1000};
    struct http2_request r = h2rig_get("/early");
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    h2server_settle(&f.server);
    check_whole(&c, 10);
    CHECK_EQ(c.sents, 0);
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    CHECK(http2_can_take(f.rig.h));
    finish(&f);
}

TEST(an_upload_that_is_refused_midway_says_so)
{
    struct fixture f;
    begin(&f);
    struct client c = {.upload_left = 1000000, .upload_ready = 1000};
    struct http2_request r = h2rig_get("/refuse");
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    h2server_settle(&f.server);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_REFUSED);
    http2_stream_fed(&c.s); /* harmless */
    finish(&f);
}

TEST(headers_of_a_connection_are_not_sent)
{
    struct fixture f;
    begin(&f);
    struct headers h;
    headers_init(&h, &f.rig.mem, 256, 1 << 18);
    const char *pairs[][2] = {{"Connection", "close, X-Hop"},
                              {"X-Hop", "1"},
                              {"Keep-Alive", "5"},
                              {"Proxy-Connection", "close"},
                              {"Transfer-Encoding", "chunked"},
                              {"Upgrade", "h2c"},
                              {"HTTP2-Settings", "x"},
                              {"Host", "elsewhere"},
                              {"TE", "gzip"},
                              {"TE", "Trailers"},
                              {"X-Mine", "\t padded  "},
                              {"X-Empty", ""},
                              {"Content-Length", "0"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        CHECK_EQ(
            headers_add(&h, pairs[i][0], strlen(pairs[i][0]), pairs[i][1], strlen(pairs[i][1])),
            ERR_NONE);
    struct client c = {0};
    struct http2_request r = h2rig_get("/10");
    r.headers = &h;
    r.length = 0;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    h2server_settle(&f.server);
    CHECK_STR(f.server.streams[0].headers,
              ":method=GET;:scheme=http;:authority=localhost;:path=/10;te=Trailers;x-mine=padded;"
              "x-empty=;content-length=0;");
    headers_fini(&h);
    finish(&f);
}

TEST(too_many_request_headers_are_refused_before_anything_is_sent)
{
    struct fixture f;
    begin(&f);
    struct headers h;
    struct client c = {.rig = &f.rig};
    struct http2_request r = h2rig_get("/10");
    static char value[60000];
    memset(value, 'v', sizeof value);
    headers_init(&h, &f.rig.mem, 1000, 1 << 20);
    r.headers = &h;
    for (int i = 0; i < 5; i++)
        CHECK_EQ(headers_add(&h, "a", 1, value, sizeof value), ERR_NONE);
    CHECK_EQ(http2_start(f.rig.h, &c.s, &client_ops, &r, NULL), ERR_TOO_LARGE);
    headers_clear(&h);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(headers_add(&h, "a", 1, value, sizeof value), ERR_NONE);
    CHECK(h2rig_start(&f.rig, &c, &r));
    h2server_settle(&f.server);
    headers_clear(&h);
    for (int i = 0; i < 257; i++)
        CHECK_EQ(headers_add(&h, "a", 1, "b", 1), ERR_NONE);
    struct client other = {.rig = &f.rig};
    CHECK_EQ(http2_start(f.rig.h, &other.s, &client_ops, &r, NULL), ERR_TOO_LARGE);
    CHECK_EQ(other.ends, 0);
    CHECK_EQ(http2_open_streams(f.rig.h), c.ends ? 0 : 1);
    headers_fini(&h);
    finish(&f);
}

TEST(interim_responses_are_announced_and_their_fields_are_not)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/interim"));
    h2server_settle(&f.server);
    check_whole(&c, 10);
    CHECK_EQ(c.interims, 2);
    CHECK_STR(c.fields, "server=tests;");
    finish(&f);
}

TEST(trailers_are_kept_apart_from_headers)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/trailer"));
    h2server_settle(&f.server);
    check_whole(&c, 10);
    CHECK_STR(c.fields, "server=tests;+x-sum=42;");
    finish(&f);
}

TEST(responses_without_a_body_end)
{
    struct fixture f;
    begin(&f);
    struct client c[3] = {{0}};
    struct http2_request r = h2rig_get("/1000");
    r.method = "HEAD";
    REQUIRE(h2rig_start(&f.rig, &c[0], &r));
    REQUIRE(get(&f, &c[1], "/status/204"));
    REQUIRE(get(&f, &c[2], "/status/304"));
    h2server_settle(&f.server);
    CHECK_EQ(c[0].status, 200);
    CHECK_EQ(c[1].status, 204);
    CHECK_EQ(c[2].status, 304);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(c[i].how, HTTP2_COMPLETE);
        CHECK_EQ(c[i].got, 0);
        CHECK_EQ(c[i].ends, 1);
    }
    finish(&f);
}

TEST(a_body_shorter_than_its_length_is_invalid)
{
    struct fixture f;
    begin(&f);
    struct client c = {0}, after = {0};
    REQUIRE(get(&f, &c, "/short"));
    h2server_settle(&f.server);
    CHECK_EQ(c.ends, 1);
    CHECK_EQ(c.how, HTTP2_INVALID);
    CHECK_EQ(c.code, NGHTTP2_PROTOCOL_ERROR);
    REQUIRE(get(&f, &after, "/10"));
    h2server_settle(&f.server);
    check_whole(&after, 10);
    finish(&f);
}

TEST(a_reset_says_its_code)
{
    struct fixture f;
    begin(&f);
    struct client c[14] = {{0}};
    char path[32];
    for (int i = 0; i < 14; i++) {
        snprintf(path, sizeof path, "/reset/%d", i);
        REQUIRE(get(&f, &c[i], path));
    }
    h2server_settle(&f.server);
    for (int i = 0; i < 14; i++) {
        CHECK_EQ(c[i].ends, 1);
        CHECK_EQ(c[i].got, 10);
        CHECK_EQ(c[i].how, HTTP2_RESET); /* 7, REFUSED_STREAM, too: it has answered */
        CHECK_EQ(c[i].code, i);
    }
    struct client refused = {0};
    REQUIRE(get(&f, &refused, "/refuse"));
    h2server_settle(&f.server);
    CHECK_EQ(refused.how, HTTP2_REFUSED);
    CHECK(!f.rig.over);
    finish(&f);
}

/* ---- readers */

TEST(a_slow_reader_holds_up_nobody)
{
    struct fixture f;
    begin(&f);
    struct client slow[4] = {{0}}, fast = {0};
    for (int i = 0; i < 4; i++) {
        slow[i].full = true;
        REQUIRE(get(&f, &slow[i], "/1000000"));
    }
    h2server_settle(&f.server);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(slow[i].got, 0);
        CHECK_EQ(f.server.streams[i].sent, HTTP2_STREAM_WINDOW);
    }
    /* 20 MB, more than the connection's window. */
    for (int i = 0; i < 20; i++) {
        memset(&fast, 0, sizeof fast);
        REQUIRE(get(&f, &fast, "/1000000"));
        h2server_settle(&f.server);
        check_whole(&fast, 1000000);
    }
    size_t used = f.rig.mem.used_bytes;
    CHECK(used < 4 * (HTTP2_STREAM_WINDOW + 70000) + 200000);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(slow[i].ends, 0);
        slow[i].full = false;
        http2_stream_go_on(&slow[i].s);
        h2server_settle(&f.server);
        check_whole(&slow[i], 1000000);
    }
    finish(&f);
}

TEST(a_reader_that_takes_piece_by_piece_gets_all_in_order)
{
    struct fixture f;
    begin(&f);
    struct client c = {.full = true};
    REQUIRE(get(&f, &c, "/500000"));
    for (int turns = 0; c.ends == 0 && turns < 1000; turns++) {
        h2server_settle(&f.server);
        c.full = false;
        http2_stream_go_on(&c.s);
        c.full = true;
    }
    check_whole(&c, 500000);
    CHECK(c.offered > 0);
    finish(&f);
}

TEST(a_reader_that_takes_one_piece_at_a_time_gets_all_in_order)
{
    struct fixture f;
    begin(&f);
    struct client c = {.full = true, .full_again = true};
    REQUIRE(get(&f, &c, "/500000"));
    for (int turns = 0; c.ends == 0 && turns < 1000; turns++) {
        h2server_settle(&f.server);
        CHECK(c.s.kept.len <= HTTP2_STREAM_WINDOW);
        c.full = false;
        http2_stream_go_on(&c.s);
    }
    check_whole(&c, 500000);
    finish(&f);
}

/* Until its reader has `len` bytes. `ns`: how long each turn takes. */
static void read_until(struct fixture *f, const struct client *c, size_t len, uint64_t ns)
{
    f->rig.loop.is_virtual = true; /* a slow machine does not make a slow reader */
    f->rig.loop.virtual_ns = uv_hrtime();
    for (int turns = 0; c->got < len && turns < 10000; turns++) {
        f->rig.loop.virtual_ns += ns;
        h2rig_turn(&f->rig);
        h2server_turn(&f->server);
    }
    f->rig.loop.is_virtual = false;
}

TEST(a_reader_that_takes_a_window_at_once_gets_a_wider_one)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/5000000"));
    read_until(&f, &c, 2500000, 1000);
    CHECK_EQ(c.s.window, HTTP2_STREAM_MOST);
    c.full = true;
    h2server_settle(&f.server);
    CHECK(c.s.kept.len > HTTP2_STREAM_WINDOW);
    CHECK(c.s.kept.len <= HTTP2_STREAM_MOST);
    c.full = false;
    http2_stream_go_on(&c.s);
    h2server_settle(&f.server);
    check_whole(&c, 5000000);
    finish(&f);
}

TEST(a_reader_of_a_slow_stream_keeps_the_narrow_window)
{
    struct fixture f;
    begin(&f);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/2000000"));
    f.server.most_frames = 1;
    read_until(&f, &c, 1000000, NS_PER_S);
    CHECK_EQ(c.s.window, HTTP2_STREAM_WINDOW);
    f.server.most_frames = 0;
    h2server_settle(&f.server);
    check_whole(&c, 2000000);
    finish(&f);
}

TEST(what_a_slow_reader_has_not_taken_outlives_the_connection)
{
    struct fixture f;
    begin(&f);
    struct client whole = {.full = true}, cut = {.full = true}, never = {.full = true};
    REQUIRE(get(&f, &whole, "/50000"));
    REQUIRE(get(&f, &cut, "/1000000"));
    REQUIRE(get(&f, &never, "/1000"));
    h2server_settle(&f.server);
    shutdown(f.rig.fd, SHUT_RDWR);
    h2server_settle(&f.server);
    CHECK(f.rig.over);
    CHECK_EQ(whole.ends + cut.ends + never.ends, 0);
    CHECK(http2_stream_active(&whole.s));
    whole.full = cut.full = false;
    http2_stream_go_on(&whole.s);
    check_whole(&whole, 50000);
    http2_stream_go_on(&cut.s);
    CHECK_EQ(cut.got, HTTP2_STREAM_WINDOW);
    CHECK_EQ(cut.how, HTTP2_LOST);
    http2_stream_cancel(&never.s);
    CHECK_EQ(never.ends, 0);
    CHECK(!http2_stream_active(&never.s));
    finish(&f);
}

TEST(a_reader_may_stop_anywhere)
{
    struct fixture f;
    begin(&f);
    struct client c[3] = {{.stop_field = true}, {.stop_head = true}, {.stop_body = true}};
    for (int i = 0; i < 3; i++)
        REQUIRE(get(&f, &c[i], "/100000"));
    h2server_settle(&f.server);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(c[i].ends, 1);
        CHECK_EQ(c[i].how, HTTP2_STOPPED);
        CHECK_EQ(c[i].field_count, i == 0 ? 1 : 2);
    }
    CHECK_EQ(f.server.resets, 3);
    CHECK_EQ(f.server.last_reset_code, NGHTTP2_CANCEL);
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    struct client full = {.full = true};
    REQUIRE(get(&f, &full, "/1000"));
    h2server_settle(&f.server);
    full.full = false;
    full.stop_body = true;
    http2_stream_go_on(&full.s);
    CHECK_EQ(full.how, HTTP2_STOPPED);
    finish(&f);
}

/* ---- cancels */

/* How many bytes of the connection's window are neither free nor about to be. */
static int window_missing(const struct fixture *f)
{
    return nghttp2_session_get_effective_recv_data_length(f->rig.h->ng);
}

TEST(a_thousand_cancelled_streams_cost_no_window)
{
    struct fixture f;
    begin(&f);
    f.server.most_frames = 40;
    static struct client c[100];
    for (int round = 0; round < 10; round++) {
        memset(c, 0, sizeof c);
        for (int i = 0; i < 100; i++) {
            c[i].full = i % 3 == 0;
            REQUIRE(get(&f, &c[i], "/30000"));
        }
        for (int i = 0; i < 100; i++) {
            h2rig_turn(&f.rig);
            h2server_turn(&f.server);
            http2_stream_cancel(&c[(i * 37) % 100].s);
        }
        h2server_settle(&f.server);
    }
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    /* The window is announced again when half of it is used. What is missing then leaked. */
    struct client big = {0};
    f.server.most_frames = 1;
    REQUIRE(get(&f, &big, "/20000000"));
    int least = HTTP2_CONNECTION_WINDOW;
    while (big.ends == 0) {
        h2rig_turn(&f.rig);
        h2server_turn(&f.server);
        least = MIN(least, window_missing(&f));
    }
    check_whole(&big, 20000000);
    CHECK_EQ(least, 0);
    finish(&f);
}

TEST(a_stream_is_cancelled_in_each_phase)
{
    for (int phase = 0; phase < 9; phase++) {
        struct fixture f;
        begin(&f);
        struct client c = {0}, other = {0};
        c.cancel_status = phase == 1;
        c.cancel_field = phase == 2;
        c.cancel_head = phase == 3;
        c.cancel_body = phase == 4;
        c.cancel_sent = phase == 5;
        c.full = phase == 6;
        struct http2_request r = h2rig_get(phase == 7 ? "/hold" : "/100000");
        c.cancel_upload = phase == 8;
        r.uploads = phase == 8;
        c.upload_left = c.upload_ready = 100;
        REQUIRE(h2rig_start(&f.rig, &c, &r));
        if (phase == 0)
            http2_stream_cancel(&c.s);
        REQUIRE(get(&f, &other, "/100000"));
        h2server_settle(&f.server);
        if (phase == 6 || phase == 7)
            http2_stream_cancel(&c.s);
        h2server_settle(&f.server);
        CHECK_EQ(c.ends, 0);
        CHECK(!http2_stream_active(&c.s));
        CHECK_EQ(http2_open_streams(f.rig.h), 0);
        check_whole(&other, 100000);
        CHECK_EQ(f.server.resets, phase == 0 ? 0 : 1);
        http2_stream_cancel(&c.s); /* harmless */
        finish(&f);
    }
}

TEST(a_stream_may_be_freed_where_it_is_cancelled_or_ends)
{
    for (int where = 0; where < 10; where++) {
        struct fixture f;
        begin(&f);
        struct client *c = calloc(1, sizeof *c), other = {0};
        c->frees = true;
        c->cancel_status = where == 0;
        c->cancel_field = where == 1;
        c->cancel_head = where == 2;
        c->cancel_body = where == 3 || where == 4;
        c->cancel_sent = where == 5;
        c->cancel_upload = where == 6;
        c->full = where == 4 || where == 8;
        c->stop_body = where == 7 || where == 8;
        struct http2_request r = h2rig_get("/50000");
        r.uploads = where == 6;
        c->upload_left = c->upload_ready = 100;
        REQUIRE(h2rig_start(&f.rig, c, &r));
        REQUIRE(get(&f, &other, "/10"));
        h2server_settle(&f.server);
        if (where == 4 || where == 8) {
            c->full = false;
            http2_stream_go_on(&c->s);
        }
        h2server_settle(&f.server);
        check_whole(&other, 10);
        CHECK_EQ(http2_open_streams(f.rig.h), 0);
        finish(&f);
    }
}

TEST(a_stream_that_ends_may_cancel_another_and_start_a_third)
{
    struct fixture f;
    begin(&f);
    struct client a = {0}, b = {0}, third = {0};
    a.next = &b;
    a.restart = &third;
    f.rig.restart_with = h2rig_get("/10");
    REQUIRE(get(&f, &a, "/10"));
    REQUIRE(get(&f, &b, "/hold"));
    h2server_settle(&f.server);
    check_whole(&a, 10);
    CHECK_EQ(b.ends, 0);
    check_whole(&third, 10);
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    finish(&f);
}

TEST(the_session_may_be_closed_beneath_any_function)
{
    for (int where = 0; where < 5; where++) {
        struct fixture f;
        begin(&f);
        struct client c = {0}, other = {.full = where % 2 == 1}, up = {.upload_left = 10};
        c.close_in_status = where == 0;
        c.close_in_field = where == 1;
        c.close_in_body = where == 2;
        c.close_in_end = where == 3;
        up.close_in_upload = where == 4;
        struct http2_request r = h2rig_get("/len");
        r.uploads = true;
        REQUIRE(h2rig_start(&f.rig, &up, &r));
        REQUIRE(get(&f, &other, "/100000"));
        REQUIRE(get(&f, &c, "/10"));
        h2server_settle(&f.server);
        CHECK(f.rig.h == NULL);
        CHECK(!f.rig.over);
        CHECK_EQ(c.ends, 1);
        CHECK_EQ(up.ends, 1);
        CHECK_EQ(c.how, where == 3 ? HTTP2_COMPLETE : HTTP2_LOST);
        if (other.full)
            http2_stream_cancel(&other.s);
        else
            CHECK_EQ(other.ends, 1);
        finish(&f);
    }
}

TEST(a_close_ends_the_streams_and_says_goodbye)
{
    struct fixture f;
    begin(&f);
    struct client c = {0}, unsent = {0};
    REQUIRE(get(&f, &c, "/hold"));
    h2server_settle(&f.server);
    REQUIRE(get(&f, &unsent, "/hold"));
    h2rig_close(&f.rig);
    CHECK_EQ(c.how, HTTP2_LOST);
    CHECK_EQ(unsent.how, HTTP2_REFUSED);
    CHECK_EQ(c.ends + unsent.ends, 2);
    h2server_turn(&f.server);
    CHECK_EQ(f.server.goaways, 1);
    finish(&f);
}

/* ---- the peer's limits */

TEST(the_peers_limit_is_obeyed)
{
    struct fixture f;
    const nghttp2_settings_entry two = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2};
    begin_with(&f, &two, 1);
    struct client c[3] = {{0}};
    h2server_settle(&f.server);
    REQUIRE(get(&f, &c[0], "/hold"));
    REQUIRE(get(&f, &c[1], "/hold"));
    CHECK(!http2_can_take(f.rig.h));
    CHECK(!get(&f, &c[2], "/10"));
    h2server_settle(&f.server);
    http2_stream_cancel(&c[0].s);
    CHECK(!http2_can_take(f.rig.h)); /* the peer does not know of it yet */
    h2server_settle(&f.server);
    CHECK(http2_can_take(f.rig.h));
    REQUIRE(get(&f, &c[2], "/10"));
    h2server_settle(&f.server);
    check_whole(&c[2], 10);
    finish(&f);
}

TEST(before_the_settings_arrive_a_hundred_streams_are_allowed)
{
    struct fixture f;
    begin(&f);
    static struct client c[101];
    memset(c, 0, sizeof c);
    for (int i = 0; i < 100; i++)
        REQUIRE(get(&f, &c[i], "/10"));
    CHECK(!get(&f, &c[100], "/10"));
    h2server_settle(&f.server);
    CHECK_EQ(f.rig.ends, 100);
    finish(&f);
}

TEST(a_huge_limit_of_the_peer_is_capped)
{
    struct fixture f;
    begin_with(&f, NULL, 0);
    h2server_settle(&f.server);
    static struct client c[HTTP2_MAX_STREAMS + 1];
    memset(c, 0, sizeof c);
    for (int i = 0; i < HTTP2_MAX_STREAMS; i++)
        REQUIRE(get(&f, &c[i], "/10"));
    CHECK(!get(&f, &c[HTTP2_MAX_STREAMS], "/10"));
    h2server_settle(&f.server);
    CHECK_EQ(f.rig.ends, HTTP2_MAX_STREAMS);
    finish(&f);
}

TEST(requests_that_wait_when_the_limit_falls_go_elsewhere)
{
    struct fixture f;
    begin(&f);
    h2server_settle(&f.server);
    struct client c[5] = {{0}};
    REQUIRE(get(&f, &c[0], "/hold"));
    h2server_settle(&f.server);
    const nghttp2_settings_entry one = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1};
    nghttp2_submit_settings(f.server.ng, 0, &one, 1);
    h2server_turn(&f.server);
    /* These are submitted, and the settings are read before they are sent. */
    for (int i = 1; i < 5; i++)
        REQUIRE(get(&f, &c[i], "/10"));
    http2_ready(f.rig.h, true, false);
    h2server_settle(&f.server);
    for (int i = 1; i < 5; i++) {
        CHECK_EQ(c[i].ends, 1);
        CHECK_EQ(c[i].how, HTTP2_REFUSED);
    }
    CHECK_EQ(f.server.count, 1);
    CHECK_EQ(c[0].ends, 0);
    CHECK(!http2_can_take(f.rig.h));
    h2server_answer(&f.server, 0, 100);
    h2server_settle(&f.server);
    check_whole(&c[0], 100);
    CHECK(http2_can_take(f.rig.h));
    CHECK_EQ(http2_open_streams(f.rig.h), 0);
    finish(&f);
}

TEST(an_upload_waits_while_the_peers_window_is_zero)
{
    struct fixture f;
    const nghttp2_settings_entry none = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
    begin_with(&f, &none, 1);
    f.server.keeps_window = true;
    h2server_settle(&f.server);
    struct client c = {0}, other = {0};
    struct http2_request r = h2rig_get("/len");
    r.body = "0123456789";
    r.body_len = 10;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    REQUIRE(get(&f, &other, "/10"));
    h2server_settle(&f.server);
    check_whole(&other, 10);
    CHECK_EQ(c.sents, 0);
    CHECK_EQ(c.ends, 0);
    const nghttp2_settings_entry some = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 7};
    nghttp2_submit_settings(f.server.ng, 0, &some, 1);
    h2server_settle(&f.server);
    CHECK_EQ(f.server.streams[0].got, 7);
    nghttp2_submit_window_update(f.server.ng, 0, 1, 3);
    h2server_settle(&f.server);
    CHECK_STR(c.fields, "server=tests;x-len=10;");
    CHECK_EQ(c.sents, 1);
    finish(&f);
}

TEST(a_session_retires_when_its_stream_ids_run_out)
{
    struct fixture f;
    begin(&f);
    h2server_settle(&f.server);
    CHECK_EQ(nghttp2_session_set_next_stream_id(f.rig.h->ng, INT32_MAX - 1002), 0);
    CHECK(http2_can_take(f.rig.h));
    CHECK_EQ(nghttp2_session_set_next_stream_id(f.rig.h->ng, INT32_MAX - 998), 0);
    CHECK(!http2_can_take(f.rig.h));
    finish(&f);
}

/* ---- GOAWAY */

TEST(goaway_refuses_what_is_above_its_last_id)
{
    struct fixture f;
    begin(&f);
    struct client c[4] = {{0}};
    for (int i = 0; i < 4; i++)
        REQUIRE(get(&f, &c[i], "/hold"));
    h2server_settle(&f.server);
    nghttp2_submit_goaway(f.server.ng, 0, 3, NGHTTP2_NO_ERROR, (const uint8_t *)"tired", 5);
    h2server_settle(&f.server);
    CHECK_EQ(c[0].ends + c[1].ends, 0);
    CHECK_EQ(c[2].how, HTTP2_REFUSED);
    CHECK_EQ(c[3].how, HTTP2_REFUSED);
    CHECK(!http2_can_take(f.rig.h));
    CHECK(!f.rig.over);
    h2server_answer(&f.server, 0, 10);
    h2server_settle(&f.server);
    check_whole(&c[0], 10);
    CHECK(!f.rig.over);
    h2server_answer(&f.server, 1, 10);
    h2server_settle(&f.server);
    check_whole(&c[1], 10);
    CHECK(f.rig.over);
    CHECK_EQ(f.rig.why.kind, ERR_CLOSED);
    CHECK(strstr(f.rig.why.message, "NO_ERROR: tired") != NULL);
    finish(&f);
}

TEST(goaway_in_each_state_ends_every_stream_once)
{
    /* unsent, sent, uploading, head seen, kept in part, whole but kept */
    for (int last = -1; last <= 1; last++) {
        struct fixture f;
        begin(&f);
        struct client c[5] = {{0}};
        c[1].upload_left = 100000, c[1].upload_ready = 10;
        c[2].full = c[3].full = true;
        struct http2_request up = h2rig_get("/len");
        up.uploads = true;
        REQUIRE(get(&f, &c[0], "/hold"));
        REQUIRE(h2rig_start(&f.rig, &c[1], &up));
        REQUIRE(get(&f, &c[2], "/1000000"));
        REQUIRE(get(&f, &c[3], "/1000"));
        h2server_settle(&f.server);
        REQUIRE(get(&f, &c[4], "/10"));
        int32_t last_id = last < 0 ? 0 : last == 0 ? 5 : INT32_MAX;
        nghttp2_submit_goaway(f.server.ng, 0, last_id, NGHTTP2_NO_ERROR, NULL, 0);
        h2server_turn(&f.server);
        http2_ready(f.rig.h, true, false);
        h2server_settle(&f.server);
        CHECK_EQ(c[4].ends, 1);
        CHECK_EQ(c[4].how, HTTP2_REFUSED);
        CHECK_EQ(c[0].ends, last < 0);
        CHECK_EQ(c[1].ends, last < 0);
        CHECK_EQ(c[2].ends + c[3].ends, 0);
        shutdown(f.rig.fd, SHUT_RDWR);
        h2server_settle(&f.server);
        CHECK(f.rig.over);
        c[2].full = c[3].full = false;
        http2_stream_go_on(&c[2].s);
        http2_stream_go_on(&c[3].s);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(c[i].ends, 1);
        CHECK_EQ(c[0].how, last < 0 ? HTTP2_REFUSED : HTTP2_LOST);
        CHECK_EQ(c[1].how, last < 0 ? HTTP2_REFUSED : HTTP2_LOST);
        CHECK_EQ(c[2].how, HTTP2_LOST);
        check_whole(&c[3], 1000);
        finish(&f);
    }
}

TEST(an_idle_session_ends_with_goaway)
{
    struct fixture f;
    begin(&f);
    h2server_settle(&f.server);
    nghttp2_submit_goaway(f.server.ng, 0, 0, NGHTTP2_ENHANCE_YOUR_CALM, NULL, 0);
    h2server_settle(&f.server);
    CHECK(f.rig.over);
    CHECK(strstr(f.rig.why.message, "ENHANCE_YOUR_CALM") != NULL);
    finish(&f);
}

/* ---- silence */

TEST(a_silent_peer_is_found_by_a_ping)
{
    struct fixture f;
    begin(&f);
    h2server_settle(&f.server);
    http2_on_silence(f.rig.h); /* nothing is open: no PING */
    h2server_settle(&f.server);
    CHECK_EQ(f.server.pings, 0);
    struct client c = {0};
    REQUIRE(get(&f, &c, "/hold"));
    h2server_settle(&f.server);
    for (int i = 0; i < 3; i++) {
        http2_on_silence(f.rig.h);
        h2server_settle(&f.server);
    }
    CHECK_EQ(f.server.pings, 3);
    CHECK_EQ(c.ends, 0);
    f.server.stalled = true;
    http2_on_silence(f.rig.h);
    h2server_settle(&f.server);
    CHECK_EQ(c.ends, 0);
    http2_on_silence(f.rig.h);
    CHECK(f.rig.over);
    CHECK_EQ(f.rig.why.kind, ERR_CLOSED);
    CHECK_STR(f.rig.why.reason, "silent");
    CHECK_EQ(c.how, HTTP2_LOST);
    finish(&f);
}

/* ---- a peer that does not read */

TEST(output_waits_for_a_peer_that_does_not_read)
{
    struct fixture f;
    begin(&f);
    h2server_settle(&f.server);
    nghttp2_submit_window_update(f.server.ng, 0, 0, 1 << 24);
    const nghttp2_settings_entry wide = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24};
    nghttp2_submit_settings(f.server.ng, 0, &wide, 1);
    h2server_settle(&f.server);
    f.server.stalled = true;
    struct client c = {.upload_left = 4 << 20, .upload_ready = 4 << 20};
    struct http2_request r = h2rig_get("/len");
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    size_t used = f.rig.mem.used_bytes;
    h2server_settle(&f.server);
    CHECK(c.upload_left > 2 << 20); /* only what the socket and one record hold was asked for */
    CHECK(f.rig.mem.used_bytes < used + 100000);
    f.server.stalled = false;
    h2server_settle(&f.server);
    CHECK_STR(c.fields, "server=tests;x-len=4194304;");
    CHECK_EQ(c.sents, 1);
    finish(&f);
}

TEST(what_a_peer_sent_before_it_closed_is_read)
{
    struct fixture f;
    begin(&f);
    struct client c = {.upload_left = 1 << 20, .upload_ready = 100}, other = {0};
    struct http2_request r = h2rig_get("/early");
    r.uploads = true;
    REQUIRE(h2rig_start(&f.rig, &c, &r));
    REQUIRE(get(&f, &other, "/hold"));
    h2rig_turn(&f.rig);
    h2server_turn(&f.server); /* the answer is on the way */
    close(f.rig.fd);
    f.rig.fd = -1;
    c.upload_ready = 10000;
    http2_stream_fed(&c.s);
    http2_flush(f.rig.h); /* meets a broken pipe first */
    CHECK(f.rig.over);
    check_whole(&c, 10);
    CHECK_EQ(other.how, HTTP2_LOST);
    CHECK_STR(f.rig.why.reason, "reset");
    finish(&f);
}

TEST_MAIN
