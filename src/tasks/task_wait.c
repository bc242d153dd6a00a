/* The begin and the end of a wait: park and take. */
#include "tasks/task_wait.h"

#include "tasks/task_failure.h"
#include "tasks/task_outcome.h"
#include <lauxlib.h>
#include <string.h>

/* A cancelled task may catch its cancel this often, or continue for this long. Then it is
 * abandoned. */
#define MAX_SWALLOWED 1000
#define MAX_CANCELLED_NS (5 * NS_PER_S)

void task_vraise(lua_State *L, const char *fmt, va_list ap)
{
    char where[128];
    task_blame(L, where, sizeof where);
    lua_pushfstring(L, where[0] == '?' ? "" : "%s: ", where);
    lua_pushvfstring(L, fmt, ap);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* lua_error does not return */
}

static NORETURN void raise_at(lua_State *L, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    task_vraise(L, fmt, ap);
}

struct task *task_current(lua_State *L, struct sched *s, const char *who)
{
    if (!s->running && s->own_state)
        raise_at(L, "%s: called outside a task (run the script with leat)", who);
    if (!s->running)
        raise_at(L,
                 "%s: called outside a task: in a host's Lua state, put the call into a function "
                 "and pass that to leat.run or leat.start (from C: to leat_call)",
                 who);
    return s->running;
}

static bool is_global(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    bool same = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 1);
    return same;
}

/* Returns the C function that prevents a wait here, because it runs a callback; for the message. */
static const char *blocking_function(lua_State *L)
{
    static const char *const known[][2] = {
        {"table", "sort"},    {"string", "gsub"},   {"table", "foreach"}, {"table", "foreachi"},
        {"string", "gmatch"}, {"string", "format"}, {"_G", "print"}};
    static const char handler[] = "a message handler of xpcall";
    lua_Debug ar;
    bool handles = false;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Snf", &ar);
        bool is_c = strcmp(ar.what, "C") == 0;
        /* A function that raises only calls error handlers. "take" is where leat raises a cancel.
         */
        bool raises = is_c && (is_global(L, "error") || is_global(L, "assert") ||
                               (ar.name && strcmp(ar.name, "take") == 0));
        if (raises) {
            lua_pop(L, 1);
            return handler;
        }
        /* A wait is possible inside pcall, as in a Lua function, and inside xpcall, except in its
         * handler. */
        if (is_c && (is_global(L, "pcall") || is_global(L, "xpcall"))) {
            handles = handles || is_global(L, "xpcall");
            lua_pop(L, 1);
            continue;
        }
        for (size_t i = 0; is_c && i < ARRAY_LEN(known); i++) {
            int fn = lua_gettop(L);
            lua_getglobal(L, known[i][0]);
            if (lua_istable(L, -1))
                lua_getfield(L, -1, known[i][1]);
            bool same = lua_rawequal(L, -1, fn) != 0;
            lua_settop(L, fn);
            if (same) {
                lua_pop(L, 1);
                return known[i][1];
            }
        }
        lua_pop(L, 1);
        if (is_c && ar.name)
            return ar.name;
    }
    return handles ? handler : "a C function";
}

static void push_refusal(lua_State *L, const char *who)
{
    lua_pushfstring(
        L,
        "%s: cannot wait inside %s (LuaJIT cannot suspend a callback of a C function, such as a "
        "table.sort comparator): wait before the call, keep the results in a table, and use that "
        "table inside",
        who, blocking_function(L));
}

void task_check_can_wait(lua_State *L, struct sched *s, const char *who)
{
    struct task *t = task_current(L, s, who);
    if (!lua_isyieldable(L)) {
        push_refusal(L, who);
        raise_at(L, "%s", lua_tostring(L, -1));
    }
    if (!s->own_state && L != t->co) {
        raise_at(L,
                 "%s: cannot wait inside a coroutine that the script created, in a host's Lua "
                 "state: call "
                 "it from the task itself, or make the coroutine a task with leat.spawn",
                 who);
    }
}

bool task_gives_way(lua_State *L, const struct sched *s)
{
    const struct task *t = s->running;
    return s->until_ns != NEVER_NS && t && !t->cancel_requested &&
           loop_now_ns(s->loop) >= s->until_ns && lua_isyieldable(L) &&
           (s->own_state || L == t->co);
}

