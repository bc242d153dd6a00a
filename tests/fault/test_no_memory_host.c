/* What a host does, with one allocation after the other made to fail: a runtime's whole life, from
 * leat_new to leat_free, calls both ways, several runtimes, the host's own loop and Lua state.
 * Whatever failed says so as "memory", a second try does well, each callback comes once, and
 * everything goes back. (Scripts are in test_no_memory.) */
#include "sweep.h"

#include <lauxlib.h>
#include <lualib.h>
#include <uv.h>

/* The host's allocator: the n-th block that is new or larger is refused, and `more` after it. */
struct heap {
    long fail_in;
    long more;
    size_t live;
};

/* How many are refused after the first in the scenario that runs; so often a step may fail. */
static long more_refused;

static void *heap_alloc(void *arg, void *block, size_t old_size, size_t new_size)
{
    struct heap *h = arg;
    if (new_size == 0) {
        h->live -= block != NULL;
        free(block);
        return NULL;
    }
    if ((!block || new_size > old_size) && h->fail_in >= 0) {
        if (h->fail_in > 0)
            h->fail_in--;
        else if (h->more-- > 0)
            return NULL;
        else {
            h->fail_in = -1;
            return NULL;
        }
    }
    h->live += block == NULL;
    return realloc(block, new_size);
}

static bool is_memory(const struct leat_error *err)
{
    return strcmp(err->kind, "memory") == 0 || strstr(err->message, "memory") != NULL;
}

struct done {
    int calls;
    enum leat_status status;
    struct leat_error err;
    double number;
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct done *d = arg;
    UNUSED(id);
    d->calls++;
    d->status = status;
    d->number = count > 0 ? leat_to_number(results[0], -1) : -1;
    if (err)
        d->err = *err;
}

static leat_value *twice(void *arg, const leat_value *const *args, size_t count,
                         struct leat_error *err)
{
    UNUSED(arg);
    UNUSED(err);
    return leat_number(count > 0 ? 2 * leat_to_number(args[0], 0) : 0);
}

static const char definitions[] =
    "if jit then jit.off() jit.flush() end\n"
    "npc = { greet = function(t) sleep(0) return host.twice(t.n) + #t.name end }\n"
    "function npc.wait() sleep(60) end\n"
    /* Each wait on a stack that is a little fuller than the one before. */
    "local function wait_at(depth, ...)\n"
    "    if depth > 0 then return (wait_at(depth - 1, ...)) end\n"
    "    sleep(0)\n"
    "    return ...\n"
    "end\n"
    "npc.wait_at = wait_at\n";

static bool load_definitions(leat_runtime *r, struct leat_error *err)
{
    const char *args[] = {"one", "two", NULL};
    if (!leat_start_string(r, "=definitions", definitions, sizeof definitions - 1, args, err))
        return false;
    while (leat_step(r, 1000) != LEAT_DONE) {
    }
    snprintf(err->message, sizeof err->message, "%s", leat_report(r));
    return leat_result(r) == LEAT_OK;
}

static bool greet(leat_runtime *r, struct leat_error *err)
{
    struct done done = {0};
    leat_value *t = leat_table();
    leat_set(t, "n", leat_number(20));
    leat_set(t, "name", leat_string("Ada", SIZE_MAX));
    uint64_t id = leat_call(r, "npc.greet", (const leat_value *const[]){t}, 1, on_done, &done, err);
    leat_value_free(t);
    if (!id)
        return false;
    while (leat_step(r, 1000) != LEAT_DONE) {
    }
    *err = done.err;
    if (done.calls != 1)
        complain("a call", "it was not told once how it ended");
    return done.status == LEAT_OK && done.number == 43;
}

static bool eval_and_cancel(leat_runtime *r, struct leat_error *err)
{
    static const char source[] = "local w = ... return wait_for(w, npc.wait)";
    struct done done = {0};
    leat_value *w = leat_number(50);
    uint64_t id = leat_eval(r, "=eval", source, SIZE_MAX, (const leat_value *const[]){w}, 1,
                            on_done, &done, err);
    leat_value_free(w);
    if (!id)
        return false;
    leat_step(r, 1000);
    leat_cancel(r, id);
    while (leat_step(r, 1000) != LEAT_DONE) {
    }
    *err = done.err;
    if (done.calls != 1)
        complain("a cancelled call", "it was not told once how it ended");
    return done.status == LEAT_CANCELLED;
}

static bool wait_deep(leat_runtime *r, struct leat_error *err)
{
    static const char source[] = "for depth = 0, 60 do npc.wait_at(depth, 1, 2, 3) end return 1";
    struct done done = {0};
    if (!leat_eval(r, "=deep", source, SIZE_MAX, NULL, 0, on_done, &done, err))
        return false;
    while (leat_step(r, 1000) != LEAT_DONE) {
    }
    *err = done.err;
    return done.status == LEAT_OK;
}

static bool define_function(leat_runtime *r, struct leat_error *err)
{
    return leat_register(r, "host.twice", twice, NULL, err);
}

/* One step of the life of a host: what fails for want of memory goes well the next time, or when
 * all that is to be refused has been. */
