/* The semaphore's arithmetic and its line, with tasks that are nothing but their wait record. */
#include "tasks/sched.h"
#include "tasks/sema.h"
#include "tasks/task_wait.h"
#include "test.h"

enum { TASKS = 8 };

struct rig {
    struct sched sched;
    struct sema sema;
    struct task tasks[TASKS];
};

static void rig_init(struct rig *r, int64_t permits)
{
    memset(r, 0, sizeof *r);
    list_init(&r->sched.ready);
    sema_init(&r->sema, permits);
    for (size_t i = 0; i < TASKS; i++) {
        struct task *t = &r->tasks[i];
        t->sched = &r->sched;
        t->state = TASK_RUNNING;
        list_init(&t->node);
        list_init(&t->late);
        list_init(&t->wait.node);
    }
}

/* What task_park does around sema_join. */
static void park(struct rig *r, int i)
{
    struct task *t = &r->tasks[i];
    t->wait.woken = t->wait.timed_out = false;
    t->state = TASK_PARKED;
    sema_join(&r->sema, t);
}

/* The task runs: true if it was woken with a permit. */
static bool runs_with_permit(struct rig *r, int i)
{
    struct task *t = &r->tasks[i];
    if (t->state != TASK_READY)
        return false;
    list_unlink(&t->node);
    t->state = TASK_RUNNING;
    return true;
}

/* What a cancel does to a waiting task. */
static void cancel(struct rig *r, int i)
{
    struct task *t = &r->tasks[i];
    sema_leave(&r->sema, t);
    list_unlink(&t->node);
    t->state = TASK_RUNNING;
}

TEST(permits_are_counted_and_none_is_made_up)
{
    struct rig r;
    rig_init(&r, 2);
    CHECK(sema_try(&r.sema));
    CHECK(sema_try(&r.sema));
    CHECK(!sema_try(&r.sema));
    CHECK(sema_release(&r.sema));
    CHECK(sema_release(&r.sema));
    CHECK(!sema_release(&r.sema));
    CHECK_EQ(r.sema.available, 2);
}

TEST(a_semaphore_without_permits_gives_none_and_takes_none_back)
{
    struct rig r;
    rig_init(&r, 0);
    CHECK(!sema_try(&r.sema));
    CHECK(!sema_release(&r.sema));
    park(&r, 0);
    CHECK_EQ(sema_waiting(&r.sema), 1);
    sema_resize(&r.sema, 1);
    CHECK(runs_with_permit(&r, 0));
    CHECK(sema_release(&r.sema));
}

TEST(the_line_is_served_in_order_and_nobody_overtakes_it)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK(sema_try(&r.sema));
    park(&r, 0);
    park(&r, 1);
    park(&r, 2);
    CHECK_EQ(sema_waiting(&r.sema), 3);
    CHECK(sema_release(&r.sema));
    CHECK(!sema_try(&r.sema)); /* the permit is the first waiter's, though it has not run yet */
    CHECK(runs_with_permit(&r, 0));
    CHECK(!runs_with_permit(&r, 1));
    CHECK(sema_release(&r.sema));
    CHECK(runs_with_permit(&r, 1));
    CHECK(sema_release(&r.sema));
    CHECK(runs_with_permit(&r, 2));
    CHECK(sema_release(&r.sema));
    CHECK_EQ(r.sema.available, 1);
}

TEST(a_cancel_before_and_after_the_hand_off_passes_the_permit_on)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK(sema_try(&r.sema));
    for (int i = 0; i < 4; i++)
        park(&r, i);
    cancel(&r, 1); /* it waits in the middle of the line */
    CHECK_EQ(sema_waiting(&r.sema), 3);
    CHECK(sema_release(&r.sema));
    cancel(&r, 0); /* it has the permit, and has not run yet */
    CHECK(runs_with_permit(&r, 2));
    CHECK(!runs_with_permit(&r, 3));
    CHECK(sema_release(&r.sema));
    cancel(&r, 3);
    CHECK_EQ(r.sema.available, 1);
    CHECK_EQ(sema_waiting(&r.sema), 0);
}

TEST(a_waiter_that_has_timed_out_holds_no_permit)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK(sema_try(&r.sema));
    park(&r, 0);
    r.tasks[0].wait.timed_out = true;
    task_wake(&r.tasks[0]);
    CHECK_EQ(sema_waiting(&r.sema), 0);
    cancel(&r, 0); /* in the same tick */
    CHECK_EQ(r.sema.available, 0);
    CHECK(sema_release(&r.sema));
    CHECK_EQ(r.sema.available, 1);
}

TEST(resize_up_serves_the_line_and_resize_down_revokes_nothing)
{
    struct rig r;
    rig_init(&r, 3);
    for (int i = 0; i < 3; i++)
        CHECK(sema_try(&r.sema));
    park(&r, 0);
    park(&r, 1);
    sema_resize(&r.sema, 1); /* 3 are out */
    CHECK_EQ(r.sema.available, -2);
    CHECK(sema_release(&r.sema));
    CHECK(sema_release(&r.sema));
    CHECK_EQ(r.sema.available, 0);
    CHECK(!runs_with_permit(&r, 0));
    sema_resize(&r.sema, 2);
    CHECK(runs_with_permit(&r, 0));
    CHECK(!runs_with_permit(&r, 1));
    CHECK(sema_release(&r.sema));
    CHECK(runs_with_permit(&r, 1));
    CHECK(sema_release(&r.sema));
    CHECK(sema_release(&r.sema));
    CHECK(!sema_release(&r.sema));
    CHECK_EQ(r.sema.available, 2);
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

/* After any step: free permits and waiters never stand side by side, and what is out, free or on
 * its way adds up. */
static void check_sums(const struct rig *r, int64_t held)
{
    int64_t granted = 0;
    for (size_t i = 0; i < TASKS; i++)
        granted += r->tasks[i].state == TASK_READY;
    CHECK_EQ(r->sema.available + held + granted, r->sema.limit);
    CHECK(r->sema.available <= 0 || sema_waiting(&r->sema) == 0);
}

TEST(permits_add_up_after_any_sequence_of_steps)
{
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct rig r;
        unsigned state = seed;
        int64_t held = 0;
        rig_init(&r, (int64_t)(next_random(&state) % 4));
        for (int step = 0; step < 2000 && !test_failed; step++) {
            int i = (int)(next_random(&state) % TASKS);
            struct task *t = &r.tasks[i];
            switch (next_random(&state) % 6) {
            case 0:
                held += sema_try(&r.sema);
                break;
            case 1:
                if (held > 0) {
                    CHECK(sema_release(&r.sema));
                    held--;
                }
                break;
            case 2: /* acquire */
                if (t->state == TASK_RUNNING && sema_try(&r.sema))
                    held++;
                else if (t->state == TASK_RUNNING)
                    park(&r, i);
                break;
            case 3:
                if (t->state != TASK_RUNNING)
                    cancel(&r, i);
                break;
            case 4:
                held += runs_with_permit(&r, i);
                break;
            default:
                sema_resize(&r.sema, (int64_t)(next_random(&state) % 5));
            }
            check_sums(&r, held);
        }
        if (test_failed)
            printf("  seed %u\n", seed);
    }
}

TEST_MAIN
