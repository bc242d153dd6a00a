/* The event, and the module of the three synchronisers. */
#include "lua/lua_sync.h"

#include "lua/lua_aux.h"
#include "lua/lua_queue.h"
#include "lua/lua_sema.h"
#include <math.h>

struct event {
    bool set;
    bool from_outside; /* a signal may set it, so waiting for it is not a deadlock */
    struct list line;
};

static struct event *check_event(lua_State *L)
{
    return aux_check_self(L, "leat.event");
}

static int l_event_new(lua_State *L)
{
    bool from_outside = lua_toboolean(L, 1) != 0;
    struct event *e = lua_newuserdata(L, sizeof *e);
    *e = (struct event){.from_outside = from_outside};
    list_init(&e->line);
    luaL_getmetatable(L, "leat.event");
    lua_setmetatable(L, -2);
    return 1;
}

static int l_event_set(lua_State *L)
{
    struct event *e = check_event(L);
    e->set = true;
    while (!list_empty(&e->line))
        task_wake(CONTAINER_OF(e->line.next, struct task, wait.node));
    return 0;
}

static int l_event_clear(lua_State *L)
{
    check_event(L)->set = false;
    return 0;
}

static int l_event_is_set(lua_State *L)
{
    lua_pushboolean(L, check_event(L)->set);
    return 1;
}

static int l_event_tostring(lua_State *L)
{
    lua_pushstring(L, check_event(L)->set ? "event (set)" : "event (not set)");
    return 1;
}

static void leave_event(struct task *t)
{
    if (((struct event *)t->wait.obj)->from_outside)
        t->sched->external--;
}

static bool cancel_event(struct task *t)
{
    leave_event(t);
    return true;
}

static int take_event(lua_State *L, struct task *t)
{
    leave_event(t);
    if (t->wait.timed_out)
        return aux_fail_timeout(L, t, "wait");
    lua_pushboolean(L, 1);
    return 1;
}

static const struct wait_ops event_ops = {
    .name = "event:wait", .cancel = cancel_event, .take = take_event};

static void begin_event(struct task *t, void *arg)
{
    struct aux_wait *j = arg;
    struct event *e = j->obj;
    if (e->from_outside)
        t->sched->external++;
    list_push_back(&e->line, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
}

static int l_event_wait(lua_State *L)
{
    struct event *e = check_event(L);
    double timeout_s = aux_opt_timeout(L, 2, "wait: timeout");
    if (e->set) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct aux_wait j = {e, timeout_s};
    return task_park(L, &rt_of(L)->sched, &event_ops, e, begin_event, &j);
}

static const luaL_Reg event_methods[] = {{"_wait_start", l_event_wait},
                                         {"set", l_event_set},
                                         {"clear", l_event_clear},
                                         {"is_set", l_event_is_set},
                                         {NULL, NULL}};

int lua_open_sync(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"event", l_event_new}, {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    lua_sema_register(L, rt);
    lua_queue_register(L, rt);
    static const struct aux_class class = {.tname = "leat.event",
                                           .name = "event_methods",
                                           .methods = event_methods,
                                           .tostring = l_event_tostring};
    aux_open_class(L, rt, &class);
    return 1;
}
