/* What a host starts, and what it is told of its end: by a callback, by leat_result and
 * leat_report, by leat_status_of, or by the log where it asks by none of them. */
#include "test.h"

#include "leat.h"
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct told {
    int lines, errors;
    char text[4096];
};

static void keep_log(void *arg, enum leat_log_level level, const char *line)
{
    struct told *t = arg;
    t->lines++;
    t->errors += level == LEAT_LOG_ERROR;
    size_t len = strlen(t->text);
    snprintf(t->text + len, sizeof t->text - len, "%s\n", line);
}

struct ending {
    int calls;
    uint64_t id;
    enum leat_status status;
    size_t count;
    char text[600], kind[16];
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct ending *e = arg;
    e->calls++;
    e->id = id;
    e->status = status;
    e->count = count;
    const char *text = count > 0 ? leat_to_string(results[0], NULL) : NULL;
    snprintf(e->text, sizeof e->text, "%s", err ? err->message : text ? text : "");
    snprintf(e->kind, sizeof e->kind, "%s", err ? err->kind : "");
}

static leat_runtime *new_runtime_for(struct told *told, unsigned time_limit_ms)
{
    struct leat_error err = {"", ""};
    leat_runtime *rt = leat_new(&(struct leat_config){.log = keep_log,
                                                      .log_arg = told,
                                                      .min_log_level = LEAT_LOG_WARN,
                                                      .time_limit_ms = time_limit_ms},
                                &err);
    if (!rt)
        printf("  leat_new: %s\n", err.message);
    return rt;
}

static leat_runtime *new_runtime(struct told *told)
{
    return new_runtime_for(told, 100);
}

/* ---- every way to start × with a callback and without × every way to end */

static const struct way_to_end {
    const char *name, *source, *text; /* of its report, or its error; "": it does well */
    enum leat_status status;
    bool cancelled;
} ends[] = {
    {"well", "return 'the value', function() end", "", LEAT_OK, false},
    {"a failure", "return nil, leat.error { kind = 'closed', message = 'it hung up' }",
     "it hung up", LEAT_FAILED, false},
    {"a bug", "local t; return t.x", "attempt to index local 't'", LEAT_RAISED, false},
    {"a cancel", "sleep(1000)", "", LEAT_CANCELLED, true},
    {"its time limit", "while true do end", "time limit", LEAT_FAILED, false},
};

enum start { SCRIPT, EVAL, CALL, STARTS };
static const char *const starts[STARTS] = {"leat_start_script", "leat_eval", "leat_call"};

static uint64_t start(leat_runtime *rt, enum start how, const char *source, leat_done done,
                      void *arg)
{
    struct leat_error err = {"", ""};
    uint64_t id = 0;
    if (how == SCRIPT) {
        const struct leat_script script = {.name = "=it", .source = source, .len = SIZE_MAX};
        id = leat_start_script(rt, &script, done, arg, &err);
    } else if (how == EVAL) {
        id = leat_eval(rt, "=it", source, SIZE_MAX, NULL, 0, done, arg, &err);
    } else {
        char text[256];
        snprintf(text, sizeof text, "function it() %s end", source);
        struct ending defined = {.calls = 0};
        leat_eval(rt, "=definition", text, SIZE_MAX, NULL, 0, on_done, &defined, &err);
        leat_run(rt);
        id = leat_call(rt, "it", NULL, 0, done, arg, &err);
    }
    if (id == 0)
        printf("  %s: %s\n", starts[how], err.message);
    return id;
}

static void with_a_callback(enum start how, const struct way_to_end *end, bool in_steps)
{
    struct told told = {.lines = 0};
    struct ending got = {.calls = 0};
    leat_runtime *rt = new_runtime(&told);
    /* A function cannot cross: only what was asked for is carried. */
    const char *source = end->status == LEAT_OK ? "return 'the value'" : end->source;
    uint64_t id = start(rt, how, source, on_done, &got);
    CHECK_EQ(leat_status_of(rt, id), LEAT_RUNNING);
    if (end->cancelled) {
        leat_step(rt, 1000);
        CHECK(leat_cancel(rt, id));
    }
    while (in_steps && leat_step(rt, 10000) != LEAT_DONE) {
    }
    if (!in_steps)
        leat_run(rt);
    CHECK_EQ(got.calls, 1);
    CHECK_EQ(got.id, id);
    CHECK_EQ(got.status, end->status);
    CHECK_EQ(leat_status_of(rt, id), end->status);
    CHECK(strstr(got.text, end->text) != NULL);
    if (end->status == LEAT_OK)
        CHECK(got.count == 1 && strcmp(got.text, "the value") == 0 && got.kind[0] == '\0');
    if (end->status == LEAT_CANCELLED)
        CHECK_STR(got.kind, "cancelled");
    CHECK(strstr(told.text, "nobody asked") == NULL);
    leat_free(rt);
    CHECK(strstr(told.text, "nobody asked") == NULL);
}

