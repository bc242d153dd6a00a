#include "test.h"

#include "loop/poller.h"
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 3 };

struct watched {
    struct poller_fd fd;
    struct fixture *fixture;
    uint32_t events; /* of the last call */
    int calls;
    int peer;
};

struct fixture {
    struct mem mem;
    struct loop loop;
    struct poller *poller;
    struct watched all[PAIRS];
    int calls;
    bool drops_others, asks_again;
};

static void on_event(struct poller_fd *fd, uint32_t events)
{
    struct watched *w = CONTAINER_OF(fd, struct watched, fd);
    struct fixture *f = w->fixture;
    w->calls++;
    w->events = events;
    f->calls++;
    if (f->asks_again)
        poller_again(&w->fd);
    for (int i = 0; i < PAIRS && f->drops_others; i++) {
        if (&f->all[i] != w)
            poller_drop(&f->all[i].fd);
    }
}

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    struct err err;
    mem_init(&f->mem, 0);
    CHECK_EQ(loop_init(&f->loop, &f->mem, NULL, false, &err), ERR_NONE);
    CHECK_EQ(poller_new(&f->poller, &f->loop, &f->mem, &err), ERR_NONE);
    for (int i = 0; i < PAIRS; i++) {
        int ends[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        f->all[i].fixture = f;
        f->all[i].peer = ends[1];
        CHECK_EQ(poller_add(f->poller, &f->all[i].fd, ends[0], EPOLLIN, on_event, &err), ERR_NONE);
    }
}

static void speak(struct fixture *f)
{
    for (int i = 0; i < PAIRS; i++)
        CHECK_EQ(write(f->all[i].peer, "x", 1), 1);
}

static void teardown(struct fixture *f)
{
    for (int i = 0; i < PAIRS; i++) {
        poller_drop(&f->all[i].fd);
        close(f->all[i].fd.fd);
        close(f->all[i].peer);
    }
    poller_free(f->poller);
    loop_fini(&f->loop);
    CHECK_EQ(f->mem.blocks, 0);
}

TEST(each_descriptor_that_can_be_read_is_reported)
{
    struct fixture f;
    setup(&f);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 0);
    speak(&f);
    loop_turn(&f.loop, false);
    for (int i = 0; i < PAIRS; i++)
        CHECK_EQ(f.all[i].events, EPOLLIN);
    CHECK_EQ(f.calls, PAIRS);
    teardown(&f);
}

TEST(a_descriptor_that_was_dropped_beneath_the_turn_is_not_reported)
{
    struct fixture f;
    setup(&f);
    f.drops_others = true;
    speak(&f);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 1);
    teardown(&f);
}

TEST(turns_without_time_report_one_each_and_leave_none_out)
{
    struct fixture f;
    setup(&f);
    speak(&f);
    loop_until(&f.loop, 1);
    for (int i = 1; i <= 2 * PAIRS && f.calls < PAIRS; i++) {
        int before = f.calls;
        loop_turn(&f.loop, false);
        CHECK(f.calls <= before + 1);
    }
    for (int i = 0; i < PAIRS; i++)
        CHECK(f.all[i].calls > 0);
    teardown(&f);
}

TEST(a_quiet_descriptor_is_reported_again_when_asked)
{
    struct fixture f;
    setup(&f);
    poller_again(&f.all[1].fd);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.all[1].calls, 1);
    CHECK_EQ(f.all[1].events, EPOLLIN);
    CHECK_EQ(f.calls, 1);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 1);
    poller_again(&f.all[1].fd);
    poller_watch(&f.all[1].fd, 0);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 1);
    teardown(&f);
}

TEST(a_descriptor_that_always_asks_again_gets_one_call_in_a_turn)
{
    struct fixture f;
    setup(&f);
    f.asks_again = true;
    for (int i = 0; i < PAIRS; i++)
        poller_again(&f.all[i].fd);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.calls, PAIRS);
    loop_until(&f.loop, 1); /* no time: one in a turn, and none is left out */
    for (int i = 0; i < 4 * PAIRS; i++)
        loop_turn(&f.loop, true);
    for (int i = 0; i < PAIRS; i++)
        CHECK(f.all[i].calls >= 2);
    teardown(&f);
}

TEST(an_unwatched_descriptor_does_not_report_that_its_peer_is_gone)
{
    struct fixture f;
    setup(&f);
    poller_watch(&f.all[0].fd, 0);
    shutdown(f.all[0].peer, SHUT_RDWR);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 0);
    poller_watch(&f.all[0].fd, EPOLLOUT);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.calls, 1);
    CHECK(f.all[0].events & EPOLLHUP);
    teardown(&f);
}

TEST(a_dropped_descriptor_is_silent_although_a_copy_of_it_is_open)
{
    struct fixture f;
    setup(&f);
    int copy = dup(f.all[0].fd.fd);
    speak(&f);
    poller_drop(&f.all[0].fd);
    loop_turn(&f.loop, false);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.all[0].calls, 0);
    close(copy);
    teardown(&f);
}

TEST(a_descriptor_that_cannot_be_watched_is_an_error)
{
    struct fixture f;
    struct err err;
    struct poller_fd fd;
    setup(&f);
    int file = fileno(tmpfile());
    CHECK_EQ(poller_add(f.poller, &fd, file, EPOLLIN, on_event, &err), ERR_IO);
    CHECK(fd.poller == NULL);
    poller_drop(&fd);
    close(file);
    teardown(&f);
}

TEST_MAIN
