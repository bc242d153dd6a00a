/* What plays a host in tests/fault: a runtime that logs nothing, and functions that do little. */
#pragma once

#include "../unit/test.h"

#include "leat.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 }; /* what is freed stays for a while, and all is slower */
#else
enum { SANITIZED = 0 };
#endif

static inline void no_log(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static inline leat_runtime *runtime(void)
{
    return leat_new(&(struct leat_config){.log = no_log}, NULL);
}

/* Runs `source` to its end; false, and says why, unless it ends well. */
static inline bool runs(leat_runtime *rt, const char *source)
{
    struct leat_error err = {"", ""};
    if (!leat_start_string(rt, "=t", source, strlen(source), NULL, &err)) {
        printf("  %s\n", err.message);
        return false;
    }
    if (leat_run(rt) != LEAT_OK)
        printf("  %s\n", leat_report(rt));
    return leat_result(rt) == LEAT_OK;
}

/* Returns 7, whatever it is called with. */
static inline leat_value *host_function(void *arg, const leat_value *const *args, size_t count,
                                        struct leat_error *err)
{
    (void)arg;
    (void)args;
    (void)count;
    (void)err;
    return leat_number(7);
}

/* Counts its calls in `arg`, an int. */
static inline void count_done(void *arg, uint64_t id, enum leat_status status,
                              const leat_value *const *results, size_t count,
                              const struct leat_error *err)
{
    (void)id;
    (void)status;
    (void)results;
    (void)count;
    (void)err;
    (*(int *)arg)++;
}

/* The most memory that the process has had, in KiB. */
static inline long peak_kib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib;
}
