#include "test.h"

#include "ground/lines.h"
#include <stdlib.h>

/* '/' stands between the lines. */
static const struct {
    const char *bytes;
    size_t len;
    const char *lines;
} cases[] = {
#define CASE(bytes, lines)                                                                         \
    {                                                                                              \
        bytes, sizeof bytes - 1, lines                                                             \
    }
    CASE("", ""),
    CASE("a\n", "a/"),
    CASE("a", "a/"),
    CASE("a\nb\n", "a/b/"),
    CASE("a\r\nb\r\n", "a/b/"),
    CASE("a\nb\r\nc", "a/b/c/"),
    CASE("\n", "/"),
    CASE("\r\n", "/"),
    CASE("\n\n\n", "///"),
    CASE("a\rb\n", "a\rb/"),
    CASE("a\r\r\n", "a\r/"),
    CASE("a\r", "a\r/"),
    CASE("\r", "\r/"),
    CASE("{\"n\":1}\n{\"n\":2}\n", "{\"n\":1}/{\"n\":2}/"),
    CASE("\xe4\xbd\xa0\n\xc3\xbc\n", "\xe4\xbd\xa0/\xc3\xbc/"),
    CASE("a\n\nb\n", "a//b/"),
    CASE("0123456789012345678901234567890123456789\nx\n",
         "0123456789012345678901234567890123456789/x/"),
#undef CASE
};

static void feed(struct lines *l, const char *bytes, size_t len, struct buf *out)
{
    char *piece = malloc(len + 1);
    if (!piece)
        abort();
    memcpy(piece, bytes, len);
    const char *in = piece, *line;
    size_t line_len;
    struct err err;
    while (lines_next(l, &in, &len, &line, &line_len, &err) == LINES_LINE) {
        CHECK_EQ(buf_append(out, line, line_len), ERR_NONE);
        CHECK_EQ(buf_append(out, "/", 1), ERR_NONE);
    }
    CHECK_EQ(len, 0);
    free(piece);
}

static void finish(struct lines *l, struct buf *out, const char *expected)
{
    const char *line;
    size_t len;
    if (lines_finish(l, &line, &len)) {
        CHECK_EQ(buf_append(out, line, len), ERR_NONE);
        CHECK_EQ(buf_append(out, "/", 1), ERR_NONE);
    }
    CHECK(!lines_finish(l, &line, &len));
    CHECK_STR(out->data ? out->data : "", expected);
    lines_fini(l);
    buf_fini(out);
}

TEST(every_case_whole_byte_by_byte_and_in_two_pieces_at_every_point)
{
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lines l;
        struct buf out;
        for (size_t cut = 0; cut <= cases[i].len; cut++) {
            lines_init(&l, &m, 100);
            buf_init(&out, &m, 1000);
            feed(&l, cases[i].bytes, cut, &out);
            feed(&l, cases[i].bytes + cut, cases[i].len - cut, &out);
            finish(&l, &out, cases[i].lines);
        }
        lines_init(&l, &m, 100);
        buf_init(&out, &m, 1000);
        for (size_t k = 0; k < cases[i].len; k++)
            feed(&l, cases[i].bytes + k, 1, &out);
        finish(&l, &out, cases[i].lines);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(a_line_above_the_cap_fails_and_stays_failed)
{
    struct mem m;
    mem_init(&m, 0);
    for (size_t piece = 1; piece <= 12; piece++) {
        struct lines l;
        struct err err;
        enum lines_result rc = LINES_MORE;
        lines_init(&l, &m, 10);
        for (size_t i = 0; i < 12 && rc != LINES_FAILED; i += piece) {
            const char *in = "0123456789a\n" + i, *line;
            size_t len = piece < 12 - i ? piece : 12 - i, line_len;
            rc = lines_next(&l, &in, &len, &line, &line_len, &err);
        }
        CHECK_EQ(rc, LINES_FAILED);
        CHECK_EQ(err.kind, ERR_TOO_LARGE);
        const char *in = "a\n", *line;
        size_t len = 2, line_len;
        CHECK_EQ(lines_next(&l, &in, &len, &line, &line_len, &err), LINES_FAILED);
        lines_fini(&l);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(without_memory_it_fails)
{
    struct mem m;
    mem_init(&m, 0);
    m.fail_in = 0;
    struct lines l;
    struct err err;
    lines_init(&l, &m, 10);
    const char *in = "abc", *line;
    size_t len = 3, line_len;
    CHECK_EQ(lines_next(&l, &in, &len, &line, &line_len, &err), LINES_FAILED);
    CHECK_EQ(err.kind, ERR_MEMORY);
    lines_fini(&l);
    CHECK_EQ(m.blocks, 0);
}

TEST_MAIN
