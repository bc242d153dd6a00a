#include "sched.h"

#include "group.h"
#include <lauxlib.h>
#include <string.h>

/* A cancelled task may catch its cancel this often, or go on for this long, before it is given up.
 */
#define MAX_SWALLOWED 1000
#define MAX_CANCELLED_NS (5 * NS_PER_S)
/* Rounds of the ready queue before the limits of the tick are decided: enough for a result to
 * travel up through nested waits, bounded so that a loop of sleep(0) cannot hold a limit off. */
#define MAX_PASSES 64

static const char parked_mark = 'p';

void sched_init(struct sched *s, struct loop *loop, struct log *log, lua_State *L, bool own_state)
{
    *s = (struct sched){.loop = loop, .log = log, .L = L, .own_state = own_state, .next_id = 1};
    list_init(&s->ready);
    list_init(&s->tasks);
    list_init(&s->late);
    luaL_checkstack(L, LUA_MINSTACK * 2, "leat");
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_newtable(L); /* every task's userdata by its address, for as long as anyone holds it */
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_HANDLES);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&parked_mark);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_CLEANUP);
    if (luaL_newmetatable(L, "leat.error")) {
        lua_pushliteral(L, "leat.error");
        lua_setfield(L, -2, "__name");
    }
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
}

static void unanchor(struct task *t)
{
    lua_State *L = t->sched->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_pushlightuserdata(L, t);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1)) { /* clearing an existing key allocates nothing */
        lua_pushlightuserdata(L, t);
        lua_pushnil(L);
        lua_rawset(L, -4);
    }
    lua_pop(L, 2);
}

struct task *task_spawn(lua_State *L, struct sched *s, struct task *parent, int nargs)
{
    luaL_checkstack(L, 8, "spawn");
    int fn = lua_gettop(L) - nargs;
    struct task *t = lua_newuserdata(L, sizeof *t); /* fn args ud */
    *t = (struct task){.sched = s, .deadline_ns = NEVER_NS, .shield_ns = NEVER_NS};
    luaL_getmetatable(L, "leat.task");
    lua_setmetatable(L, -2);
    lua_createtable(L, SLOT_COUNT, 0); /* fn args ud env */
    t->co = lua_newthread(L);
    lua_rawseti(L, -2, SLOT_CO);
    for (int slot = SLOT_CO + 1; slot <= SLOT_COUNT; slot++) {
        lua_pushboolean(L, 0);
        lua_rawseti(L, -2, slot);
    }
    lua_pushvalue(L, fn);
    lua_rawseti(L, -2, SLOT_NAME);
    lua_setfenv(L, -2); /* fn args ud */
    if (!lua_checkstack(t->co, nargs + LUA_MINSTACK))
        luaL_error(L, "spawn: too many arguments");
    for (int key = SCHED_KEY_ANCHORS; key <= SCHED_KEY_HANDLES; key++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, key);
        lua_pushlightuserdata(L, t);
        lua_pushvalue(L, -3);
        lua_rawset(L, -3);
        lua_pop(L, 1); /* fn args ud */
    }
    lua_insert(L, fn);
    lua_xmove(L, t->co, nargs + 1); /* ud */

    struct list *nodes[] = {&t->node,  &t->late,    &t->sibling,   &t->children,  &t->failed,
                            &t->hooks, &t->waiters, &t->wait.node, &t->group_node};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        list_init(nodes[i]);
    t->id = s->next_id++;
    list_push_back(&s->tasks, &t->all);
    s->live++;
    s->spawned++;
    t->parent = parent;
    if (parent) {
        list_push_back(&parent->children, &t->sibling);
        t->deadline_ns = parent->deadline_ns;
        t->shield_ns = parent->shield_ns;
        t->cancel_requested = parent->cancel_requested;
        memcpy(t->cancel_reason, parent->cancel_reason, sizeof t->cancel_reason);
    }
    t->state = TASK_READY;
    list_push_back(&s->ready, &t->node);
    return t;
}

static NORETURN void raise_at(lua_State *L, const char *fmt, ...)
{
    char where[128];
    task_where(L, where, sizeof where);
    va_list ap;
    va_start(ap, fmt);
    lua_pushfstring(L, "%s: ", where);
    lua_pushvfstring(L, fmt, ap);
    va_end(ap);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* lua_error does not return */
}

struct task *task_current(lua_State *L, struct sched *s, const char *who)
{
    if (!s->running) {
        raise_at(L, "%s: called outside a task (run the script by leat)", who);
    }
    return s->running;
}

