#include "test.h"
#include <string.h>

#include "ground/mem.h"

#include <pthread.h>

TEST(blocks_and_bytes_are_counted_and_given_back)
{
    struct mem m;
    mem_init(&m, 0);
    char *a = mem_alloc(&m, 100);
    char *b = mem_calloc(&m, 0);
    CHECK(a != NULL && b != NULL);
    CHECK((uintptr_t)a % 16 == 0);
    CHECK_EQ(m.blocks, 2);
    CHECK(m.used_bytes >= 100);
    a = mem_realloc(&m, a, 1000);
    CHECK(a != NULL && m.used_bytes >= 1000);
    a = mem_realloc(&m, a, 10);
    CHECK(a != NULL && m.used_bytes < 1000 && m.peak_bytes >= 1000);
    mem_free(&m, a);
    mem_free(&m, b);
    mem_free(&m, NULL);
    CHECK_EQ(m.blocks, 0);
    CHECK_EQ(m.used_bytes, 0);
}

TEST(an_allocation_past_the_cap_fails_and_leaves_the_old_block)
{
    struct mem m;
    mem_init(&m, 4096);
    CHECK(mem_alloc(&m, 5000) == NULL);
    CHECK(mem_alloc(&m, SIZE_MAX) == NULL);
    char *a = mem_strndup(&m, "leat", 4);
    REQUIRE(a != NULL);
    CHECK(mem_realloc(&m, a, 5000) == NULL);
    CHECK_STR(a, "leat");
    mem_free(&m, a);
    CHECK_EQ(m.used_bytes, 0);
    CHECK(m.peak_bytes <= 4096);
}

TEST(the_nth_allocation_fails_once)
{
    struct mem m;
    mem_init(&m, 0);
    m.fail_in = 1;
    void *a = mem_alloc(&m, 1);
    CHECK(a != NULL);
    CHECK(mem_alloc(&m, 1) == NULL);
    CHECK_EQ(m.fail_in, -1);
    void *b = mem_lua_alloc(&m, NULL, 5, 8);
    CHECK(b != NULL);
    m.fail_in = 0;
    CHECK(mem_lua_alloc(&m, b, 8, 16) == NULL);
    mem_lua_alloc(&m, b, 8, 0);
    mem_free(&m, a);
    mem_fini(&m);
    CHECK_EQ(m.used_bytes, 0);
}

TEST(lua_can_always_shrink_and_free)
{
    struct mem m;
    mem_init(&m, 100);
    void *a = mem_lua_alloc(&m, NULL, 4 /* a type tag, not a size */, 100);
    REQUIRE(a != NULL);
    CHECK_EQ(m.lua_bytes, 100);
    CHECK_EQ(m.blocks, 0);
    CHECK(mem_lua_alloc(&m, NULL, 0, 1) == NULL);
    m.fail_in = 0;
    a = mem_lua_alloc(&m, a, 100, 40);
    CHECK(a != NULL);
    CHECK_EQ(m.lua_bytes, 40);
    CHECK(mem_lua_alloc(&m, a, 40, 0) == NULL);
    CHECK_EQ(m.lua_bytes, 0);
    mem_fini(&m);
}

TEST(lua_blocks_that_are_kept_for_reuse_hold_their_content_and_are_given_back)
{
    struct mem m;
    mem_init(&m, 0);
    enum { N = 2000 };
    static char *blocks[N];
    unsigned seed = 1;
    for (int round = 0; round < 3; round++) {
        static size_t sizes[N];
        for (int i = 0; i < N; i++) {
            seed = seed * 1664525u + 1013904223u;
            sizes[i] = 1 + seed % 700;
            blocks[i] = mem_lua_alloc(&m, NULL, 0, sizes[i]);
            REQUIRE(blocks[i] != NULL);
            memset(blocks[i], i & 0xff, sizes[i]);
        }
        for (int i = 0; i < N; i++) {
            size_t grown = sizes[i] * (size_t)(1 + i % 3) / 2 + 1;
            blocks[i] = mem_lua_alloc(&m, blocks[i], sizes[i], grown);
            REQUIRE(blocks[i] != NULL);
            size_t same = grown < sizes[i] ? grown : sizes[i];
            for (size_t k = 0; k < same; k++)
                REQUIRE((unsigned char)blocks[i][k] == (i & 0xff));
            sizes[i] = grown;
        }
        for (int i = 0; i < N; i++)
            mem_lua_alloc(&m, blocks[i], sizes[i], 0);
        CHECK_EQ(m.lua_bytes, 0);
    }
    mem_fini(&m); /* the leak checker sees what this forgets */
}

