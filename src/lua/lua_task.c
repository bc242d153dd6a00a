/* Task primitives as C functions: those that park, and those that need a task's internals. Their
 * public face is lua/leat/task.lua. */
#include "lua/lua_task.h"

#include "ground/redact.h"
#include "ground/secret.h"
#include "lua/lua_aux.h"
#include "lua/lua_bug.h"
#include "lua/lua_group.h"
#include <math.h>
#include <string.h>

static struct task *running(lua_State *L, const char *who)
{
    return task_current(L, &rt_of(L)->sched, who);
}

static struct task *check_task(lua_State *L, int index, const char *who)
{
    char given[AUX_PICTURE_SIZE];
    void *p = lua_touserdata(L, index);
    if (p && lua_getmetatable(L, index)) {
        luaL_getmetatable(L, "leat.task");
        bool same = lua_rawequal(L, -1, -2) != 0;
        lua_pop(L, 2);
        if (same)
            return p;
    }
    aux_raise(L, "%s: expected a task, got %s", who,
              aux_picture(L, index, NULL, given, sizeof given));
}

/* ---- sleep ---- */

static int take_true(lua_State *L, struct task *t)
{
    UNUSED(t);
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_sleep(struct task *t, char *out, size_t size)
{
    uint64_t now = loop_now_ns(t->sched->loop);
    double left = t->wait.timer.due_ns > now ? (double)(t->wait.timer.due_ns - now) / 1e9 : 0;
    if (t->wait.timer.active)
        snprintf(out, size, left < 100 ? "%.2f s left" : "%.0f s left", left);
}

static const struct wait_ops sleep_ops = {
    .name = "sleep", .take = take_true, .describe = describe_sleep};

static void begin_sleep(struct task *t, void *arg)
{
    double seconds = *(double *)arg;
    if (seconds == 0)
        task_wake(t); /* goes to the end of the ready queue, so the others run first */
    else
        task_wait_seconds(t, seconds);
}

static int l_sleep(lua_State *L)
{
    double seconds = aux_check_seconds(L, 1, "sleep: seconds");
    /* An endless sleep lasts ten years: it counts as a wait that ends. */
    if (isinf(seconds))
        seconds = 10 * 366 * 86400.0;
    return task_park(L, &rt_of(L)->sched, &sleep_ops, NULL, begin_sleep, &seconds);
}

/* ---- await, wait_for, shield ---- */

/* The awaited task has ended: its outcome is the waiter's result. */
static int take_outcome(lua_State *L, struct task *t)
{
    task_push_slot(L, t, SLOT_KEEP);
    struct task *target = lua_touserdata(L, -1);
    sched_observe(target);
    lua_pushboolean(L, 0);
    task_set_slot(L, t, SLOT_KEEP);
    if (target->outcome == OUTCOME_BUG)
        return task_raise_bug(L, t->sched, target);
    return task_push_outcome(L, target);
}

static void describe_task(struct task *t, char *out, size_t size)
{
    snprintf(out, size, "task %llu", (unsigned long long)((struct task *)t->wait.obj)->id);
}

static const struct wait_ops await_ops = {
    .name = "await", .take = take_outcome, .describe = describe_task};

static bool cancel_join(struct task *t)
{
    task_cancel(t->wait.obj, t->cancel_reason);
    task_unwake(t);
    struct task *target = t->wait.obj;
    if (target->state == TASK_ENDED)
        return true;
    if (!list_linked(&t->wait.node))
        list_push_back(&target->waiters, &t->wait.node);
    return false;
}

static void limit_expired(struct task *t)
{
    t->wait.number = 1;
    task_cancel(t->wait.obj, "timeout");
}

static int take_limited_as(lua_State *L, struct task *t, const char *name)
{
    struct task *target = t->wait.obj;
    if (t->wait.number != 1 || target->outcome != OUTCOME_CANCELLED)
        return take_outcome(L, t);
    char where[100];
    struct err e;
    task_push_slot(L, t, SLOT_KEEP); /* keeps the target alive */
    sched_observe(target);
    lua_pushboolean(L, 0);
    task_set_slot(L, t, SLOT_KEEP);
    task_where_in(L, t, where, sizeof where);
    double limit = (double)(t->wait.timer.due_ns - t->wait.since_ns) / 1e9;
    err_set(&e, ERR_TIMEOUT, "%s: no result within %.6g s (limit set at %s)", name, limit, where);
    e.retryable = true;
    e.phase = PHASE_TOTAL;
    e.elapsed_ms = (loop_now_ns(t->sched->loop) - t->wait.since_ns) / NS_PER_MS;
    lua_pushnil(L);
    aux_push_err(L, &e);
    lua_pushnumber(L, limit);
    lua_setfield(L, -2, "limit");
    lua_pushstring(L, where);
    lua_setfield(L, -2, "at");
    task_push_first(L, target); /* the error it raised when cancelled: a clean-up may have failed */
    if (task_is_err(L, -1)) {
        lua_getfield(L, -1, "cleanup");
        lua_setfield(L, -3, "cleanup");
    }
    lua_pop(L, 1);
    return 2;
}

static int take_wait_for(lua_State *L, struct task *t)
{
    return take_limited_as(L, t, "wait_for");
}

static const struct wait_ops wait_for_ops = {.name = "wait_for",
                                             .cancel = cancel_join,
                                             .take = take_wait_for,
                                             .expired = limit_expired,
                                             .describe = describe_task,
                                             .joins = true};

static bool cancel_shield(struct task *t)
{
    struct task *target = t->wait.obj;
    if (t->wait.dropped) { /* no task is left to enforce its limit */
        target->shielded = false;
        task_cancel(target, "the wait for it was given up");
    }
    return false;
}

static int take_shield(lua_State *L, struct task *t)
{
    /* The time under the shield is granted: it does not count as ignoring the cancel. */
    if (t->cancelled_at_ns)
        t->cancelled_at_ns += loop_now_ns(t->sched->loop) - t->wait.since_ns;
    return take_limited_as(L, t, "shield");
}

static const struct wait_ops shield_ops = {.name = "shield",
                                           .cancel = cancel_shield,
                                           .take = take_shield,
                                           .expired = limit_expired,
                                           .describe = describe_task,
                                           .joins = true,
                                           .survives_cancel = true};

struct join {
    struct task *target;
    double seconds; /* infinity: none */
    bool spawned;   /* the target was spawned for this wait */
};

static void begin_join(struct task *t, void *arg)
{
    struct join *limit = arg;
    if (limit->target->state == TASK_ENDED) {
        task_wake(t);
        return;
    }
    list_push_back(&limit->target->waiters, &t->wait.node);
    uint64_t due = NEVER_NS;
    t->wait.since_ns = loop_now_ns(t->sched->loop);
    if (limit->seconds < 1e9)
        due = t->wait.since_ns + (uint64_t)(limit->seconds * 1e9);
    if (limit->spawned && !limit->target->shielded)
        limit->target->deadline_ns = MIN(due, t->deadline_ns);
    /* If an outer limit expires first, it cancels this task, and this task cancels the target. */
    if (due < t->deadline_ns || limit->target->shielded)
        task_wait_timer(t, MIN(due, limit->target->shield_ns));
}

/* Stores the task at `index` in the running task's SLOT_KEEP, so that its object outlives its end.
 */
static void keep(lua_State *L, struct task *t, int index)
{
    lua_pushvalue(L, index);
    task_set_slot(L, t, SLOT_KEEP);
}

static void refuse_ancestor(lua_State *L, struct task *t, struct task *target, const char *who)
{
    /* An ancestor has a smaller id. So for the usual await, that of a child, the loop ends at once.
     */
    for (struct task *up = t; up && up->id >= target->id; up = up->parent) {
        if (up == target)
            aux_raise(L, "%s: task %d would wait for itself: it ends only when this one has ended",
                      who, (int)target->id);
    }
}

static int wait_for_end(lua_State *L, const char *who, const struct wait_ops *ops)
{
    struct task *target = check_task(L, 1, who);
    struct task *t = running(L, who);
    refuse_ancestor(L, t, target, who);
    task_check_can_wait(L, t->sched, who);
    keep(L, t, 1);
    struct join limit = {target, (double)INFINITY, false};
    return task_park(L, t->sched, ops, target, begin_join, &limit);
}

static int l_await(lua_State *L)
{
    return wait_for_end(L, "await", &await_ops);
}

/* join(task): like await, but if the waiter is cancelled, it cancels the task and waits for its
 * end. */
static int l_join(lua_State *L)
{
    return wait_for_end(L, "gather", &wait_for_ops);
}

/* Other libraries take the arguments in the order wait_for(fn, 5). */
static double check_limit(lua_State *L, const char *who, const char *what)
{
    char given[AUX_PICTURE_SIZE];
    if ((lua_isfunction(L, 1) || lua_isuserdata(L, 1)) && lua_isnumber(L, 2))
        aux_raise(
            L, "%s must be a number of seconds, got %s (the seconds come first: %s(5, function))",
            what, aux_picture(L, 1, NULL, given, sizeof given), who);
    return aux_check_seconds(L, 1, what);
}

static int l_wait_for(lua_State *L)
{
    double seconds = check_limit(L, "wait_for", "wait_for: seconds");
    struct task *t = running(L, "wait_for");
    task_check_can_wait(L, t->sched, "wait_for");
    struct join limit = {.seconds = seconds};
    if (lua_isuserdata(L, 2)) {
        limit.target = check_task(L, 2, "wait_for");
        refuse_ancestor(L, t, limit.target, "wait_for");
    } else {
        aux_check_callable(L, 2, "wait_for: the second argument");
        limit.target = sched_spawn(L, t->sched, t, lua_gettop(L) - 2);
        limit.spawned = true;
    }
    keep(L, t, lua_isuserdata(L, 2) ? 2 : -1);
    return task_park(L, t->sched, &wait_for_ops, limit.target, begin_join, &limit);
}

static int l_shield(lua_State *L)
{
    double seconds = check_limit(L, "shield", "shield: seconds");
    aux_check_callable(L, 2, "shield: the second argument");
    struct task *t = running(L, "shield");
    task_check_can_wait(L, t->sched, "shield");
    uint64_t due = MIN(loop_deadline_ns(t->sched->loop, seconds), t->shield_ns);
    struct task *child = sched_spawn(L, t->sched, t, lua_gettop(L) - 2);
    child->shielded = true;
    child->cancel_requested = false;
    child->deadline_ns = child->shield_ns = due;
    keep(L, t, -1);
    struct join limit = {child, seconds, true};
    return task_park(L, t->sched, &shield_ops, child, begin_join, &limit);
}

/* ---- spawn and the task's own methods ---- */

static int l_spawn(lua_State *L)
{
    aux_check_callable(L, 1, "spawn: the first argument");
    struct task *t = running(L, "spawn");
    sched_spawn(L, t->sched, t, lua_gettop(L) - 1);
    return 1;
}

static int l_task_cancel(lua_State *L)
{
    struct task *t = check_task(L, 1, "cancel");
    char given[AUX_PICTURE_SIZE];
    if (!lua_isnoneornil(L, 2) && !lua_isstring(L, 2))
        aux_raise(L, "cancel: the reason must be a string, got %s",
                  aux_picture(L, 2, NULL, given, sizeof given));
    task_cancel(t, lua_tostring(L, 2));
    return 0;
}

static int l_task_status(lua_State *L)
{
    lua_pushstring(L, task_status(check_task(L, 1, "status")));
    return 1;
}

static int l_task_index(lua_State *L)
{
    struct task *t = check_task(L, 1, "task");
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "name") == 0) {
        task_push_name_of(L, 1);
    } else if (key && strcmp(key, "id") == 0) {
        lua_pushnumber(L, (double)t->id);
    } else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(2));
        /* For spawn(request, url).body: the script forgot the await, and nil would hide that. */
        if (key && lua_isnil(L, -1))
            aux_raise(L,
                      "task: no field '%s' (name, id, await, cancel, status; task:await() returns "
                      "the results of its function)",
                      secret_hidden(key));
    }
    return 1;
}

