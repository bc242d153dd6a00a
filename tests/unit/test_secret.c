/* Which names and which texts are kept out of messages. */
#include "test.h"

#include "ground/secret.h"

static bool place(const char *name)
{
    return secret_place(name, strlen(name));
}

/* The text without its NUL, so that a sanitizer sees any read past the end. */
static bool found(bool (*look)(const char *, size_t), const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + (len == 0));
    if (!copy)
        return false;
    memcpy(copy, text, len);
    bool is = look(copy, len);
    free(copy);
    return is;
}

TEST(an_argument_whose_name_says_so_may_hold_a_secret)
{
    static const char *const secret[] = {"auth",         "request: option 'auth'",
                                         "api_key",      "request: auth: option 'bearer'",
                                         "headers",      "request: header 'X-Thing'",
                                         "proxy",        "client: option 'proxy'",
                                         "cookie",       "password",
                                         "access_token", "query parameter 'a'"};
    for (size_t i = 0; i < ARRAY_LEN(secret); i++)
        CHECK(place(secret[i]));
    static const char *const open[] = {
        "",           "timeout",        "request: option 'timeout'",
        "max_body",   "tokens",         "limiter: option 'token_burst'",
        "max_tokens", "sleep: seconds", "the first argument"};
    for (size_t i = 0; i < ARRAY_LEN(open); i++)
        CHECK(!place(open[i]));
}

TEST(a_text_that_looks_like_a_secret_is_known)
{
    static const char *const secret[] = {
        "sk-live-0123456789",
        "the key sk-proj-abcdef123 is bad",
        "my_sk-abcdef123",
        "ghp_0123abcd",
        "github_pat_11ABCDEFG",
        "xoxb-123-456",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA-1234567890",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "Bearer abc",
        "bearer\tabc",
        "Basic dXNlcjpwdw==",
        "https://user:pw@host/",
        "0123456789abcdef0123456789abcdef",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1",
        "-----BEGIN RSA PRIVATE KEY-----",
    };
    for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
        CHECK(found(secret_shape, secret[i]));
        CHECK(found(secret_text, secret[i]));
        CHECK_STR(secret_hidden(secret[i]), "***");
    }
    static const char *const open[] = {
        "",
        "a",
        "sk-",
        "task-list",
        "the bearer",
        "basic training",
        "https://host:80/a@b",
        "customer_support_classifier_v2_2026-01-05_final.jsonl",
        "550e8400-e29b-41d4-a716-446655440000",
        "theNameOfSomethingInCamelCaseVersion2Final",
        "a/long/path/to/some/folder/where/files/are/kept/in.lua",
        "2026-01-02T03:04:05Z",
        "an ordinary sentence that goes on for quite a while without any secret in it",
    };
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        CHECK(!found(secret_shape, open[i]));
        CHECK_STR(secret_hidden(open[i]), open[i]);
    }
}

TEST(a_value_behind_the_name_of_a_secret_is_one)
{
    static const char *const secret[] = {"api_key=abc", "Authorization: x", "{\"password\": \"x\"}",
                                         "X-Api-Key:x", "a=1&token=2"};
    for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
        CHECK(found(secret_text, secret[i]));
        CHECK(!found(secret_shape, secret[i]));
    }
    CHECK(!found(secret_text, "page=2"));
    CHECK(!found(secret_text, "api_key"));
    CHECK(!found(secret_text, "api_key="));
}

TEST(a_piece_of_a_path_that_only_names_something_is_shown)
{
    CHECK(secret_segment("sk-live-0123456789", 18));
    CHECK(secret_segment("bot123456_AAHdqTcvCH1vGWJxfSeofSAs0K5P", 38));
    CHECK(!secret_segment("550e8400-e29b-41d4-a716-446655440000", 36));
    CHECK(!secret_segment("0123456789abcdef0123456789abcdef", 32));
    CHECK(!secret_segment("chat", 4));
}

TEST_MAIN