/* The C function whose callback makes this spot unable to wait, for the message. */
static const char *blocking_function(lua_State *L)
{
    static const char *const known[][2] = {{"table", "sort"},
                                           {"string", "gsub"},
                                           {"table", "foreach"},
                                           {"table", "foreachi"},
                                           {"string", "gmatch"}};
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Snf", &ar);
        bool is_c = strcmp(ar.what, "C") == 0;
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
    return "a C function";
}

void task_check_can_wait(lua_State *L, struct sched *s, const char *who)
{
    struct task *t = task_current(L, s, who);
    if (!lua_isyieldable(L)) {
        const char *fn = blocking_function(L);
        raise_at(
            L,
            "%s: cannot wait inside %s (LuaJIT cannot leave a callback of a C function, such as a "
            "table.sort comparator or a string.gsub replacement): wait before the call, keep the "
            "results in a table, and use that table inside",
            who, fn);
    }
    if (!s->own_state && L != t->co) {
        raise_at(
            L,
            "%s: cannot wait inside a coroutine that the script made, in a host's Lua state: call "
            "it from the task itself, or use spawn",
            who);
    }
}

static bool ignored_too_long(struct task *t, uint64_t now_ns)
{
    return t->swallowed >= MAX_SWALLOWED ||
           (t->cancelled_at_ns && now_ns - t->cancelled_at_ns > MAX_CANCELLED_NS);
}

int task_park(lua_State *L, struct sched *s, const struct wait_ops *ops, void *obj,
              void (*begin)(struct task *t, void *arg), void *arg)
{
    task_check_can_wait(L, s, ops->name);
    struct task *t = s->running;
    t->wait.ops = ops;
    t->wait.obj = obj;
    t->wait.woken = t->wait.timed_out = t->wait.cancelled = false;
    t->wait.number = 0;
    t->wait.since_ns = loop_now_ns(s->loop);
    t->state = TASK_PARKED;
    if (!t->cancel_requested || (ops->joins && !ignored_too_long(t, t->wait.since_ns))) {
        if (begin)
            begin(t, arg);
        if (t->cancel_requested && t->wait.ops->cancel && ops->cancel(t) &&
            t->state == TASK_PARKED) {
            t->wait.cancelled = true;
            t->state = TASK_READY;
            list_push_back(&s->ready, &t->node);
        }
    } else if (ignored_too_long(t, t->wait.since_ns)) {
        t->abandoned = true;
    } else {
        /* Through the ready queue like everyone: a loop that swallows its cancel starves nobody. */
        t->wait.cancelled = true;
        t->state = TASK_READY;
        list_push_back(&s->ready, &t->node);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    return lua_yield(L, 1);
}

void task_unpark(struct sched *s)
{
    struct task *t = s->running;
    if (!t || !t->wait.ops)
        return;
    if (!t->wait.cancelled && t->wait.ops->cancel)
        t->wait.ops->cancel(t);
    task_wait_end(t);
    list_unlink(&t->node);
    t->state = TASK_RUNNING;
}

bool task_is_err(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
    bool same = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
    return same;
}

static int raise_cancel(lua_State *L, struct task *t)
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
        err_set(&e, ERR_CANCELLED, t->cancel_reason[0] ? "cancelled: %s" : "cancelled",
                t->cancel_reason);
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
    if (!ops)
        return luaL_error(L, "take: this task did not wait");
    bool cancel = t->wait.cancelled || (t->cancel_requested && ops->joins && !ops->survives_cancel);
    if (cancel) {
        task_wait_end(t);
        return raise_cancel(L, t);
    }
    t->wait.ops = NULL; /* ended, even if the take raises */
    return ops->take(L, t);
}

/* ---- the end of a task ---- */

static bool is_own_cancel(struct task *t, int index)
{
    if (!t->cancel_requested)
        return false;
    task_push_slot(t->co, t, SLOT_CANCEL);
    bool same = lua_rawequal(t->co, -1, index < 0 ? index - 1 : index) != 0;
    lua_pop(t->co, 1);
    return same;
}

static enum task_outcome classify(struct task *t, int rc)
{
    lua_State *co = t->co;
    if (rc == 0) {
        if (lua_gettop(co) < 2 || !lua_isnil(co, 1) || lua_isnil(co, 2))
            return OUTCOME_OK;
        return is_own_cancel(t, 2) ? OUTCOME_CANCELLED : OUTCOME_FAILED;
    }
    t->raised = true;
    if (!task_is_err(co, -1))
        return OUTCOME_BUG;
    return is_own_cancel(t, -1) ? OUTCOME_CANCELLED : OUTCOME_FAILED;
}

