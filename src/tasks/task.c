#include "tasks/task.h"

#include "tasks/sched_state.h"
#include <lauxlib.h>
#include <string.h>

static void make_ready(struct task *t)
{
    t->state = TASK_READY;
    list_push_back(&t->sched->ready, &t->node);
    if (t->sched->outside)
        loop_wake(t->sched->loop);
}

static void stop_timer(struct task *t)
{
    if (t->wait.timer.active) {
        loop_timer_stop(t->sched->loop, &t->wait.timer);
        t->sched->timers--;
    }
    list_unlink(&t->late);
}

static void wait_expired(struct timer *timer)
{
    struct task *t = CONTAINER_OF(timer, struct task, wait.timer);
    t->sched->timers--;
    if (t->wait.ops->expired) {
        list_push_back(&t->sched->late, &t->late);
    } else {
        t->wait.timed_out = true;
        task_wake(t);
    }
}

void task_wait_timer(struct task *t, uint64_t due_ns)
{
    if (due_ns == NEVER_NS)
        return;
    timer_init(&t->wait.timer, wait_expired);
    loop_timer_start(t->sched->loop, &t->wait.timer, due_ns);
    t->sched->timers++;
}

void task_wait_seconds(struct task *t, double seconds)
{
    t->wait.since_ns = loop_now_ns(t->sched->loop);
    if (seconds < 1e9)
        task_wait_timer(t, t->wait.since_ns + (uint64_t)(seconds * 1e9));
}

void task_wait_end(struct task *t)
{
    stop_timer(t);
    list_unlink(&t->wait.node);
    t->wait.ops = NULL;
    t->wait.obj = NULL;
    t->wait.woken = t->wait.timed_out = t->wait.cancelled = t->wait.dropped = false;
}

void task_wake(struct task *t)
{
    if (t->state != TASK_PARKED)
        return;
    stop_timer(t);
    list_unlink(&t->wait.node);
    t->wait.woken = true;
    make_ready(t);
}

void task_unwake(struct task *t)
{
    if (t->state != TASK_READY || !t->wait.woken)
        return;
    list_unlink(&t->node);
    t->wait.woken = false;
    t->state = TASK_PARKED;
}

static void set_reason(struct task *t, const char *reason)
{
    char *out = t->cancel_reason;
    size_t size = sizeof t->cancel_reason;
    if (reason == out)
        return;
    if ((size_t)snprintf(out, size, "%s", reason ? reason : "") < size)
        return;
    size_t end = size - sizeof "...";
    while (end > 0 && (out[end] & 0xc0) == 0x80) /* do not end with half of a UTF-8 character */
        end--;
    memcpy(out + end, "...", sizeof "...");
}

static void cancel_one(struct task *t, const char *reason)
{
    if (!t->cancel_requested) {
        t->cancel_requested = true;
        set_reason(t, reason);
    }
    /* The body has returned its values, but the task as a whole has not ended. */
    if (t->state == TASK_JOINING && t->outcome == OUTCOME_OK)
        t->outcome = OUTCOME_CANCELLED;
    if (t->state != TASK_PARKED && t->state != TASK_READY)
        return;
    const struct wait_ops *ops = t->wait.ops;
    if (!ops || t->wait.cancelled)
        return;
    if (ops->cancel && !ops->cancel(t))
        return;
    stop_timer(t);
    list_unlink(&t->wait.node);
    t->wait.cancelled = true;
    /* A task that was already woken keeps its place in the ready queue. */
    if (t->state == TASK_PARKED)
        make_ready(t);
}

static struct task *first_child(struct task *t)
{
    return list_empty(&t->children) ? NULL : CONTAINER_OF(t->children.next, struct task, sibling);
}

static struct task *next_sibling(struct task *t)
{
    struct list *n = t->sibling.next;
    return n == &t->parent->children ? NULL : CONTAINER_OF(n, struct task, sibling);
}

/* Walks the tree without recursion, because a chain of tasks may be deeper than the C stack. A
 * cancel unlinks nothing from the tree, so the walk stays valid. */
static void cancel_tree(struct task *root, const char *reason)
{
    struct task *t = root;
    bool descend = true;
    for (;;) {
        /* If a task was cancelled before, all its descendants were too, except shielded ones. */
        if (descend) {
            bool before = t->cancel_requested;
            cancel_one(t, reason);
            descend = !before;
        }
        struct task *next = descend ? first_child(t) : NULL;
        if (!next) {
            while (t != root && !(next = next_sibling(t)))
                t = t->parent;
            if (t == root)
                return;
        }
        t = next;
        descend = !t->shielded;
    }
}

void task_cancel(struct task *root, const char *reason)
{
    struct sched *s = root->sched;
    if (root->state == TASK_ENDED)
        return;
    if (s->cancelling) { /* a wait that is being cancelled cancels another task; this may be a long
                            chain */
        if (!root->cancel_requested && !list_linked(&root->doomed)) {
            set_reason(root, reason);
            list_push_back(&s->doomed, &root->doomed);
        }
        return;
    }
    s->cancelling = true;
    cancel_tree(root, reason);
    struct list *node;
    while ((node = list_pop_front(&s->doomed))) {
        root = CONTAINER_OF(node, struct task, doomed);
        if (!root->cancel_requested) /* otherwise the walk has already reached it */
            cancel_tree(root, root->cancel_reason);
    }
    s->cancelling = false;
}