static void step(leat_runtime *r, const char *what, bool (*fn)(leat_runtime *, struct leat_error *))
{
    for (long tries = 0; tries <= more_refused + 1; tries++) {
        struct leat_error err = {"", ""};
        if (fn(r, &err))
            return;
        if (tries > more_refused)
            complain(what, "it fails again");
        if (tries > more_refused || !is_memory(&err))
            complain(what, err.message);
    }
}

static leat_runtime *new_runtime(const struct leat_config *config)
{
    struct leat_error err = {"", ""};
    for (long tries = 0; tries <= more_refused + 1; tries++) {
        leat_runtime *r = leat_new(config, &err);
        if (r)
            return r;
        if (strcmp(err.kind, "memory") != 0)
            complain("leat_new", err.message);
    }
    complain("leat_new again and again", err.message);
    return NULL;
}

static void live(leat_runtime *r)
{
    struct leat_stats stats;
    step(r, "leat_register", define_function);
    step(r, "the definitions", load_definitions);
    step(r, "leat_call", greet);
    step(r, "leat_eval", eval_and_cancel);
    step(r, "waits on deep stacks", wait_deep);
    leat_get_stats(r, &stats);
    if (stats.tasks != 0)
        complain("leat_get_stats", "a task is left");
    struct leat_error err;
    (void)leat_call(r, "npc.wait", NULL, 0, NULL, NULL, &err); /* for leat_free to end */
}

static void check_heap(const struct heap *heap)
{
    char text[64];
    snprintf(text, sizeof text, "%zu blocks are left", heap->live);
    if (heap->live != 0)
        complain("it ends", text);
}

static long play_life(const void *scenario, long n)
{
    struct leat_config config = *(const struct leat_config *)scenario;
    struct heap heap = {.fail_in = n, .more = more_refused};
    struct left left = {"", false};
    config.alloc = heap_alloc;
    config.alloc_arg = &heap;
    config.log = keep_left;
    config.log_arg = &left;
    leat_runtime *r = new_runtime(&config);
    if (r) {
        live(r);
        leat_free(r);
    }
    if (left.line[0])
        complain("leat_free", left.line);
    check_heap(&heap);
    return heap.fail_in;
}

TEST(memory_fails_anywhere_in_the_life_of_a_runtime)
{
    sweep("life", play_life,
          &(const struct leat_config){.allow_connect = "public, *.example.com", .seed = 1});
}

TEST(memory_fails_anywhere_in_the_life_of_a_runtime_in_the_sandbox)
{
    sweep("sandbox", play_life,
          &(const struct leat_config){.sandbox = LEAT_SANDBOX_RESTRICTED,
                                      .allow_modules = "inspect, lib.*",
                                      .time_limit_ms = 1000,
                                      .seed = 1});
}

TEST(memory_fails_anywhere_in_the_life_of_a_runtime_with_network_threads)
{
    sweep("threads", play_life, &(const struct leat_config){.network_threads = 2, .seed = 1});
}

/* ---- the host's own Lua state */

static long play_state(const void *scenario, long n)
{
    UNUSED(scenario);
    struct heap heap = {.fail_in = -1, .more = more_refused};
    struct left left = {"", false};
    lua_State *L = lua_newstate(heap_alloc, &heap);
    if (!L)
        abort();
    luaL_openlibs(L);
    struct leat_config config = {.alloc = heap_alloc,
                                 .alloc_arg = &heap,
                                 .log = keep_left,
                                 .log_arg = &left,
                                 .lua_state = L};
    heap.fail_in = n;
    leat_runtime *r = new_runtime(&config);
    if (r) {
        live(r);
        leat_free(r);
    }
    long rest = heap.fail_in;
    heap.fail_in = -1;
    if (luaL_dostring(L, "local t = {} for i = 1, 100 do t[i] = i .. '' end return #t") != 0 ||
        lua_tointeger(L, -1) != 100)
        complain("the host's state", lua_tostring(L, -1));
    lua_close(L);
    if (left.line[0])
        complain("leat_free", left.line);
    check_heap(&heap);
    return rest;
}

TEST(memory_fails_anywhere_in_a_hosts_own_lua_state)
{
    sweep("state", play_state, NULL);
}

/* ---- the host's own loop */

static long play_loop(const void *scenario, long n)
{
    UNUSED(scenario);
    static const char source[] =
        "jit.off() jit.flush()\n"
        "local server = assert(leat.serve { handler = function() return 'ok' end })\n"
        "local res = assert(request(server.url))\n"
        "server:close()\n"
        "return assert(res.body == 'ok' and 1, res.body)\n";
    struct heap heap = {.fail_in = n, .more = more_refused};
    struct left left = {"", false};
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0)
        abort();
    struct leat_config config = {
        .alloc = heap_alloc, .alloc_arg = &heap, .log = keep_left, .log_arg = &left, .loop = &loop};
    leat_runtime *r = new_runtime(&config);
    bool well = false;
    for (long tries = 0; r && tries < 2 + more_refused && !well; tries++) {
        struct done done = {0};
        struct leat_error err = {"", ""};
        if (leat_eval(r, "=loop", source, SIZE_MAX, NULL, 0, on_done, &done, &err)) {
            uv_run(&loop, UV_RUN_DEFAULT);
            if (done.calls != 1)
                complain("the loop", "it ended before the script");
            err = done.err;
        }
        well = done.status == LEAT_OK && done.number == 1;
        if (!well && (tries > more_refused || (!is_memory(&err) && !left.memory_told)))
            complain("the script", err.message);
    }
    leat_free(r);
    if (uv_loop_close(&loop) != 0)
        complain("it ends", "the loop has a handle left");
    if (left.line[0])
        complain("leat_free", left.line);
    check_heap(&heap);
    return heap.fail_in;
}

