#include "test.h"

#include "loop/loop.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

struct fixture {
    struct mem mem;
    struct loop loop;
    int fired[64];
    int count;
};

struct probe {
    struct timer timer;
    struct fixture *f;
    int id;
    uint64_t fired_ns;
    int again; /* starts itself once more, due in the past, that many times */
    struct timer *stops;
};

static void on_probe(struct timer *t)
{
    struct probe *p = CONTAINER_OF(t, struct probe, timer);
    struct fixture *f = p->f;
    p->fired_ns = loop_now_ns(&f->loop);
    f->fired[f->count++] = p->id;
    if (p->again-- > 0)
        loop_timer_start(&f->loop, t, 0);
    if (p->stops != NULL)
        loop_timer_stop(&f->loop, p->stops);
}

static void probe_init(struct probe *p, struct fixture *f, int id)
{
    *p = (struct probe){.f = f, .id = id};
    timer_init(&p->timer, on_probe);
}

static bool setup(struct fixture *f, uv_loop_t *host, bool is_virtual)
{
    memset(f, 0, sizeof(*f));
    mem_init(&f->mem, 0);
    struct err err;
    bool ok = loop_init(&f->loop, &f->mem, host, is_virtual, &err) == ERR_NONE;
    CHECK(ok);
    return ok;
}

static void teardown(struct fixture *f)
{
    loop_fini(&f->loop);
    CHECK_EQ(f->mem.blocks, 0);
}

TEST(timers_are_never_early_and_fire_in_order)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct probe p[40];
    uint64_t now = loop_now_ns(&f.loop);
    for (int i = 0; i < 40; i++) {
        probe_init(&p[i], &f, i);
        loop_timer_start(&f.loop, &p[i].timer, now + (uint64_t)(40 - i) * 300000 + 123);
    }
    while (f.count < 40)
        loop_turn(&f.loop, true);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(f.fired[i], 39 - i);
        CHECK(p[i].fired_ns >= p[i].timer.due_ns);
    }
    teardown(&f);
}

TEST(a_timer_restarted_in_the_past_waits_for_the_next_turn)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct probe p;
    probe_init(&p, &f, 1);
    p.again = 10;
    loop_timer_start(&f.loop, &p.timer, 0);
    for (int i = 1; i <= 11; i++) {
        loop_turn(&f.loop, i % 2 == 0);
        CHECK_EQ(f.count, i);
    }
    loop_turn(&f.loop, false);
    CHECK_EQ(f.count, 11);
    teardown(&f);
}

TEST(a_due_timer_that_another_stops_does_not_fire)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct probe a, b, c;
    probe_init(&a, &f, 1);
    probe_init(&b, &f, 2);
    probe_init(&c, &f, 3);
    a.stops = &b.timer;
    loop_timer_start(&f.loop, &a.timer, 0);
    loop_timer_start(&f.loop, &b.timer, 0);
    loop_timer_start(&f.loop, &c.timer, 0);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 2);
    CHECK_EQ(f.fired[1], 3);
    CHECK(!b.timer.active);
    teardown(&f);
}

TEST(a_timer_that_is_moved_fires_at_its_new_time_only)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, true));
    struct probe p;
    probe_init(&p, &f, 1);
    loop_timer_start(&f.loop, &p.timer, LOOP_VIRTUAL_START_NS + 5);
    loop_timer_start(&f.loop, &p.timer, LOOP_VIRTUAL_START_NS + 9);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 1);
    CHECK_EQ(p.fired_ns, LOOP_VIRTUAL_START_NS + 9);
    CHECK_EQ(f.loop.timers.count, 0);
    teardown(&f);
}

static void *wake_soon(void *arg)
{
    loop_wake(arg);
    return NULL;
}

TEST(a_wake_from_another_thread_ends_the_wait)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, wake_soon, &f.loop) == 0);
        loop_turn(&f.loop, true); /* hangs if the wake is lost */
        pthread_join(thread, NULL);
        loop_turn(&f.loop, false);
    }
    teardown(&f);
}

static struct loop *signalled_loop; /* a signal handler has no argument */

static void on_signal(int number)
{
    UNUSED(number);
    loop_wake(signalled_loop);
}

