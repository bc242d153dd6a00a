/* 64 runtimes in 8 threads, each made, used, and freed with requests in flight: nothing may stay
 * behind. The argument is an address that accepts connections and is slow to answer. */
#include <dirent.h>
#include <leat.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, RUNTIMES = 8 };

static const char source[] =
    "local url = ...\n"
    "assert(request(url .. '/v1/models').status == 200)\n"
    "for i = 1, 10 do spawn(request, { url = url .. '/v1/chat/completions', method = 'POST',\n"
    "    json = { model = 'm', messages = { { role = 'user', content = 'hello' } } } }) end\n"
    "sleep(0)\n"
    "return true\n";

struct part {
    const char *url;
    int failures;
};

static void *run_some(void *arg)
{
    struct part *part = arg;
    leat_runtime *rts[RUNTIMES];
    struct leat_error err;
    for (int i = 0; i < RUNTIMES; i++) {
        rts[i] = leat_new(NULL, &err);
        leat_value *url = leat_string(part->url, SIZE_MAX);
        const leat_value *args[] = {url};
        if (!rts[i] || !leat_eval(rts[i], "=many", source, SIZE_MAX, args, 1, NULL, NULL, &err)) {
            printf("%s\n", err.message);
            part->failures++;
        }
        leat_value_free(url);
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

static int round_of_threads(const char *url)
{
    pthread_t threads[THREADS];
    struct part parts[THREADS];
    int failures = 0;
    for (int i = 0; i < THREADS; i++) {
        parts[i] = (struct part){url, 0};
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
    if (argc < 2)
        return 2;
    int failures = round_of_threads(argv[1]); /* what libraries open once is open now */
    int before = open_files();
    failures += round_of_threads(argv[1]);
    int after = open_files();
    if (after != before)
        printf("%d files are open, %d before\n", after, before);
    printf("%d passed, %d failed\n", (failures == 0) + (after == before),
           (failures != 0) + (after != before));
    return failures != 0 || after != before;
}