static void without_a_callback(enum start how, const struct way_to_end *end, bool asks)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    uint64_t id = start(rt, how, end->source, NULL, NULL);
    CHECK_EQ(leat_result(rt), LEAT_RUNNING);
    if (end->cancelled) {
        leat_step(rt, 1000);
        CHECK(leat_cancel(rt, id));
    }
    if (asks) {
        CHECK_EQ(leat_run(rt), end->status);
        const char *report = leat_report(rt);
        CHECK(end->text[0] ? strstr(report, end->text) != NULL : !strstr(report, "memory"));
        if (end->status == LEAT_OK)
            CHECK_STR(report, "");
    } else {
        while (leat_step(rt, 10000) != LEAT_DONE) {
        }
    }
    CHECK_EQ(leat_status_of(rt, id), end->status);
    leat_free(rt);
    bool bad = !asks && end->text[0];
    CHECK_EQ(strstr(told.text, "it raised") || strstr(told.text, "it failed"), bad);
    if (bad)
        CHECK(strstr(told.text, end->text) != NULL);
}

TEST(a_host_learns_how_each_thing_that_it_started_has_ended)
{
    for (enum start how = SCRIPT; how < STARTS; how++) {
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            bool failed_before = test_failed;
            with_a_callback(how, &ends[i], false);
            with_a_callback(how, &ends[i], true);
            without_a_callback(how, &ends[i], true);
            without_a_callback(how, &ends[i], false);
            if (test_failed && !failed_before)
                printf("  by %s, ending by %s\n", starts[how], ends[i].name);
        }
    }
}

TEST(a_bug_that_nobody_can_ask_about_any_more_is_logged)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    CHECK(leat_start_string(rt, "=first", "error 'the first bug'", 21, NULL, NULL));
    CHECK(leat_start_string(rt, "=second", "sleep(0) error 'the second bug'", 31, NULL, NULL));
    CHECK(leat_start_string(rt, "=third", "sleep(0)", 8, NULL, NULL));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK(strstr(told.text, "first raised") && strstr(told.text, "the first bug"));
    CHECK(strstr(told.text, "second raised") && strstr(told.text, "the second bug"));
    CHECK(told.errors >= 4);
    leat_free(rt);
}

TEST(a_call_without_a_callback_does_not_stand_for_the_script)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    const char *source = "function greet() return nil, 'no one there' end sleep(0)";
    CHECK(leat_start_string(rt, "=script", source, strlen(source), NULL, NULL));
    leat_step(rt, 1000);
    CHECK(leat_call(rt, "greet", NULL, 0, NULL, NULL, NULL) != 0);
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK(strstr(told.text, "greet failed") && strstr(told.text, "no one there"));
    leat_free(rt);
}

TEST(a_pipeline_without_a_success_and_a_response_that_nobody_looked_at_are_in_the_log_once)
{
    static const char code[] =
        "local server = leat.simulate('http://s.test', function() return { status = 404 } end)\n"
        "local pipe = leat.pipeline { retry = false }\n"
        "pipe:each({ 1, 2 }, function() return request 'http://s.test/' end)\n"
        "leat.pipeline():each({ 1 }, function() return request 'http://s.test/'.body end)\n"
        "server:close()";
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime_for(&told, 30000); /* under valgrind it takes its time */
    struct leat_error err;
    CHECK(leat_start_string(rt, "=npc.lua", code, SIZE_MAX, NULL, &err));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK_EQ(told.lines, 0);
    leat_free(rt);
    CHECK_EQ(told.lines, 2);
    CHECK(strstr(told.text, "no item of the pipeline at npc.lua:2 succeeded: 2 failed: 2 \303\227 "
                            "status 404"));
    CHECK(strstr(told.text, "npc.lua:4: a response received here was not ok"));
}

TEST(a_runtime_that_has_run_nothing_has_not_failed)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK_EQ(leat_result(rt), LEAT_OK);
    CHECK_STR(leat_report(rt), "");
    CHECK_EQ(leat_status_of(rt, 0), LEAT_MISUSE);
    CHECK_EQ(leat_status_of(rt, 12345), LEAT_MISUSE);
    CHECK_EQ(leat_status_of(NULL, 1), LEAT_MISUSE);
    leat_free(rt);
}

