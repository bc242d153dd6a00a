#include "test.h"

#include "ground/sse.h"
#include <stdlib.h>

enum { CASE_BYTES = 1024 };

struct sse_case {
    char name[128];
    char bytes[CASE_BYTES];
    size_t len;
    char events[CASE_BYTES]; /* as `shown` writes them */
    size_t events_len;
};

static struct sse_case cases[128];
static size_t case_count;

static size_t unescape(char *out, const char *text)
{
    char *p = out;
    for (; *text && *text != '\n'; text++) {
        if (*text != '\\') {
            *p++ = *text;
            continue;
        }
        switch (*++text) {
        case 'n':
            *p++ = '\n';
            break;
        case 'r':
            *p++ = '\r';
            break;
        case 't':
            *p++ = '\t';
            break;
        case '0':
            *p++ = '\0';
            break;
        case 'x':
            *p++ = (char)strtol((char[]){text[1], text[2], '\0'}, NULL, 16);
            text += 2;
            break;
        default:
            *p++ = *text;
            break;
        }
    }
    return (size_t)(p - out);
}

static void read_cases(void)
{
    char path[512], line[2048];
    snprintf(path, sizeof path, "%s/unit/sse_cases.txt", TESTS_FOLDER);
    FILE *f = fopen(path, "r");
    struct sse_case *c = NULL;
    while (f && fgets(line, sizeof line, f)) {
        if (line[0] == '=') {
            c = &cases[case_count++];
            snprintf(c->name, sizeof c->name, "%.*s", (int)strcspn(line + 2, "\n"), line + 2);
        } else if (c && line[0] == '<') {
            c->len = unescape(c->bytes, line + 2);
        } else if (c && (line[0] == '>' || line[0] == '?')) {
            c->events[c->events_len++] = line[0];
            c->events_len += unescape(c->events + c->events_len, line + 2);
            c->events[c->events_len++] = '\n';
        }
    }
    if (f)
        fclose(f);
}

struct shown {
    char text[CASE_BYTES];
    size_t len;
};

static void show_bytes(struct shown *s, const char *bytes, size_t len)
{
    if (len > sizeof s->text - s->len)
        abort();
    memcpy(s->text + s->len, bytes, len);
    s->len += len;
}

static void show(struct shown *s, char mark, const struct sse_event *ev)
{
    show_bytes(s, &mark, 1);
    show_bytes(s, ev->type, ev->type_len);
    show_bytes(s, "|", 1);
    show_bytes(s, ev->data, ev->data_len);
    show_bytes(s, "|", 1);
    show_bytes(s, ev->id, ev->id_len);
    show_bytes(s, "\n", 1);
}

/* The piece lies in a block of its own, so that a read beyond it, or after it, is seen. */
static void feed(struct sse *s, const char *bytes, size_t len, struct shown *out)
{
    char *piece = malloc(len + 1);
    if (!piece)
        abort();
    memcpy(piece, bytes, len);
    const char *in = piece;
    struct sse_event ev;
    struct err err;
    while (sse_next(s, &in, &len, &ev, &err) == SSE_EVENT)
        show(out, '>', &ev);
    CHECK_EQ(len, 0);
    free(piece);
}

static void check(const struct sse_case *c, const char *how, struct sse *s, struct shown *out)
{
    struct sse_event ev;
    if (sse_finish(s, &ev))
        show(out, '?', &ev);
    if (out->len != c->events_len || memcmp(out->text, c->events, out->len) != 0) {
        printf("  %s, %s:\n%.*s  instead of\n%.*s", c->name, how, (int)out->len, out->text,
               (int)c->events_len, c->events);
        CHECK(false);
    }
}

TEST(every_case_whole_byte_by_byte_and_in_two_pieces_at_every_point)
{
    struct mem m;
    mem_init(&m, 0);
    read_cases();
    CHECK(case_count > 60);
    for (struct sse_case *c = cases; c < cases + case_count; c++) {
        for (size_t cut = 0; cut <= c->len; cut++) {
            struct sse s;
            struct shown out = {.len = 0};
            sse_init(&s, &m, 4096);
            feed(&s, c->bytes, cut, &out);
            feed(&s, c->bytes + cut, c->len - cut, &out);
            check(c, "in two pieces", &s, &out);
            sse_fini(&s);
        }
        struct sse s;
        struct shown out = {.len = 0};
        sse_init(&s, &m, 4096);
        for (size_t i = 0; i < c->len; i++)
            feed(&s, c->bytes + i, 1, &out);
        check(c, "byte by byte", &s, &out);
        sse_fini(&s);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(the_last_retry_that_is_a_number_counts_and_a_huge_one_is_cut_to_a_day)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"data: a\n\n", -1},
                {"retry: 1500\n", 1500},
                {"retry:0\n", 0},
                {"retry: 10\nretry: 10x\nretry: -5\n", 10},
                {"retry: 99999999999999999999999\n", 24 * 60 * 60 * 1000},
                {"retry: 1\nretry: 2\n", 2}};
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sse s;
        struct shown out = {.len = 0};
        sse_init(&s, &m, 100);
        feed(&s, rows[i].text, strlen(rows[i].text), &out);
        CHECK_EQ(sse_retry_ms(&s), rows[i].ms);
        sse_fini(&s);
    }
}

