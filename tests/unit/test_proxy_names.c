/* The name of a proxy is looked up like any other: on the resolver's threads, once for those who
 * ask at the same time, within the limits, and a cancel gives everything back. */
#include "rig.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\n"

/* A proxy is asked with the whole URL. */
static const struct canned_answer table[] = {
    {"http://origin.test/ok", OK_HEAD "Content-Length: 5\r\n\r\nhello", 0, CANNED_KEEP, 0},
    {"http://origin.test/close", OK_HEAD "\r\nhello", 0, CANNED_CLOSE, 0},
    {"", NULL, 0, CANNED_CLOSE, 0},
};

struct names {
    atomic_bool hangs;
    atomic_int asked, others; /* for proxy.test, and for any other name */
};

static int look_up(const char *name, char *out, size_t size, void *arg)
{
    struct names *n = arg;
    bool known = strcmp(name, "proxy.test") == 0;
    atomic_fetch_add(known ? &n->asked : &n->others, 1);
    while (n->hangs)
        usleep(1000);
    if (!known)
        return -2; /* EAI_NONAME */
    snprintf(out, size, "127.0.0.1");
    return 0;
}

static bool begin(struct rig *r, struct names *n)
{
    *n = (struct names){.hangs = false};
    return rig_begin_with(r, table, (struct engine_config){.lookup = look_up, .lookup_arg = n});
}

static void end(struct rig *r, struct names *n)
{
    n->hangs = false;
    while (engine_threads_busy(r->engine))
        loop_turn(&r->loop, true);
    rig_end(r);
}

/* A request by way of the proxy at the canned server's port. */
static struct transfer *by(struct rig *r, const char *proxy, const char *url)
{
    char text[128];
    struct transfer *t = rig_to(r, "GET", url, NULL);
    snprintf(text, sizeof text, proxy, r->server.port);
    t->spec.proxy = mem_strndup(&r->mem, text, strlen(text));
    if (!t->spec.proxy)
        abort();
    return t;
}

TEST(a_proxy_is_looked_up_once_and_the_origin_never)
{
    struct rig r;
    struct names n;
    REQUIRE(begin(&r, &n));
    for (int i = 0; i < 3; i++) {
        struct transfer *t =
            rig_run(&r, by(&r, "http://user:pw@Proxy.test:%d", "http://origin.test/close"));
        CHECK_EQ(t->result.status, 200);
        CHECK(t->result.timing.dns >= 0);
        transfer_free(t);
    }
    CHECK_EQ(n.asked, 1);
    CHECK_EQ(n.others, 0);
    end(&r, &n);
}

TEST(those_who_ask_at_the_same_time_share_the_look_up)
{
    struct rig r;
    struct names n;
    REQUIRE(begin(&r, &n));
    n.hangs = true;
    for (int i = 0; i < 20; i++)
        engine_submit(r.engine, by(&r, "http://proxy.test:%d", "http://origin.test/close"));
    while (n.asked == 0)
        loop_turn(&r.loop, false);
    n.hangs = false;
    for (int i = 0; i < 20; i++) {
        struct transfer *t = rig_wait(&r);
        CHECK_EQ(t->result.status, 200);
        transfer_free(t);
    }
    CHECK_EQ(n.asked, 1);
    end(&r, &n);
}

TEST(a_proxy_whose_name_is_unknown_is_named_and_its_password_is_not)
{
    struct rig r;
    struct names n;
    REQUIRE(begin(&r, &n));
    static const char *const schemes[] = {"http",    "https",  "socks4",
                                          "socks4a", "socks5", "socks5h"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        char proxy[64], words[64];
        snprintf(proxy, sizeof proxy, "%s://user:secret@nowhere.test:%%d", schemes[i]);
        snprintf(words, sizeof words, "no address for the proxy %s://", schemes[i]);
        struct transfer *t = rig_run(&r, by(&r, proxy, "https://origin.test/ok"));
        const struct err *err = &t->result.err;
        CHECK_EQ(err->kind, ERR_DNS);
        CHECK_EQ(err->phase, PHASE_DNS);
        CHECK(strcmp(err->reason, "proxy") == 0);
        CHECK(!err->retryable);
        CHECK(strstr(err->message, words));
        CHECK(strstr(err->message, "nowhere.test"));
        CHECK(strstr(err->message, "https://origin.test/ok"));
        CHECK(!strstr(err->message, "secret"));
        transfer_free(t);
    }
    CHECK_EQ(n.asked, 0);
    CHECK_EQ(n.others, (int)ARRAY_LEN(schemes));
    end(&r, &n);
}