TEST(a_script_that_cannot_start_says_why_and_leaves_nothing)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    struct leat_error err = {"", ""};
    const struct leat_script none = {.len = 3}, missing = {.path = "/nowhere/at all.lua"},
                             wrong = {.name = "=w", .source = "x = = 1", .len = SIZE_MAX};
    CHECK(leat_start_script(rt, NULL, NULL, NULL, &err) == 0 && strstr(err.message, "required"));
    CHECK(leat_start_script(rt, &none, NULL, NULL, &err) == 0 && strstr(err.message, "required"));
    CHECK(leat_start_script(rt, &missing, NULL, NULL, &err) == 0);
    CHECK_STR(err.kind, "io");
    CHECK(strstr(err.message, "/nowhere/at all.lua") != NULL);
    CHECK(leat_start_script(rt, &wrong, NULL, NULL, &err) == 0);
    CHECK_STR(err.kind, "script");
    CHECK(strstr(err.message, "w:1:") != NULL);
    CHECK(!leat_start_file(rt, NULL, NULL, &err) && strstr(err.message, "a path is required"));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    leat_free(rt);
    CHECK_EQ(told.lines, 0);
}

/* ---- what cannot cross */

TEST(what_cannot_cross_is_named_by_its_place_and_its_type)
{
    static const char *const cases[][2] = {
        {"return 1, print", "result 2 cannot be passed to the host: a function"},
        {"return { choices = { 1, { fn = print } } }", ".choices[2].fn: a function"},
        {"return { a = { b = coroutine.create(print) } }", ".a.b: a coroutine"},
        {"return { { io.stdout } }", "[1][1]: a userdata"},
        {"return { list = { 1, nil, 3, x = { [2.5] = 1 } } }", ".list"},
        {"local t = {} t.self = t return t", "nested more than 32 deep"},
        {"return { [('k'):rep(200)] = { print } }", ".kkkk"},
    };
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ending got = {.calls = 0};
        CHECK(leat_eval(rt, "=t", cases[i][0], SIZE_MAX, NULL, 0, on_done, &got, NULL) != 0);
        leat_run(rt);
        CHECK_EQ(got.status, LEAT_FAILED);
        CHECK_STR(got.kind, "invalid");
        if (!strstr(got.text, cases[i][1]))
            printf("  %s: %s\n", cases[i][0], got.text);
        CHECK(strstr(got.text, cases[i][1]) != NULL);
    }
    leat_free(rt);
}

/* ---- values */

TEST(a_value_is_in_one_table_only_and_never_in_itself)
{
    leat_value *a = leat_table(), *b = leat_table(), *c = leat_table();
    CHECK(leat_append(a, b) && leat_set(b, "c", c));
    CHECK(!leat_append(c, a) && !leat_set(c, "a", a) && !leat_append(b, a) && !leat_append(a, a));
    CHECK(!leat_append(a, c) && !leat_set(a, "again", b)); /* each has its place already */
    leat_value_free(c);                                    /* goes with its table */
    CHECK_EQ(leat_length(a), 1);
    CHECK_EQ(leat_field_count(b), 1);
    leat_value *other = leat_table();
    CHECK(leat_append(c, other) && !leat_append(other, a));
    CHECK(leat_set(b, "c", leat_number(1))); /* frees c and what is in it */
    CHECK(leat_set(b, "d", leat_number(2)));
    leat_value_free(a);
    leat_value_free(NULL);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

TEST(a_table_of_many_fields_finds_each_of_them)
{
    enum { MANY = 20000 };
    leat_value *t = leat_table();
    char name[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            snprintf(name, sizeof name, "field %d", i);
            CHECK(leat_set(t, name, leat_number(i + round)));
        }
        CHECK_EQ(leat_field_count(t), MANY);
    }
    for (int i = 0; i < MANY; i += 7) {
        snprintf(name, sizeof name, "field %d", i);
        CHECK_EQ((int)leat_to_number(leat_field(t, name), -1), i + 1);
    }
    CHECK(leat_field(t, "field") == NULL && leat_field(t, "field 20000") == NULL);
    leat_value_free(t);
}

/* ---- calls without number */

struct outstanding {
    uint64_t calls[64000];
    int count, cancelled;
};

static void begin(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    struct outstanding *o = arg;
    (void)args;
    (void)count;
    o->calls[o->count++] = call;
}

static void tell_cancel(void *arg, uint64_t call)
{
    struct outstanding *o = arg;
    (void)call;
    o->cancelled++;
}

