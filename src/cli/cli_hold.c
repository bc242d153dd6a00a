#include "cli/cli_hold.h"

#include "host/profiler.h"
#include "lua/lua_aux.h"
#include <string.h>
#include <time.h>

/* How long a task may compute while others are ready, before a warning. */
#define HELD_NS (100 * NS_PER_MS)

static const char hold_key;

static struct hold *find(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&hold_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct hold *h = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return h;
}

static uint64_t thread_time_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void stand_aside(struct hold *h, lua_State *L)
{
    profiler_set_hook(L, NULL, 0, 0);
    time_limit_look_again(h->limit);
}

static void on_instructions(lua_State *L, lua_Debug *ar)
{
    UNUSED(ar);
    struct hold *h = find(L);
    struct sched *s = &h->rt->sched;
    struct task *t = s->running;
    if (!t || sched_turn(s) != atomic_load(&h->turn)) { /* the task has waited or ended meanwhile */
        stand_aside(h, L);
        return;
    }
    if (t->state != TASK_RUNNING || t->sliced) /* the task is about to yield */
        return;
    char where[100];
    switch (atomic_load(&h->order)) {
    case HOLD_WARN:
        stand_aside(h, L);
        task_where(L, where, sizeof where);
        if (!atomic_exchange(&h->warned, true))
            log_write(&h->rt->log, LOG_WARN,
                      "interrupted, but a task computes at %s and does not wait: if it goes on, it "
                      "is cancelled there",
                      where);
        return;
    case HOLD_CANCEL:
        stand_aside(h, L);
        atomic_store(&h->cancelled, atomic_load(&h->turn));
        task_cancel(t, "interrupted");
        task_raise_cancel(L, t);
        return;
    case HOLD_ABANDON: /* inside coroutines of the task, each level needs a yield or an error */
        if (!lua_isyieldable(L))
            luaL_error(L, "interrupted");
        t->abandoned = true;
        lua_yield(L, 0);
        return;
    default:
        stand_aside(h, L);
        return;
    }
}

/* Whether the place is reported for the first time. */
static bool is_new_place(struct hold *h, const char *where)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = where; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    for (unsigned i = 0; i < h->place_count; i++)
        if (h->places[i] == hash)
            return false;
    if (h->place_count == HOLD_PLACES)
        return false;
    h->places[h->place_count++] = hash;
    return true;
}

/* Called after every 10 ms of computing, between two instructions of L. May look at the stack, and
 * must not set hooks: LuaJIT restores the hooks that it found. */
static void on_sample(void *data, lua_State *L, int samples, int vmstate)
{
    UNUSED(samples);
    UNUSED(vmstate);
    struct hold *h = data;
    struct sched *s = &h->rt->sched;
    if (!s->running || s->live < 2 || h->rt->virtual_time)
        return;
    uint64_t turn = sched_turn(s), now = thread_time_ns();
    if (turn != h->sampled_turn) {
        h->sampled_turn = turn;
        h->since_ns = now;
        h->reported = false;
        return;
    }
    if (h->reported || now - h->since_ns < HELD_NS || !sched_others_wait(s))
        return;
    h->reported = true;
    char where[100];
    task_where(L, where, sizeof where);
    if (where[0] != '?' && is_new_place(h, where))
        log_write(
            &h->rt->log, LOG_WARN,
            "%s: a task has computed for over 100 ms without a wait, while others were ready: "
            "a sleep(0) between its steps lets them run",
            where);
}

static bool compiles(lua_State *L)
{
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "jit");
    lua_getfield(L, -1, "status");
    lua_call(L, 0, 1);
    bool on = lua_toboolean(L, -1);
    lua_settop(L, top);
    return on;
}

static int start(lua_State *L)
{
    struct hold *h = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&hold_key);
    lua_pushlightuserdata(L, h);
    lua_rawset(L, LUA_REGISTRYINDEX);
    profiler_begin(L, compiles(L), on_sample, NULL, h);
    return 0;
}

bool cli_hold_start(struct hold *h, struct rt *rt, struct time_limit *limit)
{
    h->rt = rt;
    h->limit = limit;
    if (lua_cpcall(rt->L, start, h) == 0)
        return true;
    lua_pop(rt->L, 1);
    return false;
}

void cli_hold_stop(struct hold *h)
{
    profiler_set_hook(h->rt->L, NULL, 0, 0);
    profiler_end(h->rt->L);
}

void cli_hold_give(struct hold *h, enum hold_order order, uint64_t turn)
{
    atomic_store(&h->turn, turn);
    atomic_store(&h->order, order);
}

/* The profiler's next sample makes compiled code run this hook. */
void cli_hold_obey(struct hold *h)
{
    profiler_set_hook(h->rt->L, on_instructions, LUA_MASKCOUNT, 1);
}
