/* The profiler's signal against LuaJIT's own work: it may come at any moment. */
#include "test.h"

#include "host/profiler.h"
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

struct storm {
    pthread_t target;
    long pause_ns; /* 0: each signal a random moment after the one before */
    atomic_bool over;
};

static void *rage(void *arg)
{
    struct storm *s = arg;
    unsigned random = 1;
    while (!atomic_load(&s->over)) {
        pthread_kill(s->target, SIGPROF);
        random = random * 1103515245 + 12345;
        if (s->pause_ns > 0)
            nanosleep(&(struct timespec){.tv_nsec = s->pause_ns}, NULL);
        else
            for (volatile unsigned i = 0; i < (random >> 16 & 2047); i++) {
            }
    }
    return NULL;
}

static atomic_int samples;

static void count_sample(void *arg, lua_State *L, int n, int vmstate)
{
    (void)arg;
    (void)L;
    (void)n;
    (void)vmstate;
    atomic_fetch_add(&samples, 1);
}

/* What compiles again and again, so that LuaJIT is often about to change its table. */
static const char compiles[] =
    "local rounds = ...\n"
    "local function copy(fields)\n"
    "    local e = {}\n"
    "    for k, v in pairs(fields) do e[k] = v end\n"
    "    return e\n"
    "end\n"
    "local n = 0\n"
    "for _ = 1, rounds do\n"
    "    jit.flush()\n"
    "    for i = 1, 200 do n = n + copy({ kind = 'x', message = 'y', status = i }).status end\n"
    "end\n"
    "assert(n == rounds * 20100)\n";

TEST(a_loop_over_pairs_ends_in_a_storm_of_the_profilers_signals)
{
    lua_State *L = luaL_newstate();
    REQUIRE(L != NULL);
    luaL_openlibs(L);
    profiler_begin(L, true, count_sample, NULL, NULL);
    struct storm storm = {.target = pthread_self(), .pause_ns = 200000};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, rage, &storm) == 0);
    CHECK(luaL_loadstring(L, compiles) == 0);
    lua_pushinteger(L, 20000);
    if (lua_pcall(L, 1, 0, 0) != 0)
        test_fail(__FILE__, __LINE__, lua_tostring(L, -1));
    atomic_store(&storm.over, true);
    pthread_join(thread, NULL);
    profiler_end(L);
    CHECK(atomic_load(&samples) > 0);
    lua_close(L);
}

/* A sample comes at last: otherwise the runner's limit ends this. */
static void run_until_sampled(lua_State *L, const char *code)
{
    atomic_store(&samples, 0);
    REQUIRE(luaL_loadstring(L, code) == 0);
    while (atomic_load(&samples) < 3) {
        lua_pushvalue(L, -1);
        if (lua_pcall(L, 0, 0, 0) != 0) {
            test_fail(__FILE__, __LINE__, lua_tostring(L, -1));
            break;
        }
    }
    lua_settop(L, 0);
}

TEST(compiled_code_is_sampled)
{
    lua_State *L = luaL_newstate();
    REQUIRE(L != NULL);
    luaL_openlibs(L);
    profiler_begin(L, true, count_sample, NULL, NULL);
    run_until_sampled(L, "local n = 0 for i = 1, 1e7 do n = n + i % 7 end");
    profiler_end(L);
    lua_close(L);
}

static lua_State *interpreter(void)
{
    lua_State *L = luaL_newstate();
    if (L) {
        luaL_openlibs(L);
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
        profiler_begin(L, false, count_sample, NULL, NULL);
    }
    return L;
}

static const char interpreted[] = "local n = 0 for i = 1, 1e6 do n = n + i % 7 end";

TEST(interpreted_code_is_sampled_while_the_compiler_is_off)
{
    lua_State *L = interpreter();
    REQUIRE(L != NULL);
    run_until_sampled(L, interpreted);
    profiler_end(L);
    CHECK(lua_gethook(L) == NULL);
    lua_close(L);
}

static void polling_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    profiler_poll(L);
}

TEST(interpreted_code_is_sampled_by_the_hook_that_it_has)
{
    lua_State *L = interpreter(), *other = luaL_newstate();
    REQUIRE(L != NULL && other != NULL);
    profiler_set_hook(L, polling_hook, LUA_MASKCOUNT, 100);
    run_until_sampled(L, interpreted);
    CHECK(lua_gethook(L) == polling_hook);
    int before = atomic_load(&samples);
    raise(SIGPROF);
    profiler_poll(other);
    CHECK_EQ(atomic_load(&samples), before);
    profiler_poll(L);
    CHECK(atomic_load(&samples) > before);
    profiler_end(L);
    lua_close(L);
    lua_close(other);
}

static void end_loop(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    profiler_set_hook(L, NULL, 0, 0);
    luaL_error(L, "the hook");
}

/* A hang is the failure: the signals come while hooks are set and removed. */
TEST(an_interpreter_obeys_hooks_and_takes_samples_in_a_storm)
{
    lua_State *L = interpreter();
    REQUIRE(L != NULL);
    struct storm storm = {.target = pthread_self(), .pause_ns = 0};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, rage, &storm) == 0);
    for (int i = 0; i < 200; i++) {
        profiler_set_hook(L, end_loop, LUA_MASKCOUNT, 1);
        profiler_set_hook(L, end_loop, LUA_MASKCOUNT, 1);
        CHECK(luaL_dostring(L, "while true do end") != 0);
        lua_sethook(L, end_loop, LUA_MASKCOUNT, 1); /* as a script's debug.sethook does */
        lua_sethook(L, NULL, 0, 0);
        run_until_sampled(L, "local n = 0 for i = 1, 100 do n = n + i % 7 end");
    }
    atomic_store(&storm.over, true);
    pthread_join(thread, NULL);
    profiler_end(L);
    lua_close(L);
}

TEST_MAIN
