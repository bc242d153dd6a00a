/* Semaphore, queue and event as C objects. Their public face is lua/leat/sync.lua. */
#include "lua_aux.h"
#include "sema.h"
#include <math.h>
#include <string.h>

static struct sched *sched_of(lua_State *L)
{
    return &rt_of(L)->sched;
}

static double opt_timeout(lua_State *L, int index, const char *what)
{
    return aux_opt_seconds(L, index, what, (double)INFINITY);
}

static int fail_timeout(lua_State *L, struct task *t, const char *what)
{
    struct err e;
    double limit = (double)(t->wait.timer.due_ns - t->wait.since_ns) / 1e9;
    err_set(&e, ERR_TIMEOUT, "%s: nothing within %.3g s", what, limit);
    e.retryable = true;
    e.phase = PHASE_QUEUE;
    e.elapsed_ms = (loop_now_ns(t->sched->loop) - t->wait.since_ns) / NS_PER_MS;
    lua_pushnil(L);
    aux_push_err(L, &e);
    lua_pushnumber(L, limit);
    lua_setfield(L, -2, "limit");
    return 2;
}

struct join {
    void *obj;
    double timeout_s; /* infinity: none */
};

/* ---- semaphore ---- */

/* A permit from acquire, which belongs to nobody: remembered so that a task which ends without
 * releasing can be named. */
struct hold {
    struct list node;
    struct task_hook hook;
    struct task *task; /* NULL: it has ended */
    uint64_t task_id;
    char where[96];
};

struct semaphore {
    struct sema sema;
    struct rt *rt;
    struct list holds;
};

static struct semaphore *check_sema(lua_State *L)
{
    return luaL_checkudata(L, 1, "leat.semaphore");
}

static void hold_task_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    CONTAINER_OF(hook, struct hold, hook)->task = NULL;
}

static void hold_free(struct semaphore *s, struct hold *h)
{
    list_unlink(&h->node);
    task_hook_remove(&h->hook);
    mem_free(&s->rt->mem, h);
}

static struct hold *hold_new(lua_State *L, struct semaphore *s, struct task *t)
{
    struct hold *h = mem_alloc(&s->rt->mem, sizeof *h);
    if (!h)
        return NULL; /* it only serves messages: the permit matters more */
    *h = (struct hold){.hook = {.fn = hold_task_ended}, .task = t, .task_id = t->id};
    list_init(&h->node);
    list_init(&h->hook.node);
    task_where(L, h->where, sizeof h->where);
    return h;
}

static void hold_add(struct semaphore *s, struct hold *h)
{
    task_hook_add(h->task, &h->hook);
    list_push_back(&s->holds, &h->node);
}

static int l_sema_new(lua_State *L)
{
    int64_t n = aux_check_integer(L, 1, "semaphore: the number of permits", 0, INT64_C(1) << 53);
    struct semaphore *s = lua_newuserdata(L, sizeof *s);
    sema_init(&s->sema, n);
    s->rt = rt_of(L);
    list_init(&s->holds);
    luaL_getmetatable(L, "leat.semaphore");
    lua_setmetatable(L, -2);
    return 1;
}

static int l_sema_gc(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    LIST_FOR(node, &s->holds)
    {
        struct hold *h = CONTAINER_OF(node, struct hold, node);
        if (!h->task)
            log_write(&s->rt->log, LOG_WARN,
                      "semaphore: a permit acquired at %s by task %llu was never released",
                      h->where, (unsigned long long)h->task_id);
        hold_free(s, h);
    }
    return 0;
}

static bool cancel_acquire(struct task *t)
{
    struct semaphore *s = t->wait.obj;
    sema_leave(&s->sema, t);
    return true;
}

