#include "rig.h"

static char elsewhere[256], elsewhere_back[256];

static struct canned_answer table[] = {
    {"/end", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend", 0, CANNED_KEEP, 0},
    {"/301", "HTTP/1.1 301 M\r\nLocation: /end\r\nContent-Length: 4\r\n\r\nbody", 0, CANNED_KEEP,
     0},
    {"/302", "HTTP/1.1 302 M\r\nLocation: end?x=1#f\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/end?x=1", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend", 0, CANNED_KEEP, 0},
    {"/303", "HTTP/1.1 303 M\r\nLocation: ../end\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/307", "HTTP/1.1 307 M\r\nLocation: ./end\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/308", "HTTP/1.1 308 M\r\nLocation: /end\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/304", "HTTP/1.1 304 M\r\nLocation: /end\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/nowhere", "HTTP/1.1 302 M\r\nContent-Length: 2\r\n\r\nno", 0, CANNED_KEEP, 0},
    {"/loop", "HTTP/1.1 302 M\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/file", "HTTP/1.1 302 M\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", 0,
     CANNED_KEEP, 0},
    {"/ftp", "HTTP/1.1 302 M\r\nLocation: ftp://h/x\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/bad", "HTTP/1.1 302 M\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/space", "HTTP/1.1 302 M\r\nLocation: /a b\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/spaces", "HTTP/1.1 302 M\r\nLocation: /a b?c d?e#f ?g h\r\nContent-Length: 0\r\n\r\n", 0,
     CANNED_KEEP, 0},
    {"/a%20b?c+d?e", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nspaces", 0, CANNED_KEEP, 0},
    {"/space-host", "HTTP/1.1 302 M\r\nLocation: http://a b/\r\nContent-Length: 0\r\n\r\n", 0,
     CANNED_KEEP, 0},
    {"/a%20b", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nspace", 0, CANNED_KEEP, 0},
    {"/empty?x=1", "HTTP/1.1 302 M\r\nLocation:\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP, 0},
    {"/fragment;p?x=1", "HTTP/1.1 302 M\r\nLocation: #top\r\nContent-Length: 0\r\n\r\n", 0,
     CANNED_KEEP, 0},
    {"/mail", "HTTP/1.1 302 M\r\nLocation: mailto:a@b\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/away", elsewhere, 0, CANNED_KEEP, 0},
    {"/back", elsewhere_back, 0, CANNED_KEEP, 0},
    {"/silent", "HTTP/1.1 302 M\r\nLocation: /hang\r\nContent-Length: 0\r\n\r\n", 0, CANNED_KEEP,
     0},
    {"/hang", "", 0, CANNED_HANG, 0},
    {"", NULL, 0, CANNED_CLOSE, 0},
};

static struct transfer *follow(struct rig *r, const char *method, const char *path,
                               const char *body)
{
    struct transfer *t = rig_to(r, method, path, body);
    t->spec.follow = true;
    if (headers_add(&t->spec.headers, "X-Api-Key", 9, "secret", 6) ||
        headers_add(&t->spec.headers, "Accept-Language", 15, "de", 2) ||
        headers_add(&t->spec.headers, "Content-Type", 12, "text/x", 6))
        abort();
    return rig_run(r, t);
}

TEST(methods_and_bodies_follow_the_rules)
{
    static const struct {
        const char *path, *method, *then;
        bool body;
    } rows[] = {
        {"/301", "GET", "GET", false},    {"/301", "POST", "GET", false},
        {"/302", "POST", "GET", false},   {"/302", "PUT", "PUT", true},
        {"/303", "POST", "GET", false},   {"/303", "DELETE", "GET", false},
        {"/303", "HEAD", "HEAD", false},  {"/307", "POST", "POST", true},
        {"/308", "PATCH", "PATCH", true},
    };
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool sends = strcmp(rows[i].method, "GET") && strcmp(rows[i].method, "HEAD");
        struct transfer *t = follow(&r, rows[i].method, rows[i].path, sends ? "abc" : NULL);
        CHECK_EQ(t->result.err.kind, ERR_NONE);
        CHECK_EQ(t->result.status, 200);
        CHECK_EQ(t->result.redirects, 1);
        CHECK(strstr(t->result.url, "/end"));
        CHECK(!strchr(t->result.url, '#') || strcmp(rows[i].path, "/302") == 0);
        if (strcmp(rows[i].method, "HEAD"))
            CHECK_STR(t->result.body.data, "end");
        CHECK(strncmp(canned_last(&r.server), rows[i].then, strlen(rows[i].then)) == 0);
        CHECK(!!strstr(canned_last(&r.server), "\r\n\r\nabc") == rows[i].body);
        CHECK(!!strstr(canned_last(&r.server), "Content-Type: text/x") == (rows[i].body || !sends));
        CHECK(strstr(canned_last(&r.server), "X-Api-Key: secret"));
        transfer_free(t);
    }
    /* One is kept for all but the HEADs: this server sends a body behind those, which ends it. */
    CHECK_EQ(r.server.connections, 2);
    rig_end(&r);
}

TEST(not_every_3xx_leads_on)
{
    static const char *const paths[] = {"/304", "/nowhere"};
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct transfer *t = follow(&r, "GET", paths[i], NULL);
        CHECK_EQ(t->result.err.kind, ERR_NONE);
        CHECK_EQ(t->result.status / 100, 3);
        CHECK(!t->result.url);
        transfer_free(t);
    }
    struct transfer *t = rig_get(&r, "/301"); /* not asked to follow */
    CHECK_EQ(t->result.status, 301);
    CHECK_STR(t->result.body.data, "body");
    transfer_free(t);
    rig_end(&r);
}

TEST(a_loop_ends_after_the_hops_that_are_allowed)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = follow(&r, "GET", "/loop", NULL);
    CHECK_EQ(t->result.err.kind, ERR_PROTOCOL);
    CHECK_STR(t->result.err.reason, "redirect");
    CHECK_EQ(t->result.redirects, 5);
    CHECK_EQ(r.server.requests, 6);
    transfer_free(t);
    rig_end(&r);
}

TEST(a_location_that_is_empty_or_a_fragment_leads_to_the_same_url)
{
    static const char *const paths[] = {"/empty?x=1", "/fragment;p?x=1"};
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char line[64];
        struct transfer *t = follow(&r, "GET", paths[i], NULL);
        CHECK_EQ(t->result.err.kind, ERR_PROTOCOL); /* it does so each time */
        CHECK_STR(t->result.err.reason, "redirect");
        CHECK_EQ(t->result.redirects, 5);
        snprintf(line, sizeof line, "GET %s HTTP/1.1", paths[i]);
        CHECK(strncmp(canned_last(&r.server), line, strlen(line)) == 0);
        transfer_free(t);
    }
    CHECK_EQ(r.server.requests, 12);
    rig_end(&r);
}

TEST(forbidden_targets_are_denied)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = follow(&r, "GET", "/file", NULL);
    CHECK_EQ(t->result.err.kind, ERR_DENIED);
    transfer_free(t);
    t = follow(&r, "GET", "/mail", NULL);
    CHECK_EQ(t->result.err.kind, ERR_DENIED);
    transfer_free(t);
    t = follow(&r, "GET", "/ftp", NULL);
    CHECK_EQ(t->result.err.kind, ERR_DENIED);
    transfer_free(t);
    t = follow(&r, "GET", "/bad", NULL);
    CHECK_EQ(t->result.err.kind, ERR_PROTOCOL);
    CHECK_STR(t->result.err.reason, "redirect");
    transfer_free(t);
    t = follow(&r, "GET", "/space", NULL);
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK_STR(t->result.body.data, "space");
    transfer_free(t);
    t = follow(&r, "GET", "/spaces", NULL);
    CHECK_EQ(t->result.err.kind, ERR_NONE);
    CHECK_STR(t->result.body.data, "spaces");
    CHECK(strstr(t->result.url, "#f%20?g%20h"));
    transfer_free(t);
    t = follow(&r, "GET", "/space-host", NULL);
    CHECK_EQ(t->result.err.kind, ERR_PROTOCOL);
    CHECK_STR(t->result.err.reason, "redirect");
    transfer_free(t);
    rig_end(&r);
}