/* CPU seconds for the completions of n calls, the newest first. */
static double complete_newest_first(int n)
{
    static struct outstanding o;
    struct told told = {.lines = 0};
    o.count = o.cancelled = 0;
    leat_runtime *rt = leat_new(&(struct leat_config){.log = keep_log, .log_arg = &told}, NULL);
    CHECK(leat_register_async(rt, "work", begin, tell_cancel, &o, NULL));
    char source[256];
    snprintf(source, sizeof source,
             "local n, sum = %d, 0 "
             "local fns = {} for i = 1, n do fns[i] = function() local v = work(i) sum = sum + v "
             "end end "
             "assert(gather(fns)) assert(sum == n * (n + 1) / 2)",
             n);
    CHECK(leat_start_string(rt, "=t", source, strlen(source), NULL, NULL));
    while (o.count < n && leat_step(rt, 100000) != LEAT_DONE) {
    }
    CHECK_EQ(o.count, n);
    leat_mailbox *box = leat_mailbox_of(rt);
    double before = cpu_seconds();
    for (int i = n; i-- > 0;)
        CHECK(leat_complete(box, o.calls[i], leat_number(i + 1), NULL));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    double took = cpu_seconds() - before;
    CHECK(!leat_complete(box, o.calls[0], leat_number(1), NULL));
    CHECK_EQ(o.cancelled, 0);
    leat_free(rt);
    return took;
}

TEST(completions_cost_the_same_each_however_many_are_outstanding)
{
    double few = 1e9, many = 1e9; /* the best of some rounds: the machine has other things to do */
    for (int round = 0; round < 3; round++) {
        double f = complete_newest_first(3000), m = complete_newest_first(30000);
        few = f < few ? f : few;
        many = m < many ? m : many;
    }
    printf("  3,000: %.1f us each; 30,000: %.1f us each\n", few / 3000 * 1e6, many / 30000 * 1e6);
    CHECK(many / few <
          40); /* 10 where each costs the same; a search through all of them takes 100 */
}

TEST(cancelling_many_from_the_newest_on_finds_each)
{
    enum { MANY = 5000 };
    static uint64_t ids[MANY];
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    for (int i = 0; i < MANY; i++)
        ids[i] = leat_eval(rt, "=t", "sleep(1000)", SIZE_MAX, NULL, 0, NULL, NULL, NULL);
    leat_step(rt, 1000000);
    for (int i = MANY; i-- > 0;)
        CHECK(leat_cancel(rt, ids[i]));
    while (leat_step(rt, 1000000) != LEAT_DONE) {
    }
    CHECK(!leat_cancel(rt, ids[0]));
    CHECK_EQ(leat_status_of(rt, ids[0]), LEAT_CANCELLED);     /* the last one to end */
    CHECK_EQ(leat_status_of(rt, ids[MANY - 1]), LEAT_MISUSE); /* long ago */
    leat_free(rt);
}

/* ---- calls that come at the wrong time */

TEST(figures_are_not_written_where_nobody_asked_for_them)
{
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    leat_get_stats_sized(rt, NULL, sizeof(struct leat_stats));
    leat_get_stats_sized(NULL, NULL, 8);
    leat_free(rt);
}

TEST(the_first_call_after_a_memory_bomb_succeeds)
{
    static const char *const bombs[] = {
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "local fns = {} for i = 1, 1e5 do fns[i] = function() sleep(1) end end return gather(fns)",
    };
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct told told = {.lines = 0};
        leat_runtime *rt = leat_new(
            &(struct leat_config){.log = keep_log, .log_arg = &told, .memory_limit = 8u << 20},
            NULL);
        struct ending bomb = {.calls = 0}, after = {.calls = 0};
        CHECK(leat_eval(rt, "=bomb", bombs[i], SIZE_MAX, NULL, 0, on_done, &bomb, NULL) != 0);
        leat_run(rt);
        CHECK_EQ(bomb.status, LEAT_FAILED);
        CHECK_STR(bomb.kind, "memory");
        struct leat_error err = {"", ""};
        CHECK(leat_eval(rt, "=after", "return 'fine'", SIZE_MAX, NULL, 0, on_done, &after, &err) !=
              0);
        leat_run(rt);
        CHECK_EQ(after.status, LEAT_OK);
        CHECK_STR(after.text, "fine");
        leat_free(rt);
    }
}

#ifdef LEAT_DEBUG
TEST(a_debug_build_names_the_call_that_comes_after_the_end)
{
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    struct told told = {.lines = 0};
    leat_runtime *rt = new_runtime(&told);
    leat_free(rt);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        leat_step(rt, 1000);
        _exit(0);
    }
    close(pipes[1]);
    int status = 0;
    char text[256] = "";
    CHECK(read(pipes[0], text, sizeof text - 1) > 0);
    close(pipes[0]);
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strstr(text, "leat_step was called with a runtime that leat_free has freed") != NULL);
}
#endif

TEST_MAIN