static int l_task_newindex(lua_State *L)
{
    struct task *t = check_task(L, 1, "task");
    const char *key = lua_tostring(L, 2);
    char given[AUX_PICTURE_SIZE];
    if (!key || strcmp(key, "name") != 0)
        aux_raise(L, "task: only 'name' can be set, not %s",
                  aux_picture(L, 2, NULL, given, sizeof given));
    if (!lua_isstring(L, 3))
        aux_raise(L, "task: the name must be a string, got %s",
                  aux_picture(L, 3, NULL, given, sizeof given));
    UNUSED(t);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, SLOT_NAME);
    return 0;
}

static int l_task_tostring(lua_State *L)
{
    struct task *t = check_task(L, 1, "task");
    task_push_name_of(L, 1);
    char name[256];
    redact_words(name, sizeof name, lua_tostring(L, -1));
    lua_pushfstring(L, "task %d (%s): %s", (int)t->id, name, task_status(t));
    return 1;
}

static int l_current(lua_State *L)
{
    struct task *t = rt_of(L)->sched.running;
    if (!t)
        return 0;
    task_push(L, t);
    return 1;
}

static int l_is_task(lua_State *L)
{
    bool same = false;
    if (lua_isuserdata(L, 1) && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, "leat.task");
        same = lua_rawequal(L, -1, -2) != 0;
    }
    lua_pushboolean(L, same);
    return 1;
}

