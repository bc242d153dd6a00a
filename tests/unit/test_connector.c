/* Connections without a proxy. */
#include "peer.h"

#include <fcntl.h>
#include <sys/wait.h>

static struct connect_target loopback(unsigned port)
{
    return (struct connect_target){.host = "127.0.0.1", .port = port, .connect_ms = 10000};
}

/* Both ends talk. */
static void check_talks(int listener, int fd)
{
    char byte = 0;
    int other = accept(listener, NULL, NULL);
    CHECK(other >= 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(read(other, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    close(other);
}

TEST(a_plain_connection_gives_a_descriptor_that_is_the_callers)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 8);
    struct connect_target to = loopback(port);
    start(&r, &x, &to);
    CHECK_EQ(connector_busy(r.connector), 1);
    finish(&r, &x);
    CHECK_EQ(connector_busy(r.connector), 0);
    CHECK_STR(x.got.peer, "127.0.0.1");
    CHECK_EQ(x.got.peer_port, port);
    CHECK(x.got.held == NULL);
    CHECK(fcntl(x.got.fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(x.got.fd, F_GETFD) & FD_CLOEXEC);
    check_talks(listener, x.got.fd);
    close(x.got.fd);
    close(listener);
    rig_close(&r);
}

TEST(a_descriptor_stays_open_through_200_connections_after_it)
{
    struct connect_rig r;
    struct waiter first, x;
    struct err err;
    struct poller_fd watched;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 8);
    struct connect_target to = loopback(port);
    connect_to(&r, &first, &to);
    int other = accept(listener, NULL, NULL);
    CHECK_EQ(poller_add(r.poller, &watched, first.got.fd, EPOLLIN, NULL, &err), ERR_NONE);
    for (int i = 0; i < 200; i++) {
        connect_to(&r, &x, &to);
        CHECK(x.got.fd >= 0 && x.got.fd != first.got.fd);
        close(x.got.fd);
        close(accept(listener, NULL, NULL));
    }
    char byte = 0;
    CHECK_EQ(write(first.got.fd, "x", 1), 1);
    CHECK_EQ(read(other, &byte, 1), 1);
    connector_free(r.connector);
    r.connector = NULL;
    CHECK_EQ(write(first.got.fd, "x", 1), 1);
    CHECK_EQ(read(other, &byte, 1), 1);
    poller_drop(&watched);
    close(first.got.fd);
    close(other);
    close(listener);
    rig_close(&r);
}

TEST(a_port_where_nobody_listens_refuses)
{
    struct connect_rig r;
    struct waiter x;
    char words[128];
    rig_open(&r, 4);
    struct connect_target to = loopback(peer_dead_port());
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    CHECK_EQ(x.err.phase, PHASE_CONNECT);
    CHECK(x.err.retryable);
    CHECK_EQ(x.err.code, CURLE_COULDNT_CONNECT);
    snprintf(words, sizeof words, "cannot connect to http://127.0.0.1:%u: Connection refused",
             to.port);
    CHECK_STR(x.err.message, words);
    rig_close(&r);
}

TEST(of_several_addresses_one_that_answers_is_enough)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.9", &port, 8);
    struct connect_target to = {.host = "many.test", .port = port};
    static const char *const lists[] = {"127.0.0.1,127.0.0.9", "127.0.0.1,127.0.0.2,127.0.0.9",
                                        "[::1],127.0.0.9", "127.0.0.1,[::1],127.0.0.9",
                                        "127.0.0.9"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        to.addresses = lists[i];
        connect_to(&r, &x, &to);
        CHECK_STR(x.got.peer, "127.0.0.9");
        check_talks(listener, x.got.fd);
        close(x.got.fd);
    }
    to.addresses = "127.0.0.1,127.0.0.2";
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    CHECK(strstr(x.err.message, "http://many.test:"));
    close(listener);
    rig_close(&r);
}

