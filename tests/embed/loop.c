/* A runtime on the host's own uv loop. Arguments: the address of a server that answers after 0.1 s,
 * and of one that does not. THREADS in the environment: of the network. */
#include "test.h"
#include <leat.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

static unsigned threads(void)
{
    const char *n = getenv("THREADS");
    return n ? (unsigned)atoi(n) : 0;
}

static const char *answering, *silent;

struct host {
    uv_loop_t loop;
    uv_timer_t timer;
    leat_runtime *rt;
    unsigned ticks, done, errors;
    enum leat_status status;
    double number;
    char log[512];
};

static void count_handle(uv_handle_t *handle, void *arg)
{
    (void)handle;
    ++*(unsigned *)arg;
}

static unsigned handles_on(uv_loop_t *loop)
{
    unsigned n = 0;
    uv_walk(loop, count_handle, &n);
    return n;
}

static void on_log(void *arg, enum leat_log_level level, const char *line)
{
    struct host *h = arg;
    if (level == LEAT_LOG_ERROR) {
        h->errors++;
        snprintf(h->log, sizeof h->log, "%s", line);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct host *h = timer->data;
    h->ticks++;
}

/* With a timer of the host's own that ticks each millisecond. */
static bool open_host(struct host *h)
{
    *h = (struct host){.ticks = 0};
    if (uv_loop_init(&h->loop) != 0)
        return false;
    uv_timer_init(&h->loop, &h->timer);
    h->timer.data = h;
    uv_timer_start(&h->timer, on_tick, 1, 1);
    struct leat_error err = {"", ""};
    h->rt = leat_new(
        &(struct leat_config){
            .loop = &h->loop, .network_threads = threads(), .log = on_log, .log_arg = h},
        &err);
    if (!h->rt)
        printf("  leat_new: %s\n", err.message);
    return h->rt != NULL;
}

/* Nothing of the runtime's is left, and the loop is as good as before. */
static void close_host(struct host *h)
{
    leat_free(h->rt);
    h->rt = NULL;
    CHECK_EQ(handles_on(&h->loop), 1);
    unsigned before = h->ticks;
    while (h->ticks == before)
        uv_run(&h->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&h->loop), 0);
}

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct host *h = arg;
    (void)id;
    h->done++;
    h->status = status;
    h->number = count > 0 ? leat_to_number(results[0], -1) : -1;
    if (err)
        printf("  %s: %s\n", err->kind, err->message);
    uv_stop(&h->loop);
}

static bool eval(struct host *h, const char *source, const char *url)
{
    struct leat_error err = {"", ""};
    leat_value *text = leat_string(url, SIZE_MAX);
    const leat_value *args[] = {text};
    uint64_t id = leat_eval(h->rt, "=host", source, SIZE_MAX, args, 1, on_done, h, &err);
    if (id == 0)
        printf("  %s\n", err.message);
    leat_value_free(text);
    return id != 0;
}

/* What the server takes its time for, in Lua. */
#define CHAT                                                                                       \
    "local function chat(url)\n"                                                                   \
    "    return leat.request { url = url .. '/v1/chat/completions',\n"                             \
    "        json = { model = 'mock', messages = { { role = 'user', content = 'hi' } } } }\n"      \
    "end\n"

static const char twenty[] = CHAT "local url = ...\n"
                                  "local ok = 0\n"
                                  "local list = {}\n"
                                  "for i = 1, 20 do list[i] = url end\n"
                                  "for _, res in ipairs(leat.map(list, chat)) do\n"
                                  "    if res.status == 200 then ok = ok + 1 end\n"
                                  "end\n"
                                  "return ok\n";

static bool start(struct host *h, const char *source)
{
    struct leat_error err = {"", ""};
    bool ok = leat_start_string(h->rt, "=host", source, strlen(source), NULL, &err);
    if (!ok)
        printf("  %s\n", err.message);
    return ok;
}

