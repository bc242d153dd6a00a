#include "test.h"

#include "ground/headers.h"

static enum err_kind add(struct headers *h, const char *name, const char *value)
{
    return headers_add(h, name, strlen(name), value, strlen(value));
}

TEST(repeated_names_are_found_in_order_without_regard_to_case)
{
    struct mem m;
    mem_init(&m, 0);
    struct headers h;
    headers_init(&h, &m, 100, 1000);
    CHECK_EQ(add(&h, "Set-Cookie", "a=1"), ERR_NONE);
    CHECK_EQ(add(&h, "X-Other", ""), ERR_NONE);
    CHECK_EQ(add(&h, "set-cookie", "b=2"), ERR_NONE);
    size_t from = 0, len = 0;
    CHECK_STR(headers_get(&h, "SET-COOKIE", &from, &len), "a=1");
    CHECK_EQ(len, 3);
    CHECK_STR(headers_get(&h, "SET-COOKIE", &from, NULL), "b=2");
    CHECK(headers_get(&h, "SET-COOKIE", &from, &len) == NULL);
    CHECK_STR(headers_get(&h, "x-other", NULL, &len), "");
    CHECK(headers_get(&h, "set-cooki", NULL, &len) == NULL);
    CHECK_STR(headers_name(&h, 2), "set-cookie");
    headers_clear(&h);
    CHECK(headers_get(&h, "x-other", NULL, &len) == NULL);
    headers_fini(&h);
    CHECK_EQ(m.blocks, 0);
}

TEST(too_many_or_too_large_fields_are_refused)
{
    struct mem m;
    mem_init(&m, 0);
    struct headers h;
    headers_init(&h, &m, 10, 100);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(add(&h, "a", "b"), ERR_NONE);
    CHECK_EQ(add(&h, "a", "b"), ERR_TOO_LARGE);
    headers_clear(&h);
    char big[101];
    memset(big, 'x', 100);
    big[100] = '\0';
    CHECK_EQ(add(&h, "a", big), ERR_TOO_LARGE);
    CHECK_EQ(headers_add(&h, "a", 1, big, SIZE_MAX), ERR_TOO_LARGE);
    CHECK_EQ(h.count, 0);
    headers_fini(&h);
    CHECK_EQ(m.blocks, 0);
}

TEST(a_header_cannot_smuggle_a_second_request)
{
    CHECK(headers_valid_name("X-Ok_1", 6));
    CHECK(!headers_valid_name("", 0));
    CHECK(!headers_valid_name("a b", 3));
    CHECK(!headers_valid_name("a:", 2));
    CHECK(!headers_valid_name("a\r\n", 3));
    CHECK(!headers_valid_name("a\0b", 3));
    CHECK(!headers_valid_name("\xc3\xa9", 2));
    CHECK(headers_valid_value("", 0));
    CHECK(headers_valid_value("caf\xc3\xa9\t!", 7));
    CHECK(!headers_valid_value("a\rb", 3));
    CHECK(!headers_valid_value("a\nb", 3));
    CHECK(!headers_valid_value("a\0b", 3));
    CHECK(!headers_valid_value("a\x7f", 2));
    CHECK(headers_valid_method("PURGE", 5));
    CHECK(!headers_valid_method("GET /", 5));
}

TEST(any_failing_allocation_leaves_the_fields_that_were_there)
{
    for (long n = 0;; n++) {
        struct mem m;
        mem_init(&m, 0);
        m.fail_in = n;
        struct headers h;
        headers_init(&h, &m, 100, 10000);
        size_t added = 0;
        for (int i = 0; i < 60; i++) {
            enum err_kind kind = add(&h, "name", "some value");
            CHECK(kind == ERR_NONE || kind == ERR_MEMORY);
            added += kind == ERR_NONE;
        }
        CHECK_EQ(h.count, added);
        CHECK(added >= 59);
        headers_fini(&h);
        CHECK_EQ(m.blocks, 0);
        if (m.fail_in >= 0)
            break;
    }
}

/* The spans look at several bytes at a time: each byte must stop them, or not, wherever it stands.
 */
TEST(a_span_ends_at_the_first_byte_that_is_not_valid)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    char text[48];
    for (int c = 0; c < 256; c++) {
        bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool name = letter || (c != 0 && strchr(marks, c) != NULL);
        bool value = c == '\t' || (c >= ' ' && c != 0x7f);
        for (size_t len = 1; len <= sizeof text; len++) {
            for (size_t at = 0; at < len; at++) {
                memset(text, at % 2 ? 'x' : '~', sizeof text);
                text[at] = (char)c;
                CHECK_EQ(headers_name_span(text, len), name ? len : at);
                text[len / 2] = '\t'; /* which no other byte may hide */
                text[at] = (char)c;
                CHECK_EQ(headers_value_span(text, len), value ? len : at);
            }
        }
    }
    CHECK_EQ(headers_name_span("", 0), 0);
    CHECK_EQ(headers_value_span("\r", 0), 0);
}

TEST_MAIN