/* A listener whose queue is full: the kernel drops what would connect. */
static int full_listener(const char *address, unsigned *port, int fillers[4])
{
    int listener = peer_listen(address, port, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int rc = connect(fillers[i], (struct sockaddr *)&at, sizeof at);
        CHECK(rc == 0 || errno == EINPROGRESS);
    }
    return listener;
}

static void close_full(int listener, int fillers[4])
{
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(listener);
}

TEST(a_silent_address_is_given_up_for_the_next_one)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    int fillers[4];
    rig_open(&r, 4);
    int silent = full_listener("127.0.0.8", &port, fillers);
    int listener = peer_listen("127.0.0.9", &port, 8);
    struct connect_target to = {
        .host = "many.test", .port = port, .addresses = "127.0.0.8,127.0.0.9", .connect_ms = 1};
    connect_to(&r, &x, &to);
    CHECK_STR(x.err.message, "");
    CHECK_STR(x.got.peer, "127.0.0.9");
    close(x.got.fd);
    close(listener);
    close_full(silent, fillers);
    rig_close(&r);
}

/* The same for [::1]. */
static int full_listener6(unsigned *port, int fillers[4])
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = 0};
    socklen_t len = sizeof at;
    at.sin6_addr.s6_addr[15] = 1;
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, len) != 0) {
        close(listener);
        return -1; /* no IPv6 here */
    }
    CHECK_EQ(listen(listener, 0), 0);
    getsockname(listener, (struct sockaddr *)&at, &len);
    *port = ntohs(at.sin6_port);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int rc = connect(fillers[i], (struct sockaddr *)&at, sizeof at);
        CHECK(rc == 0 || errno == EINPROGRESS);
    }
    return listener;
}

/* Without a limit, a wait for the silent address would not end. */
TEST(a_silent_address_does_not_delay_one_of_the_other_family)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    int fillers[4];
    rig_open(&r, 4);
    int silent = full_listener6(&port, fillers);
    if (silent >= 0) {
        int listener = peer_listen("127.0.0.9", &port, 8);
        struct connect_target to = {.host = "many.test", .port = port};
        static const char *const lists[] = {"[::1],127.0.0.9", "[::1],127.0.0.1,127.0.0.9"};
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            to.addresses = lists[i];
            connect_to(&r, &x, &to);
            CHECK_STR(x.got.peer, "127.0.0.9");
            close(x.got.fd);
        }
        close(listener);
        close_full(silent, fillers);
    }
    rig_close(&r);
}

/* An epoll set goes on reporting a descriptor that was closed while a child had a copy of it. */
TEST(a_forked_child_does_not_keep_closed_attempts_alive)
{
    struct connect_rig r;
    struct waiter x;
    int pipe_ends[2];
    char byte;
    rig_open(&r, 4);
    struct connect_target to = {
        .host = "many.test", .port = peer_dead_port(), .addresses = "127.0.0.1,127.0.0.2"};
    start(&r, &x, &to);
    CHECK_EQ(pipe(pipe_ends), 0);
    int before = open_descriptors();
    while (open_descriptors() == before) /* until a socket is open */
        loop_turn(&r.loop, false);
    pid_t child = fork();
    if (child == 0) {
        close(pipe_ends[1]);
        _exit(read(pipe_ends[0], &byte, 1) != 0);
    }
    finish(&r, &x);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    loop_turn(&r.loop, false);
    CHECK(!loop_has_event(&r.loop));
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    rig_close(&r);
}