void task_hook_add(struct task *t, struct task_hook *hook)
{
    list_push_back(&t->hooks, &hook->node);
}

void task_hook_remove(struct task_hook *hook)
{
    list_unlink(&hook->node);
}

void task_push(lua_State *L, struct task *t)
{
    if (t->anchor != 0) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ANCHORS);
        lua_rawgeti(L, -1, t->anchor);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_BUGS);
        lua_pushlightuserdata(L, t);
        lua_rawget(L, -2);
    }
    lua_remove(L, -2);
}

static void push_slot_of(lua_State *L, int index, enum task_slot slot)
{
    lua_getfenv(L, index);
    lua_rawgeti(L, -1, (int)slot);
    lua_remove(L, -2);
}

void task_push_slot(lua_State *L, struct task *t, enum task_slot slot)
{
    task_push(L, t);
    if (lua_isuserdata(L, -1)) {
        push_slot_of(L, -1, slot);
        lua_remove(L, -2);
    }
}

void task_set_slot(lua_State *L, struct task *t, enum task_slot slot)
{
    task_push(L, t);      /* v ud */
    lua_getfenv(L, -1);   /* v ud env */
    lua_pushvalue(L, -3); /* v ud env v */
    lua_rawseti(L, -2, (int)slot);
    lua_pop(L, 3);
}

/* If the function on top is one of leat's own, replaces it by the name of its field in `leat`:
 * spawn(request, url) is called "request". Otherwise changes nothing. */
static bool to_public_name(lua_State *L)
{
    int fn = lua_gettop(L);
    luaL_checkstack(L, 8, "name");
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    if (lua_istable(L, -1))
        lua_getfield(L, -1, "leat");
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_rawequal(L, -1, fn) && lua_type(L, -2) == LUA_TSTRING) {
                lua_pop(L, 1);
                lua_replace(L, fn);
                lua_settop(L, fn);
                return true;
            }
        }
    }
    lua_settop(L, fn);
    return false;
}

/* Replaces the value of the name slot, which is on top, by the name. */
static void to_name(lua_State *L)
{
    if (lua_isfunction(L, -1)) {
        lua_Debug ar;
        lua_pushvalue(L, -1);
        lua_getinfo(L, ">S", &ar);
        bool own = strncmp(ar.source, "@leat/", 6) == 0;
        if (own && to_public_name(L))
            return;
        lua_pop(L, 1);
        if (own)
            lua_pushliteral(L, "leat's own");
        else if (strcmp(ar.what, "Lua") != 0)
            lua_pushstring(L, ar.short_src); /* a main chunk, or [C] */
        else
            lua_pushfstring(L, "%s:%d", ar.short_src, ar.linedefined);
    } else if (!lua_isstring(L, -1)) {
        lua_pop(L, 1);
        lua_pushliteral(L, "?");
    }
}

void task_push_name(lua_State *L, struct task *t)
{
    task_push_slot(L, t, SLOT_NAME);
    to_name(L);
}

void task_push_name_of(lua_State *L, int index)
{
    push_slot_of(L, index, SLOT_NAME);
    to_name(L);
}

void task_where(lua_State *L, char *out, size_t size)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.source, "@leat/", 6) != 0) {
            snprintf(out, size, "%s:%d", ar.short_src, ar.currentline);
            return;
        }
    }
    snprintf(out, size, "?");
}

/* The place where the task's function was written, if the script wrote it. */
static bool where_written(lua_State *L, struct task *t, char *out, size_t size)
{
    lua_Debug ar;
    if (!lua_checkstack(L, 4))
        return false;
    int top = lua_gettop(L);
    bool found = false;
    task_push_slot(L, t, SLOT_NAME);
    if (lua_isfunction(L, -1)) {
        lua_getinfo(L, ">S", &ar);
        found = ar.linedefined > 0 && strncmp(ar.source, "@leat/", 6) != 0;
        if (found)
            snprintf(out, size, "%s:%d", ar.short_src, ar.linedefined);
    }
    lua_settop(L, top);
    return found;
}

void task_where_in(lua_State *L, struct task *t, char *out, size_t size)
{
    task_where(L, out, size);
    if (out[0] == '?')
        where_written(L, t, out, size);
}

void task_blame(lua_State *L, char *out, size_t size)
{
    task_where(L, out, size);
    if (out[0] != '?' || !lua_checkstack(L, 4))
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_SELF);
    const struct sched *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    for (struct task *t = s ? s->running : NULL; t; t = t->parent) {
        task_where(t->co, out, size);
        if (out[0] != '?' || where_written(L, t, out, size))
            return;
    }
}

const char *task_status(const struct task *t)
{
    switch (t->state) {
    case TASK_READY:
        return t->started ? "ready" : "new";
    case TASK_RUNNING:
        return "running";
    case TASK_PARKED:
        return "waiting";
    case TASK_JOINING:
        return "joining";
    default:
        break;
    }
    static const char *const ended[] = {"none", "ok", "failed", "raised", "cancelled"};
    return ended[t->outcome];
}