/* A cancelled task may still begin a shield, because clean-ups need it; but not without limit. */
static bool ignored_too_long(struct task *t, const struct wait_ops *ops, uint64_t now_ns)
{
    if (ops->survives_cancel)
        return ++t->swallowed >= 2 * MAX_SWALLOWED;
    return t->swallowed >= MAX_SWALLOWED ||
           (t->cancelled_at_ns && now_ns > t->cancelled_at_ns + MAX_CANCELLED_NS);
}

static void wake_cancelled(struct task *t)
{
    t->wait.cancelled = true;
    t->state = TASK_READY;
    list_push_back(&t->sched->ready, &t->node);
}

int task_park(lua_State *L, struct sched *s, const struct wait_ops *ops, void *obj,
              void (*begin)(struct task *t, void *arg), void *arg)
{
    task_check_can_wait(L, s, ops->name);
    struct task *t = s->running;
    task_unpark(s); /* the rest of an earlier wait, if the script caught an error in it */
    t->wait.ops = ops;
    t->wait.obj = obj;
    t->wait.woken = t->wait.timed_out = t->wait.cancelled = t->wait.dropped = false;
    t->wait.number = 0;
    t->wait.since_ns = s->pass_ns;
    t->state = TASK_PARKED;
    if (t->cancel_requested && ignored_too_long(t, ops, t->wait.since_ns)) {
        t->abandoned = true;
    } else if (t->cancel_requested && !ops->joins) {
        /* It goes through the ready queue as usual, so a loop that catches its cancel does not
         * block others. */
        wake_cancelled(t);
    } else {
        if (begin)
            begin(t, arg);
        /* `begin` may have called a host's function that cancelled this task. */
        if (t->cancel_requested && !t->wait.cancelled && ops->cancel && ops->cancel(t) &&
            t->state == TASK_PARKED)
            wake_cancelled(t);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    return lua_yield(L, 1);
}

void task_unpark(struct sched *s)
{
    struct task *t = s->running;
    if (!t || !t->wait.ops)
        return;
    t->wait.dropped = true;
    if (!t->wait.cancelled && t->wait.ops->cancel)
        t->wait.ops->cancel(t);
    task_wait_end(t);
    list_unlink(&t->node);
    t->state = TASK_RUNNING;
}

void task_refuse(lua_State *L, struct sched *s)
{
    struct task *t = s->running;
    push_refusal(L, t->wait.ops ? t->wait.ops->name : "coroutine.resume");
    task_unpark(s);
    task_set_slot(L, t, SLOT_KEEP);
    t->refused = true;
}

int task_raise_cancel(lua_State *L, struct task *t)
{
    t->swallowed++;
    if (!t->cancelled_at_ns)
        t->cancelled_at_ns = loop_now_ns(t->sched->loop);
    if (t->has_bug_child) {
        task_push_slot(L, t, SLOT_BUG_CHILD);
        return task_raise_bug(L, t->sched, lua_touserdata(L, -1));
    }
    task_push_slot(L, t, SLOT_CANCEL);
    if (!lua_istable(L, -1)) {
        struct err e;
        task_cancel_err(t, &e);
        t->sched->push_err(L, &e);
        lua_pushvalue(L, -1);
        task_set_slot(L, t, SLOT_CANCEL);
    }
    return lua_error(L);
}

int task_take(lua_State *L, struct sched *s)
{
    struct task *t = task_current(L, s, "take");
    const struct wait_ops *ops = t->wait.ops;
    if (t->refused) {
        t->refused = false;
        task_push_slot(L, t, SLOT_KEEP);
        raise_at(L, "%s", lua_tostring(L, -1));
    }
    if (!ops)
        return luaL_error(L, "take: this task did not wait");
    bool cancel = t->wait.cancelled || (t->cancel_requested && ops->joins && !ops->survives_cancel);
    if (cancel) {
        task_wait_end(t);
        return task_raise_cancel(L, t);
    }
    t->wait.ops = NULL; /* the wait has ended, even if `take` raises */
    int n = ops->take(L, t);
    if (n >= 2 && lua_isnil(L, -n) && task_is_err(L, 1 - n)) {
        lua_pushvalue(L, 1 - n);
        task_note_failure(L, s, ops->name);
        lua_pop(L, 1);
    }
    return n;
}
