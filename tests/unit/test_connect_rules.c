#include "test.h"

#include "engine/connect_rules.h"
#include <arpa/inet.h>

struct row {
    const char *rules, *what;
    bool allowed;
};

static struct connect_rules *rules(struct mem *m, const char *text)
{
    struct connect_rules *t = NULL;
    struct err err;
    if (connect_rules_new(&t, m, text, &err) != ERR_NONE)
        printf("  %s\n", err.message);
    return t;
}

static bool address_allowed(const struct connect_rules *t, const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return connect_rules_allow_address(t, (struct sockaddr *)&in);
    CHECK(inet_pton(AF_INET6, text, &in6.sin6_addr) == 1);
    return connect_rules_allow_address(t, (struct sockaddr *)&in6);
}

TEST(public_is_none_of_the_special_purpose_addresses)
{
    static const char *const special[] = {"0.0.0.0",
                                          "0.1.2.3",
                                          "10.0.0.1",
                                          "10.255.255.255",
                                          "100.64.0.1",
                                          "100.127.255.255",
                                          "127.0.0.1",
                                          "127.255.255.255",
                                          "169.254.169.254",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.0.0.1",
                                          "192.0.2.1",
                                          "192.168.1.1",
                                          "198.18.0.1",
                                          "198.19.255.255",
                                          "198.51.100.1",
                                          "203.0.113.1",
                                          "224.0.0.1",
                                          "239.255.255.255",
                                          "240.0.0.1",
                                          "255.255.255.255",
                                          "::",
                                          "::1",
                                          "::127.0.0.1",
                                          "::ffff:127.0.0.1",
                                          "::ffff:10.1.2.3",
                                          "::ffff:0:127.0.0.1",
                                          "::ffff:0:10.1.2.3",
                                          "64:ff9b::7f00:1",
                                          "64:ff9b::10.0.0.1",
                                          "64:ff9b:1::10.0.0.1",
                                          "2002:7f00:1::",
                                          "2002:a00:1::1",
                                          "2002:c0a8:101::",
                                          "2001:0:7f00:1::",
                                          "2001:0:4136:e378:8000:63bf:80ff:fffe",
                                          "100:0:0:1::1",
                                          "100::1",
                                          "2001:db8::1",
                                          "2002:7f00:1::",
                                          "fc00::1",
                                          "fdff::1",
                                          "fe80::1",
                                          "febf::1",
                                          "ff02::1"};
    static const char *const open[] = {
        "1.1.1.1",         "9.255.255.255",   "11.0.0.1",        "100.63.255.255",
        "100.128.0.1",     "126.255.255.255", "128.0.0.1",       "172.15.255.255",
        "172.32.0.1",      "192.167.255.255", "198.17.255.255",  "198.20.0.1",
        "223.255.255.255", "::ffff:8.8.8.8",  "2606:4700::1111", "2a00:1450::1"};
    struct mem m;
    mem_init(&m, 0);
    struct connect_rules *t = rules(&m, "public");
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        if (address_allowed(t, special[i])) {
            printf("  %s\n", special[i]);
            CHECK(false);
        }
    }
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        if (!address_allowed(t, open[i])) {
            printf("  %s\n", open[i]);
            CHECK(false);
        }
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    CHECK(!connect_rules_allow_address(t, &local));
    connect_rules_free(t);
    CHECK_EQ(m.blocks, 0);
}

TEST(addresses_are_checked_by_blocks)
{
    static const struct row rows[] = {
        {"10.0.0.0/8", "10.1.2.3", true},
        {"10.0.0.0/8", "11.1.2.3", false},
        {"10.0.0.0/9", "10.127.0.1", true},
        {"10.0.0.0/9", "10.128.0.1", false},
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.2", false},
        {"127.0.0.1", "::ffff:127.0.0.1", true},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "2001:470::1", false},
        {"::/0", "2001:470::1", true},
        {"2001:470::/32", "2001:470:1::1", true},
        {"[::1]", "::1", true},
        {"public 127.0.0.1", "127.0.0.1", true},
        {"public,127.0.0.1", "127.0.0.2", false},
        {"any", "127.0.0.1", true},
        {"*.example.com", "127.0.0.1", true}, /* the name is what was checked */
        {"*.example.com,public", "127.0.0.1", false},
        {"", "1.1.1.1", false},
    };
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct connect_rules *t = rules(&m, rows[i].rules);
        REQUIRE(t);
        if (address_allowed(t, rows[i].what) != rows[i].allowed) {
            printf("  %s: %s\n", rows[i].rules, rows[i].what);
            CHECK(false);
        }
        connect_rules_free(t);
    }
    CHECK(connect_rules_allow_address(NULL, NULL));
    CHECK_EQ(m.blocks, 0);
}

TEST(hosts_are_checked_by_name_and_port)
{
    static const struct row rows[] = {
        {"api.example.com", "api.example.com", true},
        {"API.Example.com", "api.example.com", true},
        {"api.example.com", "api.example.com.", true},
        {"api.example.com", "xapi.example.com", false},
        {"*.example.com", "api.example.com", true},
        {"*.example.com", "a.b.example.com", true},
        {"*.example.com", "example.com", false},
        {"*.example.com", "badexample.com", false},
        {"api.example.com:443", "api.example.com", true},
        {"api.example.com:80", "api.example.com", false},
        {"*.example.com:443", "api.example.com", true},
        {"api.example.com", "1.2.3.4", false},
        {"api.example.com,1.2.3.4", "1.2.3.4", true},
        {"public", "api.example.com", true},
        {"public", "8.8.8.8", true},
        {"public", "127.0.0.1", false},
        {"public", "[::1]", false},
        {"10.0.0.0/8", "anything.example.com", true}, /* the address will decide */
        {"any", "x", true},
        {"", "x", false},
    };
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct connect_rules *t = rules(&m, rows[i].rules);
        REQUIRE(t);
        if (connect_rules_allow_host(t, rows[i].what, 443) != rows[i].allowed) {
            printf("  %s: %s\n", rows[i].rules, rows[i].what);
            CHECK(false);
        }
        connect_rules_free(t);
    }
    CHECK(connect_rules_allow_host(NULL, "x", 1));
    CHECK_EQ(m.blocks, 0);
}

TEST(an_invalid_rule_is_named_in_the_error)
{
    static const char *const bad[] = {
        "public,10.0.0.0/33", "1.2.3.4/x", "a b/8", "*",      "exa mple!", "host:0", "host:x",
        "host:99999",         "a/b",       "*.",    "::1/129"};
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct connect_rules *t;
        struct err err;
        CHECK_EQ(connect_rules_new(&t, &m, bad[i], &err), ERR_INVALID);
        CHECK(strstr(err.message, "is not a valid connect rule") != NULL);
    }
    for (long n = 0; n < 4; n++) {
        struct connect_rules *t;
        struct err err;
        m.fail_in = n;
        enum err_kind kind = connect_rules_new(&t, &m, "a.example,10.0.0.1,b.example", &err);
        CHECK_EQ(kind, ERR_MEMORY);
        CHECK_EQ(m.blocks, 0);
    }
}

TEST_MAIN