static enum sse_result run(struct sse *s, const char *text, struct err *err)
{
    size_t len = strlen(text);
    struct sse_event ev;
    enum sse_result rc;
    while ((rc = sse_next(s, &text, &len, &ev, err)) == SSE_EVENT)
        ;
    return rc;
}

TEST(a_line_or_an_event_above_the_cap_fails_and_stays_failed)
{
    static const char *const texts[] = {"data: 0123456789\n\n", "data: 01234\ndata: 56789\n\n",
                                        "0123456789a",          "id: 0123456789\n",
                                        "event: 0123456789\n",  ": a comment\n"};
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sse s;
        struct err err;
        sse_init(&s, &m, 9);
        CHECK_EQ(run(&s, texts[i], &err), SSE_FAILED);
        CHECK_EQ(err.kind, ERR_TOO_LARGE);
        CHECK_EQ(run(&s, "data: a\n\n", &err), SSE_FAILED);
        CHECK_EQ(err.kind, ERR_TOO_LARGE);
        sse_fini(&s);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(a_line_without_end_takes_no_more_memory_than_the_cap)
{
    struct mem m;
    mem_init(&m, 0);
    struct sse s;
    struct err err;
    sse_init(&s, &m, 1024 * 1024);
    static char block[65536];
    memset(block, 'x', sizeof block);
    enum sse_result rc = SSE_MORE;
    size_t fed = 0;
    for (; rc == SSE_MORE && fed < ((size_t)1 << 30); fed += sizeof block) {
        const char *in = block;
        size_t len = sizeof block;
        struct sse_event ev;
        rc = sse_next(&s, &in, &len, &ev, &err);
    }
    CHECK_EQ(rc, SSE_FAILED);
    CHECK_EQ(err.kind, ERR_TOO_LARGE);
    CHECK(fed < 2 * 1024 * 1024);
    CHECK(m.peak_bytes < 3 * 1024 * 1024);
    sse_fini(&s);
    CHECK_EQ(m.blocks, 0);
}

TEST(the_beginning_of_what_belongs_to_no_event_is_kept)
{
    struct mem m;
    mem_init(&m, 0);
    struct sse s;
    struct err err;
    struct sse_event ev;
    size_t len;
    sse_init(&s, &m, 1024 * 1024);
    CHECK_EQ(run(&s, ": comment\nretry: 5\nid: 1\nevent: x\ndata: y\n\n", &err), SSE_MORE);
    CHECK(sse_stray(&s, &len) == NULL && len == 0);
    CHECK_EQ(run(&s, "error: {1}\n\n<html>\r\n\n", &err), SSE_MORE);
    const char *stray = sse_stray(&s, &len);
    CHECK(len == 18 && memcmp(stray, "error: {1}\n<html>\n", len) == 0);
    CHECK_EQ(run(&s, "unended", &err), SSE_MORE);
    CHECK(!sse_finish(&s, &ev));
    stray = sse_stray(&s, &len);
    CHECK(len == 26 && memcmp(stray + 18, "unended\n", 8) == 0);
    char block[1001];
    memset(block, 'x', 1000);
    block[1000] = '\n';
    for (int i = 0; i < 10; i++) {
        const char *in = block;
        size_t left = sizeof block;
        CHECK_EQ(sse_next(&s, &in, &left, &ev, &err), SSE_MORE);
    }
    CHECK(sse_stray(&s, &len) != NULL && len == SSE_STRAY_BYTES);
    sse_fini(&s);
    CHECK_EQ(m.blocks, 0);
}

TEST(without_memory_it_fails_and_leaks_nothing)
{
    static const char text[] = "id: 1\nevent: x\nstray\ndata: one\ndata: two\n\nid: 2\ndata: th";
    for (long n = 0;; n++) {
        struct mem m;
        mem_init(&m, 0);
        m.fail_in = n;
        struct sse s;
        struct err err;
        struct sse_event ev;
        enum sse_result rc = SSE_MORE;
        sse_init(&s, &m, 4096);
        for (size_t i = 0; i + 1 < sizeof text && rc != SSE_FAILED; i++) {
            const char *in = text + i;
            size_t len = 1;
            rc = sse_next(&s, &in, &len, &ev, &err);
        }
        if (rc == SSE_FAILED)
            CHECK_EQ(err.kind, ERR_MEMORY);
        bool over = m.fail_in >= 0;
        sse_fini(&s);
        CHECK_EQ(m.blocks, 0);
        if (over) {
            CHECK(rc != SSE_FAILED);
            CHECK(n > 3);
            break;
        }
    }
}

TEST_MAIN