/* ---- what the Lua side needs to see ---- */

static int l_raise_bug(lua_State *L)
{
    struct task *t = check_task(L, 1, "raise");
    return task_raise_bug(L, running(L, "raise")->sched, t);
}

static int l_trace(lua_State *L)
{
    task_push_trace(L, check_task(L, 1, "traceback"));
    return 1;
}

static int l_take(lua_State *L)
{
    return task_take(L, &rt_of(L)->sched);
}

/* The coroutine that was just resumed wants to wait, but cannot here: its take will raise. */
static int l_refuse(lua_State *L)
{
    running(L, "coroutine.resume");
    task_refuse(L, &rt_of(L)->sched);
    return 0;
}

static int l_yieldable(lua_State *L)
{
    lua_pushboolean(L, lua_isyieldable(L));
    return 1;
}

/* preempted(): whether the coroutine just resumed came back because the task's time slice ended. */
static int l_preempted(lua_State *L)
{
    struct sched *s = &rt_of(L)->sched;
    lua_pushboolean(L, s->preempted);
    s->preempted = false;
    return 1;
}

/* It came back to a place that cannot yield: a time slice continues, a stop is raised. */
static int l_go_on(lua_State *L)
{
    struct task *t = running(L, "coroutine.resume");
    t->sliced = false;
    if (!t->stopped)
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
    return lua_error(L);
}