static int take_acquire(lua_State *L, struct task *t)
{
    if (t->wait.timed_out)
        return fail_timeout(L, t, "acquire");
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_sema(struct task *t, char *out, size_t size)
{
    struct semaphore *s = t->wait.obj;
    int n = snprintf(out, size, "%lld permits, %zu waiting", (long long)s->sema.limit,
                     sema_waiting(&s->sema));
    LIST_FOR(node, &s->holds)
    {
        struct hold *h = CONTAINER_OF(node, struct hold, node);
        if (n > 0 && (size_t)n < size)
            n += snprintf(out + n, size - (size_t)n, "; held by task %llu since %s%s",
                          (unsigned long long)h->task_id, h->where, h->task ? "" : " (ended)");
    }
}

static const struct wait_ops acquire_ops = {
    .name = "acquire", .cancel = cancel_acquire, .take = take_acquire, .describe = describe_sema};

static void begin_acquire(struct task *t, void *arg)
{
    struct join *j = arg;
    struct semaphore *s = j->obj;
    sema_join(&s->sema, t);
    task_wait_seconds(t, j->timeout_s);
}

static int acquire(lua_State *L, struct semaphore *s, double timeout_s)
{
    if (sema_try(&s->sema)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct join j = {s, timeout_s};
    return task_park(L, sched_of(L), &acquire_ops, s, begin_acquire, &j);
}

/* acquire([timeout]): the Lua side calls held() once it has the permit. */
static int l_sema_acquire(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    double timeout_s = opt_timeout(L, 2, "acquire: timeout");
    task_current(L, sched_of(L), "acquire");
    return acquire(L, s, timeout_s);
}

static int l_sema_held(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    struct task *t = sched_of(L)->running;
    struct hold *h = t ? hold_new(L, s, t) : NULL;
    if (h)
        hold_add(s, h);
    return 0;
}

static int l_sema_try(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    struct task *t = sched_of(L)->running;
    struct hold *h = t ? hold_new(L, s, t) : NULL;
    bool got = sema_try(&s->sema);
    if (h && got)
        hold_add(s, h);
    else if (h)
        mem_free(&s->rt->mem, h);
    lua_pushboolean(L, got);
    return 1;
}

static void release(lua_State *L, struct semaphore *s)
{
    if (!sema_release(&s->sema))
        aux_raise(L, "release: all %d permits of this semaphore are back already (released twice?)",
                  (int)s->sema.limit);
}

/* Forgets the hold of the running task, or else the oldest. */
static void forget_hold(struct semaphore *s, struct task *t)
{
    struct hold *found = NULL;
    LIST_FOR(node, &s->holds)
    {
        struct hold *h = CONTAINER_OF(node, struct hold, node);
        if (h->task == t) {
            found = h;
            break;
        }
        if (!found)
            found = h;
    }
    if (found)
        hold_free(s, found);
}

static int l_sema_release(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    release(L, s);
    forget_hold(s, sched_of(L)->running);
    return 0;
}

/* The permit of `with`, which was never noted as held. */
static int l_sema_give(lua_State *L)
{
    release(L, check_sema(L));
    return 0;
}

static int l_sema_resize(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    int64_t n = aux_check_integer(L, 2, "resize: the number of permits", 0, INT64_C(1) << 53);
    sema_resize(&s->sema, n);
    return 0;
}

static int l_sema_index(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "limit") == 0)
        lua_pushnumber(L, (double)s->sema.limit);
    else if (key && strcmp(key, "available") == 0)
        lua_pushnumber(L, (double)MAX(s->sema.available, 0));
    else if (key && strcmp(key, "waiting") == 0)
        lua_pushnumber(L, (double)sema_waiting(&s->sema));
    else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(2));
    }
    return 1;
}

/* ---- queue ---- */

/* Items stand in the environment table at [head, tail). A woken getter has one of the first
 * `granted` items to its name and takes it when it runs, a woken putter one of `reserved` places:
 * so a cancel that comes in between leaves every item where it was. */
struct queue {
    int64_t capacity; /* 0: unbounded */
    int64_t head, tail;
    int64_t granted, reserved;
    struct list getters, putters;
    bool closed;
};

static struct queue *check_queue(lua_State *L)
{
    return luaL_checkudata(L, 1, "leat.queue");
}

static int64_t free_items(const struct queue *q)
{
    return q->tail - q->head - q->granted;
}

static bool has_room(const struct queue *q)
{
    return q->capacity == 0 || q->tail - q->head + q->reserved < q->capacity;
}

enum {
    GRANTED = 1
}; /* wait.number of a getter with an item, or a putter with a place, to its name */

static void wake_granted(struct list *line)
{
    struct task *t = CONTAINER_OF(line->next, struct task, wait.node);
    t->wait.number = GRANTED;
    task_wake(t);
}

static void serve_queue(struct queue *q)
{
    while (free_items(q) > 0 && !list_empty(&q->getters)) {
        q->granted++;
        wake_granted(&q->getters);
    }
    while (!q->closed && has_room(q) && !list_empty(&q->putters)) {
        q->reserved++;
        wake_granted(&q->putters);
    }
    if (!q->closed)
        return;
    while (!list_empty(&q->putters))
        task_wake(CONTAINER_OF(q->putters.next, struct task, wait.node));
    while (!list_empty(&q->getters) && free_items(q) == 0)
        task_wake(CONTAINER_OF(q->getters.next, struct task, wait.node));
}

