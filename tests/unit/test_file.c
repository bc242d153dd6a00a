#include "test.h"

#include "loop/fd_reader.h"
#include <fcntl.h>
#include <unistd.h>

struct fixture {
    struct mem mem;
    struct loop loop;
    struct fd_reader *reader;
    int calls;
};

static void on_bytes(struct fd_reader *r, void *arg)
{
    UNUSED(r);
    struct fixture *f = arg;
    f->calls++;
}

static bool set_up(struct fixture *f, int fd, size_t max_bytes)
{
    *f = (struct fixture){0};
    mem_init(&f->mem, 0);
    struct err err;
    return loop_init(&f->loop, &f->mem, NULL, false, &err) == ERR_NONE &&
           fd_reader_new(&f->reader, &f->loop, &f->mem, fd, max_bytes, on_bytes, f, &err) ==
               ERR_NONE;
}

static void tear_down(struct fixture *f)
{
    fd_reader_free(f->reader);
    loop_fini(&f->loop);
    CHECK_EQ(f->mem.blocks, 0);
    CHECK_EQ(f->loop.open_handles, 0);
}

static void turn_until(struct fixture *f, int calls)
{
    while (f->calls < calls)
        loop_turn(&f->loop, true);
}

/* A file that has no name any more. */
static int scratch_file(const char *text)
{
    char name[] = "/tmp/leat-test-XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0)
        return -1;
    unlink(name);
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) || lseek(fd, 0, SEEK_SET) != 0)
        return -1;
    return fd;
}

TEST(a_pipe_gives_what_is_written_and_then_its_end)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct fixture f;
    REQUIRE(set_up(&f, ends[0], 1000));
    fd_reader_start(f.reader);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 0);
    CHECK_EQ(write(ends[1], "abc", 3), 3);
    turn_until(&f, 1);
    size_t len;
    CHECK(memcmp(fd_reader_bytes(f.reader, &len), "abc", 3) == 0);
    CHECK_EQ(len, 3);
    fd_reader_take(f.reader, 2);
    CHECK_EQ(write(ends[1], "de", 2), 2);
    turn_until(&f, 2);
    CHECK(memcmp(fd_reader_bytes(f.reader, &len), "cde", 3) == 0);
    CHECK_EQ(len, 3);
    CHECK(!f.reader->at_end);
    close(ends[1]);
    turn_until(&f, 3);
    CHECK(f.reader->at_end && f.reader->error == 0 && !f.reader->reading);
    tear_down(&f);
    close(ends[0]);
}

TEST(a_file_is_read_to_its_end_by_helper_threads)
{
    int fd = scratch_file("the whole content");
    REQUIRE(fd >= 0);
    struct fixture f;
    REQUIRE(set_up(&f, fd, 1000));
    CHECK(!f.reader->pollable);
    fd_reader_start(f.reader);
    while (!f.reader->at_end)
        loop_turn(&f.loop, true);
    size_t len;
    CHECK(memcmp(fd_reader_bytes(f.reader, &len), "the whole content", 17) == 0);
    CHECK_EQ(len, 17);
    CHECK_EQ(f.loop.busy, 0);
    tear_down(&f);
    close(fd);
}

TEST(a_reader_that_is_stopped_reads_nothing_and_goes_on_later)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct fixture f;
    REQUIRE(set_up(&f, ends[0], 1000));
    fd_reader_start(f.reader);
    fd_reader_stop(f.reader);
    CHECK_EQ(write(ends[1], "abc", 3), 3);
    for (int i = 0; i < 5; i++)
        loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 0);
    fd_reader_start(f.reader);
    turn_until(&f, 1);
    size_t len;
    fd_reader_bytes(f.reader, &len);
    CHECK_EQ(len, 3);
    tear_down(&f);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_reader_freed_with_a_read_under_way_leaves_nothing_behind)
{
    int fd = scratch_file("abc");
    REQUIRE(fd >= 0);
    struct fixture f;
    REQUIRE(set_up(&f, fd, 1000));
    fd_reader_start(f.reader);
    CHECK_EQ(f.loop.busy, 1);
    tear_down(&f);
    CHECK_EQ(f.calls, 0);
    close(fd);
}

TEST(more_than_the_cap_is_never_held)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct fixture f;
    REQUIRE(set_up(&f, ends[0], 4));
    CHECK_EQ(write(ends[1], "abcdefgh", 8), 8);
    fd_reader_start(f.reader);
    turn_until(&f, 1);
    size_t len;
    fd_reader_bytes(f.reader, &len);
    CHECK_EQ(len, 4);
    fd_reader_stop(f.reader);
    fd_reader_take(f.reader, 4);
    fd_reader_start(f.reader);
    turn_until(&f, 2);
    CHECK(memcmp(fd_reader_bytes(f.reader, &len), "efgh", 4) == 0);
    CHECK_EQ(len, 4);
    tear_down(&f);
    close(ends[0]);
    close(ends[1]);
}

TEST(the_flags_of_the_descriptor_stay_as_they_were)
{
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    int before = fcntl(ends[0], F_GETFL);
    struct fixture f;
    REQUIRE(set_up(&f, ends[0], 1000));
    fd_reader_start(f.reader);
    loop_turn(&f.loop, false);
    CHECK_EQ(fcntl(ends[0], F_GETFL), before);
    tear_down(&f);
    CHECK_EQ(fcntl(ends[0], F_GETFL), before);
    close(ends[0]);
    close(ends[1]);
}

TEST(what_cannot_be_read_says_so)
{
    struct mem mem;
    mem_init(&mem, 0);
    struct loop loop;
    struct err err;
    REQUIRE(loop_init(&loop, &mem, NULL, false, &err) == ERR_NONE);
    struct fd_reader *r = NULL;
    CHECK_EQ(fd_reader_new(&r, &loop, &mem, 987654, 10, on_bytes, NULL, &err), ERR_IO);
    CHECK(r == NULL);
    loop_fini(&loop);
    CHECK_EQ(mem.blocks, 0);

    int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    REQUIRE(fd >= 0);
    struct fixture f;
    REQUIRE(set_up(&f, fd, 1000));
    fd_reader_start(f.reader);
    turn_until(&f, 1);
    CHECK(f.reader->at_end && f.reader->error != 0);
    tear_down(&f);
    close(fd);
}

TEST(a_reader_that_finds_no_memory_leaves_nothing_behind)
{
    int fd = scratch_file("abc");
    REQUIRE(fd >= 0);
    for (long n = 0; n < 2; n++) {
        struct mem mem;
        mem_init(&mem, 0);
        struct loop loop;
        struct err err;
        REQUIRE(loop_init(&loop, &mem, NULL, false, &err) == ERR_NONE);
        size_t blocks = mem.blocks;
        mem.fail_in = n;
        struct fd_reader *r = NULL;
        CHECK_EQ(fd_reader_new(&r, &loop, &mem, fd, 10, on_bytes, NULL, &err), ERR_MEMORY);
        mem.fail_in = -1;
        CHECK_EQ(mem.blocks, blocks);
        loop_fini(&loop);
    }
    close(fd);
}

TEST_MAIN