static int l_out_of_time(lua_State *L)
{
    struct task *t = rt_of(L)->sched.running;
    lua_pushboolean(L, t && t->stopped);
    return 1;
}

static int l_check_can_wait(lua_State *L)
{
    task_check_can_wait(L, &rt_of(L)->sched, luaL_checkstring(L, 1));
    return 0;
}

static int l_is_base(lua_State *L)
{
    struct task *t = rt_of(L)->sched.running;
    lua_pushboolean(L, t && t->co == L);
    return 1;
}

/* cleanups(): the running task's stack of clean-ups, created on first use. It has room for the
 * usual number: a push after a permit was taken must not fail. */
static int l_cleanups(lua_State *L)
{
    struct task *t = running(L, "finally");
    task_push_slot(L, t, SLOT_CLEANUPS);
    if (!lua_istable(L, -1)) {
        lua_createtable(L, 15, 0);
        lua_pushvalue(L, -1);
        task_set_slot(L, t, SLOT_CLEANUPS);
    }
    return 1;
}

static int l_set_cleanup_runner(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_CLEANUP);
    return 0;
}

/* graceful(change): +1 before, -1 after a run that ends by itself when leat.stopping is set. */
static int l_graceful(lua_State *L)
{
    struct rt *rt = rt_of(L);
    if (luaL_checkinteger(L, 1) > 0)
        rt->graceful_runs++;
    else if (rt->graceful_runs > 0)
        rt->graceful_runs--;
    return 0;
}

/* The virtual clock begins at 0 for scripts. */
static double script_seconds(const struct rt *rt, uint64_t at_ns)
{
    return (double)(rt->virtual_time ? at_ns - LOOP_VIRTUAL_START_NS : at_ns) / 1e9;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, script_seconds(rt_of(L), loop_now_ns(&rt_of(L)->loop)));
    return 1;
}

static int l_time(lua_State *L)
{
    lua_pushnumber(L, loop_date_s(&rt_of(L)->loop));
    return 1;
}

static int l_deadline(lua_State *L)
{
    struct task *t = running(L, "deadline");
    if (t->deadline_ns == NEVER_NS)
        return 0;
    lua_pushnumber(L, script_seconds(rt_of(L), t->deadline_ns));
    return 1;
}

