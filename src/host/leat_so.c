/* leat.so: `require "leat"` in a host's LuaJIT state. The runtime lives in a userdata in the
 * registry, so its memory outlives every finalizer of a closing state. */
#include "host/runtime.h"
#include "host/runtime_guard.h"
#include "host/runtime_hosted.h"
#include "host/runtime_modules.h"
#include "host/runtime_seat.h"
#include "lua/lua_aux.h"
#include "lua/lua_lines.h"
#include <unistd.h>

/* A task of leat.start. */
struct root {
    struct list node; /* module->roots, then module->bugs */
    struct task *task;
    int ref; /* keeps the task alive, for its bug */
    struct task_hook hook;
};

struct module {
    struct leat_runtime r; /* must come first: the userdata is also a leat_runtime */
    struct list roots;
    struct list bugs; /* roots that ended with an unawaited bug: leat.step raises it */
    bool open;
    bool turning;
    struct timer look; /* see l_run */
};

#define LOOK_NS (200 * NS_PER_MS)

static struct module *module_of(lua_State *L)
{
    return CONTAINER_OF(rt_of(L), struct module, r.rt);
}

static struct module *usable(lua_State *L, const char *who)
{
    struct module *m = module_of(L);
    const char *why;
    if (!m->open)
        aux_raise(L, "%s: the Lua state is being closed", who);
    if (!runtime_usable(m->r.rt.host, true, &why))
        aux_raise(L, "%s: %s", who, why);
    return m;
}

/* Checks for the functions that run the tasks: leat.run and leat.step. */
static struct module *usable_outside(lua_State *L, const char *who)
{
    struct module *m = usable(L, who);
    if (m->r.rt.sched.running)
        aux_raise(L,
                  "%s: called inside a task; only the host's own code may (a task waits by itself, "
                  "and starts others by leat.spawn)",
                  who);
    if (runtime_in_finalizer(L))
        aux_raise(L, "%s: called inside a finalizer (__gc)", who);
    if (m->turning)
        aux_raise(L, "%s: another leat.run or leat.step is running", who);
    return m;
}

static void enter(struct module *m)
{
    m->turning = true;
    m->r.rt.sched.outside = false;
}

static void leave(struct module *m)
{
    m->turning = false;
    m->r.rt.sched.outside = true;
}

/* Raises the bug of an ended task. A text gets the traceback appended. */
static int raise_bug(lua_State *L, struct task *t)
{
    task_push_outcome(L, t);
    if (lua_type(L, -1) == LUA_TSTRING) {
        task_push_trace(L, t);
        if (lua_objlen(L, -1) > 0) {
            lua_pushliteral(L, "\n");
            lua_insert(L, -2);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
        }
    }
    return lua_error(L);
}

static int push_result(lua_State *L, struct task *t)
{
    return t->outcome == OUTCOME_BUG ? raise_bug(L, t) : task_push_outcome(L, t);
}

static int push_stuck(lua_State *L, struct module *m)
{
    struct err e;
    err_set(&e, ERR_INTERNAL, "stuck");
    err_reason(&e, "stuck");
    aux_fail(L, &e);
    if (m->r.report.data) { /* may be longer than an error's own text */
        lua_pushstring(L, m->r.report.data);
        lua_setfield(L, -2, "message");
    }
    return 2;
}

static void look_again(struct timer *t)
{
    struct module *m = CONTAINER_OF(t, struct module, look);
    struct loop *loop = &m->r.rt.loop;
    loop_timer_start(loop, t, loop_now_ns(loop) + LOOK_NS);
}

/* Ctrl-C in luajit sets a debug hook, which raises when Lua runs next. So that this happens soon, a
 * wait is interrupted now and then. True: the hook has raised; its value is on top of L. */
static bool interrupted(lua_State *L, lua_Hook *seen)
{
    lua_Hook hook = lua_gethook(L);
    if (hook == *seen)
        return false;
    *seen = hook;
    return hook && (luaL_loadstring(L, "") != 0 || lua_pcall(L, 0, 0, 0) != 0);
}

static int l_run(lua_State *L)
{
    struct module *m = usable_outside(L, "run");
    struct leat_runtime *r = &m->r;
    aux_check_callable(L, 1, "run: the first argument");
    struct task *t = r->main = sched_spawn(L, &r->rt.sched, NULL, lua_gettop(L) - 1); // task
    lua_Hook hook = lua_gethook(L);
    bool raised = false;
    r->stuck = false;
    enter(m);
    timer_init(&m->look, look_again);
    look_again(&m->look);
    while (t->state != TASK_ENDED) {
        runtime_turn(r, true, NEVER_NS);
        if (!raised && interrupted(L, &hook)) { // task error
            raised = true;
            task_cancel(t, "interrupted");
        }
    }
    loop_timer_stop(&r->rt.loop, &m->look);
    lua_lines_settle(&r->rt); /* the process may end without closing the state */
    r->main = NULL;
    leave(m);
    if (raised)
        return lua_error(L);
    if (r->stuck && t->outcome == OUTCOME_CANCELLED)
        return push_stuck(L, m);
    return push_result(L, t);
}

static void forget(struct module *m, struct root *root)
{
    struct rt *rt = &m->r.rt;
    list_unlink(&root->node);
    task_hook_remove(&root->hook);
    sched_drop_kept(rt->L, root->ref);
    mem_free(&rt->mem, root);
}

