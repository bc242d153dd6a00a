#include "tls_rig.h"
#include <signal.h>

TEST(bytes_go_both_ways_and_are_counted)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    end_open(&e, &r);
    CHECK_EQ(end_send(&e, "hello", &n), IO_DONE);
    CHECK_EQ(n, 5);
    CHECK_EQ(read(e.fd, got, sizeof got), 5);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    connection_want(&e.c, true, false);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 0);
    CHECK_EQ(write(e.fd, "answer", 6), 6);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 1);
    CHECK(e.can_read && !e.can_write);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 6);
    CHECK(memcmp(got, "answer", 6) == 0);
    CHECK_EQ(e.c.bytes_in, 6);
    CHECK_EQ(e.c.bytes_out, 5);
    CHECK(!connection_has_more(&e.c));
    end_close(&e);
    CHECK(!e.c.open);
    connection_close(&e.c);
    rig_fini(&r);
}

TEST(parts_arrive_whole_and_in_order_through_a_slow_reader)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    end_open(&e, &r);
    end_pour(&e, 3 * 1000 * 1000);
    CHECK_EQ(e.c.bytes_out, 3 * 1000 * 1000);
    end_close(&e);
    rig_fini(&r);
}

static volatile sig_atomic_t sigpipes;

static void count_sigpipe(int number)
{
    UNUSED(number);
    sigpipes++;
}

TEST(writing_to_a_peer_that_is_gone_fails_without_a_signal)
{
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    signal(SIGPIPE, count_sigpipe);
    for (int secure = 0; secure < 2; secure++) {
        struct end e;
        size_t n;
        if (secure)
            end_connect(&e, &r, server);
        else
            end_open(&e, &r);
        end_close_server(&e);
        CHECK_EQ(end_fill(&e), IO_FAILED);
        CHECK_EQ(e.c.os_error, EPIPE);
        CHECK_EQ(end_send(&e, "again", &n), IO_FAILED);
        CHECK_EQ(n, 0);
        end_close(&e);
    }
    CHECK_EQ(sigpipes, 0);
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(what_the_peer_said_before_it_went_is_read_after_a_failed_write)
{
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    for (int secure = 0; secure < 2; secure++) {
        struct end e;
        char got[16];
        size_t n;
        if (secure)
            end_connect(&e, &r, server);
        else
            end_open(&e, &r);
        CHECK_EQ(secure ? SSL_write(e.server, "413", 3) : (int)write(e.fd, "413", 3), 3);
        end_close_server(&e);
        CHECK_EQ(end_fill(&e), IO_FAILED);
        CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
        CHECK_EQ(n, 3);
        CHECK(memcmp(got, "413", 3) == 0);
        CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), secure ? IO_CUT : IO_END);
        end_close(&e);
    }
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(a_plain_end_is_reported_and_is_no_cut)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    end_open(&e, &r);
    connection_want(&e.c, true, false);
    end_close_server(&e);
    loop_turn(&r.loop, false);
    CHECK(e.can_read);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_END);
    CHECK_EQ(connection_probe(&e.c), IO_END);
    end_close(&e);
    rig_fini(&r);
}

TEST(only_the_wanted_events_are_reported)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    end_open(&e, &r);
    CHECK_EQ(write(e.fd, "x", 1), 1);
    for (int i = 0; i < 3; i++)
        loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 0);
    CHECK(!e.c.watch.in_set); /* or the turn would never wait */
    connection_want(&e.c, false, true);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 1);
    CHECK(e.can_write && !e.can_read);
    connection_want(&e.c, true, true);
    loop_turn(&r.loop, false);
    CHECK(e.can_write && e.can_read);
    connection_want(&e.c, false, false);
    end_close_server(&e); /* EPOLLHUP */
    int before = e.calls;
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before);
    end_close(&e);
    rig_fini(&r);
}

TEST(a_callback_may_close_its_own_connection)
{
    struct rig r;
    struct end e[3];
    rig_init(&r);
    for (int i = 0; i < 3; i++) {
        end_open(&e[i], &r);
        connection_want(&e[i].c, true, true);
        e[i].closes_in_call = true;
        CHECK_EQ(write(e[i].fd, "x", 1), 1);
    }
    loop_turn(&r.loop, false);
    for (int i = 0; i < 3; i++) {
        CHECK(!e[i].c.open);
        CHECK_EQ(e[i].calls, 1);
        connection_want(&e[i].c, true, true); /* harmless */
        end_close(&e[i]);
    }
    rig_fini(&r);
}

TEST(a_closed_connection_is_silent_although_a_child_has_a_copy)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    end_open(&e, &r);
    connection_want(&e.c, true, false);
    int copy = dup(e.c.fd);
    connection_close(&e.c);
    CHECK_EQ(write(e.fd, "x", 1), 1);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 0);
    close(copy);
    end_close(&e);
    rig_fini(&r);
}

TEST(a_descriptor_that_cannot_be_watched_is_closed)
{
    struct rig r;
    struct connection c;
    struct err err;
    rig_init(&r);
    FILE *file = tmpfile();
    int fd = dup(fileno(file));
    CHECK_EQ(connection_open(&c, r.poller, &r.mem, fd, rig_on_event, &err), ERR_IO);
    CHECK(fcntl(fd, F_GETFD) < 0);
    CHECK(!c.open);
    connection_close(&c);
    fclose(file);
    rig_fini(&r);
}

TEST(an_idle_plain_connection_is_quiet_or_has_bytes)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    end_open(&e, &r);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT);
    CHECK_EQ(write(e.fd, "x", 1), 1);
    CHECK_EQ(connection_probe(&e.c), IO_DONE);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT);
    end_close(&e);
    rig_fini(&r);
}

TEST_MAIN
