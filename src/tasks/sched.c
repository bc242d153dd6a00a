#include "tasks/sched.h"

#include "tasks/task_failure.h"
#include "tasks/task_outcome.h"
#include "tasks/task_wait.h"
#include <lauxlib.h>
#include <string.h>

/* How often the ready queue is run before the time limits of this tick are decided. This lets a
 * result travel up through nested waits. The bound is necessary: a loop of sleep(0) must not delay
 * a limit for ever. */
#define MAX_PASSES 64

static const char parked_mark = 'p';

void sched_init(struct sched *s, struct loop *loop, struct log *log, lua_State *L, bool own_state)
{
    *s = (struct sched){
        .loop = loop, .log = log, .L = L, .own_state = own_state, .next_id = 1, .patience = 1};
    list_init(&s->ready);
    list_init(&s->tasks);
    list_init(&s->late);
    list_init(&s->doomed);
    luaL_checkstack(L, LUA_MINSTACK * 2, "leat");
    lua_newtable(L);
    /* With this slot, luaL_unref only writes existing slots and never adds one: see
     * sched_drop_kept. */
    lua_pushinteger(L, 0);
    lua_rawseti(L, -2, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_newtable(L); /* ended tasks with a bug, by their address; weak */
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_BUGS);
    lua_pushlightuserdata(L, s);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_SELF);
    luaL_newmetatable(L, "leat.task"); /* filled by the bindings */
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_TASK_META);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&parked_mark);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_CLEANUP);
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
    lua_newthread(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_HUSK);
    if (luaL_newmetatable(L, "leat.error")) {
        lua_pushliteral(L, "leat.error");
        lua_setfield(L, -2, "__name");
    }
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
}

int sched_keep(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_insert(L, -2);
    int ref = luaL_ref(L, -2);
    lua_pop(L, 1);
    return ref;
}

void sched_set_kept(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_insert(L, -2);
    lua_rawseti(L, -2, ref);
    lua_pop(L, 1);
}

void sched_push_kept(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    lua_rawgeti(L, -1, ref);
    lua_remove(L, -2);
}

void sched_drop_kept(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
    luaL_unref(L, -1, ref);
    lua_pop(L, 1);
}

static void unanchor(struct task *t)
{
    if (t->anchor == 0)
        return;
    sched_drop_kept(t->sched->L, t->anchor);
    t->anchor = 0;
}

struct task *sched_spawn(lua_State *L, struct sched *s, struct task *parent, int nargs)
{
    if (s->closing && s->running)
        luaL_error(L, "the runtime is closing: no task can be started");
    luaL_checkstack(L, 8, "spawn");
    int fn = lua_gettop(L) - nargs;
    struct task *t = lua_newuserdata(L, sizeof *t); /* fn args ud */
    *t = (struct task){.sched = s, .deadline_ns = NEVER_NS, .shield_ns = NEVER_NS};
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_TASK_META);
    lua_setmetatable(L, -2);
    lua_createtable(L, SLOT_COUNT, 0); /* fn args ud env */
    t->co = lua_newthread(L);
    lua_rawseti(L, -2, SLOT_CO);
    lua_pushvalue(L, fn);
    lua_rawseti(L, -2, SLOT_NAME);
    lua_setfenv(L, -2); /* fn args ud */
    if (!lua_checkstack(t->co, nargs + LUA_MINSTACK))
        luaL_error(L, "spawn: too many arguments");
    lua_pushvalue(L, -1);
    t->anchor = sched_keep(L); /* fn args ud */
    lua_insert(L, fn);
    lua_xmove(L, t->co, nargs + 1); /* ud */

    struct list *nodes[] = {&t->node,  &t->late,    &t->sibling,   &t->children,   &t->failed,
                            &t->hooks, &t->waiters, &t->wait.node, &t->group_node, &t->doomed};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        list_init(nodes[i]);
    t->id = s->next_id++;
    t->born_ns = s->observer ? loop_now_ns(s->loop) : 0;
    list_push_back(&s->tasks, &t->all);
    if (s->live++ == 0)
        loop_hold(s->loop, true);
    s->spawned++;
    t->parent = parent;
    if (parent) {
        list_push_back(&parent->children, &t->sibling);
        t->deadline_ns = parent->deadline_ns;
        t->shield_ns = parent->shield_ns;
        t->cancel_requested = parent->cancel_requested;
        if (t->cancel_requested)
            memcpy(t->cancel_reason, parent->cancel_reason, sizeof t->cancel_reason);
    }
    t->state = TASK_READY;
    list_push_back(&s->ready, &t->node);
    return t;
}