TEST(a_wake_from_a_signal_handler_ends_the_wait)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    signalled_loop = &f.loop;
    void (*before)(int) = signal(SIGUSR1, on_signal);
    REQUIRE(raise(SIGUSR1) == 0);
    loop_turn(&f.loop, true);
    signal(SIGUSR1, before);
    teardown(&f);
}

struct hook_probe {
    struct loop_hook hook;
    int runs;
    bool removes_itself;
};

static void on_hook(struct loop_hook *h)
{
    struct hook_probe *p = CONTAINER_OF(h, struct hook_probe, hook);
    p->runs++;
    if (p->removes_itself)
        loop_hook_remove(h);
}

TEST(hooks_run_on_the_loop_after_a_wake)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct hook_probe a = {.removes_itself = true}, b = {.runs = 0};
    loop_hook_add(&f.loop, &a.hook, on_hook);
    loop_hook_add(&f.loop, &b.hook, on_hook);
    loop_turn(&f.loop, false);
    CHECK_EQ(a.runs + b.runs, 0);
    for (int i = 0; i < 2; i++) {
        loop_wake(&f.loop);
        loop_turn(&f.loop, true);
    }
    CHECK_EQ(a.runs, 1);
    CHECK_EQ(b.runs, 2);
    loop_hook_remove(&b.hook);
    teardown(&f);
}

TEST(virtual_time_jumps_to_the_next_deadline_and_stands_otherwise)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, true));
    struct probe p[3];
    for (int i = 0; i < 3; i++)
        probe_init(&p[i], &f, i);
    CHECK_EQ(loop_now_ns(&f.loop), LOOP_VIRTUAL_START_NS);
    loop_timer_start(&f.loop, &p[0].timer, loop_deadline_ns(&f.loop, 1800));
    loop_timer_start(&f.loop, &p[1].timer, loop_deadline_ns(&f.loop, 0.5));
    loop_timer_start(&f.loop, &p[2].timer, loop_deadline_ns(&f.loop, 1800));
    loop_turn(&f.loop, false);
    CHECK_EQ(f.count, 0);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 1);
    CHECK_EQ(loop_now_ns(&f.loop), LOOP_VIRTUAL_START_NS + NS_PER_S / 2);
    loop_wake(&f.loop); /* something happened: who waits for it goes first */
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 1);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 3);
    CHECK_EQ(f.fired[1], 0);
    CHECK_EQ(f.fired[2], 2);
    CHECK_EQ(loop_now_ns(&f.loop), LOOP_VIRTUAL_START_NS + 1800 * NS_PER_S);
    teardown(&f);
}

TEST(virtual_time_stands_while_a_helper_thread_is_at_work)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, true));
    struct probe p;
    probe_init(&p, &f, 1);
    loop_timer_start(&f.loop, &p.timer, LOOP_VIRTUAL_START_NS + 10);
    loop_busy_add(&f.loop, 1);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, wake_soon, &f.loop) == 0);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 0);
    CHECK_EQ(loop_now_ns(&f.loop), LOOP_VIRTUAL_START_NS);
    pthread_join(thread, NULL);
    loop_turn(&f.loop, false);
    loop_busy_add(&f.loop, -1);
    loop_turn(&f.loop, true);
    CHECK_EQ(f.count, 1);
    teardown(&f);
}

TEST(a_host_that_runs_its_own_loop_sees_our_timers_fire)
{
    uv_loop_t host;
    REQUIRE(uv_loop_init(&host) == 0);
    struct fixture f;
    REQUIRE(setup(&f, &host, false));
    struct probe a, b;
    probe_init(&a, &f, 1);
    probe_init(&b, &f, 2);
    b.again = 3;
    uint64_t now = loop_now_ns(&f.loop);
    loop_timer_start(&f.loop, &a.timer, now + 3 * NS_PER_MS);
    loop_timer_start(&f.loop, &b.timer, now + 1);
    uv_run(&host, UV_RUN_DEFAULT); /* ends by itself when no deadline is left */
    CHECK_EQ(f.count, 5);
    CHECK(a.fired_ns >= a.timer.due_ns);
    teardown(&f);
    CHECK_EQ(uv_loop_close(&host), 0);
}