TEST(a_unix_socket_is_connected_to)
{
    struct connect_rig r;
    struct waiter x;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    rig_open(&r, 4);
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/leat_connector_%d", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_EQ(listen(listener, 4), 0);
    struct connect_target to = {.host = "local.test", .port = 80, .unix_socket = at.sun_path};
    connect_to(&r, &x, &to);
    CHECK_STR(x.got.peer, "");
    CHECK_EQ(x.got.peer_port, 0);
    check_talks(listener, x.got.fd);
    close(x.got.fd);
    /* The handle that was told of a unix socket has forgotten it. */
    struct connect_target dead = loopback(peer_dead_port());
    connect_to(&r, &x, &dead);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    close(listener);
    unlink(at.sun_path);
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "");
    CHECK(strstr(x.err.message, "cannot connect to the unix socket /tmp/leat_connector_"));
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    to.unix_socket = path;
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "");
    CHECK(strstr(x.err.message, "too long"));
    rig_close(&r);
}

TEST(a_mapping_leads_to_another_address)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.9", &port, 8);
    char line[64];
    struct connect_target to = {.host = "mapped.test", .port = port, .connect_to = line};
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            snprintf(line, sizeof line, "mapped.test:%u:127.0.0.9:", port);
        else
            snprintf(line, sizeof line, "mapped.test::127.0.0.9:");
        connect_to(&r, &x, &to);
        CHECK_STR(x.got.peer, "127.0.0.9");
        close(x.got.fd);
    }
    snprintf(line, sizeof line, "mapped.test::[::1]:");
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    close(listener);
    rig_close(&r);
}

TEST(an_address_that_the_rules_forbid_is_not_tried)
{
    struct connect_rig r;
    struct waiter x;
    struct err err;
    struct connect_rules *rules;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 8);
    CHECK_EQ(connect_rules_new(&rules, &r.mem, "127.0.0.9", &err), ERR_NONE);
    struct connect_target ways[] = {
        {.host = "127.0.0.1"},
        {.host = "named.test", .addresses = "127.0.0.1"},
        {.host = "named.test", .addresses = "127.0.0.1,127.0.0.2"},
        {.host = "named.test", .connect_to = "named.test::127.0.0.1:"},
        {.host = "127.0.0.9", .unix_socket = "/tmp/leat_nobody"},
    };
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        ways[i].port = port;
        ways[i].rules = rules;
        connect_to(&r, &x, &ways[i]);
        CHECK_FAILED(&x, ERR_DENIED, "target");
        CHECK(!x.err.retryable);
        CHECK(strstr(x.err.message, "may not be connected to"));
    }
    ways[0].host = "127.0.0.9";
    connect_to(&r, &x, &ways[0]);
    CHECK_FAILED(&x, ERR_CONNECT, "refused");
    CHECK_EQ(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(accept(listener, NULL, NULL), -1); /* nobody came */
    connect_rules_free(rules);
    close(listener);
    rig_close(&r);
}

TEST(a_cancel_closes_what_is_being_opened)
{
    struct connect_rig r;
    struct waiter queued, x;
    unsigned port = 0;
    int fillers[4];
    rig_open(&r, 1);
    int silent = full_listener("127.0.0.8", &port, fillers);
    struct connect_target to = {.host = "127.0.0.8", .port = port};
    for (int turns = 0; turns < 4; turns++) {
        start(&r, &x, &to);
        start(&r, &queued, &to);
        CHECK_EQ(connector_busy(r.connector), 2);
        for (int i = 0; i < turns; i++)
            loop_turn(&r.loop, false);
        connector_cancel(r.connector, turns % 2 ? &queued.wait : &x.wait);
        CHECK_EQ(connector_busy(r.connector), 1);
        connector_cancel(r.connector, turns % 2 ? &x.wait : &queued.wait);
        CHECK_EQ(connector_busy(r.connector), 0);
        connector_cancel(r.connector, &x.wait); /* harmless */
        loop_turn(&r.loop, false);
        CHECK_EQ(x.calls + queued.calls, 0);
    }
    close_full(silent, fillers);
    rig_close(&r);
}