/* Settles what the task as a whole came to, its children being gone. */
static void settle_outcome(struct task *t)
{
    lua_State *L = t->sched->L;
    if (t->has_bug_child && t->outcome != OUTCOME_BUG) {
        task_push_slot(L, t, SLOT_BUG_CHILD);
        t->outcome_from = lua_touserdata(L, -1);
        lua_pop(L, 1);
        t->outcome = OUTCOME_BUG;
    } else if (t->outcome == OUTCOME_OK && !list_empty(&t->failed)) {
        struct task *child = CONTAINER_OF(t->failed.next, struct task, sibling);
        task_push(L, child);
        task_set_slot(L, t, SLOT_BUG_CHILD);
        t->outcome_from = child;
        t->outcome = OUTCOME_FAILED;
    }
    struct list *node;
    while ((node = list_pop_front(&t->failed)))
        unanchor(CONTAINER_OF(node, struct task, sibling));
}

/* The task ends: everyone who waits for it is told. Returns the parent if it may end now too. */
static struct task *end_one(struct task *t)
{
    struct sched *s = t->sched;
    struct task *parent = t->parent;
    settle_outcome(t);
    t->state = TASK_ENDED;
    list_unlink(&t->all);
    s->live--;
    struct list *node;
    while ((node = list_pop_front(&t->hooks))) {
        struct task_hook *hook = CONTAINER_OF(node, struct task_hook, node);
        hook->fn(hook, t);
    }
    bool observed = t->group || !list_empty(&t->waiters);
    while (!list_empty(&t->waiters))
        task_wake(CONTAINER_OF(t->waiters.next, struct task, wait.node));
    bool anchored = t->group != NULL;
    if (t->group)
        group_task_ended(t->group, t);
    list_unlink(&t->sibling);
    t->parent = NULL;
    if (parent && !observed && t->outcome == OUTCOME_BUG) {
        if (!parent->has_bug_child) {
            task_push(s->L, t);
            task_set_slot(s->L, parent, SLOT_BUG_CHILD);
            parent->has_bug_child = true;
        }
        task_cancel(parent, "a child task raised an error");
    } else if (parent && !observed && t->outcome == OUTCOME_FAILED) {
        list_push_back(&parent->failed, &t->sibling);
        anchored = true;
    }
    if (!anchored)
        unanchor(t);
    bool parent_may_end = parent && parent->state == TASK_JOINING && list_empty(&parent->children);
    return parent_may_end ? parent : NULL;
}

static void end_body(struct task *t, enum task_outcome outcome)
{
    task_wait_end(t);
    t->outcome = outcome;
    t->state = TASK_JOINING;
    LIST_FOR(node, &t->children)
    {
        struct task *child = CONTAINER_OF(node, struct task, sibling);
        if (child->shielded)
            continue;
        /* What a group still runs was for the body's own loop, which is over. */
        if (outcome != OUTCOME_OK)
            task_cancel(child, "the task that started it has failed");
        else if (child->group)
            task_cancel(child, "the task that wanted its result has ended");
    }
    while (t && list_empty(&t->children))
        t = end_one(t);
}

void task_observe(struct task *t)
{
    if (t->state != TASK_ENDED)
        return;
    list_unlink(&t->sibling); /* from its parent's failed list */
    unanchor(t);
}

static int start_cleanup(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_CLEANUP);
    task_push_slot(L, t, SLOT_CLEANUPS);
    if (!lua_isfunction(L, -2) || !lua_istable(L, -1))
        return 0;
    struct task *child = task_spawn(L, t->sched, t, 1);
    child->shielded = true;
    child->cancel_requested = false;
    return 0;
}

/* Its coroutine is never resumed again; what it had registered for this case runs in a new task. */
static void abandon(struct task *t)
{
    struct sched *s = t->sched;
    task_wait_end(t);
    t->cancel_requested = true;
    log_write(s->log, LOG_WARN,
              "task %llu ignored its cancel (%u times): it is abandoned, its clean-ups run",
              (unsigned long long)t->id, t->swallowed);
    if (lua_cpcall(s->L, start_cleanup, t) != 0) {
        log_write(s->log, LOG_ERROR, "no memory to run the clean-ups of an abandoned task");
        lua_pop(s->L, 1);
    }
    end_body(t, OUTCOME_FAILED);
}