TEST(memory_fails_anywhere_on_a_hosts_own_loop)
{
    sweep("loop", play_loop, NULL);
}

/* ---- memory that is short for longer */

static void sweep_rows(const char *name, sweep_play_fn play, const void *scenario)
{
    static const long rows[] = {1, 4, 30};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[64];
        snprintf(text, sizeof text, "%s, %ld in a row", name, rows[i] + 1);
        more_refused = rows[i];
        sweep(text, play, scenario);
    }
    more_refused = 0;
}

TEST(a_host_lives_through_memory_that_is_short_for_a_while)
{
    sweep_rows("life", play_life, &(const struct leat_config){.seed = 1});
}

TEST(a_host_with_a_sandbox_lives_through_memory_that_is_short_for_a_while)
{
    sweep_rows("sandbox", play_life,
               &(const struct leat_config){.sandbox = LEAT_SANDBOX_RESTRICTED,
                                           .time_limit_ms = 1000,
                                           .memory_limit = 64u << 20,
                                           .seed = 1});
}

TEST(a_hosts_own_lua_state_lives_through_memory_that_is_short_for_a_while)
{
    sweep_rows("state", play_state, NULL);
}

TEST(a_hosts_own_loop_lives_through_memory_that_is_short_for_a_while)
{
    sweep_rows("loop", play_loop, NULL);
}

/* ---- several */

static const char serving[] =
    "jit.off() jit.flush()\n"
    "local function answer(req) return { json = { path = req.path } } end\n"
    "local server = assert(leat.serve { handler = answer })\n"
    "host.url(server.url)\n"
    "leat.stopping:wait()\n"
    "server:close(1)\n";

static const char asking[] = "jit.off() jit.flush()\n"
                             "local url = ...\n"
                             "local retry = leat.retry { attempts = 5, base = 0.001 }\n"
                             "local function ask(path)\n"
                             "    return retry:call(request, { url = url .. path, timeout = 10 })\n"
                             "end\n"
                             "for i = 1, 5 do\n"
                             "    local res = assert(ask('/' .. i))\n"
                             "    assert(assert(res:json()).path == '/' .. i)\n"
                             "end\n";

static char served_at[64];

static leat_value *keep_url(void *arg, const leat_value *const *args, size_t count,
                            struct leat_error *err)
{
    UNUSED(arg);
    UNUSED(err);
    if (count > 0)
        snprintf(served_at, sizeof served_at, "%s", leat_to_string(args[0], NULL));
    return NULL;
}

static bool start(leat_runtime *r, const char *source, const char *argument)
{
    struct leat_error err;
    const char *args[] = {argument, NULL};
    return leat_start_string(r, "=script", source, strlen(source), args, &err);
}

/* A server whose memory fails, and two others that ask it: what is lost is answered at their next
 * attempt, as nothing but that request is. */
static long play_several(const void *scenario, long n)
{
    UNUSED(scenario);
    struct left left = {"", false};
    leat_runtime *r[3];
    struct leat_error err;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        r[i] = leat_new(&(struct leat_config){.log = keep_left, .log_arg = &left, .seed = 1}, &err);
        if (!r[i])
            abort();
    }
    if (!leat_register(r[0], "host.url", keep_url, NULL, &err))
        abort();
    if (!start(r[0], serving, NULL))
        abort();
    while (leat_step(r[0], 1000) == LEAT_READY) {
    }
    mem_of(r[0])->fail_in = n;
    for (size_t i = 1; i < ARRAY_LEN(r); i++) {
        if (!start(r[i], asking, served_at))
            complain("an asker", "it cannot start");
    }
    bool busy = true;
    while (busy) {
        leat_step(r[0], 500);
        enum leat_next one = leat_step(r[1], 500), other = leat_step(r[2], 500);
        busy = one != LEAT_DONE || other != LEAT_DONE;
    }
    for (size_t i = 1; i < ARRAY_LEN(r); i++) {
        if (leat_result(r[i]) != LEAT_OK)
            complain("an asker", leat_report(r[i]));
    }
    long rest = mem_of(r[0])->fail_in;
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        leat_free(r[i]);
    if (left.line[0])
        complain("leat_free", left.line);
    return rest;
}

TEST(memory_that_fails_in_one_runtime_is_no_other_ones_trouble)
{
    sweep("several", play_several, NULL);
}

TEST_MAIN
