/* What a call of leat.h costs for each element must not depend on how many there are: done with n
 * and with 10 n, an element of the many may cost at most twice as much. By the CPU time of this
 * thread, the best of several runs, taken again with more elements where it looks bad.
 * LEAT_GROWTH=n: the smaller number. */
#include "leat.h"

#include "ground/base.h"
#include "test.h"

#include <stdlib.h>
#include <time.h>

static void no_log(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static leat_runtime *runtime(void)
{
    return leat_new(&(struct leat_config){.virtual_time = true, .log = no_log}, NULL);
}

static leat_value *list_of(size_t n)
{
    leat_value *list = leat_table();
    for (size_t i = 0; i < n; i++)
        CHECK(leat_append(list, leat_number((double)i)));
    return list;
}

static leat_value *fields_of(size_t n)
{
    leat_value *table = leat_table();
    char name[32];
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "field%zu", i);
        CHECK(leat_set(table, name, leat_boolean(true)));
    }
    return table;
}

static void grow_list(size_t n)
{
    leat_value *list = list_of(n);
    for (size_t i = 0; i < leat_length(list); i++)
        CHECK(leat_to_number(leat_at(list, i), -1) == (double)i);
    leat_value_free(list);
}

static void grow_fields(size_t n)
{
    leat_value *table = fields_of(n);
    for (size_t i = 0; i < leat_field_count(table); i++)
        CHECK(leat_to_boolean(leat_field(table, leat_field_name(table, i))));
    leat_value_free(table);
}

static size_t done_count;

static void count_done(void *arg, uint64_t id, enum leat_status status,
                       const leat_value *const *results, size_t count, const struct leat_error *err)
{
    (void)arg;
    (void)id;
    (void)status;
    (void)results;
    (void)count;
    (void)err;
    done_count++;
}

static const char source[] = "sleep(1) return ...";

static void cross(size_t n)
{
    leat_runtime *rt = runtime();
    leat_value *args[] = {list_of(n), fields_of(n)};
    const leat_value *given[] = {args[0], args[1]};
    CHECK(leat_eval(rt, "=t", source, strlen(source), given, 2, count_done, NULL, NULL) != 0);
    CHECK_EQ(leat_run(rt), LEAT_OK);
    leat_value_free(args[0]);
    leat_value_free(args[1]);
    leat_free(rt);
}

static void call_all(size_t n)
{
    leat_runtime *rt = runtime();
    CHECK(leat_start_string(rt, "=t", "function f(x) sleep(x) end", 26, NULL, NULL));
    leat_run(rt);
    done_count = 0;
    for (size_t i = 0; i < n; i++) {
        leat_value *arg = leat_number((double)(n - i));
        const leat_value *args[] = {arg};
        CHECK(leat_call(rt, "f", args, 1, count_done, NULL, NULL) != 0);
        leat_value_free(arg);
    }
    leat_run(rt);
    CHECK_EQ(done_count, n);
    leat_free(rt);
}

static void start_and_cancel(size_t n)
{
    leat_runtime *rt = runtime();
    uint64_t *ids = malloc(n * sizeof *ids);
    struct leat_script script = {.name = "=t", .source = "sleep(100)", .len = SIZE_MAX};
    for (size_t i = 0; i < n; i++)
        ids[i] = leat_start_script(rt, &script, count_done, NULL, NULL);
    for (size_t i = n; i-- > 0;) {
        CHECK_EQ(leat_status_of(rt, ids[i]), LEAT_RUNNING);
        CHECK(leat_cancel(rt, ids[i]));
    }
    leat_run(rt);
    free(ids);
    leat_free(rt);
}

struct calls {
    uint64_t *ids;
    size_t count;
};

static void note_call(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    (void)args;
    (void)count;
    struct calls *calls = arg;
    calls->ids[calls->count++] = call;
}

static void complete_newest_first(size_t n)
{
    leat_runtime *rt = runtime();
    struct calls calls = {.ids = malloc(n * sizeof(uint64_t))};
    CHECK(leat_register_async(rt, "work", note_call, NULL, &calls, NULL));
    char text[100];
    snprintf(text, sizeof text, "for i = 1, %zu do spawn(work) end", n);
    CHECK(leat_start_string(rt, "=t", text, strlen(text), NULL, NULL));
    while (calls.count < n)
        leat_step(rt, 100000);
    while (calls.count > 0)
        CHECK(
            leat_complete(leat_mailbox_of(rt), calls.ids[--calls.count], leat_boolean(true), NULL));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    free(calls.ids);
    leat_free(rt);
}

static leat_value *nothing(void *arg, const leat_value *const *args, size_t count,
                           struct leat_error *err)
{
    (void)arg;
    (void)args;
    (void)count;
    (void)err;
    return NULL;
}

static void register_all(size_t n)
{
    leat_runtime *rt = runtime();
    char name[32];
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "game.f%zu", i);
        CHECK(leat_register(rt, name, nothing, NULL, NULL));
    }
    leat_free(rt);
}

static double cpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Repeated until it is long beside the steps of the clock, which are 10 ms on some machines. */
static double cost(void (*fn)(size_t n), size_t n, int times)
{
    double from = cpu_now(), runs = 0;
    do {
        for (int i = 0; i < times; i++)
            fn(n);
        runs += times;
    } while (cpu_now() - from < 0.1);
    return (cpu_now() - from) / (double)n / runs;
}

static double ratio_of(void (*fn)(size_t n), size_t n)
{
    double few = 1e9, many = 1e9;
    for (int i = 0; i < 4 && (i == 0 || many > 2 * few); i++) {
        few = MIN(few, cost(fn, n, 10));
        many = MIN(many, cost(fn, 10 * n, 1));
    }
    return many / few;
}

static void check_growth(const char *what, void (*fn)(size_t n))
{
    const char *given = getenv("LEAT_GROWTH");
    size_t n = given ? (size_t)strtoul(given, NULL, 10) : 500;
    double ratio = 0;
    for (int i = 0; i < 3; i++, n *= 3) { /* more of them tell a curve from a busy machine */
        ratio = ratio_of(fn, n);
        if (ratio <= 2)
            break;
    }
    if (getenv("LEAT_GROWTH_SHOW"))
        printf("%6.2f  %s\n", ratio, what);
    CHECK(ratio <= 2);
}

/* Not here, as they take no elements: leat_backend_fd leat_exit_code leat_get_stats_sized
 * leat_interrupt leat_mailbox_release leat_mailbox_retain leat_new_sized leat_report
 * leat_result leat_start_file leat_string leat_timeout_ms leat_to_string leat_type_of leat_user
 * leat_version. */
TEST(ten_times_as_many_elements_cost_ten_times_as_much)
{
    check_growth("leat_append leat_at leat_length", grow_list);
    check_growth("leat_set leat_field leat_field_name", grow_fields);
    check_growth("values that cross", cross);
    check_growth("leat_call", call_all);
    check_growth("leat_start_script leat_status_of leat_cancel", start_and_cancel);
    check_growth("leat_complete", complete_newest_first);
    check_growth("leat_register", register_all);
}

TEST_MAIN