TEST(secrets_stay_behind_when_the_origin_changes_and_do_not_come_back)
{
    struct rig r;
    struct canned other;
    REQUIRE(rig_begin(&r, table));
    canned_start(&other, table);
    snprintf(
        elsewhere, sizeof elsewhere,
        "HTTP/1.1 307 M\r\nLocation: http://u:p@127.0.0.1:%d/back\r\nContent-Length: 0\r\n\r\n",
        other.port);
    snprintf(elsewhere_back, sizeof elsewhere_back,
             "HTTP/1.1 307 M\r\nLocation: http://127.0.0.1:%d/end\r\nContent-Length: 0\r\n\r\n",
             r.server.port);
    struct transfer *t = follow(&r, "POST", "/away", "abc");
    CHECK_EQ(t->result.status, 200);
    CHECK_EQ(t->result.redirects, 2);
    CHECK(!strstr(canned_last(&other), "secret"));
    CHECK(!strstr(canned_last(&other), "Authorization"));
    CHECK(strstr(canned_last(&other), "Accept-Language: de"));
    CHECK(strstr(canned_last(&other), "Content-Type: text/x"));
    CHECK(strstr(canned_last(&other), "\r\n\r\nabc"));
    CHECK(!strstr(canned_last(&r.server), "secret"));
    transfer_free(t);
    rig_check_idle(&r);
    engine_free(r.engine);
    loop_fini(&r.loop);
    canned_stop(&other);
    canned_stop(&r.server);
    CHECK_EQ(r.mem.blocks, 0);
    CHECK_EQ(rig_open_files(), r.files);
}

TEST(the_total_limit_spans_all_hops_and_a_cancel_reaches_the_second)
{
    struct rig r;
    REQUIRE(rig_begin(&r, table));
    struct transfer *t = rig_to(&r, "GET", "/silent", NULL);
    t->spec.follow = true;
    t->spec.limits.total_ms = 60;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
    CHECK_EQ(t->result.err.phase, PHASE_TOTAL);
    transfer_free(t);
    t = rig_to(&r, "GET", "/silent", NULL);
    t->spec.follow = true;
    engine_submit(r.engine, t);
    while (t->result.redirects == 0)
        loop_turn(&r.loop, true);
    engine_cancel(r.engine, t);
    CHECK(rig_wait(&r) == t);
    CHECK_EQ(t->result.err.kind, ERR_CANCELLED);
    transfer_free(t);
    rig_end(&r);
}

TEST_MAIN