TEST(a_proxy_that_wants_addresses_gets_the_origins_from_us)
{
    struct rig r;
    struct names n;
    REQUIRE(begin(&r, &n));
    struct transfer *t = rig_run(&r, by(&r, "socks5://proxy.test:%d", "http://nowhere.test/ok"));
    CHECK_EQ(t->result.err.kind, ERR_DNS);
    CHECK(strstr(t->result.err.message, "'nowhere.test'"));
    CHECK(strcmp(t->result.err.reason, "") == 0);
    transfer_free(t);
    CHECK_EQ(n.asked, 1);
    CHECK_EQ(n.others, 1);
    t = by(&r, "socks5h://proxy.test:%d", "http://nowhere.test/ok");
    t->spec.limits.connect_ms = 50; /* the canned server is no such proxy, and says nothing */
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
    CHECK_EQ(t->result.err.phase, PHASE_CONNECT);
    transfer_free(t);
    CHECK_EQ(n.others, 1);
    end(&r, &n);
}

TEST(a_slow_look_up_of_a_proxy_is_limited_and_the_limit_names_it)
{
    struct rig r;
    struct names n;
    REQUIRE(begin(&r, &n));
    n.hangs = true;
    struct transfer *t = by(&r, "http://proxy.test:%d", "http://origin.test/ok");
    t->spec.limits.connect_ms = 50;
    rig_run(&r, t);
    CHECK_EQ(t->result.err.kind, ERR_TIMEOUT);
    CHECK_EQ(t->result.err.phase, PHASE_DNS);
    CHECK(strstr(t->result.err.message, "through the proxy http://proxy.test:"));
    transfer_free(t);
    end(&r, &n);
}

TEST(a_cancel_while_a_proxy_is_looked_up_gives_everything_back)
{
    struct rig r;
    struct names n;
    static const char *const urls[] = {"http://origin.test/ok", "https://origin.test/ok"};
    REQUIRE(begin(&r, &n));
    n.hangs = true;
    for (size_t i = 0; i < 6; i++) {
        struct transfer *t = by(&r, "http://proxy.test:%d", urls[i % 2]);
        engine_submit(r.engine, t);
        /* The first one may be cancelled before a thread has begun: then nothing is looked up. */
        while (i > 0 && n.asked == 0)
            usleep(1000);
        for (size_t turns = 0; turns < i; turns++)
            loop_turn(&r.loop, false);
        engine_cancel(r.engine, t);
        CHECK(rig_wait(&r) == t);
        CHECK_EQ(t->result.err.kind, ERR_CANCELLED);
        transfer_free(t);
        rig_check_idle(&r);
    }
    CHECK_EQ(n.asked, 1); /* it goes on alone, on one thread */
    n.hangs = false;
    struct transfer *t = rig_run(&r, by(&r, "http://proxy.test:%d", "http://origin.test/ok"));
    CHECK_EQ(t->result.status, 200);
    transfer_free(t);
    CHECK_EQ(n.asked, 1);
    end(&r, &n);
}

/* Each allocation of the request fails once. */
TEST(without_memory_a_request_by_proxy_fails_and_leaves_nothing)
{
    bool failed_all = false;
    for (long n = 0; !failed_all; n++) {
        struct rig r;
        struct names names;
        REQUIRE(begin(&r, &names));
        struct transfer *t = by(&r, "http://proxy.test:%d", "http://origin.test/ok");
        atomic_store(&r.mem.fail_in, n);
        rig_run(&r, t);
        failed_all = atomic_load(&r.mem.fail_in) >= 0;
        atomic_store(&r.mem.fail_in, -1);
        if (t->result.err.kind == ERR_NONE)
            CHECK_EQ(t->result.status, 200);
        else
            CHECK_EQ(t->result.err.kind, ERR_MEMORY);
        transfer_free(t);
        t = rig_run(&r, by(&r, "http://proxy.test:%d", "http://origin.test/ok"));
        CHECK_EQ(t->result.status, 200);
        transfer_free(t);
        end(&r, &names);
    }
}

TEST_MAIN