static void resume(struct sched *s, struct task *t)
{
    if (!t->started && t->cancel_requested) {
        t->started = true;
        end_body(t, OUTCOME_CANCELLED);
        return;
    }
    int nargs = 1;
    if (t->started)
        lua_rawgeti(t->co, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    else
        nargs = lua_gettop(t->co) - 1;
    t->started = true;
    t->state = TASK_RUNNING;
    s->running = t;
    s->resumed++;
    int rc = lua_resume(t->co, nargs);
    s->running = NULL;
    if (rc != LUA_YIELD) {
        end_body(t, classify(t, rc));
        return;
    }
    lua_settop(t->co, 0);
    if (t->abandoned) {
        abandon(t);
    } else if (!t->wait.ops) {
        t->stray_yield = true;
        end_body(t, OUTCOME_BUG);
    }
}

static void decide_late(struct sched *s)
{
    struct list batch;
    list_init(&batch);
    list_append_all(&batch, &s->late);
    struct list *node;
    while ((node = list_pop_front(&batch))) {
        struct task *t = CONTAINER_OF(node, struct task, late);
        if (t->state == TASK_PARKED && t->wait.ops && t->wait.ops->expired)
            t->wait.ops->expired(t);
    }
}

bool sched_run_ready(struct sched *s, uint64_t until_ns)
{
    bool any = !list_empty(&s->ready) || !list_empty(&s->late);
    bool in_time = true;
    for (int pass = 0; pass < MAX_PASSES && in_time && !list_empty(&s->ready); pass++) {
        struct list batch;
        list_init(&batch);
        list_append_all(&batch, &s->ready);
        struct list *node;
        while ((node = list_pop_front(&batch))) {
            resume(s, CONTAINER_OF(node, struct task, node));
            if (until_ns != NEVER_NS && loop_now_ns(s->loop) >= until_ns) {
                in_time = false;
                break;
            }
        }
        if (!list_empty(&batch)) { /* out of time: the rest keeps its place at the front */
            list_append_all(&batch, &s->ready);
            list_append_all(&s->ready, &batch);
        }
    }
    if (in_time)
        decide_late(s);
    return any;
}

bool sched_is_stuck(const struct sched *s)
{
    return s->live > 0 && list_empty(&s->ready) && list_empty(&s->late) && s->timers == 0 &&
           s->external == 0 && !(s->busy && s->busy(s->busy_arg));
}

/* ---- outcomes and tracebacks ---- */

static void push_wrapped(lua_State *L, struct task *t)
{
    if (task_is_err(L, -1))
        return;
    struct err e;
    const char *text = lua_tostring(L, -1);
    err_set(&e, ERR_SCRIPT, "%s", text ? text : luaL_typename(L, -1));
    t->sched->push_err(L, &e); /* v err */
    lua_insert(L, -2);         /* err v */
    lua_setfield(L, -2, "cause");
}

int task_push_outcome(lua_State *L, struct task *t)
{
    while (t->outcome_from)
        t = t->outcome_from;
    lua_State *co = t->co;
    struct err e;
    switch (t->outcome) {
    case OUTCOME_OK: {
        int n = lua_gettop(co);
        luaL_checkstack(L, n, "too many results");
        if (!lua_checkstack(co, n))
            luaL_error(L, "not enough memory");
        for (int i = 1; i <= n; i++)
            lua_pushvalue(co, i);
        lua_xmove(co, L, n);
        return n;
    }
    case OUTCOME_BUG:
        if (t->stray_yield) {
            lua_pushliteral(L, "coroutine.yield called outside a coroutine of the script's own");
            return 1;
        }
        lua_pushvalue(co, -1);
        lua_xmove(co, L, 1);
        return 1;
    case OUTCOME_FAILED:
        lua_pushnil(L);
        if (t->abandoned) {
            err_set(&e, ERR_INTERNAL,
                    "the task caught its own cancel %u times and went on: abandoned", t->swallowed);
            err_reason(&e, "cancel_ignored");
            t->sched->push_err(L, &e);
            return 2;
        }
        lua_pushvalue(co, t->raised ? -1 : 2);
        lua_xmove(co, L, 1);
        push_wrapped(L, t);
        return 2;
    default:
        lua_pushnil(L);
        err_set(&e, ERR_CANCELLED, t->cancel_reason[0] ? "cancelled: %s" : "cancelled",
                t->cancel_reason);
        t->sched->push_err(L, &e);
        return 2;
    }
}

struct trace {
    char text[8192];
    size_t len;
};

static void trace_add(struct trace *tr, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void trace_add(struct trace *tr, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(tr->text + tr->len, sizeof tr->text - tr->len, fmt, ap);
    va_end(ap);
    if (n > 0)
        tr->len = MIN(tr->len + (size_t)n, sizeof tr->text - 1);
}

/* The script's own frames; leat's and C's say nothing to its author. */
static void trace_frames(struct trace *tr, lua_State *L)
{
    lua_Debug ar;
    int shown = 0;
    for (int level = 0; shown < 30 && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Snl", &ar);
        if (ar.what[0] == 'C' || strncmp(ar.source, "@leat/", 6) == 0)
            continue;
        /* LuaJIT forgets the line of a dead coroutine's top frame; the message names it. */
        if (ar.currentline > 0)
            trace_add(tr, "\n\t%s:%d: in ", ar.short_src, ar.currentline);
        else
            trace_add(tr, "\n\t%s: in ", ar.short_src);
        if (strcmp(ar.what, "main") == 0)
            trace_add(tr, "main chunk");
        else if (ar.name)
            trace_add(tr, "function '%s'", ar.name);
        else
            trace_add(tr, "function <%s:%d>", ar.short_src, ar.linedefined);
        shown++;
    }
}

static void trace_task(struct trace *tr, lua_State *L, struct task *t, const char *how)
{
    task_push_name(L, t);
    trace_add(tr, "%s task %llu (%s):", how, (unsigned long long)t->id, lua_tostring(L, -1));
    lua_pop(L, 1);
}

void task_note_trace(lua_State *L, struct sched *s, lua_State *of)
{
    struct task *t = s->running;
    if (!t || task_is_err(L, -1))
        return;
    luaL_checkstack(L, 8, "traceback");
    struct trace tr = {.len = 0};
    task_push_slot(L, t, SLOT_BUG_TRACE);
    bool known = lua_isstring(L, -1);
    if (known) {
        task_push_slot(L, t, SLOT_BUG_VALUE);
        known = lua_rawequal(L, -1, -3) != 0;
        lua_pop(L, 1);
    }
    if (known && t->trace_complete && of == L) {
        lua_pop(L, 1);
        return;
    }
    if (known)
        trace_add(&tr, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    if (known && !t->trace_complete)
        trace_task(&tr, L, t, "\nawaited in");
    else if (!known)
        trace_task(&tr, L, t, "in");
    trace_frames(&tr, of);
    if (of != L)
        trace_frames(&tr, L);
    lua_pushvalue(L, -1);
    task_set_slot(L, t, SLOT_BUG_VALUE);
    lua_pushstring(L, tr.text);
    task_set_slot(L, t, SLOT_BUG_TRACE);
    t->trace_complete = true;
}

void task_push_trace(lua_State *L, struct task *t)
{
    luaL_checkstack(L, 8, "traceback");
    struct trace tr = {.len = 0};
    while (t->outcome_from)
        t = t->outcome_from;
    if (t->stray_yield) {
        lua_pushliteral(L, "");
        return;
    }
    int top = lua_gettop(L);
    task_push_slot(L, t, SLOT_BUG_VALUE);
    lua_pushvalue(t->co, -1);
    lua_xmove(t->co, L, 1);
    bool known = lua_rawequal(L, -1, -2) != 0;
    task_push_slot(L, t, SLOT_BUG_TRACE);
    known = known && lua_isstring(L, -1);
    if (known)
        trace_add(&tr, "%s", lua_tostring(L, -1));
    if (!known || !t->trace_complete) {
        trace_task(&tr, L, t, known ? "\nawaited in" : "in");
        trace_frames(&tr, t->co);
    }
    lua_settop(L, top);
    lua_pushstring(L, tr.text);
}

int task_raise_bug(lua_State *L, struct sched *s, struct task *from)
{
    struct task *t = s->running;
    task_push_outcome(L, from); /* the raised value */
    lua_pushvalue(L, -1);
    task_set_slot(L, t, SLOT_BUG_VALUE);
    task_push_trace(L, from);
    task_set_slot(L, t, SLOT_BUG_TRACE);
    t->trace_complete = false;
    return lua_error(L);
}