enum { BLOCK = 1000, BLOCKS = 20000 };

/* 20 MB of blocks of Lua, of which the first `freed` are freed again. */
static void **free_some(struct mem *m, size_t freed)
{
    void **blocks = calloc(BLOCKS, sizeof *blocks);
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = mem_lua_alloc(m, NULL, 0, BLOCK);
    for (size_t i = 0; i < freed; i++)
        blocks[i] = mem_lua_alloc(m, blocks[i], BLOCK, 0);
    return blocks;
}

static void free_all(struct mem *m, void **blocks)
{
    for (size_t i = 0; i < BLOCKS; i++)
        mem_lua_alloc(m, blocks[i], BLOCK, 0);
    CHECK(m->lua_kept_bytes <= MEM_KEPT_LEAST + 2 * BLOCK); /* not those of the peak */
    mem_fini(m);
    CHECK_EQ(m->lua_kept_bytes, 0);
    free(blocks);
}

TEST(as_many_freed_bytes_are_kept_for_lua_as_it_has_in_use)
{
    struct mem m;
    mem_init(&m, 0);
    void **blocks = free_some(&m, BLOCKS * 3 / 4);
    CHECK(m.lua_kept_bytes <= mem_in_use(&m) + 2 * BLOCK);
#ifndef __SANITIZE_ADDRESS__ /* keeps none */
    CHECK(m.lua_kept_bytes + 2 * BLOCK >= mem_in_use(&m));
    size_t kept = m.lua_kept_bytes;
    blocks[0] = mem_lua_alloc(&m, NULL, 0, BLOCK);
    CHECK(m.lua_kept_bytes < kept);
#endif
    free_all(&m, blocks);
}

TEST(blocks_of_a_size_that_is_not_used_any_more_make_room)
{
    struct mem m;
    mem_init(&m, 0);
    void **blocks = free_some(&m, BLOCKS); /* the least is kept, all of this size */
    void *other = mem_lua_alloc(&m, NULL, 0, 100);
    mem_lua_alloc(&m, other, 100, 0);
    size_t kept = m.lua_kept_bytes;
    void *again = mem_lua_alloc(&m, NULL, 0, 100);
    CHECK(again == other || kept == 0);
    mem_lua_alloc(&m, again, 100, 0);
    free_all(&m, blocks);
}

TEST(with_a_cap_few_freed_blocks_are_kept)
{
    struct mem m;
    mem_init(&m, (size_t)BLOCKS * 2 * BLOCK);
    void **blocks = free_some(&m, BLOCKS / 2);
    CHECK(m.lua_kept_bytes <= MEM_KEPT_LEAST + 2 * BLOCK);
    free_all(&m, blocks);
}

static void *allocate_a_lot(void *arg)
{
    struct mem *m = arg;
    for (int i = 0; i < 20000; i++) {
        void *a = mem_alloc(m, (size_t)(i % 512));
        a = a != NULL ? mem_realloc(m, a, 700) : NULL;
        mem_free(m, a);
    }
    return NULL;
}

TEST(two_threads_keep_the_count_right)
{
    struct mem m;
    mem_init(&m, 1 << 20);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, allocate_a_lot, &m) == 0);
    allocate_a_lot(&m);
    pthread_join(thread, NULL);
    CHECK_EQ(m.used_bytes, 0);
    CHECK_EQ(m.blocks, 0);
}

TEST_MAIN