static bool is_own_cancel(struct task *t, int index)
{
    if (!t->cancel_requested)
        return false;
    task_push_slot(t->co, t, SLOT_CANCEL);
    bool same = lua_rawequal(t->co, -1, index < 0 ? index - 1 : index) != 0;
    lua_pop(t->co, 1);
    return same;
}

/* How far clean-ups of a task, and tasks that others depend on, may exceed the cap (see
 * resume_within). The collector may exceed it by as much again. */
static size_t spare(size_t cap)
{
    return MAX(cap / 16, 256u << 10);
}

/* The largest number of out-of-memory failures between two collections. */
#define MAX_PATIENCE 128

static bool ran_out_of_memory(struct task *t, int rc)
{
    if (rc == LUA_ERRMEM)
        return true;
    /* If code caught the error and raised it again, later or in another task, it is a plain error
     * with LuaJIT's text. */
    return rc == LUA_ERRRUN && lua_type(t->co, -1) == LUA_TSTRING &&
           strcmp(lua_tostring(t->co, -1), "not enough memory") == 0;
}

static int release(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    struct err e;
    task_push_name(L, t);
    err_set(&e, ERR_MEMORY, "not enough memory, in task %llu (%s)", (unsigned long long)t->id,
            lua_tostring(L, -1));
    lua_State *co = lua_newthread(L);
    t->sched->push_err(L, &e);
    lua_xmove(L, co, 1);
    task_set_slot(
        L, t, SLOT_CO); /* the old coroutine and everything that it references may be collected */
    t->co = co;
    return 0;
}

/* The same without allocating: the error object is created when it is asked for. */
static void put_away(struct task *t)
{
    lua_State *L = t->sched->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_HUSK);
    lua_State *husk = lua_tothread(L, -1);
    task_set_slot(L, t, SLOT_CO);
    t->co = husk;
    t->broken = true;
}