static void root_ended(struct task_hook *hook, struct task *t)
{
    struct root *root = CONTAINER_OF(hook, struct root, hook);
    struct module *m = CONTAINER_OF(CONTAINER_OF(t->sched, struct rt, sched), struct module, r.rt);
    if (t->outcome == OUTCOME_BUG && list_empty(&t->waiters)) {
        list_unlink(&root->node);
        list_push_back(&m->bugs, &root->node);
    } else {
        forget(m, root);
    }
}

static int l_start(lua_State *L)
{
    struct module *m = usable(L, "start");
    struct rt *rt = &m->r.rt;
    aux_check_callable(L, 1, "start: the first argument");
    lua_pushboolean(L, 0);
    int ref = sched_keep(L);
    struct root *root = mem_calloc(&rt->mem, sizeof *root);
    if (!root) {
        sched_drop_kept(L, ref);
        return luaL_error(L, "not enough memory");
    }
    root->ref = ref;
    list_init(&root->node);
    list_init(&root->hook.node);
    list_push_back(&m->roots, &root->node); /* freed with the runtime if the spawn raises */
    root->task = sched_spawn(L, &rt->sched, NULL, lua_gettop(L) - 1); // task
    lua_pushvalue(L, -1);
    sched_set_kept(L, ref);
    root->hook.fn = root_ended;
    task_hook_add(root->task, &root->hook);
    loop_wake(&rt->loop);
    return 1;
}

static int l_step(lua_State *L)
{
    static const char *const words[] = {
        [LEAT_IDLE] = "idle", [LEAT_READY] = "ready", [LEAT_DONE] = "done"};
    struct module *m = usable_outside(L, "step");
    double budget = aux_opt_seconds(L, 1, "step: the budget", 0.002);
    enter(m);
    enum leat_next next = leat_step(&m->r, budget < 1e6 ? (uint64_t)(budget * 1e6) : UINT64_MAX);
    /* An idle connection may have ended, and only this empties its descriptor. */
    if (next == LEAT_DONE)
        loop_turn(&m->r.rt.loop, false);
    leave(m);
    while (!list_empty(&m->bugs)) {
        struct root *root = CONTAINER_OF(m->bugs.next, struct root, node);
        struct task *t = root->task;
        sched_push_kept(L, root->ref); // task
        forget(m, root);
        if (!t->observed)
            return raise_bug(L, t);
    }
    lua_pushstring(L, words[next]);
    return 1;
}

/* result(task): the results of a task that has ended. */
static int l_result(lua_State *L)
{
    struct task *t = aux_check_self(L, "leat.task");
    if (t->state != TASK_ENDED)
        aux_raise(L, "result: the task has not ended: it is %s", task_status(t));
    t->observed = true;
    return push_result(L, t);
}

static int l_backend_fd(lua_State *L)
{
    lua_pushinteger(L, leat_backend_fd(&usable(L, "backend_fd")->r));
    return 1;
}

static int l_timeout(lua_State *L)
{
    struct module *m = usable(L, "timeout");
    int ms = list_empty(&m->bugs) ? leat_timeout_ms(&m->r) : 0;
    if (ms < 0)
        return 0;
    lua_pushnumber(L, ms / 1e3);
    return 1;
}

static int open_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"run", l_run},       {"start", l_start},           {"step", l_step},
        {"result", l_result}, {"backend_fd", l_backend_fd}, {"timeout", l_timeout},
        {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt_of(L), functions);
    return 1;
}

/* ---- the state closes */

static int close_runtime(lua_State *L)
{
    struct module *m = lua_touserdata(L, 1);
    /* A forked child shares its sockets and epoll sets with its parent: hands off. */
    if (!m->open || m->r.rt.host->process != getpid())
        return 0;
    m->open = false;
    while (!list_empty(&m->roots))
        forget(m, CONTAINER_OF(m->roots.next, struct root, node));
    while (!list_empty(&m->bugs))
        forget(m, CONTAINER_OF(m->bugs.next, struct root, node));
    runtime_state_closes(L, &m->r);
    return 0;
}

/* ---- and opens */

__attribute__((visibility("default"))) int luaopen_leat(lua_State *L);

int luaopen_leat(lua_State *L)
{
    luaL_checkstack(L, LUA_MINSTACK, "leat");
    if (runtime_state_taken(L)) { /* leat is loaded already, or by another kind of runtime */
        lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
        return 1;
    }
    lua_State *own;
    struct module *m = runtime_seat(L, sizeof *m, close_runtime, &own);
    list_init(&m->roots);
    list_init(&m->bugs);
    m->r.config.min_log_level = LEAT_LOG_INFO;
    m->r.module = true;
    struct err e;
    err_clear(&e);
    if (runtime_open(&m->r, own, &e) != ERR_NONE) {
        runtime_leave_state(L);
        return luaL_error(L, "leat.so: %s", e.message);
    }
    m->open = true;
    leave(m);
    runtime_push_preload(L);
    lua_pushlightuserdata(L, &m->r.rt);
    lua_pushcclosure(L, open_host, 1);
    lua_setfield(L, -2, "leat.native.host");
    lua_pushcfunction(L, luaopen_leat); /* for a require after package.loaded was cleared */
    lua_setfield(L, -2, "leat");
    /* The descriptor reports events only after a first turn. */
    loop_turn(&m->r.rt.loop, false);
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    return 1;
}