TEST(a_connection_that_is_made_already_can_still_be_cancelled)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    char byte;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 8);
    struct connect_target to = loopback(port);
    start(&r, &x, &to);
    int other = -1; /* the kernel has made the connection, and the loop has not heard of it */
    CHECK_EQ(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    while (x.calls == 0 && (other = accept(listener, NULL, NULL)) < 0)
        loop_turn(&r.loop, false);
    if (x.calls == 0) {
        connector_cancel(r.connector, &x.wait);
        CHECK_EQ(read(other, &byte, 1), 0);
    }
    close(other);
    close(x.got.fd);
    close(listener);
    rig_close(&r);
}

struct canceller {
    struct waiter x;
    struct connect_rig *rig;
    struct canceller *other;
};

static void on_connect_cancel(struct connect_wait *w, const struct connected *got,
                              const struct err *err)
{
    struct canceller *c = CONTAINER_OF(w, struct canceller, x.wait);
    on_connect(w, got, err);
    connector_cancel(c->rig->connector, &c->other->x.wait);
}

TEST(a_callback_may_cancel_the_attempt_whose_callback_comes_next)
{
    struct connect_rig r;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 64);
    struct connect_target to = loopback(port);
    for (int i = 0; i < 10; i++) {
        struct canceller a = {.rig = &r}, b = {.rig = &r};
        start(&r, &a.x, &to);
        start(&r, &b.x, &to);
        a.x.wait.fn = b.x.wait.fn = on_connect_cancel;
        a.other = &b;
        b.other = &a;
        while (a.x.calls + b.x.calls == 0)
            loop_turn(&r.loop, true);
        loop_turn(&r.loop, false);
        CHECK_EQ(a.x.calls + b.x.calls, 1);
        CHECK_EQ(connector_busy(r.connector), 0);
        close(a.x.calls ? a.x.got.fd : b.x.got.fd);
    }
    close(listener);
    rig_close(&r);
}

TEST(a_peer_that_closes_at_once_is_a_connection_at_its_end)
{
    struct connect_rig r;
    struct waiter x[20];
    unsigned port = 0;
    char byte;
    rig_open(&r, 8);
    int listener = peer_listen("127.0.0.1", &port, 64);
    struct connect_target to = loopback(port);
    for (int i = 0; i < 20; i++)
        start(&r, &x[i], &to);
    CHECK_EQ(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    for (int i = 0, ended = 0; i < 20;) {
        int other = accept(listener, NULL, NULL);
        if (other >= 0) {
            close(other);
            ended++;
        }
        loop_turn(&r.loop, false);
        while (i < 20 && x[i].calls && ended > i)
            i++;
    }
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(x[i].calls, 1);
        REQUIRE(x[i].got.fd >= 0);
        CHECK_EQ(recv(x[i].got.fd, &byte, 1, 0), 0);
        close(x[i].got.fd);
    }
    close(listener);
    rig_close(&r);
}

TEST(the_error_says_that_no_descriptor_was_free)
{
    struct connect_rig r;
    struct waiter x;
    unsigned port = 0;
    int spare[64], count = 0;
    struct rlimit limit, low;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 8);
    struct connect_target to = loopback(port);
    connect_to(&r, &x, &to); /* what libcurl opens once is open */
    close(x.got.fd);
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    low.rlim_cur = (rlim_t)open_descriptors() + 8;
    setrlimit(RLIMIT_NOFILE, &low);
    while (count < 64 && (spare[count] = dup(listener)) >= 0)
        count++;
    /* None, one (a socket, and no duplicate), enough. */
    for (int left = 0; left <= 2; left++) {
        if (left > 0)
            close(spare[--count]);
        connect_to(&r, &x, &to);
        if (left < 2) {
            CHECK_FAILED(&x, ERR_IO, "too_many_files");
            CHECK(x.err.retryable);
            CHECK_EQ(x.err.phase, PHASE_CONNECT);
        }
    }
    CHECK(x.got.fd >= 0);
    CHECK(strstr(r.last_line, "a connection could not be opened"));
    close(x.got.fd);
    while (count > 0)
        close(spare[--count]);
    setrlimit(RLIMIT_NOFILE, &limit);
    close(listener);
    rig_close(&r);
}

