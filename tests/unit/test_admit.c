#include "engine/admit.h"
#include "test.h"

TEST(places_are_given_in_order_of_arrival)
{
    struct admit a;
    struct admit_host h;
    struct admit_ticket t[5];
    admit_init(&a, 2);
    admit_host_init(&h);
    for (int i = 0; i < 5; i++) {
        admit_ticket_init(&t[i]);
        admit_enter(&a, &t[i], &h, 0);
    }
    CHECK(admit_next(&a) == &t[0]);
    CHECK(admit_next(&a) == &t[1]);
    CHECK(!admit_next(&a));
    CHECK_EQ(a.waiting, 3);
    admit_leave(&a, &t[1]);
    CHECK(admit_next(&a) == &t[2]);
    CHECK(!admit_next(&a));
    for (int i = 0; i < 5; i++)
        admit_leave(&a, &t[i]);
    CHECK_EQ(a.active, 0);
    CHECK_EQ(a.waiting, 0);
    CHECK_EQ(a.ready.count, 0);
}

TEST(a_full_host_does_not_hold_up_the_others)
{
    struct admit a;
    struct admit_host busy, free_host;
    struct admit_ticket b[3], f[2];
    admit_init(&a, 10);
    admit_host_init(&busy);
    admit_host_init(&free_host);
    for (int i = 0; i < 3; i++) {
        admit_ticket_init(&b[i]);
        admit_enter(&a, &b[i], &busy, 1);
    }
    for (int i = 0; i < 2; i++) {
        admit_ticket_init(&f[i]);
        admit_enter(&a, &f[i], &free_host, 0);
    }
    CHECK(admit_next(&a) == &b[0]);
    CHECK(admit_next(&a) == &f[0]);
    CHECK(admit_next(&a) == &f[1]);
    CHECK(!admit_next(&a));
    admit_leave(&a, &b[0]);
    CHECK(admit_next(&a) == &b[1]);
    CHECK(!admit_next(&a));
    admit_leave(&a, &b[1]);
    admit_leave(&a, &b[2]);
    admit_leave(&a, &f[0]);
    admit_leave(&a, &f[1]);
    CHECK_EQ(a.active, 0);
    CHECK_EQ(a.ready.count, 0);
}

TEST(a_waiter_at_the_head_that_gives_up_lets_the_next_one_on)
{
    struct admit a;
    struct admit_host h;
    struct admit_ticket t[3];
    admit_init(&a, 1);
    admit_host_init(&h);
    for (int i = 0; i < 3; i++) {
        admit_ticket_init(&t[i]);
        admit_enter(&a, &t[i], &h, 0);
    }
    CHECK(admit_next(&a) == &t[0]);
    admit_leave(&a, &t[1]);
    admit_leave(&a, &t[1]);
    admit_leave(&a, &t[0]);
    admit_leave(&a, &t[0]);
    CHECK(admit_next(&a) == &t[2]);
    admit_leave(&a, &t[2]);
    CHECK_EQ(a.active, 0);
}

TEST(the_longest_waiter_goes_first_across_hosts)
{
    struct admit a;
    struct admit_host h[3];
    struct admit_ticket t[9], last;
    admit_init(&a, 1);
    for (int i = 0; i < 3; i++)
        admit_host_init(&h[i]);
    admit_ticket_init(&last);
    admit_enter(&a, &last, &h[0], 0);
    CHECK(admit_next(&a) == &last);
    for (int i = 0; i < 9; i++) {
        admit_ticket_init(&t[i]);
        admit_enter(&a, &t[i], &h[i * 2 % 3], 2);
    }
    admit_leave(&a, &last);
    for (int i = 0; i < 9; i++) {
        struct admit_ticket *next = admit_next(&a);
        CHECK(next == &t[i]);
        if (next)
            admit_leave(&a, next);
    }
}

/* Random comings and goings against a plain model that scans. */
TEST(random_traffic_keeps_both_limits_and_the_order)
{
    enum { HOSTS = 4, TICKETS = 200, TOTAL = 7 };
    static const size_t limits[HOSTS] = {1, 2, 5, 0};
    struct admit a;
    struct admit_host h[HOSTS];
    struct admit_ticket t[TICKETS];
    int host_of[TICKETS] = {0}, state[TICKETS] = {0}; /* 0 out, 1 waiting, 2 held */
    uint64_t order[TICKETS] = {0}, clock = 1;
    uint32_t seed = 12345;
    admit_init(&a, TOTAL);
    for (int i = 0; i < HOSTS; i++)
        admit_host_init(&h[i]);
    for (int i = 0; i < TICKETS; i++)
        admit_ticket_init(&t[i]);
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525u + 1013904223u;
        int i = (int)(seed >> 8) % TICKETS;
        if (state[i] == 0) {
            host_of[i] = (int)(seed >> 20) % HOSTS;
            admit_enter(&a, &t[i], &h[host_of[i]], limits[host_of[i]]);
            state[i] = 1;
            order[i] = clock++;
        } else {
            admit_leave(&a, &t[i]);
            state[i] = 0;
        }
        for (;;) {
            size_t active[HOSTS] = {0}, total = 0;
            for (int k = 0; k < TICKETS; k++) {
                if (state[k] == 2) {
                    active[host_of[k]]++;
                    total++;
                }
            }
            int best = -1;
            for (int k = 0; k < TICKETS && total < TOTAL; k++) {
                size_t limit = limits[host_of[k]];
                if (state[k] == 1 && (limit == 0 || active[host_of[k]] < limit) &&
                    (best < 0 || order[k] < order[best]))
                    best = k;
            }
            struct admit_ticket *next = admit_next(&a);
            REQUIRE(next == (best < 0 ? NULL : &t[best]));
            if (!next)
                break;
            state[best] = 2;
        }
    }
}

TEST_MAIN
