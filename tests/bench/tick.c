/* How long leat_step takes inside a host's frame: ticks of 500 us with 200 requests in flight, with
 * streams of server-sent events that are read, or with a script that computes without waiting.
 * Prints a histogram, and the same by the thread's own CPU time: on a busy machine the difference
 * is what others took.
 *
 * Usage: tick io|loop|watchdog TICKS [URL [CA]], where URL takes a chat request
 *        tick sse TICKS URL STREAMS THREADS, where URL sends events; with so many network threads
 */
#include <leat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BUDGET_US = 500,
    LATE_US = 600,
    FRAME_US = 2000,
    IN_FLIGHT = 200,
    BUCKETS = 12,
    ENDED = 200
};

static const char io_source[] =
    "local url, ca = ...\n"
    "local body = { model = 'm', messages = { { role = 'user', content = 'hello' } } }\n"
    "for _ = 1, 200 do spawn(function()\n"
    "    while true do\n"
    "        local to = url:gsub('RANDOM', math.random(50, 400))\n"
    "        local res = assert(request { url = to, json = body, ca_file = ca })\n"
    "        version = res.version\n"
    "        if res.headers['content-type'] == 'application/json' then res:json() end\n"
    "    end\n"
    "end) end\n";
static const char sse_source[] = "local url, streams = ...\n"
                                 "events = 0\n"
                                 "for _ = 1, streams do spawn(function()\n"
                                 "    local res = assert(request { url = url, stream = true })\n"
                                 "    for event in res:events() do events = events + 1 end\n"
                                 "end) end\n";
static const char loop_source[] = "local n = 0 while true do n = (n + 1) % 1000003 end";

static uint64_t now_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_figures(const char *what, uint64_t *took, size_t n)
{
    qsort(took, n, sizeof *took, by_size);
    printf("  %s p50 %llu us, p99 %llu us, longest %llu us\n", what,
           (unsigned long long)took[n / 2], (unsigned long long)took[n * 99 / 100],
           (unsigned long long)took[n - 1]);
}

static void print_histogram(const uint64_t *took, size_t n)
{
    static const uint64_t ends[BUCKETS] = {10,  50,  100,  200,  400,   500,
                                           550, 600, 1000, 5000, 10000, UINT64_MAX};
    size_t i = 0;
    for (int b = 0; b < BUCKETS; b++) {
        size_t count = 0;
        for (; i < n && took[i] < ends[b]; i++)
            count++;
        if (b < BUCKETS - 1)
            printf("    under %5llu us %7zu  ", (unsigned long long)ends[b], count);
        else
            printf("    longer         %7zu  ", count);
        for (size_t k = 0; k < count * 50 / n; k++)
            putchar('#');
        putchar('\n');
    }
}

/* One step; by the clock, and by what this thread computed. */
static void tick(leat_runtime *rt, uint64_t *wall, uint64_t *cpu)
{
    uint64_t began_cpu = now_us(CLOCK_THREAD_CPUTIME_ID), began = now_us(CLOCK_MONOTONIC);
    leat_step(rt, BUDGET_US);
    *wall = now_us(CLOCK_MONOTONIC) - began;
    *cpu = now_us(CLOCK_THREAD_CPUTIME_ID) - began_cpu;
    if (*wall < FRAME_US) {
        struct timespec rest = {.tv_nsec = (long)(FRAME_US - *wall) * 1000};
        nanosleep(&rest, NULL);
    }
}

static void ended(void *arg, uint64_t id, enum leat_status status, const leat_value *const *results,
                  size_t count, const struct leat_error *err)
{
    (void)id, (void)status, (void)results, (void)count;
    snprintf(arg, ENDED, "%s", err ? err->message : "it ended");
}

static void print_result(void *arg, uint64_t id, enum leat_status status,
                         const leat_value *const *results, size_t count,
                         const struct leat_error *err)
{
    (void)arg, (void)id, (void)status, (void)err;
    printf(", %s", count > 0 ? leat_to_string(results[0], NULL) : "?");
}

static void print_value(leat_runtime *rt, const char *source)
{
    leat_eval(rt, "=value", source, SIZE_MAX, NULL, 0, print_result, NULL, NULL);
    leat_step(rt, BUDGET_US);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tick io|sse|loop|watchdog TICKS [URL [CA | STREAMS THREADS]]\n");
        return 2;
    }
    bool sse = strcmp(argv[1], "sse") == 0 && argc > 5;
    bool io = strcmp(argv[1], "io") == 0;
    char over[ENDED] = ""; /* why the script, which never ends, did */
    struct leat_config config = {.time_limit_ms = io || sse ? 0 : 3600000,
                                 .network_threads = sse ? (unsigned)atoi(argv[5]) : 0,
                                 .jit_watchdog = strcmp(argv[1], "watchdog") == 0,
                                 .min_log_level = LEAT_LOG_ERROR};
    size_t ticks = (size_t)strtoul(argv[2], NULL, 10), late = 0, not_ours = 0;
    struct leat_error err;
    leat_runtime *rt = leat_new(&config, &err);
    leat_value *url = leat_string(argc > 3 ? argv[3] : "", SIZE_MAX);
    leat_value *ca = argc > 4 ? leat_string(argv[4], SIZE_MAX) : NULL;
    const leat_value *args[] = {url, ca};
    uint64_t *wall = calloc(ticks + 1, sizeof *wall), *cpu = calloc(ticks + 1, sizeof *cpu);
    if (!ticks || !rt || !wall || !cpu ||
        !leat_eval(rt, "=tick",
                   io    ? io_source
                   : sse ? sse_source
                         : loop_source,
                   SIZE_MAX, args, 2, ended, over, &err)) {
        fprintf(stderr, "tick: %s\n", err.message);
        return 1;
    }
    struct leat_stats stats = {.active = 0};
    uint64_t longest = 0;
    /* While connections are made. */
    while (!over[0] && ((io && stats.requests_done < IN_FLIGHT) ||
                        (sse && stats.active < (size_t)atoi(argv[4])))) {
        tick(rt, wall, cpu);
        longest = *cpu > longest ? *cpu : longest;
        leat_get_stats(rt, &stats);
    }
    uint64_t done = stats.requests_done;
    for (size_t i = 0; i < ticks && !over[0]; i++) {
        tick(rt, &wall[i], &cpu[i]);
        late += wall[i] > LATE_US;
        not_ours += wall[i] > LATE_US && cpu[i] <= LATE_US;
    }
    if (over[0]) {
        fprintf(stderr, "tick: %s\n", over);
        return 1;
    }
    leat_get_stats(rt, &stats);
    printf("%s: %zu ticks of %d us", argv[1], ticks, BUDGET_US);
    if (io) {
        print_value(rt, "return version");
        printf(", %zu requests in flight, %llu done; longest while connecting %llu us CPU",
               stats.active, (unsigned long long)(stats.requests_done - done),
               (unsigned long long)longest);
    }
    if (sse) {
        printf(", %s streams, %s network threads", argv[4], argv[5]);
        print_value(rt, "return events .. ' events'");
    }
    putchar('\n');
    print_figures("wall", wall, ticks);
    print_figures("CPU ", cpu, ticks);
    printf("  over %d us: %zu, of them %zu where the thread did not run for the rest of it\n",
           LATE_US, late, not_ours);
    print_histogram(wall, ticks);
    free(wall);
    free(cpu);
    leat_value_free(url);
    leat_value_free(ca);
    leat_free(rt);
    return 0;
}