TEST(the_hosts_uv_run_carries_twenty_requests_beside_its_own_timers)
{
    struct host h;
    REQUIRE(open_host(&h));
    REQUIRE(eval(&h, twenty, answering));
    uv_run(&h.loop, UV_RUN_DEFAULT);
    CHECK_EQ(h.done, 1);
    CHECK_EQ(h.status, LEAT_OK);
    CHECK_EQ(h.number, 20);
    CHECK(h.ticks > 0); /* while none of them could have been answered */
    struct leat_stats stats;
    leat_get_stats(h.rt, &stats);
    CHECK_EQ(stats.requests_done, 20);
    CHECK_EQ(stats.tasks, 0);
    close_host(&h);
}

TEST(a_host_that_runs_its_loop_once_per_frame_gets_the_same)
{
    struct host h;
    REQUIRE(open_host(&h));
    REQUIRE(eval(&h, twenty, answering));
    while (h.done == 0)
        uv_run(&h.loop, UV_RUN_NOWAIT);
    CHECK_EQ(h.number, 20);
    close_host(&h);
}

TEST(uv_run_ends_with_the_last_task_though_connections_are_kept)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_unref((uv_handle_t *)&h.timer);
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0); /* nothing to do yet */
    char source[256];
    snprintf(source, sizeof source,
             "assert(request('%s/v1/models').status == 200) spawn(sleep, 0.01) sleep(0.01)",
             answering);
    for (int i = 0; i < 2; i++) {
        REQUIRE(start(&h, source));
        CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
        CHECK_EQ(leat_result(h.rt), LEAT_OK);
        CHECK_STR(leat_report(h.rt), "");
    }
    uv_ref((uv_handle_t *)&h.timer);
    close_host(&h);
}

TEST(a_server_runs_on_the_hosts_loop_and_ends_with_its_script)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_unref((uv_handle_t *)&h.timer);
    REQUIRE(start(
        &h, "local server = leat.serve { port = 0, handler = function() return 'hello' end }\n"
            "for i = 1, 3 do assert(request(server.url).body == 'hello') end\n"
            "server:close()\n"));
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(leat_result(h.rt), LEAT_OK);
    CHECK_STR(leat_report(h.rt), "");
    uv_ref((uv_handle_t *)&h.timer);
    close_host(&h);
}

TEST(freed_with_twenty_requests_in_flight_nothing_stays_on_the_loop)
{
    for (int i = 0; i < 3; i++) {
        struct host h;
        REQUIRE(open_host(&h));
        char source[512];
        snprintf(source, sizeof source, CHAT "for i = 1, 20 do spawn(chat, '%s') end", silent);
        REQUIRE(start(&h, source));
        struct leat_stats stats = {.active = 0};
        while (stats.active < 20) {
            uv_run(&h.loop, i == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
            leat_get_stats(h.rt, &stats);
        }
        if (i == 2)
            uv_stop(&h.loop);
        close_host(&h);
    }
}

static leat_value *note(void *arg, const leat_value *const *args, size_t count,
                        struct leat_error *err)
{
    struct host *h = arg;
    (void)err;
    h->number = count > 0 ? leat_to_number(args[0], -1) : -1;
    return NULL;
}

TEST(clean_ups_that_wait_run_in_leat_free_and_the_hosts_timers_too)
{
    struct host h;
    REQUIRE(open_host(&h));
    REQUIRE(leat_register(h.rt, "note", note, &h, NULL));
    REQUIRE(start(&h, "leat.finally(function() sleep(60) end,\n"
                      "    function() sleep(0.05) note(5) end)"));
    CHECK(uv_run(&h.loop, UV_RUN_NOWAIT) != 0);
    h.ticks = 0;
    leat_free(h.rt);
    CHECK_EQ(h.number, 5);
    CHECK(h.ticks > 0);
    h.rt = NULL;
    close_host(&h);
}

/* ---- what the host calls from its own callbacks */

static void step_in_tick(uv_timer_t *timer)
{
    struct host *h = timer->data;
    h->ticks++;
    CHECK(leat_step(h->rt, 500) != LEAT_REFUSED);
    CHECK_EQ(leat_run(h->rt), LEAT_MISUSE);
}

TEST(leat_step_may_be_called_inside_uv_run_and_leat_run_is_refused)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_timer_start(&h.timer, step_in_tick, 1, 1);
    REQUIRE(eval(&h, twenty, answering));
    uv_run(&h.loop, UV_RUN_DEFAULT);
    CHECK_EQ(h.number, 20);
    uv_timer_start(&h.timer, on_tick, 1, 1);
    CHECK_EQ(leat_run(h.rt), LEAT_MISUSE);
    CHECK_EQ(leat_step(h.rt, 500), LEAT_DONE);
    close_host(&h);
}

