#include "cli/repl_stop.h"

#include "host/profiler.h"
#include "lua/lua_aux.h"
#include <time.h>

#define PATIENCE_NS (200 * NS_PER_MS)
/* Compiled code returns to the interpreter for only an instruction or two per sample. */
#define HOOK_INSTRUCTIONS 1

static const char stopper_key;

static struct stopper *find(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&stopper_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct stopper *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

/* The CPU time of this thread, without the time it waited for a processor. */
static uint64_t thread_time_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec + 1;
}

static void on_instructions(lua_State *L, lua_Debug *ar)
{
    UNUSED(ar);
    struct stopper *s = find(L);
    struct sched *sched = &s->rt->sched;
    struct task *t = sched->running;
    uint64_t now = thread_time_ns();
    if (!t)
        return;
    if (s->turn != sched_turn(sched) || s->since_ns == 0) { /* another task's turn: start again */
        s->turn = sched_turn(sched);
        s->since_ns = now;
        s->stage = 0;
        return;
    }
    if (s->stage < 2 && now - s->since_ns < PATIENCE_NS)
        return;
    if (s->stage == 0) {
        s->stage = 1;
        s->spent = repl_stop_count(s);
        s->since_ns = now;
        task_cancel(t, "interrupted");
        task_raise_cancel(L, t);
        return;
    }
    /* The code caught the error. Nothing can catch a yield; inside coroutines, each level needs
     * one. */
    s->stage = 2;
    if (lua_isyieldable(L)) {
        t->abandoned = true;
        lua_yield(L, 0);
        return;
    }
    luaL_error(L, "interrupted");
}

void repl_stop_init(struct stopper *s, struct rt *rt)
{
    s->rt = rt;
    lua_State *L = rt->L;
    lua_pushlightuserdata(L, (void *)(uintptr_t)&stopper_key);
    lua_pushlightuserdata(L, s);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void repl_stop_prepare(struct stopper *s, lua_State *L)
{
    s->profiling = true;
    profiler_begin(L, true, NULL, NULL, NULL);
}

void repl_stop_interrupt(struct stopper *s)
{
    atomic_fetch_add(&s->count, 1);
    profiler_set_hook(s->rt->L, on_instructions, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
}

unsigned repl_stop_count(struct stopper *s)
{
    return atomic_load(&s->count);
}

void repl_stop_disarm(struct stopper *s, lua_State *L)
{
    profiler_set_hook(L, NULL, 0, 0);
    s->since_ns = 0;
}

void repl_stop_fini(struct stopper *s, lua_State *L)
{
    repl_stop_disarm(s, L);
    if (s->profiling)
        profiler_end(L);
}
