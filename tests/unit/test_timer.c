#include "test.h"

#include "loop/timer.h"

#define TIMERS 500

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* What the heap must agree with: active timers in order of (due, start). */
struct model {
    struct timer *sorted[TIMERS];
    size_t count;
};

static void model_insert(struct model *m, struct timer *t)
{
    size_t i = m->count++;
    while (i > 0 && m->sorted[i - 1]->due_ns > t->due_ns) {
        m->sorted[i] = m->sorted[i - 1];
        i--;
    }
    m->sorted[i] = t;
}

static void model_remove(struct model *m, const struct timer *t)
{
    size_t i = 0;
    while (m->sorted[i] != t)
        i++;
    m->count--;
    memmove(&m->sorted[i], &m->sorted[i + 1], (m->count - i) * sizeof(m->sorted[0]));
}

static void run_steps(uint64_t seed)
{
    struct timer timers[TIMERS];
    struct timer_heap heap = {0};
    struct model model = {.count = 0};
    for (size_t i = 0; i < TIMERS; i++)
        timer_init(&timers[i], NULL);
    uint64_t state = seed;
    for (int step = 0; step < 5000; step++) {
        struct timer *t = &timers[next_random(&state) % TIMERS];
        unsigned what = (unsigned)(next_random(&state) % 10);
        if (what < 5 && !t->active) {
            /* Few distinct deadlines, so that ties are common. */
            timer_heap_insert(&heap, t, next_random(&state) % 64);
            model_insert(&model, t);
        } else if (what < 8) {
            if (t->active)
                model_remove(&model, t);
            timer_heap_remove(&heap, t);
        } else if (model.count > 0) {
            struct timer *first = timer_heap_first(&heap);
            CHECK(first == model.sorted[0]);
            model_remove(&model, first);
            timer_heap_remove(&heap, first);
        }
        CHECK_EQ(heap.count, model.count);
        CHECK(timer_heap_first(&heap) == (model.count > 0 ? model.sorted[0] : NULL));
    }
    uint64_t now = 32;
    timer_heap_take_due(&heap, now);
    while (model.count > 0 && model.sorted[0]->due_ns <= now) {
        /* Every third one is stopped while it waits to be fired. */
        struct timer *t = model.sorted[0];
        model_remove(&model, t);
        if (next_random(&state) % 3 == 0)
            timer_heap_remove(&heap, t);
        else
            CHECK(timer_heap_next_due(&heap) == t);
        CHECK(!t->active);
    }
    CHECK(timer_heap_next_due(&heap) == NULL);
    CHECK_EQ(heap.count, model.count);
    while (model.count > 0) {
        struct timer *t = timer_heap_first(&heap);
        CHECK(t == model.sorted[0]);
        model_remove(&model, t);
        timer_heap_remove(&heap, t);
    }
}

TEST(the_heap_agrees_with_a_sorted_array)
{
    for (uint64_t seed = 1; seed <= 30; seed++)
        run_steps(seed * UINT64_C(0x9e3779b97f4a7c15));
}

TEST(due_timers_anywhere_in_the_row_can_be_stopped)
{
    for (int stop = 0; stop < 4; stop++) {
        struct timer t[4];
        struct timer_heap heap = {0};
        for (int i = 0; i < 4; i++) {
            timer_init(&t[i], NULL);
            timer_heap_insert(&heap, &t[i], 5);
        }
        timer_heap_take_due(&heap, 5);
        CHECK(timer_heap_first(&heap) == NULL);
        timer_heap_remove(&heap, &t[stop]);
        for (int i = 0; i < 4; i++) {
            if (i != stop)
                CHECK(timer_heap_next_due(&heap) == &t[i]);
        }
        CHECK(timer_heap_next_due(&heap) == NULL);
        CHECK_EQ(heap.count, 0);
    }
}

TEST(a_million_timers_in_falling_order_need_no_deep_stack)
{
    size_t n = 1000000;
    struct timer *timers = calloc(n, sizeof(*timers));
    REQUIRE(timers != NULL);
    struct timer_heap heap = {0};
    for (size_t i = 0; i < n; i++)
        timer_heap_insert(&heap, &timers[i], n - i);
    for (size_t i = 0; i < n; i++) {
        struct timer *first = timer_heap_first(&heap);
        if (first != &timers[n - 1 - i]) {
            CHECK(first == &timers[n - 1 - i]);
            break;
        }
        timer_heap_remove(&heap, first);
    }
    CHECK_EQ(heap.count, 0);
    /* And all at one deadline: one row of a million siblings. */
    for (size_t i = 0; i < n && heap.count == i; i++)
        timer_heap_insert(&heap, &timers[i], 1);
    timer_heap_remove(&heap, &timers[0]);
    CHECK(timer_heap_first(&heap) == &timers[1]);
    free(timers);
}

TEST_MAIN