TEST(no_more_than_the_cap_are_made_at_once_and_a_dead_place_delays_no_other)
{
    struct connect_rig r;
    struct waiter dead[12], x;
    unsigned port = 0, other_port = 0;
    int fillers[4];
    rig_open(&r, 4);
    int silent = full_listener("127.0.0.8", &port, fillers);
    int listener = peer_listen("127.0.0.9", &other_port, 8);
    struct connect_target to = {.host = "127.0.0.8", .port = port};
    int before = open_descriptors();
    for (int i = 0; i < 12; i++)
        start(&r, &dead[i], &to);
    for (int i = 0; i < 5; i++)
        loop_turn(&r.loop, false);
    CHECK_EQ(connector_busy(r.connector), 12);
    CHECK_EQ(open_descriptors(), before + 2 * 2); /* two attempts, with a duplicate each */
    to = (struct connect_target){.host = "127.0.0.9", .port = other_port};
    connect_to(&r, &x, &to);
    CHECK(x.got.fd >= 0);
    close(x.got.fd);
    for (int i = 0; i < 6; i++)
        connector_cancel(r.connector, &dead[i].wait);
    for (int i = 0; i < 3; i++)
        loop_turn(&r.loop, false);
    CHECK_EQ(connector_busy(r.connector), 6);
    CHECK_EQ(open_descriptors(), before + 2 * 2);
    close(listener);
    close_full(silent, fillers);
    rig_close(&r); /* with those that are left */
    for (int i = 0; i < 12; i++)
        CHECK_EQ(dead[i].calls, 0);
}

static int order[64], order_count;

static void on_connect_in_order(struct connect_wait *w, const struct connected *got,
                                const struct err *err)
{
    struct waiter *x = CONTAINER_OF(w, struct waiter, wait);
    on_connect(w, got, err);
    order[order_count++] = x->calls;
    close(x->got.fd);
}

TEST(those_that_wait_begin_in_the_order_in_which_they_came)
{
    struct connect_rig r;
    struct waiter x[40];
    unsigned port = 0;
    rig_open(&r, 2);
    int listener = peer_listen("127.0.0.1", &port, 64);
    struct connect_target to = loopback(port);
    order_count = 0;
    for (int i = 0; i < 40; i++) {
        start(&r, &x[i], &to);
        x[i].wait.fn = on_connect_in_order;
        x[i].calls = i * 10;
    }
    while (order_count < 40)
        loop_turn(&r.loop, true);
    for (int i = 0; i < 40; i++)
        CHECK_EQ(order[i], i * 10 + 1); /* one at a time: half of the cap */
    close(listener);
    rig_close(&r);
}

TEST(each_allocation_may_fail)
{
    struct connect_rig r;
    struct waiter x;
    struct err err;
    unsigned port = 0;
    rig_open(&r, 4);
    int listener = peer_listen("127.0.0.1", &port, 64);
    struct connect_target to = loopback(port);
    to.addresses = "127.0.0.1,127.0.0.2";
    to.host = "named.test";
    long n = 0;
    for (bool reached = true; reached; n++) {
        x = (struct waiter){.wait = {.fn = on_connect}, .got = {.fd = -1}};
        r.mem.fail_in = n;
        enum err_kind kind = connector_start(r.connector, &x.wait, &to, &err);
        if (kind == ERR_NONE)
            finish(&r, &x);
        reached = r.mem.fail_in < 0;
        r.mem.fail_in = -1;
        if (reached)
            CHECK_EQ(kind ? kind : x.err.kind, ERR_MEMORY);
        else
            CHECK(x.got.fd >= 0);
        if (x.got.fd >= 0)
            close(x.got.fd);
        CHECK_EQ(connector_busy(r.connector), 0);
    }
    CHECK(n >= 3);
    close(listener);
    rig_close(&r);
}

TEST_MAIN
