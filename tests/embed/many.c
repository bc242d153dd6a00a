/* 64 runtimes in 8 threads, each made, used, and freed with requests in flight: nothing may stay
 * behind. Usage: many QUICK SLOW [CA], two addresses: one that answers with 200, one that is slow
 * to answer. */
#include <dirent.h>
#include <leat.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, RUNTIMES = 8 };

static const char source[] =
    "local quick, slow, ca = ...\n"
    "assert(assert(request { url = quick, ca_file = ca }).status == 200)\n"
    "for i = 1, 10 do spawn(request, { url = slow, method = 'POST', ca_file = ca,\n"
    "    json = { model = 'm', messages = { { role = 'user', content = 'hello' } } } }) end\n"
    "sleep(0)\n"
    "return true\n";

struct part {
    char **args; /* quick, slow, certificates */
    int failures;
};

static void *run_some(void *arg)
{
    struct part *part = arg;
    leat_runtime *rts[RUNTIMES];
    struct leat_error err;
    for (int i = 0; i < RUNTIMES; i++) {
        rts[i] = leat_new(NULL, &err);
        leat_value *values[3] = {NULL, NULL, NULL};
        for (int k = 0; k < 3 && part->args[k]; k++)
            values[k] = leat_string(part->args[k], SIZE_MAX);
        if (!rts[i] || !leat_eval(rts[i], "=many", source, SIZE_MAX,
                                  (const leat_value *const *)values, 3, NULL, NULL, &err)) {
            printf("%s\n", err.message);
            part->failures++;
        }
        for (int k = 0; k < 3; k++)
            leat_value_free(values[k]);
    }
    /* Until each has its ten requests on the way. */
    for (int i = 0; i < RUNTIMES; i++) {
        struct leat_stats stats = {.active = 0};
        for (long turns = 0; rts[i] && stats.active < 10; turns++) {
            if (leat_step(rts[i], 1000) == LEAT_DONE) {
                printf("ended before its requests: %s\n", leat_report(rts[i]));
                part->failures++;
                break;
            }
            leat_get_stats(rts[i], &stats);
        }
    }
    for (int i = 0; i < RUNTIMES; i++)
        leat_free(rts[i]);
    return NULL;
}

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static int round_of_threads(char **args)
{
    pthread_t threads[THREADS];
    struct part parts[THREADS];
    int failures = 0;
    for (int i = 0; i < THREADS; i++) {
        parts[i] = (struct part){args, 0};
        if (pthread_create(&threads[i], NULL, run_some, &parts[i]) != 0)
            abort();
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        failures += parts[i].failures;
    }
    return failures;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int failures = round_of_threads(argv + 1); /* what libraries open once is open now */
    int before = open_files();
    failures += round_of_threads(argv + 1);
    int after = open_files();
    if (after != before)
        printf("%d files are open, %d before\n", after, before);
    printf("%d passed, %d failed\n", (failures == 0) + (after == before),
           (failures != 0) + (after != before));
    return failures != 0 || after != before;
}
