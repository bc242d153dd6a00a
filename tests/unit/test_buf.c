#include "test.h"

#include "buf.h"

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