TEST(leat_step_alone_does_not_run_the_loop)
{
    struct host h;
    REQUIRE(open_host(&h));
    REQUIRE(start(&h, "sleep(0) x = 1 sleep(60)"));
    while (leat_step(h.rt, 1000) == LEAT_READY) {
    }
    usleep(2000); /* the timer is due */
    CHECK_EQ(leat_step(h.rt, 1000), LEAT_IDLE);
    CHECK_EQ(h.ticks, 0);
    close_host(&h);
}

static void start_in_tick(uv_timer_t *timer)
{
    struct host *h = timer->data;
    uv_timer_stop(timer);
    CHECK(eval(h, "sleep(0.001) return 7", ""));
}

static void start_in_prepare(uv_prepare_t *prepare)
{
    struct host *h = prepare->data;
    uv_prepare_stop(prepare);
    CHECK(start(h, "sleep(0.001) spawn(sleep, 0.001)"));
}

TEST(a_script_started_in_a_callback_of_the_hosts_begins_at_once)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_timer_start(&h.timer, start_in_tick, 1, 0);
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(h.number, 7);
    uv_prepare_t prepare; /* behind the runtime's own: the loop is about to wait */
    uv_prepare_init(&h.loop, &prepare);
    prepare.data = &h;
    uv_prepare_start(&prepare, start_in_prepare);
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(leat_result(h.rt), LEAT_OK);
    uv_close((uv_handle_t *)&prepare, NULL);
    uv_run(&h.loop, UV_RUN_NOWAIT);
    uv_timer_start(&h.timer, on_tick, 1, 1);
    close_host(&h);
}

static void free_in_poll(uv_async_t *async)
{
    struct host *h = async->data;
    leat_free(h->rt);
    uv_close((uv_handle_t *)async, NULL);
    uv_stop(&h->loop);
}

TEST(leat_free_inside_uv_run_says_so_and_does_nothing)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_async_t async;
    uv_async_init(&h.loop, &async, free_in_poll);
    async.data = &h;
    uv_async_send(&async);
    uv_run(&h.loop, UV_RUN_DEFAULT);
    uv_run(&h.loop, UV_RUN_NOWAIT);
    CHECK_EQ(h.errors, 1);
    CHECK(strstr(h.log, "leat_free: called inside uv_run"));
    REQUIRE(eval(&h, "return 3", ""));
    uv_run(&h.loop, UV_RUN_DEFAULT);
    CHECK_EQ(h.number, 3);
    close_host(&h);
}

static void misuse_in_tick(uv_timer_t *timer)
{
    struct host *h = timer->data;
    struct leat_error err = {"", ""};
    if (h->ticks++ > 0)
        return;
    leat_free(h->rt); /* which is at work: it does nothing more */
    CHECK_EQ(leat_step(h->rt, 500), LEAT_REFUSED);
    CHECK(!leat_start_string(h->rt, "=x", "return 1", 8, NULL, &err));
    CHECK(strstr(err.message, "inside leat_free"));
}

TEST(what_the_loop_calls_while_leat_free_runs_it_may_not_use_the_runtime)
{
    struct host h;
    REQUIRE(open_host(&h));
    REQUIRE(leat_register(h.rt, "note", note, &h, NULL));
    REQUIRE(start(&h, "leat.finally(function() sleep(60) end,\n"
                      "    function() sleep(0.05) note(5) end)"));
    CHECK(uv_run(&h.loop, UV_RUN_NOWAIT) != 0);
    h.ticks = 0;
    uv_timer_start(&h.timer, misuse_in_tick, 1, 1);
    leat_free(h.rt);
    CHECK_EQ(h.number, 5);
    CHECK(h.ticks > 0);
    h.rt = NULL;
    close_host(&h);
}

