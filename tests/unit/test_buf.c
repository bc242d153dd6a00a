#include "test.h"

#include "ground/buf.h"

TEST(a_buffer_past_its_cap_stays_as_it_was)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf b;
    buf_init(&b, &m, 8);
    CHECK_EQ(buf_append_str(&b, "12345"), ERR_NONE);
    CHECK_EQ(buf_append_str(&b, "6789"), ERR_TOO_LARGE);
    CHECK_EQ(buf_printf(&b, "%s", "6789"), ERR_TOO_LARGE);
    CHECK_EQ(buf_reserve(&b, SIZE_MAX), ERR_TOO_LARGE);
    CHECK_STR(b.data, "12345");
    CHECK_EQ(buf_append_str(&b, "678"), ERR_NONE);
    CHECK_STR(b.data, "12345678");
    buf_clear(&b);
    CHECK_EQ(b.len, 0);
    CHECK_STR(b.data, "");
    buf_fini(&b);
    CHECK_EQ(m.blocks, 0);
}

TEST(an_empty_buffer_owns_nothing)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf b;
    buf_init(&b, &m, 100);
    CHECK_EQ(buf_append(&b, NULL, 0), ERR_NONE);
    CHECK_EQ(buf_printf(&b, "%s", ""), ERR_NONE);
    size_t len = 7;
    CHECK(buf_detach(&b, &len) == NULL);
    CHECK_EQ(len, 0);
    CHECK_EQ(m.blocks, 0);
    buf_fini(&b);
}

TEST(a_detached_text_belongs_to_the_caller)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf b;
    buf_init(&b, &m, 100);
    CHECK_EQ(buf_printf(&b, "%d-%s", 12, "x"), ERR_NONE);
    size_t len = 0;
    char *text = buf_detach(&b, &len);
    CHECK_STR(text, "12-x");
    CHECK_EQ(len, 4);
    CHECK_EQ(buf_append_str(&b, "again"), ERR_NONE);
    CHECK_STR(b.data, "again");
    mem_free(&m, text);
    buf_fini(&b);
    CHECK_EQ(m.blocks, 0);
}

TEST(what_is_poured_follows_what_was_not_skipped)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf from, to;
    buf_init(&from, &m, 100);
    buf_init(&to, &m, 0);
    size_t skip = 0;
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE); /* nothing into nothing */
    CHECK_EQ(to.len, 0);
    CHECK_EQ(buf_append_str(&from, "abc"), ERR_NONE);
    const char *place = from.data;
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE);
    CHECK(to.data == place); /* not copied */
    CHECK_STR(to.data, "abc");
    CHECK_EQ(from.len, 0);
    skip = 2;
    CHECK_EQ(buf_append_str(&from, "defg"), ERR_NONE);
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE);
    CHECK_STR(to.data, "cdefg");
    CHECK_EQ(skip, 0);
    CHECK_EQ(from.len, 0);
    skip = to.len;
    CHECK_EQ(buf_append_str(&from, "h"), ERR_NONE);
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE);
    CHECK_STR(to.data, "h");
    CHECK_EQ(skip, 0);
    buf_fini(&from);
    buf_fini(&to);
    CHECK_EQ(m.blocks, 0);
}

TEST(a_buffer_that_cannot_be_poured_loses_nothing)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf from, to;
    buf_init(&from, &m, 4096);
    buf_init(&to, &m, 0);
    size_t skip = 0;
    CHECK_EQ(buf_append_str(&from, "ab"), ERR_NONE);
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE);
    char many[2048] = {0};
    CHECK_EQ(buf_append(&from, many, sizeof many), ERR_NONE);
    skip = 1;
    atomic_store(&m.fail_in, 0);
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_MEMORY);
    CHECK_STR(to.data + skip, "b");
    CHECK_EQ(from.len, sizeof many);
    CHECK_EQ(buf_pour(&to, &skip, &from), ERR_NONE);
    CHECK_EQ(to.len, 1 + sizeof many);
    buf_fini(&from);
    buf_fini(&to);
    CHECK_EQ(m.blocks, 0);
}

TEST(reserved_room_becomes_content_when_committed)
{
    struct mem m;
    mem_init(&m, 0);
    struct buf b;
    buf_init(&b, &m, 1000);
    CHECK_EQ(buf_reserve(&b, 500), ERR_NONE);
    memset(b.data, 'x', 500);
    buf_commit(&b, 3);
    CHECK_STR(b.data, "xxx");
    buf_fini(&b);
}

TEST(any_failing_allocation_leaves_the_content)
{
    for (long n = 0;; n++) {
        struct mem m;
        mem_init(&m, 0);
        m.fail_in = n;
        struct buf b;
        buf_init(&b, &m, 4096);
        size_t wrote = 0;
        for (int i = 0; i < 400; i++) {
            enum err_kind kind = buf_append(&b, "0123456789", 10);
            CHECK(kind == ERR_NONE || kind == ERR_MEMORY);
            wrote += kind == ERR_NONE ? 10 : 0;
        }
        CHECK_EQ(b.len, wrote);
        CHECK_EQ(strlen(b.data), wrote);
        buf_fini(&b);
        CHECK_EQ(m.blocks, 0);
        if (m.fail_in >= 0)
            break;
        CHECK_EQ(wrote, 3990);
    }
}

TEST_MAIN