static int collect(lua_State *L)
{
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

/* A full collection costs time in proportion to the whole heap. It pays if a sixteenth of the cap
 * was allocated since the last one. If less was allocated, nearly all memory is in use, and the
 * next task that needs memory would fail like this one. Then collections become rarer the less they
 * free, and the more tasks there are to end. */
static bool pays_to_collect(struct sched *s, bool caught, size_t sixteenth)
{
    size_t enough = caught ? s->patience : MIN(s->patience, 1 + s->live / 8);
    return mem_in_use(s->loop->mem) >= s->in_use + sixteenth || s->refusals >= enough;
}

static void collect_now(struct sched *s, lua_State *L, size_t sixteenth)
{
    struct mem *m = s->loop->mem;
    size_t before = mem_in_use(m);
    if (lua_cpcall(L, collect, NULL) != 0)
        lua_pop(L, 1);
    s->collections++;
    s->refusals = 0;
    s->left_behind = false;
    s->in_use = mem_in_use(m);
    bool useful = before >= s->in_use + sixteenth;
    s->patience = useful ? MAX(s->patience / 2, 1) : MIN(s->patience * 2, MAX_PATIENCE);
}

/* LuaJIT does not collect when an allocation fails. So the garbage of the task that hit the cap
 * would make the next tasks fail. `t`: the task that ended because of it; NULL: no task ended, or
 * the task `caught` the error. */
static void make_room(struct sched *s, lua_State *L, struct task *t, bool caught)
{
    struct mem *m = s->loop->mem;
    size_t cap = mem_limit(m);
    size_t sixteenth = (cap != 0 ? cap : mem_in_use(m)) / 16;
    if (cap != 0)
        mem_set_limit(m, cap + 2 * spare(cap)); /* the spare memory may be used up */
    if (t && lua_cpcall(s->L, release, t) != 0) {
        lua_pop(s->L, 1);
        put_away(t);
    }
    s->refusals++;
    s->left_behind = s->left_behind || t;
    if (pays_to_collect(s, caught, sixteenth))
        collect_now(s, L, sixteenth);
    mem_set_limit(m, cap);
    m->lua_refused = false;
}

void sched_make_room(struct sched *s, lua_State *L)
{
    make_room(s, L, NULL, s->running != NULL);
}

/* Appends the failure that caused the bug of a task to the bug's message. */
static int explain_bug(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    if (!task_push_cause(L, t->sched, t->id, lua_tostring(t->co, -1)))
        return 0;
    task_push_slot(L, t, SLOT_BUG_VALUE);
    lua_pushvalue(t->co, -1);
    lua_xmove(t->co, L, 1); // text noted raised
    bool noted = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
    if (noted) {
        lua_pushvalue(L, -1);
        task_set_slot(L, t, SLOT_BUG_VALUE);
    }
    lua_pop(t->co, 1);
    lua_xmove(L, t->co, 1);
    return 0;
}

static enum task_outcome classify(struct task *t, int rc)
{
    lua_State *co = t->co;
    if (rc == 0) {
        if (lua_gettop(co) < 2 || !lua_isnil(co, 1) || lua_isnil(co, 2))
            return OUTCOME_OK;
        return is_own_cancel(t, 2) ? OUTCOME_CANCELLED : OUTCOME_FAILED;
    }
    if (t->broken)
        return OUTCOME_FAILED;
    t->raised = true;
    if (!task_is_err(co, -1)) {
        if (lua_type(co, -1) == LUA_TSTRING && lua_cpcall(t->sched->L, explain_bug, t) != 0)
            lua_pop(t->sched->L, 1);
        return OUTCOME_BUG;
    }
    return is_own_cancel(t, -1) ? OUTCOME_CANCELLED : OUTCOME_FAILED;
}

/* The ended child with a bug that nobody took. If there is none and the task itself succeeded: the
 * first child with a failure that nobody took. */
static struct task *held_back(struct task *t)
{
    struct task *failed = NULL;
    LIST_FOR(node, &t->failed)
    {
        struct task *child = CONTAINER_OF(node, struct task, sibling);
        if (child->outcome == OUTCOME_BUG)
            return child;
        if (!failed)
            failed = child;
    }
    return t->outcome == OUTCOME_OK ? failed : NULL;
}

/* Decides the outcome of the whole task, after its children have ended. */
static void settle_outcome(struct task *t)
{
    lua_State *L = t->sched->L;
    if (t->has_bug_child && t->outcome != OUTCOME_BUG) {
        task_push_slot(L, t, SLOT_BUG_CHILD);
        t->outcome_from = lua_touserdata(L, -1);
        lua_pop(L, 1);
        t->outcome = OUTCOME_BUG;
    } else if (t->outcome != OUTCOME_BUG) {
        struct task *child = held_back(t);
        if (child) {
            task_push(L, child);
            task_set_slot(L, t, SLOT_BUG_CHILD);
            t->outcome_from = child;
            t->outcome = child->outcome;
        }
    }
    struct list *node;
    while ((node = list_pop_front(&t->failed))) {
        struct task *child = CONTAINER_OF(node, struct task, sibling);
        list_unlink(&child->group_node); /* the group may live until it is collected */
        child->group = NULL;
        unanchor(child);
    }
}

static int remember_bug(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_BUGS);
    lua_pushvalue(L, 1);
    task_push(L, t);
    lua_rawset(L, -3);
    return 0;
}

