#include "test.h"

#include "ground/json_scan.h"
#include <stdlib.h>

/* The kinds of all tokens as letters, "!" for an error. */
static const char *kinds(const char *text, size_t len, unsigned max_depth, struct json_scan *s)
{
    static const char letters[] = "!.{}[]ksntfz";
    static _Thread_local char out[64];
    json_scan_init(s, text, len, max_depth);
    size_t n = 0;
    for (;;) {
        enum json_token token = json_scan_next(s);
        out[n++] = letters[token];
        out[n] = '\0';
        if (token == JSON_ERROR || token == JSON_END || n == sizeof out - 1)
            return out;
    }
}

static const char *kinds_of(const char *text)
{
    struct json_scan s;
    return kinds(text, strlen(text), 0, &s);
}

TEST(tokens_come_in_the_order_of_the_text)
{
    CHECK_STR(kinds_of("{\"a\": [1, true, false, null, \"x\"], \"b\": {}}"), "{k[ntfzs]k{}}.");
    CHECK_STR(kinds_of(" [ [ ] , [ ] ] "), "[[][]].");
    CHECK_STR(kinds_of("0"), "n.");
    CHECK_STR(kinds_of("\"\""), "s.");
}

TEST(an_error_comes_where_the_text_breaks_and_stays)
{
    struct json_scan s;
    CHECK_STR(kinds("[1,]", 4, 0, &s), "[n!");
    CHECK_EQ(s.offset, 3);
    CHECK_EQ(json_scan_next(&s), JSON_ERROR);
    CHECK_EQ(json_scan_next(&s), JSON_ERROR);
    CHECK_STR(kinds("{\"a\":1}}", 8, 0, &s), "{kn}!");
    CHECK_EQ(s.offset, 7);
    CHECK_STR(kinds("{\"a\" 1}", 7, 0, &s), "{!");
    CHECK_EQ(s.offset, 5);
    CHECK_STR(kinds("[1}", 3, 0, &s), "[n!");
    CHECK_STR(kinds("{]", 2, 0, &s), "{!");
}

TEST(a_token_shows_its_bytes_and_what_they_need)
{
    struct json_scan s;
    const char *text = "[\"plain\", \"a\\nb\", -1.5e+3, 12]";
    json_scan_init(&s, text, strlen(text), 0);
    CHECK_EQ(json_scan_next(&s), JSON_ARRAY);
    CHECK_EQ(json_scan_next(&s), JSON_STRING);
    CHECK(s.token_len == 5 && memcmp(s.token, "plain", 5) == 0 && !s.escaped);
    CHECK_EQ(json_scan_next(&s), JSON_STRING);
    CHECK(s.token_len == 4 && s.escaped);
    CHECK_EQ(json_scan_next(&s), JSON_NUMBER);
    CHECK(s.token_len == 7 && !s.integer);
    CHECK_EQ(json_scan_next(&s), JSON_NUMBER);
    CHECK(s.token_len == 2 && s.integer);
}

TEST(every_prefix_of_a_text_is_an_error_inside_the_text)
{
    const char *text =
        "{\"key\\u00e9\\ud834\\udd1e\":[-12.5e-3,true,false,null,\"\xe2\x82\xac\"],\"b\":{}}";
    size_t len = strlen(text);
    for (size_t n = 0; n < len; n++) {
        /* A copy of the exact size, so that the sanitizer sees a read behind the end. */
        char *copy = malloc(n + 1);
        REQUIRE(copy != NULL);
        memcpy(copy, text, n);
        char *exact = realloc(copy, n ? n : 1);
        struct json_scan s;
        const char *got = kinds(exact, n, 0, &s);
        CHECK_EQ(got[strlen(got) - 1], '!');
        CHECK(s.offset <= n);
        free(exact);
    }
    struct json_scan s;
    const char *got = kinds(text, len, 0, &s);
    CHECK_EQ(got[strlen(got) - 1], '.');
}

TEST(the_depth_limit_holds_and_is_clamped)
{
    struct json_scan s;
    CHECK_STR(kinds("[[]]", 4, 2, &s), "[[]].");
    CHECK_STR(kinds("[[[]]]", 6, 2, &s), "[[!");
    CHECK_EQ(s.offset, 2);
    CHECK_STR(s.fault, "nested too deep");
    char deep[JSON_MAX_DEPTH + 1];
    memset(deep, '[', sizeof deep);
    json_scan_init(&s, deep, sizeof deep, JSON_MAX_DEPTH * 5);
    unsigned opened = 0;
    while (json_scan_next(&s) == JSON_ARRAY)
        opened++;
    CHECK_EQ(opened, JSON_MAX_DEPTH);
    CHECK_STR(s.fault, "nested too deep");
}

