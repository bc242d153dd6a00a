#include "test.h"

#include "engine/cookie_jar.h"
#include "engine/cookie_parse.h"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { NOW = 1700000000 };

struct fixture {
    struct mem mem;
    struct cookie_jar *jar;
    struct buf out;
};

static void setup(struct fixture *f)
{
    mem_init(&f->mem, 0);
    buf_init(&f->out, &f->mem, 1024 * 1024);
    f->jar = cookie_jar_new(&f->mem);
    if (!f->jar)
        abort();
}

static void teardown(struct fixture *f)
{
    cookie_jar_unref(f->jar);
    buf_fini(&f->out);
    CHECK_EQ(f->mem.blocks, 0);
}

/* Of "http://host/path"; `room` has the host. */
static struct cookie_jar_site site_of(const char *url, char room[static 512])
{
    struct cookie_jar_site site = {.https = strncmp(url, "https:", 6) == 0, .host = room};
    const char *host = strstr(url, "//") + 2;
    size_t len = strcspn(host, "/");
    snprintf(room, 512, "%.*s", (int)len, host);
    site.path = host[len] ? host + len : "/";
    site.path_len = strlen(site.path);
    return site;
}

static void store_at(struct fixture *f, const char *url, const char *text, int64_t now_s)
{
    char room[512];
    struct cookie_jar_site site = site_of(url, room);
    CHECK_EQ(cookie_jar_store(f->jar, &site, text, strlen(text), now_s), ERR_NONE);
}

static void store(struct fixture *f, const char *url, const char *text)
{
    store_at(f, url, text, NOW);
}

static const char *sent_at(struct fixture *f, const char *url, int64_t now_s)
{
    char room[512];
    struct cookie_jar_site site = site_of(url, room);
    buf_clear(&f->out);
    CHECK_EQ(cookie_jar_header(f->jar, &site, now_s, &f->out), ERR_NONE);
    return f->out.len > 0 ? f->out.data : "";
}

static const char *sent(struct fixture *f, const char *url)
{
    return sent_at(f, url, NOW);
}

struct row {
    const char *from, *text, *to, *sent;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fixture f;
        setup(&f);
        store(&f, rows[i].from, rows[i].text);
        const char *got = sent(&f, rows[i].to);
        if (strcmp(got, rows[i].sent) != 0) {
            printf("  '%s' from %s to %s: sent '%s', not '%s'\n", rows[i].text, rows[i].from,
                   rows[i].to, got, rows[i].sent);
            test_failed = true;
        }
        teardown(&f);
    }
}

#define H "http://shop.example/"

TEST(a_set_cookie_field_is_read_leniently)
{
    static const struct row rows[] = {
        {H, "a=1", H, "a=1"},
        {H, "a=1;", H, "a=1"},
        {H, " a = 1 ; ; =x; Unknown; HttpOnly; SameSite=Strict; Priority=High", H, "a=1"},
        {H, "a\t=\t1 2\t", H, "a=1 2"},
        {H, "a=", H, "a="},
        {H, "a=b=c==", H, "a=b=c=="},
        {H, "a=\"x y\"; Path=/", H, "a=\"x y\""},
        {H, "a=\"x;y\"", H, "a=\"x"},
        {H, "a=1,b=2", H, "a=1,b=2"},
        {H, "a=caf\xc3\xa9", H, "a=caf\xc3\xa9"},
        {H, "Path=/nowhere", H, "Path=/nowhere"},
        {H, "A=1; sEcUrE", H, ""},
        {H, "", H, ""},
        {H, "a", H, ""},
        {H, "=1", H, ""},
        {H, " =1", H, ""},
        {H, ";a=1", H, ""},
        {H, "a; b=1", H, ""},
        {H, "a=1\x01", H, ""},
        {H, "a\x7f=1", H, ""},
        {H, "a=1\r\nX: y", H, ""},
        {H, "a=1; Path=/\x1f", H, ""},
        {H, "a=1; Path=\t/; b\tc", H, "a=1"},
    };
    check_rows(rows, ARRAY_LEN(rows));
    struct fixture f;
    setup(&f);
    struct cookie_jar_site site = {.host = "shop.example", .path = "/", .path_len = 1};
    CHECK_EQ(cookie_jar_store(f.jar, &site, "a=1\0b", 5, NOW), ERR_NONE);
    CHECK_EQ(cookie_jar_store(f.jar, &site, "a\0b=1", 5, NOW), ERR_NONE);
    CHECK_STR(sent(&f, H), "");
    teardown(&f);
}

