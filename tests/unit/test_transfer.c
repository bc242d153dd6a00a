#include "engine/transfer.h"
#include "test.h"

static struct transfer *made(struct mem *mem, const char *url, const char *method)
{
    struct transfer *t = transfer_new(mem);
    if (!t)
        abort();
    t->spec.url = mem_strndup(mem, url, strlen(url));
    if (method)
        t->spec.method = mem_strndup(mem, method, strlen(method));
    return t;
}

static enum err_kind prepare(const char *url, const char *method, const char *name,
                             const char *value, char *url_out, char *auth_out)
{
    struct mem mem;
    struct err err;
    mem_init(&mem, 0);
    err_clear(&err);
    struct transfer *t = made(&mem, url, method);
    if (name && headers_add(&t->spec.headers, name, strlen(name), value, strlen(value)))
        abort();
    enum err_kind kind = transfer_prepare(t, &err);
    CHECK(kind == err.kind);
    CHECK(kind == ERR_NONE || err.message[0]);
    if (url_out)
        snprintf(url_out, 256, "%s", t->spec.url);
    const char *auth = headers_get(&t->spec.headers, "authorization", NULL, NULL);
    if (auth_out)
        snprintf(auth_out, 256, "%s", auth ? auth : "");
    transfer_free(t);
    CHECK_EQ(mem.blocks, 0);
    return kind;
}

static enum err_kind url_kind(const char *url)
{
    return prepare(url, NULL, NULL, NULL, NULL, NULL);
}

TEST(good_urls_pass)
{
    static const char *const urls[] = {
        "http://h",
        "http://h/",
        "https://a.b.c:8443/x?y=z",
        "HTTP://H/",
        "http://127.0.0.1:80",
        "http://[::1]:8080/x",
        "http://h?q=1",
        "http://h/a%20b",
        "http://h/#frag",
        "http://h:65535/",
        "http://h/a?b=http://c/d",
        "http://h/\xc3\xa9",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        if (url_kind(urls[i]) != ERR_NONE)
            test_fail(__FILE__, __LINE__, urls[i]);
    }
}

TEST(bad_urls_are_refused_before_a_byte_is_sent)
{
    static const char *const urls[] = {
        "",
        "h",
        "//h/",
        "/path",
        "ftp://h/",
        "file:///etc/passwd",
        "http:/h",
        "http://",
        "http:///x",
        "http://h/a b",
        "http://h/\r\nX: y",
        "http://h/\n",
        "http://h/\x01",
        "http://\xc3\xa9.example/",
        "http://us%82/",
        "http://a%7fb/",
        "http://h/\x7f",
        "http://h:0/",
        "http://h:65536/",
        "http://h:x/",
        "http://a\\@b/",
        "http://a@b@c/",
        "http://?x",
        "http://a/\\x",
        "http://[::1/",
        "http://a b/",
        "httpx://h/",
        " http://h/",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        if (url_kind(urls[i]) != ERR_INVALID)
            test_fail(__FILE__, __LINE__, urls[i]);
    }
}

TEST(userinfo_becomes_a_header_and_leaves_the_url)
{
    char url[256], auth[256];
    CHECK_EQ(prepare("http://user:pa%20ss@h:81/x?y", NULL, NULL, NULL, url, auth), ERR_NONE);
    CHECK_STR(url, "http://h:81/x?y");
    CHECK_STR(auth, "Basic dXNlcjpwYSBzcw==");
    CHECK_EQ(prepare("http://u@h/", NULL, NULL, NULL, url, auth), ERR_NONE);
    CHECK_STR(auth, "Basic dTo=");
    CHECK_EQ(prepare("http://u:p@h/", NULL, "Authorization", "Bearer x", url, auth), ERR_NONE);
    CHECK_STR(url, "http://h/");
    CHECK_STR(auth, "Bearer x");
    CHECK_EQ(url_kind("http://u%0d%0a:p@h/"), ERR_INVALID);
}

TEST(methods_and_headers_cannot_smuggle)
{
    static const char *const methods[] = {
        "", "GET X", "GET\r\nX:", "G(T", "CONNECT", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        CHECK_EQ(prepare("http://h/", methods[i], NULL, NULL, NULL, NULL), ERR_INVALID);
    CHECK_EQ(prepare("http://h/", "PURGE", NULL, NULL, NULL, NULL), ERR_NONE);
    static const char *const bad[][2] = {
        {"X Y", "v"},
        {"X:", "v"},
        {"", "v"},
        {"X", "a\nb"},
        {"X", "a\rb"},
        {"X\r\nY", "v"},
        {"X", "\x01"},
        {"Content-Length", "5"},
        {"transfer-encoding", "chunked"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_EQ(prepare("http://h/", NULL, bad[i][0], bad[i][1], NULL, NULL), ERR_INVALID);
    CHECK_EQ(prepare("http://h/", NULL, "X-A", "caf\xc3\xa9\t!", NULL, NULL), ERR_NONE);
    CHECK_EQ(prepare("http://h/", NULL, "X-Empty", "", NULL, NULL), ERR_NONE);
}

TEST(no_secret_is_in_a_refusal)
{
    struct mem mem;
    struct err err;
    mem_init(&mem, 0);
    struct transfer *t = made(&mem, "ftp://user:canary1@h/?api_key=canary2", NULL);
    CHECK_EQ(transfer_prepare(t, &err), ERR_INVALID);
    CHECK(!strstr(err.message, "canary"));
    transfer_free(t);
}

TEST(memory_that_runs_out_is_an_error)
{
    for (long n = 0; n < 40; n++) {
        struct mem mem;
        struct err err;
        mem_init(&mem, 0);
        mem.fail_in = n;
        struct transfer *t = transfer_new(&mem);
        if (t) {
            t->spec.url = mem_strndup(&mem, "http://u:p@h/#f", 15);
            if (t->spec.url) {
                enum err_kind kind = transfer_prepare(t, &err);
                CHECK(kind == ERR_NONE || kind == ERR_MEMORY);
            }
        }
        transfer_free(t);
        CHECK_EQ(mem.blocks, 0);
        if (mem.fail_in >= 0)
            return;
    }
    CHECK(false);
}

TEST_MAIN