/* Ends the task and wakes all that wait for it. Returns the parent if that may end now too. */
static struct task *end_one(struct task *t)
{
    struct sched *s = t->sched;
    struct task *parent = t->parent;
    settle_outcome(t);
    if (s->observer)
        s->observer->ended(s->observer, t, loop_now_ns(s->loop));
    /* Kept for its traceback. Without memory for that, the bug is raised without one. */
    if (t->outcome == OUTCOME_BUG && lua_cpcall(s->L, remember_bug, t) != 0)
        lua_pop(s->L, 1);
    t->state = TASK_ENDED;
    list_unlink(&t->all);
    if (--s->live == 0)
        loop_hold(s->loop, false);
    struct list *node;
    while ((node = list_pop_front(&t->hooks))) {
        struct task_hook *hook = CONTAINER_OF(node, struct task_hook, node);
        hook->fn(hook, t);
    }
    t->awaited = !list_empty(&t->waiters);
    bool observed = t->member || t->awaited;
    while (!list_empty(&t->waiters))
        task_wake(CONTAINER_OF(t->waiters.next, struct task, wait.node));
    bool anchored = t->group != NULL;
    if (t->group)
        t->group->ended(t->group, t);
    list_unlink(&t->sibling);
    t->parent = NULL;
    if (parent && !observed && t->outcome == OUTCOME_BUG) {
        if (!parent->has_bug_child) {
            task_push(s->L, t);
            task_set_slot(s->L, parent, SLOT_BUG_CHILD);
            parent->has_bug_child = true;
        }
        task_cancel(parent, "a child task raised an error");
    } else if (parent &&
               (t->outcome == OUTCOME_BUG || (t->outcome == OUTCOME_FAILED && !observed))) {
        /* Kept until someone takes it: a task that waits for it may be cancelled before. */
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
        if (child->shielded || child->cancel_requested) /* this holds for all its descendants too */
            continue;
        /* The body has ended, so nobody collects from its groups any more. */
        bool others = child->group && child->group->owner != t;
        if (outcome != OUTCOME_OK)
            task_cancel(child, "the task that started it has failed");
        else if (child->member && !others)
            task_cancel(child, "the task that needed its result has ended");
    }
    while (t && list_empty(&t->children))
        t = end_one(t);
}

void sched_observe(struct task *t)
{
    if (t->state != TASK_ENDED)
        return;
    t->observed = true;
    list_unlink(&t->sibling); /* from the list `failed` of its parent */
    if (!t->group)            /* otherwise its group still lists it as finished */
        unanchor(t);
}

static bool has_cleanups(struct task *t)
{
    lua_State *L = t->sched->L;
    task_push_slot(L, t, SLOT_CLEANUPS);
    bool some = lua_istable(L, -1) && lua_objlen(L, -1) > 0;
    lua_pop(L, 1);
    return some;
}

static int start_cleanup(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_CLEANUP);
    task_push_slot(L, t, SLOT_CLEANUPS);
    if (!lua_isfunction(L, -2))
        return 0;
    struct task *child = sched_spawn(L, t->sched, t, 1);
    child->shielded = true;
    child->cancel_requested = false;
    return 0;
}

/* Runs the clean-ups that the task has registered, in a new task. This may exceed the cap: it needs
 * little memory, and others may wait for ever if it does not run. */
static void run_cleanups(struct task *t)
{
    struct sched *s = t->sched;
    struct mem *m = s->loop->mem;
    size_t cap = mem_limit(m);
    if (!has_cleanups(t))
        return;
    for (int tries = 2; tries > 0; tries--) {
        if (cap != 0)
            mem_set_limit(m, MAX(cap, mem_in_use(m)) + spare(cap));
        bool started = lua_cpcall(s->L, start_cleanup, t) == 0;
        mem_set_limit(m, cap);
        if (started)
            return;
        lua_pop(s->L, 1);
        if (tries > 1)
            make_room(s, s->L, NULL, false);
    }
    log_write(s->log, LOG_ERROR, "no memory to run the clean-ups of task %llu",
              (unsigned long long)t->id);
}

/* The coroutine of the task is never resumed again. Its clean-ups run in a new task. */
static void abandon(struct task *t)
{
    struct sched *s = t->sched;
    task_wait_end(t);
    t->cancel_requested = true;
    if (t->stopped)
        log_write(s->log, LOG_WARN,
                  "task %llu exceeded its time limit: it is stopped and its clean-ups run",
                  (unsigned long long)t->id);
    else
        log_write(s->log, LOG_WARN,
                  "task %llu ignored its cancel (%u times): it is abandoned and its clean-ups run",
                  (unsigned long long)t->id, t->swallowed);
    LIST_FOR(node, &t->children) /* nobody enforces the limits of their shields any more */
    CONTAINER_OF(node, struct task, sibling)->shielded = false;
    run_cleanups(t);
    end_body(t, OUTCOME_FAILED);
}

/* Leaves the error on top of the task's stack, as if the task had raised it. */
static void stop(struct task *t)
{
    lua_State *L = t->sched->L;
    lua_rawgeti(t->co, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, SCHED_KEY_STOP);
    abandon(t);
}

/* Only one thread writes it, so no locked instruction is needed. */
static void next_turn(struct sched *s)
{
    atomic_store_explicit(&s->turn, sched_turn(s) + 1, memory_order_relaxed);
}