TEST(objects_and_arrays_are_told_apart_at_every_depth)
{
    char text[2 * 300];
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        text[n++] = '[';
        memcpy(text + n, "{\"\":", 4);
        n += 4;
    }
    text[n++] = '1';
    struct json_scan s;
    json_scan_init(&s, text, n, 0);
    enum json_token token;
    while ((token = json_scan_next(&s)) != JSON_ERROR)
        ;
    CHECK_EQ(s.depth, 200);
    CHECK_EQ(s.offset, n);
}

static size_t unescape(const char *token, char *out)
{
    size_t len = json_unescape(out, token, strlen(token), JSON_HALVES_REFUSED);
    out[len] = '\0';
    return len;
}

TEST(half_a_pair_is_refused_replaced_or_kept)
{
    static const char *const texts[] = {"\"\\ud83d\"", "\"\\ude00x\"", "\"\\ud83d\\n\"",
                                        "\"\\ud83d\\ud83d\\ude00\""};
    static const char *const replaced[] = {"\xef\xbf\xbd", "\xef\xbf\xbdx", "\xef\xbf\xbd\n",
                                           "\xef\xbf\xbd\xf0\x9f\x98\x80"};
    static const char *const kept[] = {"\xed\xa0\xbd", "\xed\xb8\x80x", "\xed\xa0\xbd\n",
                                       "\xed\xa0\xbd\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct json_scan s;
        char out[32];
        json_scan_init(&s, texts[i], strlen(texts[i]), 0);
        CHECK_EQ(json_scan_next(&s), JSON_ERROR);
        json_scan_init(&s, texts[i], strlen(texts[i]), 0);
        s.halves = JSON_HALVES_REPLACED;
        CHECK_EQ(json_scan_next(&s), JSON_STRING);
        out[json_unescape(out, s.token, s.token_len, JSON_HALVES_REPLACED)] = '\0';
        CHECK_STR(out, replaced[i]);
        out[json_unescape(out, s.token, s.token_len, JSON_HALVES_KEPT)] = '\0';
        CHECK_STR(out, kept[i]);
    }
}

TEST(escapes_become_utf8)
{
    char out[64];
    unescape("a\\\"\\\\\\/\\b\\f\\n\\r\\tz", out);
    CHECK_STR(out, "a\"\\/\b\f\n\r\tz");
    unescape("\\u0041\\u00e9\\u20AC\\ud834\\udd1e", out);
    CHECK_STR(out, "A\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e");
    CHECK_EQ(unescape("\\u0000x", out), 2);
    CHECK_EQ(out[0], 0);
    CHECK_EQ(unescape("\\uffff", out), 3);
    CHECK_EQ(unescape("\\udbff\\udfff", out), 4);
    CHECK_EQ(unescape("", out), 0);
}

TEST(utf8_is_checked_to_the_bounds_of_the_standard)
{
    CHECK_EQ(json_utf8_valid("abc", 3), 3);
    CHECK_EQ(json_utf8_valid("a\xc3\xa9", 3), 3);
    CHECK_EQ(json_utf8_valid("a\xc3", 2), 1);
    CHECK_EQ(json_utf8_valid("\xc0\x80", 2), 0);
    CHECK_EQ(json_utf8_valid("\xe0\x9f\xbf", 3), 0);
    CHECK_EQ(json_utf8_valid("\xe0\xa0\x80", 3), 3);
    CHECK_EQ(json_utf8_valid("\xed\x9f\xbf", 3), 3);
    CHECK_EQ(json_utf8_valid("\xed\xa0\x80", 3), 0);
    CHECK_EQ(json_utf8_valid("\xf0\x8f\xbf\xbf", 4), 0);
    CHECK_EQ(json_utf8_valid("\xf4\x8f\xbf\xbf", 4), 4);
    CHECK_EQ(json_utf8_valid("\xf4\x90\x80\x80", 4), 0);
    CHECK_EQ(json_utf8_valid("\xf5\x80\x80\x80", 4), 0);
}

TEST(an_error_names_line_column_and_byte)
{
    struct json_scan s;
    struct err err;
    const char *text = "{\n \"\xc3\xa9\": x}";
    const char *got = kinds(text, strlen(text), 0, &s);
    CHECK_STR(got, "{k!");
    CHECK_EQ(json_scan_err(&s, &err), ERR_INVALID);
    CHECK_STR(err.message, "json: line 2, column 7 (byte 10): expected a value");
}

TEST_MAIN
