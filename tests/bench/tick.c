/* How long leat_step takes inside a host's frame: ticks of 500 us with 200 requests in flight, or
 * with a script that computes without waiting. Prints a histogram. Usage: tick URL io|loop|watchdog
 * [TICKS] */
#include <leat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUDGET_US = 500, FRAME_US = 2000, BUCKETS = 12 };

static const char io_source[] =
    "local url = ...\n"
    "local body = { model = 'm', messages = { { role = 'user', content = 'hello' } } }\n"
    "for _ = 1, 200 do spawn(function()\n"
    "    while true do\n"
    "        local res = request { url = url .. '/v1/chat/completions', json = body }\n"
    "        if res then res:json() end\n"
    "    end\n"
    "end) end\n";
static const char loop_source[] = "local n = 0 while true do n = (n + 1) % 1000003 end";

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
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
            printf("  under %5llu us %8zu  ", (unsigned long long)ends[b], count);
        else
            printf("  longer         %8zu  ", count);
        for (size_t k = 0; k < count * 50 / n; k++)
            putchar('#');
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tick URL io|loop|watchdog [TICKS]\n");
        return 2;
    }
    bool io = strcmp(argv[2], "io") == 0;
    struct leat_config config = {.time_limit_ms = io ? 0 : 3600000,
                                 .jit_watchdog = strcmp(argv[2], "watchdog") == 0};
    size_t ticks = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 2000;
    struct leat_error err;
    leat_runtime *rt = leat_new(&config, &err);
    leat_value *url = leat_string(argv[1], SIZE_MAX);
    const leat_value *args[] = {url};
    uint64_t *took = calloc(ticks ? ticks : 1, sizeof *took);
    if (!rt || !took ||
        !leat_eval(rt, "=tick", io ? io_source : loop_source, SIZE_MAX, args, 1, NULL, NULL,
                   &err)) {
        fprintf(stderr, "tick: %s\n", err.message);
        return 1;
    }
    struct leat_stats stats = {.active = 0};
    while (io && stats.active < 200) { /* the first connections are not what is measured */
        leat_step(rt, BUDGET_US);
        leat_get_stats(rt, &stats);
    }
    for (size_t i = 0; i < ticks; i++) {
        uint64_t began = now_us();
        leat_step(rt, BUDGET_US);
        took[i] = now_us() - began;
        if (took[i] < FRAME_US) {
            struct timespec rest = {.tv_nsec = (long)(FRAME_US - took[i]) * 1000};
            nanosleep(&rest, NULL);
        }
    }
    leat_get_stats(rt, &stats);
    qsort(took, ticks, sizeof *took, by_size);
    printf("%s: %zu ticks of %d us, %zu requests in flight, %llu done: p50 %llu us, p99 %llu us, "
           "longest %llu us\n",
           argv[2], ticks, BUDGET_US, stats.active, (unsigned long long)stats.requests_done,
           (unsigned long long)took[ticks / 2], (unsigned long long)took[ticks * 99 / 100],
           (unsigned long long)took[ticks - 1]);
    print_histogram(took, ticks);
    free(took);
    leat_value_free(url);
    leat_free(rt);
    return 0;
}
