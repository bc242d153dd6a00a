/* Which proxy the environment names. Each case also asks the `curl` program, where it is installed:
 * the two must agree. */
#include "test.h"

#include "engine/proxy.h"
#include <curl/curl.h>
#include <stdlib.h>

/* no_proxy, host, passes by. */
static const struct {
    const char *list, *host;
    bool bypassed;
} cases[] = {
    {"", "a.test", false},
    {"a.test", "a.test", true},
    {"A.Test", "a.test", true},
    {"a.test", "b.a.test", true},
    {"a.test", "xa.test", false},
    {".a.test", "a.test", true},
    {".a.test", "b.a.test", true},
    {"..a.test", "a.test", false},
    {"b.a.test", "a.test", false},
    {"a.test.", "a.test", true},
    {"a.test", "a.test.", true},
    {".", "a.test", false},
    {"test", "a.test", true},
    {"*", "a.test", true},
    {"*.test", "a.test", false},
    {"*,b.test", "a.test", false},
    {"b.test,a.test", "a.test", true},
    {"b.test, a.test", "a.test", true},
    {" b.test ,, a.test ", "a.test", true},
    {",a.test", "a.test", true},
    {"a.test:80", "a.test", false},
    {"127.0.0.1", "127.0.0.1", true},
    {"127.0.0.1", "127.0.0.11", false},
    {"0.0.1", "127.0.0.1", false},
    {".0.0.1", "127.0.0.1", false},
    {"127.0.0.1:80", "127.0.0.1", false},
    {"127.0.0.0/8", "127.9.9.9", true},
    {"127.0.0.0/8", "128.0.0.1", false},
    {"127.0.0.0/9", "127.127.0.1", true},
    {"127.0.0.0/9", "127.128.0.1", false},
    {"127.0.0.1/32", "127.0.0.1", true},
    {"127.0.0.1/33", "127.0.0.1", false},
    {"127.0.0.0/0", "127.0.0.0", true},
    {"127.0.0.0/0", "127.0.0.1", false},
    {"127.0.0.0/", "127.0.0.1", false},
    {"127.0.0.0/x", "127.0.0.0", true},
    {"127.0.0.0/8", "a.test", false},
    {"::1", "[::1]", true},
    {"::2", "[::1]", false},
    {"fc00::/7", "[fe00::1]", false},
    {"::/128", "[::1]", false},
    {"127.0.0.1", "[::1]", false},
    {"::1", "127.0.0.1", false},
};

TEST(a_list_of_exceptions_names_hosts_domains_addresses_and_blocks)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (proxy_bypassed(cases[i].list, cases[i].host) == cases[i].bypassed)
            continue;
        printf("  '%s' for '%s': not %d\n", cases[i].list, cases[i].host, cases[i].bypassed);
        CHECK(false);
    }
}

/* curl 7.88 compares IPv6 addresses as texts, against its own documentation. */
TEST(blocks_of_ipv6_addresses_are_known)
{
    CHECK(proxy_bypassed("0:0:0:0:0:0:0:1", "[::1]"));
    CHECK(proxy_bypassed("fc00::/7", "[fd00::1]"));
    CHECK(!proxy_bypassed("fc00::/7", "[fe00::1]"));
}

/* What curl does: it fails to look up the proxy (5), which is not there, or the host (6 or 7). */
static int curl_bypasses(const char *list, const char *host)
{
    char command[512];
    snprintf(command, sizeof command,
             "http_proxy=http://proxy.invalid:2 no_proxy='%s' curl -q -s -m 5 -o /dev/null "
             "--resolve '*:1:127.0.0.1' --connect-to '::127.0.0.1:1' 'http://%s:1/' 2>/dev/null",
             list, host);
    int rc = system(command);
    return rc == -1 ? -1 : (rc >> 8) != 5;
}

TEST(the_curl_program_agrees_with_each_case)
{
    if (system("command -v curl >/dev/null") != 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (curl_bypasses(cases[i].list, cases[i].host) == cases[i].bypassed)
            continue;
        printf("  curl says for '%s' and '%s': not %d\n", cases[i].list, cases[i].host,
               cases[i].bypassed);
        CHECK(false);
    }
}

static void set_environment(const char *const *pairs)
{
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                                        "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    for (; *pairs; pairs += 2)
        setenv(pairs[0], pairs[1], 1);
}