static int l_queue_new(lua_State *L)
{
    int64_t capacity = 0;
    if (!lua_isnoneornil(L, 1))
        capacity = aux_check_integer(L, 1, "queue: the capacity", 1, INT64_C(1) << 53);
    struct queue *q = lua_newuserdata(L, sizeof *q);
    *q = (struct queue){.capacity = capacity, .head = 1, .tail = 1};
    list_init(&q->getters);
    list_init(&q->putters);
    luaL_getmetatable(L, "leat.queue");
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_setfenv(L, -2);
    return 1;
}

/* The item is on top of L. */
static void push_item(lua_State *L, int q_index, struct queue *q)
{
    lua_getfenv(L, q_index);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (int)q->tail);
    lua_pop(L, 1);
    q->tail++;
    serve_queue(q);
}

static int pop_item(lua_State *L, int q_index, struct queue *q)
{
    lua_getfenv(L, q_index);
    lua_rawgeti(L, -1, (int)q->head);
    lua_pushnil(L);
    lua_rawseti(L, -3, (int)q->head);
    q->head++;
    if (q->head == q->tail && q->granted == 0)
        q->head = q->tail = 1; /* keeps the indices small over a long life */
    serve_queue(q);
    return 1;
}

/* What get returns when the queue is closed and drained: nil, or nil and the error given to close.
 */
static int push_end(lua_State *L, int q_index)
{
    lua_pushnil(L);
    lua_getfenv(L, q_index);
    lua_pushliteral(L, "err");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return lua_isnil(L, -1) ? 1 : 2;
}

static int fail_closed(lua_State *L)
{
    struct err e;
    err_set(&e, ERR_CLOSED, "put: the queue is closed");
    return aux_fail(L, &e);
}

static bool cancel_get(struct task *t)
{
    struct queue *q = t->wait.obj;
    list_unlink(&t->wait.node);
    if (t->wait.number == GRANTED) {
        q->granted--;
        serve_queue(q);
    }
    return true;
}

static bool cancel_put(struct task *t)
{
    struct queue *q = t->wait.obj;
    list_unlink(&t->wait.node);
    if (t->wait.number == GRANTED) {
        q->reserved--;
        serve_queue(q);
    }
    return true;
}

static int take_get(lua_State *L, struct task *t)
{
    if (t->wait.timed_out)
        return fail_timeout(L, t, "queue");
    /* The Lua side, which has the queue at hand, finishes with get_granted or put_granted. */
    lua_pushliteral(L, "");
    lua_pushboolean(L, t->wait.number == GRANTED);
    return 2;
}

static void describe_queue(struct task *t, char *out, size_t size)
{
    struct queue *q = t->wait.obj;
    snprintf(out, size, "%lld items", (long long)(q->tail - q->head));
}

static const struct wait_ops get_ops = {
    .name = "get", .cancel = cancel_get, .take = take_get, .describe = describe_queue};
static const struct wait_ops put_ops = {
    .name = "put", .cancel = cancel_put, .take = take_get, .describe = describe_queue};

static void begin_get(struct task *t, void *arg)
{
    struct join *j = arg;
    list_push_back(&((struct queue *)j->obj)->getters, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
}

static void begin_put(struct task *t, void *arg)
{
    struct join *j = arg;
    list_push_back(&((struct queue *)j->obj)->putters, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
}

static int l_queue_get(lua_State *L)
{
    struct queue *q = check_queue(L);
    double timeout_s = opt_timeout(L, 2, "get: timeout");
    if (free_items(q) > 0)
        return pop_item(L, 1, q);
    if (q->closed)
        return push_end(L, 1);
    struct join j = {q, timeout_s};
    return task_park(L, sched_of(L), &get_ops, q, begin_get, &j);
}

/* After a wait: get_granted(granted) gives the item, or the end. */
static int l_queue_get_granted(lua_State *L)
{
    struct queue *q = check_queue(L);
    if (lua_toboolean(L, 2))
        q->granted--;
    else if (free_items(q) <= 0)
        return push_end(L, 1);
    return pop_item(L, 1, q);
}

static void check_item(lua_State *L)
{
    if (lua_isnoneornil(L, 2))
        aux_raise(L, "put: nil cannot be put into a queue (get returns nil at its end)");
}

static int l_queue_put(lua_State *L)
{
    struct queue *q = check_queue(L);
    check_item(L);
    double timeout_s = opt_timeout(L, 3, "put: timeout");
    if (q->closed)
        return fail_closed(L);
    if (has_room(q) && list_empty(&q->putters)) {
        lua_settop(L, 2);
        push_item(L, 1, q);
        lua_pushboolean(L, 1);
        return 1;
    }
    struct join j = {q, timeout_s};
    return task_park(L, sched_of(L), &put_ops, q, begin_put, &j);
}

static int l_queue_put_granted(lua_State *L)
{
    struct queue *q = check_queue(L);
    if (lua_toboolean(L, 3))
        q->reserved--;
    if (q->closed)
        return fail_closed(L);
    lua_settop(L, 2);
    push_item(L, 1, q);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_queue_try_get(lua_State *L)
{
    struct queue *q = check_queue(L);
    if (free_items(q) > 0)
        return pop_item(L, 1, q);
    lua_pushnil(L);
    return 1;
}

static int l_queue_try_put(lua_State *L)
{
    struct queue *q = check_queue(L);
    check_item(L);
    bool ok = !q->closed && has_room(q) && list_empty(&q->putters);
    if (ok) {
        lua_settop(L, 2);
        push_item(L, 1, q);
    }
    lua_pushboolean(L, ok);
    return 1;
}

static int l_queue_close(lua_State *L)
{
    struct queue *q = check_queue(L);
    if (q->closed)
        return 0;
    if (!lua_isnoneornil(L, 2)) {
        lua_getfenv(L, 1);
        lua_pushliteral(L, "err");
        lua_pushvalue(L, 2);
        lua_rawset(L, -3);
    }
    q->closed = true;
    serve_queue(q);
    return 0;
}

static int l_queue_index(lua_State *L)
{
    struct queue *q = check_queue(L);
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "size") == 0)
        lua_pushnumber(L, (double)free_items(q));
    else if (key && strcmp(key, "capacity") == 0)
        lua_pushnumber(L, q->capacity ? (double)q->capacity : (double)INFINITY);
    else if (key && strcmp(key, "closed") == 0)
        lua_pushboolean(L, q->closed);
    else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(2));
    }
    return 1;
}

