/* A runtime in the host's own Lua state. Arguments: the address of a server that answers after 0.1
 * s, and of one that does not. THREADS in the environment: of the network. */
#include "test.h"
#include <dirent.h>
#include <lauxlib.h>
#include <leat.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

static unsigned threads(void)
{
    const char *n = getenv("THREADS");
    return n ? (unsigned)atoi(n) : 0;
}

static const char *answering, *silent, *folder;

static size_t open_files(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static leat_runtime *open_in(lua_State *L)
{
    struct leat_error err = {"", ""};
    leat_runtime *rt =
        leat_new(&(struct leat_config){.lua_state = L, .network_threads = threads()}, &err);
    if (!rt)
        printf("  leat_new: %s\n", err.message);
    return rt;
}

/* What the server takes its time for, in Lua. */
#define CHAT                                                                                       \
    "local function chat(url)\n"                                                                   \
    "    return leat.request { url = url .. '/v1/chat/completions',\n"                             \
    "        json = { model = 'mock', messages = { { role = 'user', content = 'hi' } } } }\n"      \
    "end\n"

/* A Lua state with the standard libraries, as most hosts have one. */
static lua_State *new_state(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    return L;
}

/* The host's own Lua, outside of every task. */
static bool run(lua_State *L, const char *source)
{
    if (luaL_dostring(L, source) == 0)
        return true;
    printf("  %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return false;
}

static bool run_file(lua_State *L, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (luaL_dofile(L, path) == 0)
        return true;
    printf("  %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return false;
}

static bool start(leat_runtime *rt, const char *source)
{
    struct leat_error err = {"", ""};
    bool ok = leat_start_string(rt, "=host", source, strlen(source), NULL, &err);
    if (!ok)
        printf("  %s\n", err.message);
    return ok;
}

static bool ends_well(leat_runtime *rt)
{
    bool ok = leat_run(rt) == LEAT_OK;
    if (!ok)
        printf("  %s\n", leat_report(rt));
    return ok;
}

static int l_twice(lua_State *L)
{
    lua_pushnumber(L, 2 * luaL_checknumber(L, 1));
    return 1;
}

struct outcome {
    unsigned done;
    enum leat_status status;
    double number;
    char message[512];
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct outcome *o = arg;
    (void)id;
    o->done++;
    o->status = status;
    o->number = count > 0 ? leat_to_number(results[0], -1) : -1;
    snprintf(o->message, sizeof o->message, "%s", err ? err->message : "");
    if (err)
        printf("  %s: %s\n", err->kind, err->message);
}

static leat_value *shout(void *arg, const leat_value *const *args, size_t count,
                         struct leat_error *err)
{
    (void)arg;
    (void)err;
    char text[64];
    snprintf(text, sizeof text, "%s!", count > 0 ? leat_to_string(args[0], NULL) : "");
    return leat_string(text, SIZE_MAX);
}

TEST(a_function_of_the_hosts_own_lua_runs_twenty_requests_as_a_task)
{
    lua_State *L = new_state();
    lua_register(L, "twice", l_twice);
    REQUIRE(run(L, "hits = 0\n"
                   "local leat\n" CHAT "function fetch(url)\n"
                   "    leat = require 'leat'\n"
                   "    local list = {}\n"
                   "    for i = 1, 20 do list[i] = url end\n"
                   "    for _, res in ipairs(leat.map(list, chat)) do\n"
                   "        hits = hits + (res.status == 200 and 1 or 0)\n"
                   "    end\n"
                   "    return twice(hits)\n"
                   "end"));
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    leat_value *url = leat_string(answering, SIZE_MAX);
    struct outcome o = {.done = 0};
    CHECK(leat_call(rt, "fetch", (const leat_value *const[]){url}, 1, on_done, &o, NULL));
    leat_value_free(url);
    unsigned ticks = 0;
    while (leat_step(rt, 500) != LEAT_DONE)
        ticks++;
    CHECK_EQ(o.done, 1);
    CHECK_EQ(o.status, LEAT_OK);
    CHECK_EQ(o.number, 40);
    CHECK(ticks > 1);
    lua_getglobal(L, "hits"); /* the host reads its own global */
    CHECK_EQ(lua_tonumber(L, -1), 20);
    leat_free(rt);
    lua_close(L);
}

TEST(scripts_see_the_hosts_globals_and_leats_behind_them)
{
    lua_State *L = new_state();
    REQUIRE(run(L, "request = 'mine' arg = 'mine too'"));
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    REQUIRE(leat_register(rt, "shout", shout, NULL, NULL));
    REQUIRE(start(rt, "assert(request == 'mine' and arg == 'mine too')\n"
                      "assert(sleep == leat.sleep and leat == require 'leat')\n"
                      "sleep(0.001)\n"
                      "found = json.encode { shout 'hello' }\n"
                      "function later() sleep(0.001) return 8 end\n"));
    CHECK(ends_well(rt));
    CHECK(run(L, "assert(found == '[\"hello!\"]' and shout 'x' == 'x!' and arg == 'mine too')\n"
                 "assert(rawget(_G, 'sleep') == nil and rawget(_G, 'leat') == nil)"));
    struct outcome o = {.done = 0};
    CHECK(leat_call(rt, "later", NULL, 0, on_done, &o, NULL));
    CHECK(leat_eval(rt, "=later", "return later()", SIZE_MAX, NULL, 0, on_done, &o, NULL));
    leat_run(rt);
    CHECK_EQ(o.done, 2);
    CHECK_EQ(o.number, 8);
    leat_free(rt);
    CHECK(run(L, "assert(found == '[\"hello!\"]')"));
    lua_close(L);
}

TEST(a_state_whose_globals_hide_package_and_require_has_a_runtime_too)
{
    lua_State *L = new_state();
    REQUIRE(run(L, "package, require = { path = '' }, nil"));
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    REQUIRE(start(rt,
                  "sleep(0.001)\n"
                  "assert(require == nil and package.loaded == nil)\n"
                  "local results = leat.pipeline {}:run({ 1, 2 }, function(x) return x * x end)\n"
                  "assert(results[2] == 4 and json.encode { 1 } == '[1]')\n"));
    CHECK(ends_well(rt));
    leat_free(rt);
    lua_close(L);
}

TEST(nothing_of_the_hosts_changes_but_packages_and_they_are_gone_with_the_runtime)
{
    lua_State *L = new_state();
    REQUIRE(run_file(L, "unchanged.lua"));
    lua_CFunction panic = lua_atpanic(L, NULL);
    lua_atpanic(L, panic);
    for (int i = 0; i < 3; i++) {
        int top = lua_gettop(L);
        leat_runtime *rt = open_in(L);
        REQUIRE(rt);
        CHECK_EQ(lua_gettop(L), top);
        CHECK(run(L, "assert(require 'leat'.semaphore(1)) compare(false)"));
        REQUIRE(start(rt,
                      "local n = 0\n"
                      "gather { function() sleep(0.001) n = n + 1 end, function() n = n + 1 end }\n"
                      "assert(n == 2)"));
        CHECK(ends_well(rt));
        leat_free(rt);
        CHECK_EQ(lua_gettop(L), top);
        CHECK(run(L, "compare(true) assert(not pcall(require, 'leat.internal.await'))"));
        CHECK(lua_atpanic(L, panic) == panic);
    }
    lua_close(L);
}

TEST(what_lua_holds_of_a_runtime_that_is_gone_is_harmless)
{
    lua_State *L = new_state();
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    REQUIRE(leat_register(rt, "shout", shout, NULL, NULL));
    char source[512];
    snprintf(
        source, sizeof source,
        "kept = { leat = leat, sem = semaphore(1), queue = leat.queue(2), event = leat.event(),\n"
        "    task = spawn(sleep, 0.001), stream = request { url = '%s/v1/models', stream = true "
        "},\n"
        "    client = leat.client {}, limiter = leat.limiter { rpm = 60 },\n"
        "    server = leat.serve { port = 0, handler = print }, permit = semaphore(1) }\n"
        "kept.permit:acquire()\n"
        "kept.waits = spawn(function() kept.event:wait() end)\n"
        "kept.waits:cancel()\n"
        "whole = true",
        answering);
    REQUIRE(start(rt, source));
    bool whole = false;
    while (!whole) {
        CHECK(leat_step(rt, 1000) != LEAT_DONE); /* the server keeps it */
        lua_getglobal(L, "whole");
        whole = lua_toboolean(L, -1) != 0;
        lua_pop(L, 1);
    }
    leat_free(rt);
    CHECK(run_file(L, "harmless.lua"));
    lua_close(L);
}

TEST(one_runtime_at_a_time_in_a_state)
{
    lua_State *L = new_state();
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    struct leat_error err = {"", ""};
    CHECK(!leat_new(&(struct leat_config){.lua_state = L}, &err));
    CHECK_STR(err.kind, "invalid");
    CHECK(strstr(err.message, "has a runtime already"));
    REQUIRE(start(rt, "sleep(0.001)"));
    CHECK(ends_well(rt));
    leat_free(rt);
    lua_close(L);
}

TEST(a_state_that_closes_first_takes_what_runs_with_it)
{
    size_t before = open_files();
    for (int i = 0; i < 2; i++) {
        lua_State *L = new_state();
        leat_runtime *rt = open_in(L);
        REQUIRE(rt);
        char source[1024];
        snprintf(source, sizeof source,
                 CHAT "for i = 1, 20 do spawn(chat, '%s') end\n"
                      "leat.finally(function() sleep(60) end, function() cleaned = true end)",
                 silent);
        REQUIRE(start(rt, source));
        struct outcome o = {.done = 0};
        CHECK(leat_eval(rt, "=host", "sleep(60)", SIZE_MAX, NULL, 0, on_done, &o, NULL));
        struct leat_stats stats = {.active = 0};
        while (stats.active < 20) {
            leat_step(rt, 1000);
            leat_get_stats(rt, &stats);
        }
        lua_close(L);
        CHECK_EQ(o.done, 0);
    }
    CHECK_EQ(open_files(), before);
}

TEST(what_belongs_to_the_host_is_refused_with_its_name)
{
    lua_State *L = new_state();
    const struct leat_config refused[] = {
        {.lua_state = L, .sandbox = LEAT_SANDBOX_RESTRICTED},
        {.lua_state = L, .time_limit_ms = 10},
        {.lua_state = L, .jit_watchdog = true},
        {.lua_state = L, .script_dir = "."},
        {.lua_state = L, .allow_modules = "*"},
    };
    static const char *const names[] = {"sandbox", "time_limit_ms", "jit_watchdog", "script_dir",
                                        "allow_modules"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct leat_error err = {"", ""};
        CHECK(!leat_new(&refused[i], &err));
        CHECK_STR(err.kind, "invalid");
        CHECK(strstr(err.message, names[i]));
    }
    CHECK(run(L, "assert(package.preload['leat.native.task'] == nil)"));
    lua_close(L);

    lua_State *bare = luaL_newstate();
    struct leat_error err = {"", ""};
    CHECK(!leat_new(&(struct leat_config){.lua_state = bare}, &err));
    CHECK_STR(err.kind, "invalid");
    CHECK(strstr(err.message, "lacks the library 'string'"));
    lua_close(bare);
}

/* ---- who may turn the crank */

static leat_runtime *turned;
static enum leat_next told;

static int l_turn(lua_State *L)
{
    told = leat_step(turned, 1000);
    lua_pushboolean(L, told != LEAT_REFUSED);
    return 1;
}

static int l_free(lua_State *L)
{
    (void)L;
    leat_free(turned);
    return 0;
}

TEST(the_hosts_lua_may_step_but_no_task_and_no_finalizer)
{
    lua_State *L = new_state();
    REQUIRE(turned = open_in(L));
    lua_register(L, "turn", l_turn);
    lua_register(L, "free", l_free);
    REQUIRE(start(turned, "assert(not turn()) free() sleep(0.001) assert(not turn()) done = true"));
    CHECK(run(L, "while not done do assert(turn()) end"));
    CHECK_EQ(leat_result(turned), LEAT_OK);
    REQUIRE(start(turned, "sleep(0) after = true"));
    CHECK(run(L, "local p = newproxy(true)\n"
                 "getmetatable(p).__gc = function() in_gc = turn() end\n"
                 "p = nil collectgarbage()\n"
                 "assert(in_gc == false and not after)\n"
                 "local co = coroutine.wrap(function() while not after do assert(turn()) end end)\n"
                 "co()"));
    leat_free(turned);
    lua_close(L);
}

TEST(what_shows_an_error_may_neither_step_nor_free_the_runtime_that_asks)
{
    lua_State *L = new_state();
    REQUIRE(turned = open_in(L));
    lua_register(L, "turn", l_turn);
    lua_register(L, "free", l_free);
    CHECK(run(L, "odd = setmetatable({}, { __tostring = function()\n"
                 "    assert(not turn()) free() return 'shown' end })"));
    struct outcome o = {.done = 0};
    CHECK(leat_eval(turned, "=x", "error(odd)", SIZE_MAX, NULL, 0, on_done, &o, NULL) > 0);
    REQUIRE(start(turned, "error(odd)"));
    CHECK_EQ(leat_run(turned), LEAT_RAISED);
    CHECK_EQ(o.status, LEAT_RAISED);
    CHECK_STR(o.message, "shown");
    CHECK(strncmp(leat_report(turned), "shown\n", 6) == 0);
    leat_free(turned);
    lua_close(L);
}

TEST(a_wait_in_the_hosts_own_lua_or_in_a_coroutine_says_what_to_do)
{
    lua_State *L = new_state();
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    CHECK(run(L, "local leat = require 'leat'\n"
                 "local ok, err = pcall(leat.sleep, 1)\n"
                 "assert(not ok and tostring(err):find 'leat_call', err)\n"
                 "ok, err = pcall(leat.run, print)\n"
                 "assert(not ok and tostring(err):find 'the event loop runs already', err)"));
    REQUIRE(start(
        rt, "local ok, err = coroutine.resume(coroutine.create(function() sleep(1) end))\n"
            "assert(not ok and tostring(err):find 'coroutine that the script created', err)"));
    CHECK(ends_well(rt));
    leat_free(rt);
    lua_close(L);
}

TEST(what_the_hosts_lua_sets_wakes_a_task_and_a_stuck_run_ends)
{
    lua_State *L = new_state();
    leat_runtime *rt = open_in(L);
    REQUIRE(rt);
    REQUIRE(start(rt, "ready = leat.event() ready:wait() woken = true"));
    while (leat_step(rt, 1000) == LEAT_READY) {
    }
    CHECK(run(L, "assert(not woken) ready:set()"));
    CHECK_EQ(leat_timeout_ms(rt), 0);
    CHECK_EQ(leat_step(rt, 1000), LEAT_DONE);
    CHECK(run(L, "assert(woken)"));
    REQUIRE(start(rt, "leat.event():wait()"));
    CHECK_EQ(leat_run(rt), LEAT_STUCK);
    CHECK(strstr(leat_report(rt), "nothing can wake one"));
    leat_free(rt);
    lua_close(L);
}

TEST(the_hosts_state_and_the_hosts_loop_together)
{
    lua_State *L = new_state();
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0);
    leat_runtime *rt = leat_new(&(struct leat_config){.lua_state = L, .loop = &loop}, NULL);
    REQUIRE(rt);
    char source[256];
    snprintf(source, sizeof source, "status = request('%s/v1/models').status", answering);
    REQUIRE(start(rt, source));
    CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    CHECK(run(L, "assert(status == 200)"));
    leat_free(rt);
    CHECK_EQ(uv_loop_close(&loop), 0);
    lua_close(L);
}

/* ---- memory */

struct budget {
    lua_Alloc alloc;
    void *ud;
    long left;
};

static void *limited(void *ud, void *block, size_t old_size, size_t new_size)
{
    struct budget *b = ud;
    if (new_size > old_size && b->left-- <= 0)
        return NULL;
    return b->alloc(b->ud, block, old_size, new_size);
}

TEST(a_state_that_runs_out_of_memory_gets_no_runtime_and_goes_on)
{
    size_t before = open_files();
    bool opened = false;
    long step = 1;
    for (long n = 0; !opened && n < 1000000; n += step) {
        lua_State *L = new_state();
        struct budget b;
        b.alloc = lua_getallocf(L, &b.ud);
        b.left = n;
        lua_setallocf(L, limited, &b);
        struct leat_error err = {"", ""};
        leat_runtime *rt = leat_new(&(struct leat_config){.lua_state = L}, &err);
        b.left = 1000000;
        opened = rt != NULL;
        if (!rt && strcmp(err.kind, "memory") != 0) {
            printf("  at %ld: %s: %s\n", n, err.kind, err.message);
            CHECK(false);
        }
        leat_free(rt);
        CHECK(run(L, "assert(not package.loaded.leat and #('x'):rep(100000) == 100000)"));
        if (n == 30 || n == 300) { /* a second attempt, with memory */
            REQUIRE(rt = open_in(L));
            REQUIRE(start(rt, "sleep(0.001)"));
            CHECK(ends_well(rt));
            leat_free(rt);
        }
        lua_close(L);
        step = n > 400 ? 37 : 1;
    }
    CHECK(opened);
    CHECK_EQ(open_files(), before);
}

int main(int argc, char **argv)
{
    answering = argc > 1 ? argv[1] : "";
    silent = argc > 2 ? argv[2] : "";
    folder = argc > 3 ? argv[3] : ".";
    return test_run(argc > 4 ? argv[4] : "");
}