TEST(a_cookie_goes_to_its_host_or_to_the_domain_it_names)
{
    static const struct row rows[] = {
        {H, "a=1", "http://SHOP.Example/", "a=1"},
        {"http://SHOP.Example/", "a=1", H, "a=1"},
        {H, "a=1", "http://www.shop.example/", ""},
        {H, "a=1", "http://example/", ""},
        {H, "a=1", "http://otherexample/", ""},
        {H, "a=1; Domain=", "http://www.shop.example/", ""},
        {H, "a=1; Domain=.", "http://www.shop.example/", ""},
        {H, "a=1; Domain=shop.example", "http://www.shop.example/", "a=1"},
        {H, "a=1; Domain=.shop.example", "http://www.shop.example/", "a=1"},
        {H, "a=1; Domain=.SHOP.Example", "http://x.y.shop.example/", "a=1"},
        {H, "a=1; Domain=shop.example", "http://myshop.example/", ""},
        {H, "a=1; Domain=other.example; Domain=shop.example", "http://www.shop.example/", "a=1"},
        {H, "a=1; Domain=shop.example; Domain=", "http://www.shop.example/", ""},
        {"http://a.b.shop.example/", "a=1; Domain=b.shop.example", "http://b.shop.example/", "a=1"},
        {"http://a.b.shop.example/", "a=1; Domain=b.shop.example", H, ""},
        /* what is not its own */
        {H, "a=1; Domain=other.example", H, ""},
        {H, "a=1; Domain=other.example", "http://other.example/", ""},
        {H, "a=1; Domain=www.shop.example", "http://www.shop.example/", ""},
        {H, "a=1; Domain=op.example", "http://op.example/", ""},
        {H, "a=1; Domain=..shop.example", H, ""},
        {H, "a=1; Domain=shop.example.", H, ""},
        {"http://shop.example./", "a=1; Domain=example.", "http://other.example./", ""},
        {"http://shop.example./", "a=1; Domain=shop.example.", "http://shop.example./", "a=1"},
        {"http://shop.example./", "a=1; Domain=shop.example.", "http://w.shop.example./", ""},
        {"http://shop.example./", "a=1", H, ""},
        /* addresses have no domains */
        {"http://127.0.0.2/", "a=1; Domain=127.0.0.2", "http://127.0.0.2/", "a=1"},
        {"http://127.0.0.2/", "a=1; Domain=0.0.2", "http://127.0.0.2/", ""},
        {"http://127.0.0.2/", "a=1; Domain=2", "http://127.0.0.2/", ""},
        {"http://127.0.0.2/", "a=1; Domain=0.0.2", "http://h.0.0.2/", ""},
        {"http://127.0.0.2/", "a=1", "http://1.127.0.0.2/", ""},
        {"http://127.0.0.2/", "a=1; Domain=127.0.0.2", "http://1.127.0.0.2/", ""},
        {"http://[::2]/", "a=1", "http://[::2]/", "a=1"},
        {"http://[::2]/", "a=1", "http://[::3]/", ""},
        {"http://[::2]/", "a=1; Domain=[::2]", "http://[::2]/", "a=1"},
        {"http://[::2]/", "a=1; Domain=::2", "http://[::2]/", ""},
        {"http://[::ffff:1.2.3.4]/", "a=1; Domain=3.4]", "http://[::ffff:1.2.3.4]/", ""},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

TEST(no_cookie_is_for_a_public_suffix)
{
    static const struct row rows[] = {
        {"http://a.com/", "a=1; Domain=com", "http://b.com/", ""},
        {"http://a.com/", "a=1; Domain=com", "http://a.com/", ""},
        {"http://a.com/", "a=1; Domain=com.", "http://a.com/", ""},
        {"http://a.com./", "a=1; Domain=com.", "http://b.com./", ""},
        {"http://a.co.uk/", "a=1; Domain=co.uk", "http://b.co.uk/", ""},
        {"http://a.co.uk/", "a=1; Domain=.co.uk", "http://a.co.uk/", ""},
        {"http://a.co.uk/", "a=1; Domain=CO.UK", "http://a.co.uk/", ""},
        {"http://x.a.co.uk/", "a=1; Domain=a.co.uk", "http://y.a.co.uk/", "a=1"},
        {"http://me.github.io/", "a=1; Domain=github.io", "http://you.github.io/", ""},
        {"http://me.github.io/", "a=1; Domain=me.github.io", "http://x.me.github.io/", "a=1"},
        {"http://a.b.ck/", "a=1; Domain=b.ck", "http://a.b.ck/", ""},
        {"http://a.www.ck/", "a=1; Domain=www.ck", "http://b.www.ck/", "a=1"},
        {"http://a.xn--p1ai/", "a=1; Domain=xn--p1ai", "http://a.xn--p1ai/", ""},
        {"http://a.intranet/", "a=1; Domain=intranet", "http://b.intranet/", ""},
        {"http://a.localhost/", "a=1; Domain=localhost", "http://localhost/", ""},
        /* one that is a host, too, has cookies of its own */
        {"http://github.io/", "a=1; Domain=github.io", "http://github.io/", "a=1"},
        {"http://github.io/", "a=1; Domain=github.io", "http://me.github.io/", ""},
        {"http://localhost/", "a=1; Domain=localhost", "http://localhost/", "a=1"},
        {"http://intranet/", "a=1; Domain=intranet", "http://intranet/", "a=1"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

TEST(a_cookie_goes_to_paths_at_or_below_its_own)
{
    static const struct row rows[] = {
        {H "a/b", "a=1", H "a/c", "a=1"},
        {H "a/b", "a=1", H "a", "a=1"},
        {H "a/b", "a=1", H "a/", "a=1"},
        {H "a/b", "a=1", H, ""},
        {H "a/b", "a=1", H "ab", ""},
        {H "a/b/", "a=1", H "a/b/c/d", "a=1"},
        {H "a/b/", "a=1", H "a/c", ""},
        {H "a", "a=1", H "b", "a=1"},
        {H, "a=1; Path=/x", H "x", "a=1"},
        {H, "a=1; Path=/x", H "x/y", "a=1"},
        {H, "a=1; Path=/x", H "xy", ""},
        {H, "a=1; Path=/x", H, ""},
        {H, "a=1; Path=/x", H "X", ""},
        {H, "a=1; Path=/x/", H "x/", "a=1"},
        {H, "a=1; Path=/x/", H "x", ""},
        {H, "a=1; Path=/x; Path=/", H, "a=1"},
        {H "a/b", "a=1; Path=/x; Path=y", H "x", ""},
        {H "a/b", "a=1; Path=/x; Path=y", H "a/", "a=1"},
        {H "a/b", "a=1; Path=", H, ""},
        {H "a/b", "a=1; Path", H "a/", "a=1"},
        {H "a/b", "a=1; Path=x", H "a/", "a=1"},
        {H "a/b", "a=1; Path=\"/\"", H, ""},
        {H, "a=1; Path= /x ", H "x", "a=1"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

TEST(a_secure_cookie_comes_and_goes_over_https_or_within_this_machine)
{
#define S "https://shop.example/"
    static const struct row rows[] = {
        {S, "a=1; Secure", S, "a=1"},
        {S, "a=1; Secure", H, ""},
        {S, "a=1; Secure=no", H, ""},
        {S, "a=1", H, "a=1"},
        {H, "a=1; Secure", S, ""},
        {H, "a=1", S, "a=1"},
        {"http://localhost/", "a=1; Secure", "http://localhost/", "a=1"},
        {"http://127.0.0.1/", "a=1; Secure", "http://127.0.0.1/", "a=1"},
        {"http://[::1]/", "a=1; Secure", "http://[::1]/", "a=1"},
        {"http://127.0.0.2/", "a=1; Secure", "http://127.0.0.2/", ""},
        {"http://my.localhost/", "a=1; Secure", "http://my.localhost/", ""},
        /* prefixes */
        {S, "__Secure-a=1; Secure", S, "__Secure-a=1"},
        {S, "__Secure-a=1", S, ""},
        {S, "__secure-A=1", S, ""},
        {H, "__Secure-a=1; Secure", S, ""},
        {S, "__Host-a=1; Secure; Path=/", S, "__Host-a=1"},
        {S, "__Host-a=1; Secure; Path=/; Domain=", S, "__Host-a=1"},
        {S, "__Host-a=1; Secure", S, ""},
        {S, "__Host-a=1; Path=/", S, ""},
        {S "x/", "__Host-a=1; Secure; Path=/x", S "x/", ""},
        {S, "__Host-a=1; Secure; Path=/; Domain=shop.example", S, ""},
        {S, "__HOST-a=1; Path=/", S, ""},
        {S, "__Hos-a=1", S, "__Hos-a=1"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

TEST(an_insecure_site_cannot_stand_in_for_a_secure_cookie)
{
    static const struct {
        const char *secure, *from, *text, *then;
    } rows[] = {
        {"a=1; Secure", H, "a=2", "a=1"},
        {"a=1; Secure", H, "a=2; Max-Age=0", "a=1"},
        {"a=1; Secure", H, "a=2; Path=/x", "a=1"},
        {"a=1; Secure", H, "a=2; Domain=shop.example", "a=1"},
        {"a=1; Secure; Domain=shop.example", H, "a=2", "a=1"},
        {"a=1; Secure", H, "b=2", "a=1; b=2"},
        {"a=1; Secure", "http://w.shop.example/", "a=2; Domain=shop.example", "a=1"},
        {"a=1; Secure; Path=/x", H, "a=2; Path=/x/y", "a=1"},
        {"a=1; Secure; Path=/x", H, "a=2; Path=/", "a=1; a=2"},
        {"a=1; Secure; Path=/x", H, "a=2; Path=/xy", "a=1"},
        {"a=1; Secure", S, "a=2", "a=2"},
        {"a=1", H, "a=2", "a=2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f;
        setup(&f);
        store(&f, S, rows[i].secure);
        store(&f, rows[i].from, rows[i].text);
        CHECK_STR(sent(&f, S "x/y"), rows[i].then);
        teardown(&f);
    }
    struct fixture f;
    setup(&f);
    store(&f, "https://w.shop.example/", "a=1; Secure"); /* below the new one's domain */
    store(&f, H, "a=2; Domain=shop.example");
    CHECK_STR(sent(&f, "https://w.shop.example/"), "a=1");
    store(&f, S, "b=1; Secure; Domain=shop.example"); /* above it */
    store(&f, "http://w.shop.example/", "b=2");
    CHECK_STR(sent(&f, "https://w.shop.example/"), "a=1; b=1");
    store(&f, "http://w.shop.example/", "c=1"); /* beside it, and not secure itself */
    store(&f, "http://w.shop.example/", "c=2");
    store(&f, "http://v.shop.example/", "a=3");
    CHECK_STR(sent(&f, "https://w.shop.example/"), "a=1; b=1; c=2");
    CHECK_STR(sent(&f, "https://v.shop.example/"), "b=1; a=3");
    teardown(&f);
}

TEST(longer_paths_go_first_and_then_what_was_there_first)
{
    struct fixture f;
    setup(&f);
    store(&f, H, "a=1");
    store(&f, H, "b=2; Path=/x/y");
    store(&f, H, "c=3; Path=/x");
    store(&f, H, "d=4; Domain=shop.example; Path=/x");
    store(&f, H, "e=5; Domain=shop.example");
    CHECK_STR(sent(&f, H "x/y"), "b=2; c=3; d=4; a=1; e=5");
    CHECK_STR(sent(&f, "http://w.shop.example/x"), "d=4; e=5");
    /* a new value keeps the place; other paths, other names and a domain make another cookie */
    store(&f, H, "a=6");
    store(&f, H, "A=7");
    store(&f, H, "a=8; Domain=shop.example");
    CHECK_STR(sent(&f, H), "a=6; e=5; A=7; a=8");
    store(&f, H "x", "a=9; Path=/");
    store(&f, H "x", "A=10");
    CHECK_STR(sent(&f, H), "a=9; e=5; A=10; a=8");
    teardown(&f);
}

TEST(what_was_written_before_is_kept)
{
    struct fixture f;
    setup(&f);
    store(&f, H, "a=1");
    struct cookie_jar_site site = {.host = "shop.example", .path = "/", .path_len = 1};
    CHECK_EQ(buf_append_str(&f.out, "own=0; "), ERR_NONE);
    CHECK_EQ(cookie_jar_header(f.jar, &site, NOW, &f.out), ERR_NONE);
    CHECK_STR(f.out.data, "own=0; a=1");
    f.out.max_bytes = 12;
    CHECK_EQ(cookie_jar_header(f.jar, &site, NOW, &f.out), ERR_TOO_LARGE);
    CHECK_STR(f.out.data, "own=0; a=1");
    teardown(&f);
}

TEST(a_cookie_ends_when_max_age_or_expires_says)
{
    static const struct {
        const char *text;
        int64_t lasts_s; /* -1: to the end of the jar; 0: not at all */
    } rows[] = {
        {"a=1", -1},
        {"a=1; Max-Age=60", 60},
        {"a=1; max-age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 60},
        {"a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", 60},
        {"a=1; Max-Age=60; Max-Age=5", 5},
        {"a=1; Max-Age=0", 0},
        {"a=1; Max-Age=-1", 0},
        {"a=1; Max-Age=-0", 0},
        {"a=1; Max-Age=00", 0},
        {"a=1; Max-Age=", -1},
        {"a=1; Max-Age=-", -1},
        {"a=1; Max-Age=+5", -1},
        {"a=1; Max-Age=5s", -1},
        {"a=1; Max-Age=1.5", -1},
        {"a=1; Max-Age=\"5\"", -1},
        {"a=1; Max-Age=x; Expires=Tue, 14-Nov-2023 22:13:30 GMT", 10},
        {"a=1; Expires=Tue, 14-Nov-2023 22:13:30 GMT", 10},
        {"a=1; Expires=Tue, 14-Nov-2023 22:13:20 GMT", 0},
        {"a=1; Expires=never", -1},
        {"a=1; Expires=", -1},
        {"a=1; Max-Age=99999999999999999999999999999999999999", -1},
        {"a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f;
        setup(&f);
        store(&f, H, rows[i].text);
        int64_t lasts = rows[i].lasts_s, last = lasts > 0 ? NOW + lasts - 1 : INT64_C(4000000000);
        const char *now = lasts == 0 ? "" : "a=1";
        if (strcmp(sent(&f, H), now) != 0 || strcmp(sent_at(&f, H, last), now) != 0 ||
            (lasts > 0 && *sent_at(&f, H, last + 1)))
            test_fail(__FILE__, __LINE__, rows[i].text);
        teardown(&f);
    }
}

TEST(a_cookie_of_the_past_removes_the_one_that_is_there)
{
    struct fixture f;
    setup(&f);
    store(&f, H, "a=1; Path=/");
    store(&f, H, "b=2; Path=/; Domain=shop.example");
    store(&f, H, "a=; Path=/x; Max-Age=0");
    store(&f, H, "a=; Path=/; Domain=shop.example; Max-Age=0");
    CHECK_STR(sent(&f, H), "a=1; b=2");
    store(&f, H, "a=; Path=/; Max-Age=0");
    CHECK_STR(sent(&f, H), "b=2");
    store(&f, "http://w.shop.example/", "b=; Path=/; Domain=shop.example; Max-Age=0");
    CHECK_STR(sent(&f, H), "");
    teardown(&f);
}

TEST(what_has_ended_gives_its_memory_back)
{
    struct fixture f;
    setup(&f);
    size_t blocks = f.mem.blocks;
    store(&f, H, "a=1; Max-Age=10");
    store(&f, H, "b=1; Max-Age=20");
    store(&f, "http://other.example/", "c=1; Max-Age=10");
    size_t full = f.mem.blocks;
    CHECK(full > blocks);
    store_at(&f, H, "nothing", NOW + 9);
    CHECK_EQ(f.mem.blocks, full);
    store_at(&f, "http://third.example/", "d=1; Max-Age=0", NOW + 10);
    CHECK(f.mem.blocks < full);
    CHECK_STR(sent_at(&f, H, NOW + 10), "b=1");
    CHECK_STR(sent_at(&f, H, NOW + 20), "");
    buf_fini(&f.out);
    CHECK_EQ(f.mem.blocks, blocks);
    teardown(&f);
}

TEST(dates_are_read_in_all_forms_that_servers_send)
{
    static const struct {
        const char *text;
        int64_t seconds; /* -1: no date */
    } rows[] = {
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Sun, 06-Nov-1994 08:49:37 GMT", 784111777},
        {"1994 Nov 06 08:49:37", 784111777},
        {"08:49:37 06 Nov 94", 784111777},
        {"8:49:37 6 NOVEMBER 1994 PST", 784111777},
        {"6th nov 1994 08:49:37+0100", 784111777},
        {"  06/Nov/1994;08:49:37xyz ", 784111777},
        {"Sun, 06 Nov 1994 8:9:7 GMT", 784109347},
        {"06{Nov|1994~08:49:37", 784111777},
        {"06 Nov 5 08:49:37 123456 1994", 784111777},
        {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
        {"Thu, 29 Feb 2024 23:59:59 GMT", 1709251199},
        {"Fri, 01 Mar 2024 00:00:00 GMT", 1709251200},
        {"Tue, 19 Jan 2038 03:14:08 GMT", INT64_C(2147483648)},
        {"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)},
        {"Mon, 01 Jan 1601 00:00:00 GMT", INT64_C(-11644473600)},
        /* two digits, and which one is the year */
        {"01 Jan 70 00:00:00", 0},
        {"01 Jan 69 00:00:00", INT64_C(3124224000)},
        {"01 Jan 00 00:00:00", 946684800},
        {"01 Jan 99 00:00:00", 915148800},
        {"10 Jan 11 00:00:00", 1294617600},
        {"00:00:00 1:2:3 01 Jan 1970", 978307200},
        /* no dates */
        {"", -1},
        {"0", -1},
        {"never", -1},
        {"1700000000", -1},
        {"Sun, 06 Nov 1994", -1},
        {"Sun, 06 1994 08:49:37", -1},
        {"Nov 1994 08:49:37", -1},
        {"06 Nov 08:49:37", -1},
        {"06 Nov 1994 08:49", -1},
        {"06 Nov 1994 24:00:00", -1},
        {"06 Nov 1994 08:60:00", -1},
        {"06 Nov 1994 08:49:60", -1},
        {"06 Nov 1994 008:49:37", -1},
        {"06 Nov 1994 08:49:371", -1},
        {"00 Nov 1994 08:49:37", -1},
        {"32 Nov 1994 08:49:37", -1},
        {"31 Nov 1994 08:49:37", -1},
        {"29 Feb 1900 08:49:37", -1},
        {"29 Feb 2023 08:49:37", -1},
        {"30 Feb 2024 08:49:37", -1},
        {"06 Nov 1600 08:49:37", -1},
        {"06 Nov 199 08:49:37", -1},
        {"06 Nov 19941 08:49:37", -1},
        {"06 No 1994 08:49:37", -1},
        {"2023-11-14T22:13:20Z", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t seconds = -1;
        bool read = cookie_parse_date(rows[i].text, strlen(rows[i].text), &seconds);
        if (seconds != rows[i].seconds || read != (rows[i].seconds != -1)) {
            printf("  '%s' is %lld\n", rows[i].text, (long long)seconds);
            test_failed = true;
        }
    }
}

/* Each date is what the C library says of it. */
TEST(every_day_of_eight_centuries_is_where_it_belongs)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int64_t day = -134774; day < 160000; day++) {
        time_t at = (time_t)(day * 86400 + 3723);
        struct tm tm;
        char text[64];
        int64_t seconds = 0;
        gmtime_r(&at, &tm);
        snprintf(text, sizeof text, "%02d %.3s %04d 01:02:03", tm.tm_mday, months + 3 * tm.tm_mon,
                 tm.tm_year + 1900);
        if (!cookie_parse_date(text, strlen(text), &seconds) || seconds != (int64_t)at) {
            test_fail(__FILE__, __LINE__, text);
            return;
        }
    }
}

/* "name=xxx..." of `len` bytes in all. */
static char *long_cookie(const char *name, char fill, size_t len)
{
    char *text = malloc(len + 64);
    if (!text)
        abort();
    memset(text, fill, len + 1);
    text[len] = '\0';
    memcpy(text, name, strlen(name));
    return text;
}

TEST(a_cookie_of_four_kilobytes_is_kept_and_a_larger_one_is_not)
{
    struct fixture f;
    setup(&f);
    char *text = long_cookie("a=", 'x', COOKIE_PAIR_MAX + 1); /* the '=' is not counted */
    store(&f, H, text);
    CHECK_STR(sent(&f, H), text);
    text[COOKIE_PAIR_MAX + 1] = 'x';
    text[COOKIE_PAIR_MAX + 2] = '\0';
    store(&f, "http://a.example/", text);
    CHECK_STR(sent(&f, "http://a.example/"), "");
    free(text);
    text = long_cookie("c=1; Max-Age=5; Path=/", 'x', COOKIE_ATTRIBUTE_MAX + 21);
    store(&f, "http://b.example/", text);
    CHECK_STR(sent(&f, "http://b.example/"), "");
    text[COOKIE_ATTRIBUTE_MAX + 21] = 'x'; /* now the path is ignored */
    text[COOKIE_ATTRIBUTE_MAX + 22] = '\0';
    store(&f, "http://b.example/", text);
    CHECK_STR(sent(&f, "http://b.example/"), "c=1");
    free(text);
    text = long_cookie("d=1; Domain=", '.', 60000);
    store(&f, "http://c.example/", text);
    CHECK_STR(sent(&f, "http://c.example/"), "d=1");
    free(text);
    text = long_cookie("http://d.example/", '/', 5000); /* a path by default that is too long */
    store(&f, text, "e=1");
    CHECK_STR(sent(&f, text), "");
    free(text);
    teardown(&f);
}

TEST(an_invalid_host_has_no_cookies)
{
    struct fixture f;
    setup(&f);
    char *host = long_cookie("", 'h', 256);
    const char *const hosts[] = {"", "a b", "\xc3\xa9.example", "a\x01", host};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct cookie_jar_site site = {.host = hosts[i], .path = "/", .path_len = 1};
        CHECK_EQ(cookie_jar_store(f.jar, &site, "a=1", 3, NOW), ERR_NONE);
        CHECK_EQ(cookie_jar_header(f.jar, &site, NOW, &f.out), ERR_NONE);
    }
    CHECK_EQ(f.out.len, 0);
    host[255] = '\0';
    struct cookie_jar_site site = {.host = host, .path = ""};
    CHECK_EQ(cookie_jar_store(f.jar, &site, "a=1; Domain=x", 13, NOW), ERR_NONE);
    CHECK_EQ(cookie_jar_store(f.jar, &site, "a=1", 3, NOW), ERR_NONE);
    site.path = "/";
    site.path_len = 1;
    CHECK_EQ(cookie_jar_header(f.jar, &site, NOW, &f.out), ERR_NONE);
    CHECK_STR(f.out.data, "a=1");
    free(host);
    teardown(&f);
}

TEST(a_domain_keeps_fifty_cookies_those_used_last)
{
    struct fixture f;
    setup(&f);
    char text[64];
    store(&f, "http://other.example/", "o=1");
    for (int i = 0; i < COOKIE_JAR_DOMAIN_MAX; i++) {
        snprintf(text, sizeof text, "c%d=%d; Path=/%d", i, i, i);
        store(&f, H, text);
    }
    CHECK_STR(sent(&f, H "0"), "c0=0"); /* used */
    store(&f, H, "c2=new; Path=/2");    /* written */
    store(&f, H, "new=1; Path=/n");
    store(&f, H, "new=2; Path=/m");
    CHECK_STR(sent(&f, H "0"), "c0=0");
    CHECK_STR(sent(&f, H "1"), "");
    CHECK_STR(sent(&f, H "2"), "c2=new");
    CHECK_STR(sent(&f, H "3"), "");
    CHECK_STR(sent(&f, H "4"), "c4=4");
    CHECK_STR(sent(&f, H "n"), "new=1");
    CHECK_STR(sent(&f, "http://other.example/"), "o=1");
    teardown(&f);
}

TEST(cookies_that_are_not_secure_do_not_push_out_secure_ones)
{
    struct fixture f;
    setup(&f);
    char text[64];
    store(&f, S, "s=1; Secure; Path=/s");
    for (int i = 0; i < 2 * COOKIE_JAR_DOMAIN_MAX; i++) {
        snprintf(text, sizeof text, "c%d=%d; Path=/%d", i, i, i);
        store(&f, H, text);
    }
    CHECK_STR(sent(&f, S "s"), "s=1");
    CHECK_STR(sent(&f, S "99"), "c99=99");
    CHECK_STR(sent(&f, S "50"), "");
    for (int i = 0; i < COOKIE_JAR_DOMAIN_MAX; i++) {
        snprintf(text, sizeof text, "t%d=%d; Secure; Path=/t%d", i, i, i);
        store(&f, S, text);
    }
    store(&f, H, "late=1; Path=/late");
    CHECK_STR(sent(&f, S "late"), "");
    CHECK_STR(sent(&f, S "t49"), "t49=49");
    CHECK_STR(sent(&f, S "s"), ""); /* by other secure ones */
    teardown(&f);
}

TEST(a_jar_keeps_three_thousand_cookies_those_used_last)
{
    struct fixture f;
    setup(&f);
    char url[64];
    for (int i = 0; i < COOKIE_JAR_COOKIES_MAX; i++) {
        snprintf(url, sizeof url, "http://h%d.example/", i);
        store(&f, url, "a=1");
    }
    size_t full = f.mem.blocks;
    CHECK_STR(sent(&f, "http://h0.example/"), "a=1");
    for (int i = COOKIE_JAR_COOKIES_MAX; i < COOKIE_JAR_COOKIES_MAX + 100; i++) {
        snprintf(url, sizeof url, "http://h%d.example/", i);
        store(&f, url, "a=1");
    }
    CHECK_EQ(f.mem.blocks, full + 1); /* the buffer of the test */
    CHECK_STR(sent(&f, "http://h0.example/"), "a=1");
    CHECK_STR(sent(&f, "http://h1.example/"), "");
    CHECK_STR(sent(&f, "http://h100.example/"), "");
    CHECK_STR(sent(&f, "http://h101.example/"), "a=1");
    CHECK_STR(sent(&f, url), "a=1");
    teardown(&f);
}

TEST(a_request_carries_what_servers_take)
{
    struct fixture f;
    setup(&f);
    char text[2048], url[64];
    for (int i = 0; i < 5; i++) { /* five levels of domains, fifty cookies each */
        snprintf(url, sizeof url, "http://a.b.c.d.e.shop.example/");
        for (int n = 0; n < COOKIE_JAR_DOMAIN_MAX; n++) {
            snprintf(text, sizeof text, "%d%02d=; Domain=%s; Path=/%s", i, n,
                     "a.b.c.d.e.shop.example" + 2 * i, i == 4 ? "deep" : "");
            store(&f, url, text);
        }
    }
    const char *got = sent(&f, "http://a.b.c.d.e.shop.example/deep");
    int count = 0;
    for (const char *p = got; *p; p++)
        count += *p == '=';
    CHECK_EQ(count, COOKIE_JAR_SENT_MAX);
    CHECK(strncmp(got, "400=; 401=", 10) == 0);
    CHECK_STR(got + strlen(got) - 10, "148=; 149=");
    memset(text, 'x', 2000);
    text[2000] = '\0';
    for (int n = 0; n < 10; n++) {
        text[0] = (char)('0' + n);
        text[1] = '=';
        store(&f, "http://big.example/", text);
    }
    got = sent(&f, "http://big.example/");
    CHECK_EQ(strlen(got), 4 * 2000 + 3 * 2);
    CHECK(got[0] == '0');
    teardown(&f);
}

TEST(any_failing_allocation_leaves_the_cookies_that_were_there)
{
    static const char *const texts[] = {"a=1", "b=2; Domain=shop.example", "a=3", "c=4; Path=/x"};
    bool done = false;
    for (long n = 0; !done; n++) {
        struct mem mem;
        mem_init(&mem, 0);
        mem.fail_in = n;
        struct cookie_jar *jar = cookie_jar_new(&mem);
        struct buf out;
        buf_init(&out, &mem, 1024);
        size_t failed = jar == NULL;
        char expected[64] = "";
        struct cookie_jar_site site = {.host = "shop.example", .path = "/x", .path_len = 2};
        for (size_t i = 0; jar && i < ARRAY_LEN(texts); i++) {
            enum err_kind kind = cookie_jar_store(jar, &site, texts[i], strlen(texts[i]), NOW);
            CHECK(kind == ERR_NONE || kind == ERR_MEMORY);
            failed += kind != ERR_NONE;
        }
        if (jar) {
            enum err_kind kind = cookie_jar_header(jar, &site, NOW, &out);
            CHECK(kind == ERR_NONE || (kind == ERR_MEMORY && out.len == 0));
            failed += kind != ERR_NONE;
        }
        snprintf(expected, sizeof expected, "%s", out.len ? out.data : "");
        done = mem.fail_in >= 0;
        CHECK_EQ(failed, done ? 0 : 1);
        if (done)
            CHECK_STR(expected, "c=4; a=3; b=2");
        else if (jar && out.len > 0)
            CHECK(strstr(expected, "a=") != NULL);
        cookie_jar_unref(jar);
        buf_fini(&out);
        CHECK_EQ(mem.blocks, 0);
    }
}

/* ---- threads */

struct worker {
    pthread_t thread;
    struct fixture *f;
    int id;
    long errors;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct buf out;
    char own[64], text[64], mine[64];
    buf_init(&out, &w->f->mem, 16 * 1024);
    snprintf(own, sizeof own, "h%d.shop.example", w->id);
    snprintf(mine, sizeof mine, "mine=%d", w->id);
    struct cookie_jar_site site = {.https = true, .host = own, .path = "/", .path_len = 1};
    for (int i = 0; i < 3000; i++) {
        int n = snprintf(text, sizeof text, "n%d=%d; Domain=shop.example; Max-Age=%d", i % 70, i,
                         i % 3 * 5);
        w->errors += cookie_jar_store(w->f->jar, &site, text, (size_t)n, NOW + i / 100) != ERR_NONE;
        w->errors += cookie_jar_store(w->f->jar, &site, mine, strlen(mine), NOW) != ERR_NONE;
        buf_clear(&out);
        w->errors += cookie_jar_header(w->f->jar, &site, NOW + i / 100, &out) != ERR_NONE;
        w->errors += out.len == 0 || !strstr(out.data, mine);
    }
    buf_fini(&out);
    return NULL;
}

TEST(threads_that_store_and_send_at_once_each_see_their_own)
{
    struct fixture f;
    struct worker workers[4];
    setup(&f);
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.f = &f, .id = i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            abort();
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK_EQ(workers[i].errors, 0);
    }
    teardown(&f);
}

TEST_MAIN