/* ---- fairness, wakes, ends */

static void interrupt_in_tick(uv_timer_t *timer)
{
    struct host *h = timer->data;
    if (++h->ticks == 3)
        leat_interrupt(h->rt);
}

TEST(a_script_that_never_rests_leaves_the_host_its_timers)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_timer_start(&h.timer, interrupt_in_tick, 1, 1);
    uv_unref((uv_handle_t *)&h.timer);
    REQUIRE(start(&h, "while true do sleep(0) end"));
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(leat_result(h.rt), LEAT_CANCELLED);
    CHECK(h.ticks >= 3);
    uv_ref((uv_handle_t *)&h.timer);
    uv_timer_start(&h.timer, on_tick, 1, 1);
    close_host(&h);
}

TEST(a_script_that_nothing_can_wake_ends_as_stuck)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_unref((uv_handle_t *)&h.timer);
    REQUIRE(start(&h, "leat.event():wait()"));
    CHECK_EQ(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
    CHECK_EQ(leat_result(h.rt), LEAT_STUCK);
    uv_ref((uv_handle_t *)&h.timer);
    close_host(&h);
}

struct work {
    pthread_t thread;
    leat_mailbox *box;
    uint64_t call;
};

static void *complete(void *arg)
{
    struct work *w = arg;
    leat_complete(w->box, w->call, leat_number(11), NULL);
    return NULL;
}

static void begin(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    struct work *w = arg;
    (void)args;
    (void)count;
    w->call = call;
    CHECK_EQ(pthread_create(&w->thread, NULL, complete, w), 0);
}

TEST(a_completion_from_another_thread_wakes_the_hosts_loop)
{
    struct host h;
    REQUIRE(open_host(&h));
    uv_timer_stop(&h.timer);
    struct work work = {.box = leat_mailbox_of(h.rt)};
    REQUIRE(leat_register_async(h.rt, "work", begin, NULL, &work, NULL));
    REQUIRE(eval(&h, "return work()", ""));
    uv_run(&h.loop, UV_RUN_DEFAULT);
    pthread_join(work.thread, NULL);
    CHECK_EQ(h.number, 11);
    uv_timer_start(&h.timer, on_tick, 1, 1);
    close_host(&h);
}

TEST(two_runtimes_share_a_loop)
{
    struct host h;
    REQUIRE(open_host(&h));
    struct host other = {.ticks = 0};
    leat_runtime *second = other.rt = leat_new(&(struct leat_config){.loop = &h.loop}, NULL);
    REQUIRE(second);
    REQUIRE(eval(&h, twenty, answering));
    REQUIRE(leat_start_string(second, "=second", "sleep(0.01) sleep(0.01)", 23, NULL, NULL));
    while (h.done == 0 || handles_on(&h.loop) == 0)
        uv_run(&h.loop, UV_RUN_ONCE);
    CHECK_EQ(h.number, 20);
    struct leat_stats stats = {.tasks = 1};
    while (stats.tasks > 0) {
        uv_run(&h.loop, UV_RUN_ONCE);
        leat_get_stats(second, &stats);
    }
    CHECK_EQ(leat_result(second), LEAT_OK);
    leat_free(second);
    close_host(&h);
}

TEST(what_does_not_go_with_a_hosts_loop_is_refused)
{
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0);
    struct leat_error err = {"", ""};
    CHECK(!leat_new(&(struct leat_config){.loop = &loop, .virtual_time = true}, &err));
    CHECK_STR(err.kind, "invalid");
    CHECK(strstr(err.message, "virtual time"));
    CHECK_EQ(handles_on(&loop), 0);
    /* Nor does a leat_new that fails half-way leave anything. */
    CHECK(!leat_new(&(struct leat_config){.loop = &loop, .memory_limit = 100000}, &err));
    CHECK_STR(err.kind, "memory");
    CHECK_EQ(handles_on(&loop), 0);
    CHECK_EQ(uv_loop_close(&loop), 0);
}

int main(int argc, char **argv)
{
    answering = argc > 1 ? argv[1] : "";
    silent = argc > 2 ? argv[2] : "";
    return test_run(argc > 3 ? argv[3] : "");
}
