/* The harness of the C unit tests: one program per module, one line per test, a verdict at the end.
 * A failed CHECK prints where and goes on; REQUIRE leaves the test (for what later lines depend
 * on).
 *
 *     #include "test.h"
 *     TEST(a_buffer_past_its_cap_stays_as_it_was) { CHECK_EQ(1 + 1, 2); }
 *     TEST_MAIN
 *
 * The first argument of the program filters by substring. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*fn)(void);
    struct test_case *next;
};

static struct test_case *test_first, *test_last;
static bool test_failed;

#define TEST(test_name)                                                                            \
    static void test_##test_name(void);                                                            \
    static struct test_case test_case_##test_name = {#test_name, test_##test_name, NULL};          \
    __attribute__((constructor)) static void test_register_##test_name(void)                       \
    {                                                                                              \
        test_add(&test_case_##test_name);                                                          \
    }                                                                                              \
    static void test_##test_name(void)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, #cond);                                                  \
    } while (0)

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            test_fail(__FILE__, __LINE__, #cond);                                                  \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* Integers of any width and enums; compared as 64 bits. */
#define CHECK_EQ(a, b) test_check_eq(__FILE__, __LINE__, #a, (long long)(a), (long long)(b))
#define CHECK_STR(a, b) test_check_str(__FILE__, __LINE__, #a, (a), (b))

#define TEST_MAIN                                                                                  \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_run(argc > 1 ? argv[1] : "");                                                  \
    }

__attribute__((unused)) static void test_add(struct test_case *c)
{
    if (test_last)
        test_last->next = c;
    else
        test_first = c;
    test_last = c;
}

__attribute__((unused)) static void test_fail(const char *file, int line, const char *what)
{
    printf("  %s:%d: %s\n", file, line, what);
    test_failed = true;
}

__attribute__((unused)) static void test_check_eq(const char *file, int line, const char *what,
                                                  long long a, long long b)
{
    if (a == b)
        return;
    printf("  %s:%d: %s is %lld, expected %lld\n", file, line, what, a, b);
    test_failed = true;
}

__attribute__((unused)) static void test_check_str(const char *file, int line, const char *what,
                                                   const char *a, const char *b)
{
    if (a == b || (a && b && strcmp(a, b) == 0))
        return;
    printf("  %s:%d: %s is \"%s\", expected \"%s\"\n", file, line, what, a ? a : "(null)",
           b ? b : "(null)");
    test_failed = true;
}

__attribute__((unused)) static int test_run(const char *filter)
{
    /* Unbuffered, so that what a crashing test printed is not lost with it. */
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    int passed = 0, failed = 0;
    for (struct test_case *c = test_first; c; c = c->next) {
        if (!strstr(c->name, filter))
            continue;
        test_failed = false;
        c->fn();
        printf("%s %s\n", test_failed ? "FAIL" : "ok", c->name);
        if (test_failed)
            failed++;
        else
            passed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