/* Two kinds of task may exceed the cap: a task with children, which must learn that a child hit the
 * cap, and clean-ups, which run afterwards. Both need some memory after other tasks have taken all
 * of it. (With a host's allocator we cannot raise the cap, so we collect.) */
static int resume_within(struct sched *s, struct task *t, int nargs)
{
    struct mem *m = s->loop->mem;
    size_t cap = mem_limit(m);
    if (t->shielded || !list_empty(&t->children)) {
        if (cap != 0)
            mem_set_limit(m, cap + spare(cap));
        else if (s->left_behind)
            collect_now(s, s->L, mem_in_use(m) / 16);
    }
    int rc = lua_resume(t->co, nargs);
    mem_set_limit(m, cap);
    return rc;
}

/* True: the step's time ended within the task. It must continue before any other. */
static bool resume(struct sched *s, struct task *t)
{
    if (!t->started && t->cancel_requested) {
        t->started = true;
        end_body(t, OUTCOME_CANCELLED);
        return false;
    }
    int nargs = 1;
    if (s->observer && s->observer->waited && t->wait.ops)
        s->observer->waited(s->observer, t, loop_now_ns(s->loop));
    if (t->sliced)
        nargs = 0;
    else if (t->started)
        lua_rawgeti(t->co, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
    else
        nargs = lua_gettop(t->co) - 1;
    t->started = true;
    t->sliced = false;
    t->state = TASK_RUNNING;
    s->running = t;
    next_turn(s);
    if (s->before_resume)
        s->before_resume(s, t);
    int rc = resume_within(s, t, nargs);
    next_turn(s);
    if (s->after_resume)
        s->after_resume(s, t);
    /* An error may occur between a wait's begin and its yield, or between its wake and its take. */
    if (rc != LUA_YIELD || t->stopped)
        task_unpark(s);
    s->running = NULL;
    bool out = ran_out_of_memory(t, rc);
    t->starved = t->starved || out || s->loop->mem->lua_refused;
    if (out && !t->stopped)
        make_room(s, s->L, t, false);
    else if (s->loop->mem->lua_refused)
        make_room(s, s->L, NULL, true);
    if (t->stopped) {
        stop(t);
        return false;
    }
    if (rc != LUA_YIELD) {
        if (t->starved) /* a `with` or `finally` may have had no memory for its clean-up */
            run_cleanups(t);
        end_body(t, classify(t, rc));
        return false;
    }
    lua_settop(t->co, 0);
    if (t->sliced) {
        t->state = TASK_READY;
        return true;
    }
    if (t->abandoned) {
        abandon(t);
    } else if (!t->wait.ops) {
        t->stray_yield = true;
        end_body(t, OUTCOME_BUG);
    }
    return false;
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
    s->until_ns = until_ns;
    for (int pass = 0; pass < MAX_PASSES && in_time && !list_empty(&s->ready); pass++) {
        struct list batch;
        list_init(&batch);
        list_append_all(&batch, &s->ready);
        s->pass_ns = loop_now_ns(s->loop);
        s->pass = &batch;
        struct list *node;
        while ((node = list_pop_front(&batch))) {
            if (resume(s, CONTAINER_OF(node, struct task, node))) {
                list_push_front(&batch, node);
                in_time = false;
                break;
            }
            if (until_ns != NEVER_NS && loop_now_ns(s->loop) >= until_ns) {
                in_time = false;
                break;
            }
        }
        s->pass = NULL;
        if (!list_empty(&batch)) { /* no time left: the remaining tasks stay at the front */
            list_append_all(&batch, &s->ready);
            list_append_all(&s->ready, &batch);
        }
    }
    if (in_time)
        decide_late(s);
    if (s->left_behind &&
        s->live < 8) /* makes room for the few remaining tasks, and for new ones */
        make_room(s, s->L, NULL, false);
    return any;
}

bool sched_others_wait(const struct sched *s)
{
    return !list_empty(&s->ready) || !list_empty(&s->late) || (s->pass && !list_empty(s->pass)) ||
           (s->live > 1 && loop_has_event(s->loop));
}

bool sched_is_stuck(const struct sched *s)
{
    return s->live > 0 && list_empty(&s->ready) && list_empty(&s->late) && s->timers == 0 &&
           s->external == 0 && !(s->busy && s->busy(s->busy_arg));
}