TEST(a_host_loop_is_kept_alive_by_work_that_will_come_back)
{
    uv_loop_t host;
    REQUIRE(uv_loop_init(&host) == 0);
    struct fixture f;
    REQUIRE(setup(&f, &host, false));
    CHECK(!uv_loop_alive(&host));
    loop_busy_add(&f.loop, 2);
    CHECK(uv_loop_alive(&host));
    loop_busy_add(&f.loop, -1);
    CHECK(uv_loop_alive(&host));
    loop_busy_add(&f.loop, -1);
    CHECK(!uv_loop_alive(&host));
    teardown(&f);
    CHECK_EQ(uv_loop_close(&host), 0);
}

TEST(a_restarted_timer_does_not_trap_the_host_in_one_run)
{
    uv_loop_t host;
    REQUIRE(uv_loop_init(&host) == 0);
    struct fixture f;
    REQUIRE(setup(&f, &host, false));
    struct probe p;
    probe_init(&p, &f, 1);
    p.again = 50;
    loop_timer_start(&f.loop, &p.timer, 0);
    int before = 0;
    while (f.count < 51) {
        uv_run(&host, UV_RUN_ONCE);
        CHECK(f.count <= before + 2); /* libuv looks at its timers twice in a run */
        before = f.count;
    }
    teardown(&f);
    CHECK_EQ(uv_loop_close(&host), 0);
}

TEST(a_host_that_polls_by_itself_learns_how_long_it_may_wait)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct probe p;
    probe_init(&p, &f, 1);
    loop_turn(&f.loop, false); /* a new handle asks for one turn, whose length is 0 */
    CHECK_EQ(loop_timeout_ms(&f.loop), -1);
    loop_timer_start(&f.loop, &p.timer, loop_now_ns(&f.loop) + 3600 * NS_PER_S);
    int ms = loop_timeout_ms(&f.loop);
    CHECK(ms > 3000000 && ms <= 3600000);
    loop_timer_start(&f.loop, &p.timer, 1);
    CHECK_EQ(loop_timeout_ms(&f.loop), 0);
    loop_timer_start(&f.loop, &p.timer, NEVER_NS);
    CHECK_EQ(loop_timeout_ms(&f.loop), -1);
    loop_timer_stop(&f.loop, &p.timer);
    teardown(&f);
}

TEST(turns_without_time_fire_one_timer_at_most_and_all_of_them_in_the_end)
{
    struct fixture f;
    if (!setup(&f, NULL, false))
        return;
    struct probe p[3];
    for (int i = 0; i < 3; i++) {
        probe_init(&p[i], &f, i);
        loop_timer_start(&f.loop, &p[i].timer, (uint64_t)i);
    }
    loop_until(&f.loop, 1);
    for (int turns = 0; turns < 6 && f.count < 3; turns++) {
        int before = f.count;
        CHECK_EQ(loop_timeout_ms(&f.loop), 0);
        loop_turn(&f.loop, false);
        CHECK(f.count <= before + 1);
        CHECK(f.loop.cut || f.count == 3);
    }
    CHECK_EQ(f.count, 3);
    CHECK(f.fired[0] == 0 && f.fired[1] == 1 && f.fired[2] == 2);
    CHECK_EQ(loop_timeout_ms(&f.loop), -1);
    teardown(&f);
}

TEST(timers_that_were_left_over_fire_in_a_turn_that_has_time)
{
    struct fixture f;
    if (!setup(&f, NULL, false))
        return;
    struct probe p[3];
    for (int i = 0; i < 3; i++) {
        probe_init(&p[i], &f, i);
        loop_timer_start(&f.loop, &p[i].timer, 0);
    }
    loop_until(&f.loop, 1);
    for (int turns = 0; turns < 2; turns++)
        loop_turn(&f.loop, false);
    CHECK_EQ(f.count, 1);
    loop_timer_stop(&f.loop, &p[1].timer);
    loop_until(&f.loop, NEVER_NS);
    loop_turn(&f.loop, true);
    CHECK(f.count == 2 && f.fired[1] == 2);
    CHECK(!f.loop.cut);
    teardown(&f);
}

TEST(deadlines_saturate_instead_of_wrapping)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    CHECK(loop_deadline_ns(&f.loop, 1e18) == NEVER_NS);
    CHECK(loop_deadline_ns(&f.loop, 1e300 * 1e300) == NEVER_NS);
    uint64_t now = loop_now_ns(&f.loop);
    uint64_t soon = loop_deadline_ns(&f.loop, 1e-10);
    CHECK(soon > now);
    CHECK(loop_deadline_ns(&f.loop, 1e9) > soon);
    teardown(&f);
}

TEST_MAIN
