#include "test.h"

#include "engine/curl_sockets.h"
#include <curl/curl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 3 };

struct fixture {
    struct mem mem;
    struct log log;
    struct loop loop;
    struct sockets *sockets;
    int ends[PAIRS][2]; /* ours, the peer's */
    int told[64];
    int count;
};

static void on_ready(void *owner, int fd, int bits)
{
    struct fixture *f = owner;
    CHECK_EQ(bits, CURL_CSELECT_IN);
    if (f->count < (int)ARRAY_LEN(f->told))
        f->told[f->count++] = fd;
}

/* Every socket has something to read, and nobody reads it. */
static void setup(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    struct err err;
    mem_init(&f->mem, 0);
    log_init(&f->log, NULL, NULL, LOG_ERROR);
    CHECK_EQ(loop_init(&f->loop, &f->mem, NULL, false, &err), ERR_NONE);
    CHECK_EQ(sockets_new(&f->sockets, &f->loop, &f->mem, &f->log, on_ready, &err), ERR_NONE);
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, f->ends[i]), 0);
        CHECK(sockets_open(f->sockets, f->ends[i][0]));
        sockets_watch(f->sockets, f->ends[i][0], f, CURL_POLL_IN);
        CHECK_EQ(write(f->ends[i][1], "x", 1), 1);
    }
}

static void teardown(struct fixture *f)
{
    for (int i = 0; i < PAIRS; i++) {
        if (f->ends[i][0] >= 0)
            sockets_close(f->sockets, f->ends[i][0]);
        close(f->ends[i][1]);
    }
    sockets_free(f->sockets);
    loop_fini(&f->loop);
    CHECK_EQ(f->mem.blocks, 0);
}

/* Turns whose time is over before they begin, until `count` events have been handed out. */
static void turn_until(struct fixture *f, int count)
{
    loop_until(&f->loop, 1);
    for (int i = 0; i < 2 * count && f->count < count; i++) {
        int before = f->count;
        loop_turn(&f->loop, false);
        CHECK(f->count <= before + 1);
    }
    CHECK_EQ(f->count, count);
}

TEST(a_turn_hands_out_all_events)
{
    struct fixture f;
    setup(&f);
    loop_turn(&f.loop, false);
    CHECK_EQ(f.count, PAIRS);
    CHECK(!f.loop.cut);
    teardown(&f);
}

TEST(turns_without_time_hand_out_one_event_each_and_leave_no_socket_out)
{
    struct fixture f;
    setup(&f);
    turn_until(&f, 2 * PAIRS);
    CHECK(f.loop.cut);
    for (int i = 0; i < PAIRS; i++) {
        CHECK(f.told[i] != f.told[(i + 1) % PAIRS]);
        CHECK_EQ(f.told[i], f.told[PAIRS + i]);
    }
    teardown(&f);
}

TEST(an_event_that_was_left_over_is_not_told_of_a_socket_that_is_closed_meanwhile)
{
    struct fixture f;
    setup(&f);
    turn_until(&f, 1);
    int closed = f.told[0] == f.ends[0][0] ? 1 : 0;
    int old = f.ends[closed][0];
    sockets_close(f.sockets, old);
    int fresh[2]; /* the first gets the number that is free; nothing is to be read from it */
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fresh), 0);
    CHECK_EQ(fresh[0], old);
    CHECK(sockets_open(f.sockets, fresh[0]));
    sockets_watch(f.sockets, fresh[0], &f, CURL_POLL_IN);
    f.ends[closed][0] = fresh[0];
    loop_until(&f.loop, NEVER_NS);
    f.count = 0;
    loop_turn(&f.loop, false);
    for (int i = 0; i < f.count; i++)
        CHECK(f.told[i] != old);
    CHECK(f.count >= PAIRS - 1);
    teardown(&f);
    close(fresh[1]);
}

TEST_MAIN
