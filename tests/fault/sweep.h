/* One run after the other with one allocation after the other made to fail: what the tests of
 * FAULTS that need it share. LEAT_FULL=1 fails each of them, without it some POINTS of a scenario
 * (LEAT_POINTS=n: as many); LEAT_POINT=n that one alone. */
#pragma once

#include "../unit/test.h"

#include "leat.h"
#include "lua/lua_rt.h"
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

enum { POINTS = 200, STUCK_AFTER_S = 200, ENOUGH_COMPLAINTS = 20, WARM_UP = 1 << 30 };

static const char *sweep_name;
static int sweep_complaints;
static volatile long sweep_point;

static void sweep_say_where(const char *what)
{
    char text[160];
    int n =
        snprintf(text, sizeof text, "  %s %s at allocation %ld\n", sweep_name, what, sweep_point);
    (void)!write(STDOUT_FILENO, text, (size_t)n);
}

__attribute__((unused)) static void sweep_on_alarm(int sig)
{
    (void)sig;
    sweep_say_where("hangs");
    _exit(1);
}

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

__attribute__((unused)) static void sweep_died(void)
{
    sweep_say_where("dies");
}

__attribute__((unused)) static void sweep_on_crash(int sig)
{
    sweep_died();
    signal(sig, SIG_DFL);
    raise(sig);
}

__attribute__((unused)) static void complain(const char *what, const char *report)
{
    printf("  %s, allocation %ld: %s: %s\n", sweep_name, sweep_point, what, report);
    test_failed = true;
    sweep_complaints++;
}

__attribute__((unused)) static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

__attribute__((unused)) static struct mem *mem_of(leat_runtime *r)
{
    return &((struct rt *)(void *)r)->mem; /* the runtime's first member */
}

/* A log that keeps the line that says what was not given back, and whether one told of memory. */
struct left {
    char line[512];
    bool memory_told;
};

__attribute__((unused)) static void keep_left(void *arg, enum leat_log_level level,
                                              const char *line)
{
    struct left *left = arg;
    (void)level;
    if (strstr(line, "not given back"))
        snprintf(left->line, sizeof left->line, "%s", line);
    if (strstr(line, "memory"))
        left->memory_told = true;
}

/* A scenario: runs with the n-th allocation failing, complains of what is wrong, and returns how
 * many it would have taken until the failing one, -1 if that came. */
typedef long (*sweep_play_fn)(const void *scenario, long n);

__attribute__((unused)) static long sweep_play(sweep_play_fn play, const void *scenario, long n)
{
    int files = open_files();
    sweep_point = n;
    const char *patience = getenv("LEAT_PATIENCE");
    alarm(STUCK_AFTER_S * (patience ? (unsigned)atoi(patience) : 1));
    long left = play(scenario, n);
    alarm(0);
    /* The first run opens what stays open for the whole process. */
    if (n != WARM_UP && files != open_files())
        complain("it ends", "files are open that were not");
    return left;
}

__attribute__((unused)) static void sweep(const char *name, sweep_play_fn play,
                                          const void *scenario)
{
    sweep_name = name;
    sweep_complaints = 0;
    signal(SIGALRM, sweep_on_alarm);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(sweep_died);
#else
    signal(SIGSEGV, sweep_on_crash);
    signal(SIGABRT, sweep_on_crash);
    signal(SIGFPE, sweep_on_crash);
#endif
    (void)sweep_play(play, scenario, WARM_UP);
    long total = WARM_UP - sweep_play(play, scenario, WARM_UP);
    if (test_failed)
        return;
    const char *point = getenv("LEAT_POINT");
    if (point) {
        (void)sweep_play(play, scenario, atol(point));
        return;
    }
    const char *wanted_text = getenv("LEAT_POINTS");
    long wanted = wanted_text ? atol(wanted_text) : POINTS;
    /* With a network, and the clock, it is some more or fewer. */
    long step = getenv("LEAT_FULL") || total < 2 * wanted ? 1 : total * 9 / 10 / wanted;
    long n = 0, points = 0;
    while (sweep_complaints < ENOUGH_COMPLAINTS && sweep_play(play, scenario, n) < 0) {
        n += step;
        points++;
    }
    printf("  %s: %ld allocations, %ld of them tried\n", name, total, points);
    CHECK(points >= wanted || step == 1 || test_failed);
}
