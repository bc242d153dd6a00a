#include "host/time_limit.h"

#include "host/profiler.h"
#include "lua/lua_aux.h"
#include <luajit.h>
#include <signal.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Instructions between two reads of the clock: some ten microseconds of interpreted code. */
#define LOOK_INSTRUCTIONS 100
#define HURRY_NS (100 * NS_PER_MS)
/* Repeats the signal after this time, if Lua could not be interrupted when it came. */
#define AGAIN_NS NS_PER_MS

static const char limit_key;

/* The only limit that uses a signal for compiled code: LuaJIT's profiler serves one state only. */
static _Atomic(struct time_limit *) watched;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Mostly the first comparison decides, and reading that clock costs no system call. */
static bool over(const struct time_limit *l, uint64_t now_ns)
{
    return l->spent_ns + (now_ns - l->began_ns) > l->limit_ns &&
           l->spent_ns + (clock_ns(CLOCK_THREAD_CPUTIME_ID) - l->began_cpu_ns) > l->limit_ns;
}

static void on_count(lua_State *L, lua_Debug *ar);

static void look_at_each(struct time_limit *l, lua_State *L)
{
    l->hooked = true;
    profiler_set_hook(L, on_count, LUA_MASKCOUNT, 1);
}

static void look_seldom(struct time_limit *l, lua_State *L)
{
    l->hooked = false;
    if (l->watchdog)
        profiler_set_hook(L, NULL, 0, 0);
    else
        profiler_set_hook(L, on_count, LUA_MASKCOUNT, LOOK_INSTRUCTIONS);
}

static void note_stop(lua_State *L, struct time_limit *l)
{
    char where[100];
    struct err e;
    task_where(L, where, sizeof where);
    err_set(&e, ERR_BUDGET, "time limit: it computed for more than %g s without a wait, at %s",
            (double)l->limit_ns / 1e9, where);
    err_reason(&e, "time_limit");
    e.limit_ms = l->limit_ns / NS_PER_MS;
    aux_push_err(L, &e);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    UNUSED(ar);
    profiler_poll(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&limit_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct time_limit *l = lua_touserdata(L, -1);
    lua_pop(L, 1);
    struct sched *s = &l->rt->sched;
    struct task *t = s->running;
    if (!t) {
        if (l->outside_ns == 0 || clock_ns(CLOCK_MONOTONIC) - l->outside_ns < l->limit_ns)
            return;
        look_at_each(l, L); /* look at each instruction even if the error is caught: until
                               time_limit_outside, or the end of the next resume */
        luaL_error(L, "time limit");
    }
    /* The task is about to yield: for a wait, or because its slice has ended. */
    if (t->state != TASK_RUNNING || t->sliced)
        return;
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (!t->stopped && over(l, now)) {
        t->stopped = true; /* set first: any error raised from here on ends the task */
        look_at_each(l, L);
        note_stop(L, l);
    }
    if (t->stopped) {
        if (!lua_isyieldable(L)) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
            lua_error(L);
        }
    } else if (now >= atomic_load(&l->until_ns) && lua_isyieldable(L)) {
        t->sliced = true;
    } else {
        if (l->watchdog)
            look_seldom(l, L); /* until the next signal */
        return;
    }
    s->preempted = L != t->co;
    lua_yield(L, 0);
}

static void set_due(struct time_limit *l)
{
    uint64_t left = l->limit_ns > l->spent_ns ? l->limit_ns - l->spent_ns : 0;
    uint64_t until = atomic_load(&l->until_ns);
    atomic_store(&l->due_ns, MIN(l->began_ns + left, until));
}

static void set_timer(struct time_limit *l, uint64_t due_ns)
{
    if (!l->has_timer || l->armed_ns == due_ns)
        return;
    l->armed_ns = due_ns;
    struct itimerspec when = {.it_value = {0}};
    if (due_ns != NEVER_NS) {
        when.it_value.tv_sec = (time_t)(due_ns / NS_PER_S);
        when.it_value.tv_nsec = (long)(due_ns % NS_PER_S);
        when.it_interval.tv_nsec = AGAIN_NS;
    }
    timer_settime(l->timer, TIMER_ABSTIME, &when, NULL);
}

