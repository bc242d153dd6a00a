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
    atomic_bool over;
};

static void *rage(void *arg)
{
    struct storm *s = arg;
    while (!atomic_load(&s->over)) {
        pthread_kill(s->target, SIGPROF);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
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
    profiler_begin(L, count_sample, NULL, NULL);
    struct storm storm = {.target = pthread_self()};
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

/* Neither compiled nor interpreted code goes without samples. */
static void wants_a_sample(const char *code)
{
    lua_State *L = luaL_newstate();
    REQUIRE(L != NULL);
    luaL_openlibs(L);
    atomic_store(&samples, 0);
    profiler_begin(L, count_sample, NULL, NULL);
    CHECK(luaL_loadstring(L, code) == 0);
    while (atomic_load(&samples) < 3) { /* a hang of the test's runner, if none ever comes */
        lua_pushvalue(L, -1);
        if (lua_pcall(L, 0, 0, 0) != 0) {
            test_fail(__FILE__, __LINE__, lua_tostring(L, -1));
            break;
        }
    }
    profiler_end(L);
    lua_close(L);
}

TEST(compiled_code_is_sampled)
{
    wants_a_sample("local n = 0 for i = 1, 1e7 do n = n + i % 7 end");
}

TEST_MAIN