static const struct {
    const char *pairs[9];
    const char *http, *https;
} environments[] = {
    {{NULL}, NULL, NULL},
    {{"http_proxy", "h://1"}, "h://1", NULL},
    {{"HTTP_PROXY", "h://1"}, NULL, NULL},
    {{"https_proxy", "h://1"}, NULL, "h://1"},
    {{"HTTPS_PROXY", "h://1"}, NULL, "h://1"},
    {{"https_proxy", "h://1", "HTTPS_PROXY", "h://2"}, NULL, "h://1"},
    {{"https_proxy", "", "HTTPS_PROXY", "h://2"}, NULL, "h://2"},
    {{"all_proxy", "h://1"}, "h://1", "h://1"},
    {{"ALL_PROXY", "h://1"}, "h://1", "h://1"},
    {{"all_proxy", "h://1", "ALL_PROXY", "h://2"}, "h://1", "h://1"},
    {{"http_proxy", "h://1", "all_proxy", "h://2"}, "h://1", "h://2"},
    {{"http_proxy", "", "all_proxy", "h://2"}, "h://2", "h://2"},
    {{"all_proxy", "h://1", "no_proxy", "a.test"}, NULL, NULL},
    {{"all_proxy", "h://1", "NO_PROXY", "a.test"}, NULL, NULL},
    {{"all_proxy", "h://1", "no_proxy", "b.test", "NO_PROXY", "a.test"}, "h://1", "h://1"},
    {{"all_proxy", "h://1", "no_proxy", "", "NO_PROXY", "a.test"}, NULL, NULL},
};

TEST(the_variables_are_read_in_the_order_of_curl)
{
    struct mem mem;
    struct err err;
    mem_init(&mem, 0);
    for (size_t i = 0; i < ARRAY_LEN(environments); i++) {
        struct proxy_env p;
        set_environment(environments[i].pairs);
        CHECK_EQ(proxy_env_init(&p, &mem, &err), ERR_NONE);
        CHECK_STR(proxy_for(&p, false, "a.test"), environments[i].http);
        CHECK_STR(proxy_for(&p, true, "a.test"), environments[i].https);
        proxy_env_fini(&p);
    }
    CHECK_EQ(mem.blocks, 0);
}

TEST(the_scheme_says_what_kind_of_proxy_it_is)
{
    CHECK_EQ(proxy_kind_of("http://p:1"), PROXY_HTTP);
    CHECK_EQ(proxy_kind_of("p:1"), PROXY_HTTP);
    CHECK_EQ(proxy_kind_of("HTTPS://p"), PROXY_HTTPS);
    CHECK_EQ(proxy_kind_of("socks5h://u:p@p:1"), PROXY_SOCKS);
    CHECK_EQ(proxy_kind_of("socks4a://p"), PROXY_SOCKS);
    CHECK_EQ(proxy_kind_of("socks5://p"), PROXY_SOCKS_IP);
    CHECK_EQ(proxy_kind_of("socks4://p"), PROXY_SOCKS_IP);
    CHECK_EQ(proxy_kind_of("socks://p"), PROXY_SOCKS_IP);
    CHECK(proxy_unusable("http://p:1") == NULL);
    CHECK(proxy_unusable("p:1") == NULL);
    CHECK(proxy_unusable("socks5h://u:p@p") == NULL);
    CHECK(strstr(proxy_unusable("ftp://p"), "scheme"));
    CHECK(proxy_unusable("http://") != NULL);
    CHECK(proxy_unusable("http://p:99999") != NULL);
}

TEST(a_proxys_place_is_its_host_and_port)
{
    static const struct {
        const char *url, *host;
        unsigned port;
    } rows[] = {
        {"http://p.test:3128", "p.test", 3128}, {"p.test:8080", "p.test", 8080},
        {"u:s@p.test", "p.test", 1080},         {"http://p.test", "p.test", 1080},
        {"https://p.test/", "p.test", 443},     {"socks5h://u@[::1]:9", "[::1]", 9},
    };
    char host[256];
    unsigned port;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK(proxy_place(rows[i].url, host, &port));
        CHECK_STR(host, rows[i].host);
        CHECK_EQ(port, rows[i].port);
    }
    CHECK(!proxy_place("http://", host, &port));
}

TEST(credentials_are_decoded)
{
    static const char *const rows[][2] = {
        {"http://p:1", NULL},
        {"http://u:s@p:1", "u:s"},
        {"u:s@p:1", "u:s"},
        {"http://u@p", "u:"},
        {"http://u:@p", "u:"},
        {"http://:s@p", ":s"},
        {"http://a%40b:c%3Ad@p", "a@b:c:d"},
    };
    struct mem mem;
    struct err err;
    mem_init(&mem, 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *got;
        CHECK_EQ(proxy_credentials(rows[i][0], &mem, &got, &err), ERR_NONE);
        CHECK_STR(got, rows[i][1]);
        mem_free(&mem, got);
    }
    CHECK_EQ(mem.blocks, 0);
}

TEST(without_memory_nothing_is_left_behind)
{
    struct mem mem;
    struct err err;
    struct proxy_env p;
    char *got;
    mem_init(&mem, 0);
    set_environment((const char *const[]){"all_proxy", "h://1", "no_proxy", "a.test", NULL});
    for (int n = 0; n < 3; n++) {
        mem.fail_in = n;
        CHECK_EQ(proxy_env_init(&p, &mem, &err), ERR_MEMORY);
        CHECK_EQ(mem.blocks, 0);
    }
    mem.fail_in = 0;
    CHECK_EQ(proxy_credentials("http://u:s@p", &mem, &got, &err), ERR_MEMORY);
    CHECK(got == NULL);
    CHECK_EQ(mem.blocks, 0);
}

TEST_MAIN