static void before_resume(struct sched *s, struct task *t)
{
    struct time_limit *l = s->watch;
    if (t->id != l->sliced_id)
        l->spent_ns = 0;
    l->sliced_id = 0;
    l->began_ns = clock_ns(CLOCK_MONOTONIC);
    l->began_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    if (l->watchdog) {
        set_due(l);
        set_timer(l, atomic_load(&l->until_ns));
    }
}

static void after_resume(struct sched *s, struct task *t)
{
    struct time_limit *l = s->watch;
    atomic_store(&l->due_ns, NEVER_NS);
    if (t->sliced) {
        l->sliced_id = t->id;
        l->spent_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - l->began_cpu_ns;
    }
    if (l->hooked || l->watchdog)
        look_seldom(l, s->L);
}

/* Runs in the signal handler: LuaJIT makes compiled code return to the interpreter, which finds
 * this hook. */
static void on_tick(void *arg)
{
    struct time_limit *l = arg;
    if (clock_ns(CLOCK_MONOTONIC) >= atomic_load(&l->due_ns))
        profiler_set_hook(l->rt->L, on_count, LUA_MASKCOUNT, 1);
}

static void start_watchdog(lua_State *L, struct time_limit *l)
{
    struct time_limit *none = NULL;
    if (!atomic_compare_exchange_strong(&watched, &none, l))
        luaL_error(L, "jit_watchdog: another runtime of this process has it");
    profiler_begin(L, true, NULL, on_tick, l);
    /* The profiler's signal comes every 10 ms, many times the budget of a step. */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    event.sigev_notify_thread_id = gettid();
    l->armed_ns = NEVER_NS;
    l->has_timer = timer_create(CLOCK_MONOTONIC, &event, &l->timer) == 0;
}

static void stop_watchdog(lua_State *L, struct time_limit *l)
{
    if (l->has_timer)
        timer_delete(l->timer);
    profiler_end(L);
    atomic_store(&watched, NULL);
}

void time_limit_open(lua_State *L, struct time_limit *l, struct rt *rt, uint64_t limit_ns,
                     bool watchdog)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&limit_key);
    lua_pushlightuserdata(L, l);
    lua_rawset(L, LUA_REGISTRYINDEX);
    l->limit_ns = limit_ns;
    l->thread = pthread_self();
    atomic_store(&l->due_ns, NEVER_NS);
    atomic_store(&l->until_ns, NEVER_NS);
    l->rt = rt;
    if (watchdog) {
        start_watchdog(L, l);
    } else if (!luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF)) {
        luaL_error(L, "time_limit_ms: the compiler cannot be switched off");
    }
    l->watchdog = watchdog;
    rt->sched.watch = l;
    rt->sched.before_resume = before_resume;
    rt->sched.after_resume = after_resume;
    look_seldom(l, L);
}

void time_limit_step(struct time_limit *l, uint64_t until_ns)
{
    if (!l->rt)
        return;
    atomic_store(&l->until_ns, l->rt->virtual_time ? NEVER_NS : until_ns);
    if (until_ns == NEVER_NS)
        set_timer(l, NEVER_NS);
}

void time_limit_look_again(struct time_limit *l)
{
    if (l->rt)
        look_seldom(l, l->rt->L);
}

void time_limit_outside(struct time_limit *l)
{
    if (!l->rt)
        return;
    l->outside_ns = clock_ns(CLOCK_MONOTONIC);
    if (l->hooked)
        look_seldom(l, l->rt->L);
    if (l->watchdog)
        atomic_store(&l->due_ns, l->outside_ns + l->limit_ns);
}

void time_limit_hurry(struct time_limit *l)
{
    l->limit_ns = MIN(l->limit_ns, HURRY_NS);
}

void time_limit_close(struct time_limit *l, lua_State *L)
{
    if (!l->rt)
        return;
    atomic_store(&l->due_ns, NEVER_NS);
    profiler_set_hook(L, NULL, 0, 0);
    if (l->watchdog)
        stop_watchdog(L, l);
    l->rt = NULL;
}