/* ---- event ---- */

struct event {
    bool set;
    bool from_outside; /* a signal may set it: waiting on it is not a dead end */
    struct list line;
};

static struct event *check_event(lua_State *L)
{
    return luaL_checkudata(L, 1, "leat.event");
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
        return fail_timeout(L, t, "wait");
    lua_pushboolean(L, 1);
    return 1;
}

static const struct wait_ops event_ops = {
    .name = "event:wait", .cancel = cancel_event, .take = take_event};

static void begin_event(struct task *t, void *arg)
{
    struct join *j = arg;
    struct event *e = j->obj;
    if (e->from_outside)
        t->sched->external++;
    list_push_back(&e->line, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
}

static int l_event_wait(lua_State *L)
{
    struct event *e = check_event(L);
    double timeout_s = opt_timeout(L, 2, "wait: timeout");
    if (e->set) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct join j = {e, timeout_s};
    return task_park(L, sched_of(L), &event_ops, e, begin_event, &j);
}

/* A metatable whose __index asks `index` first and then the methods, which are also left in the
 * module table on top of L as `name`, for the Lua side to complete. */
static void open_class(lua_State *L, struct rt *rt, const char *tname, const char *name,
                       const luaL_Reg *methods, lua_CFunction index, lua_CFunction gc)
{
    rt_newmetatable(L, rt, tname, methods, gc);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, name); /* module mt methods */
    if (index) {
        lua_pushlightuserdata(L, rt);
        lua_insert(L, -2);
        lua_pushcclosure(L, index, 2);
        lua_setfield(L, -2, "__index");
    } else {
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static const luaL_Reg sema_methods[] = {{"acquire_start", l_sema_acquire},
                                        {"held", l_sema_held},
                                        {"give", l_sema_give},
                                        {"try_acquire", l_sema_try},
                                        {"release", l_sema_release},
                                        {"resize", l_sema_resize},
                                        {NULL, NULL}};

static const luaL_Reg queue_methods[] = {
    {"get_start", l_queue_get},   {"get_granted", l_queue_get_granted},
    {"put_start", l_queue_put},   {"put_granted", l_queue_put_granted},
    {"try_get", l_queue_try_get}, {"try_put", l_queue_try_put},
    {"close", l_queue_close},     {NULL, NULL}};

static const luaL_Reg event_methods[] = {{"wait_start", l_event_wait},
                                         {"set", l_event_set},
                                         {"clear", l_event_clear},
                                         {"is_set", l_event_is_set},
                                         {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"semaphore", l_sema_new}, {"queue", l_queue_new}, {"event", l_event_new}, {NULL, NULL}};

int lua_open_sync(lua_State *L, struct rt *rt)
{
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    open_class(L, rt, "leat.semaphore", "semaphore_methods", sema_methods, l_sema_index, l_sema_gc);
    open_class(L, rt, "leat.queue", "queue_methods", queue_methods, l_queue_index, NULL);
    open_class(L, rt, "leat.event", "event_methods", event_methods, NULL, NULL);
    return 1;
}