/* inherited(table): its entry for the id of the running task or of the nearest ancestor. */
static int l_inherited(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    for (struct task *t = rt_of(L)->sched.running; t; t = t->parent) {
        lua_pushnumber(L, (double)t->id);
        lua_rawget(L, 1); /* table value */
        if (!lua_isnil(L, -1))
            return 1;
        lua_pop(L, 1);
    }
    return 0;
}

/* tasks(): an array of {id, name, status, waiting, detail, since, at, parent, member}. */
static int l_tasks(lua_State *L)
{
    struct sched *s = &rt_of(L)->sched;
    char text[128];
    int n = 0;
    lua_createtable(L, (int)s->live, 0);
    LIST_FOR(node, &s->tasks)
    {
        struct task *t = CONTAINER_OF(node, struct task, all);
        lua_createtable(L, 0, 9);
        lua_pushnumber(L, (double)t->id);
        lua_setfield(L, -2, "id");
        task_push_name(L, t);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, task_status(t));
        lua_setfield(L, -2, "status");
        if (t->parent) {
            lua_pushnumber(L, (double)t->parent->id);
            lua_setfield(L, -2, "parent");
        }
        lua_pushboolean(L, t->member);
        lua_setfield(L, -2, "member");
        if (t->wait.ops) {
            lua_pushstring(L, t->wait.ops->name);
            lua_setfield(L, -2, "waiting");
            text[0] = '\0';
            if (t->wait.ops->describe && !t->wait.cancelled)
                t->wait.ops->describe(t, text, sizeof text);
            lua_pushstring(L, text);
            lua_setfield(L, -2, "detail");
            lua_pushnumber(L, (double)(loop_now_ns(s->loop) - t->wait.since_ns) / 1e9);
            lua_setfield(L, -2, "since");
        }
        if (t->started) {
            task_where(t == s->running ? L : t->co, text, sizeof text);
            if (text[0] != '?') /* '?': only leat's own functions run there */
                lua_pushstring(L, text);
            else
                lua_pushnil(L);
            lua_setfield(L, -2, "at");
        }
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg task_methods[] = {
    {"_await_start", l_await}, {"cancel", l_task_cancel}, {"status", l_task_status}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"sleep", l_sleep},
                                     {"join", l_join},
                                     {"wait_for", l_wait_for},
                                     {"shield", l_shield},
                                     {"spawn", l_spawn},
                                     {"current", l_current},
                                     {"is_task", l_is_task},
                                     {"raise_bug", l_raise_bug},
                                     {"trace", l_trace},
                                     {"take", l_take},
                                     {"refuse", l_refuse},
                                     {"yieldable", l_yieldable},
                                     {"preempted", l_preempted},
                                     {"go_on", l_go_on},
                                     {"out_of_time", l_out_of_time},
                                     {"check_can_wait", l_check_can_wait},
                                     {"is_base", l_is_base},
                                     {"cleanups", l_cleanups},
                                     {"set_cleanup_runner", l_set_cleanup_runner},
                                     {"now", l_now},
                                     {"graceful", l_graceful},
                                     {"time", l_time},
                                     {"deadline", l_deadline},
                                     {"inherited", l_inherited},
                                     {"tasks", l_tasks},
                                     {"stats", rt_push_stats},
                                     {NULL, NULL}};

int lua_open_task(lua_State *L, struct rt *rt)
{
    rt->sched.push_err = aux_push_err;
    rt->sched.push_text = aux_push_text;
    lua_newtable(L); /* module */
    rt_setfuncs(L, rt, functions);
    lua_group_register(L, rt);
    lua_bug_register(L, rt);
    aux_push_parked(L);
    lua_setfield(L, -2, "PARKED");
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
    lua_setfield(L, -2, "error_meta");

    rt_newmetatable(L, rt, "leat.task", task_methods, NULL); /* module mt */
    lua_getfield(L, -1, "__index");                          /* module mt methods */
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "task_methods"); /* the Lua side adds await */
    lua_pushlightuserdata(L, rt);
    lua_insert(L, -2);
    lua_pushcclosure(L, l_task_index, 2);
    lua_setfield(L, -2, "__index");
    static const luaL_Reg meta[] = {
        {"__newindex", l_task_newindex}, {"__tostring", l_task_tostring}, {NULL, NULL}};
    rt_setfuncs(L, rt, meta);
    lua_pop(L, 1);
    return 1;
}
