/* Groups as C objects; gather, map, race and group in lua/leat/gather.lua are loops over them. */
#include "lua/lua_group.h"

#include "lua/lua_aux.h"
#include "lua/lua_queue.h"
#include "tasks/group.h"

static struct group *check_group(lua_State *L)
{
    return luaL_checkudata(L, 1, "leat.group");
}

static int l_group_new(lua_State *L)
{
    struct task *owner = task_current(L, &rt_of(L)->sched, "group");
    struct group *g = lua_newuserdata(L, sizeof *g);
    group_init(g, owner);
    luaL_getmetatable(L, "leat.group");
    lua_setmetatable(L, -2);
    return 1;
}

static int l_group_gc(lua_State *L)
{
    group_fini(lua_touserdata(L, 1));
    return 0;
}

/* spawn(g, index, fn, ...): spawns a member. The group returns `index` when the task ends. */
static int l_group_spawn(lua_State *L)
{
    struct group *g = check_group(L);
    int64_t index = (int64_t)luaL_checknumber(L, 2);
    aux_check_callable(L, 3, "spawn: the function");
    if (!g->head.owner)
        aux_raise(L, "spawn: the task that made this group has ended");
    struct task *t = sched_spawn(L, g->sched, g->head.owner, lua_gettop(L) - 3);
    t->group_index = index;
    group_add(g, t);
    return 1;
}

/* adopt(g, index, task): makes an existing task a member of the group; false if that is not
 * possible. */
static int l_group_adopt(lua_State *L)
{
    struct group *g = check_group(L);
    struct task *t = luaL_checkudata(L, 3, "leat.task");
    int64_t index = (int64_t)luaL_checknumber(L, 2);
    bool adopted = group_adopt(g, t);
    if (adopted)
        t->group_index = index;
    lua_pushboolean(L, adopted);
    return 1;
}

static bool cancel_group_next(struct task *t)
{
    struct group *g = t->wait.obj;
    bool woken = t->wait.woken;
    if (g->head.owner != t || g->running_count == 0 || g->adopted) { /* await_all cancels these */
        list_unlink(&t->wait.node);
        if (woken && !list_empty(&g->finished))
            group_pass_on(g);
        return true;
    }
    task_unwake(t); /* the children are cancelled too: this task continues when they have ended */
    if (woken)
        list_push_front(&g->waiters, &t->wait.node);
    return false;
}

/* Pushes the fields of a finished task for the Lua side: task, index, status, value. */
static int push_done(lua_State *L, struct task *done)
{
    task_push(L, done);
    sched_observe(done);
    lua_pushnumber(L, (double)done->group_index);
    lua_pushstring(L, task_status(done));
    task_push_first(L, done);
    return 4;
}

static int wait_on(lua_State *L, struct task *t);

static int take_group_next(lua_State *L, struct task *t)
{
    struct group *g = t->wait.obj;
    struct task *done = group_take(g);
    if (done)
        return push_done(L, done);
    if (g->closing || g->running_count == 0)
        return 0;
    return wait_on(L, t); /* another task took it first */
}

static void describe_group(struct task *t, char *out, size_t size)
{
    snprintf(out, size, "%zu tasks", ((struct group *)t->wait.obj)->running_count);
}

static const struct wait_ops group_ops = {.name = "gather",
                                          .cancel = cancel_group_next,
                                          .take = take_group_next,
                                          .describe = describe_group,
                                          .joins = true};

static void begin_group_next(struct task *t, void *arg)
{
    struct group *g = arg;
    list_push_back(&g->waiters, &t->wait.node);
    if (!list_empty(&g->finished) || g->running_count == 0)
        group_pass_on(g);
}

static int wait_on(lua_State *L, struct task *t)
{
    return task_park(L, t->sched, &group_ops, t->wait.obj, begin_group_next, t->wait.obj);
}

/* next(g): the next finished task, or nil when none runs. Does not park if a task has finished
 * already. */
static int l_group_next(lua_State *L)
{
    struct group *g = check_group(L);
    struct task *t = task_current(L, &rt_of(L)->sched, "gather");
    if (!t->cancel_requested) {
        struct task *done = group_take(g);
        if (done)
            return push_done(L, done);
        if (g->running_count == 0) {
            lua_pushnil(L);
            return 1;
        }
    }
    return task_park(L, g->sched, &group_ops, g, begin_group_next, g);
}

static bool cancel_never(struct task *t)
{
    UNUSED(t);
    return false;
}

static int take_await_all(lua_State *L, struct task *t);

static const struct wait_ops await_all_ops = {.name = "gather",
                                              .cancel = cancel_never,
                                              .take = take_await_all,
                                              .describe = describe_group,
                                              .joins = true,
                                              .survives_cancel = true};

static void begin_await_all(struct task *t, void *arg)
{
    struct group *g = arg;
    LIST_FOR(node, &g->waiters)
    {
        struct task *w = CONTAINER_OF(node, struct task, wait.node);
        if (w->wait.ops == &group_ops) /* it gets a task or nothing: await_all takes over */
            task_wake(w);
    }
    begin_group_next(t, g);
}

/* Returns the next finished task. If one has finished already, it does not wait, because a
 * cancelled task may wait only a limited number of times. */
static int await_all(lua_State *L, struct task *t, struct group *g)
{
    struct task *done = group_take(g);
    if (done)
        return push_done(L, done);
    if (g->running_count == 0)
        return 0;
    for (struct task *up = t; up; up = up->parent) {
        if (up->group == &g->head)
            aux_raise(L, "close: called by a task that it would wait for");
    }
    return task_park(L, t->sched, &await_all_ops, g, begin_await_all, g);
}

static int take_await_all(lua_State *L, struct task *t)
{
    return await_all(L, t, t->wait.obj);
}

/* await_all(g): like next, but continues after a cancel until the group is empty. */
static int l_group_await_all(lua_State *L)
{
    struct group *g = check_group(L);
    return await_all(L, task_current(L, &rt_of(L)->sched, "gather"), g);
}

static int l_group_cancel(lua_State *L)
{
    struct group *g = check_group(L);
    group_cancel(g, luaL_optstring(L, 2, NULL));
    return 0;
}

static int l_group_count(lua_State *L)
{
    lua_pushnumber(L, (double)check_group(L)->running_count);
    return 1;
}

/* wakes(g, queue): when a member ends, tasks that wait for an item of the queue wake up. */
static int l_group_wakes(lua_State *L)
{
    struct group *g = check_group(L);
    void *queue = luaL_checkudata(L, 2, "leat.queue");
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, 1); /* keeps the queue alive as long as the group */
    g->on_end = lua_queue_nudge;
    g->on_end_arg = queue;
    return 0;
}

static const luaL_Reg group_methods[] = {{"spawn", l_group_spawn},
                                         {"next_start", l_group_next},
                                         {"await_all_start", l_group_await_all},
                                         {"cancel", l_group_cancel},
                                         {"count", l_group_count},
                                         {"adopt", l_group_adopt},
                                         {"wakes", l_group_wakes},
                                         {NULL, NULL}};

void lua_group_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"group", l_group_new}, {NULL, NULL}};
    rt_newmetatable(L, rt, "leat.group", group_methods, l_group_gc);
    lua_pop(L, 1);
    rt_setfuncs(L, rt, functions);
}
