/* The queue as a C object; lua/leat/sync.lua completes it. */
#include "lua/lua_queue.h"

#include "lua/lua_aux.h"
#include <math.h>
#include <string.h>

static struct sched *sched_of(lua_State *L)
{
    return &rt_of(L)->sched;
}

/* The environment table holds the items at [head, tail). Each woken getter owns one of the first
 * `granted` items and takes it when it runs. Each woken putter owns one of `reserved` places. So a
 * cancel before the task runs leaves every item in its place. */
struct queue {
    int64_t capacity; /* 0: unbounded */
    int64_t head, tail;
    int64_t granted, reserved;
    struct list getters, putters;
    bool closed;
};

static struct queue *check_queue(lua_State *L)
{
    return aux_check_self(L, "leat.queue");
}

static int64_t free_items(const struct queue *q)
{
    return q->tail - q->head - q->granted;
}

static bool has_room(const struct queue *q)
{
    return q->capacity == 0 || q->tail - q->head + q->reserved < q->capacity;
}

enum { GRANTED = 1 }; /* wait.number of a getter that owns an item, or a putter that owns a place */

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

void lua_queue_nudge(void *queue)
{
    struct queue *q = queue;
    if (!list_empty(&q->getters))
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
        q->head = q->tail = 1; /* keeps the indices small in a long-lived queue */
    serve_queue(q);
    return 1;
}

/* The results of get on a closed, empty queue: nil, or nil and the error that was given to close.
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
    struct queue *q = t->wait.obj;
    if (t->wait.timed_out)
        return aux_fail_timeout(L, t, "queue");
    task_push_slot(L, t, SLOT_KEEP); // self
    int self = lua_gettop(L);
    if (t->wait.number == GRANTED)
        q->granted--;
    else if (free_items(q) <= 0)
        return push_end(L, self);
    return pop_item(L, self, q);
}

static int store_item(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    task_push_slot(L, t, SLOT_KEEP); // self
    lua_getfenv(L, -1);              // self items
    task_push_slot(L, t, SLOT_ITEM); // self items item
    lua_rawseti(L, -2, (int)((struct queue *)t->wait.obj)->tail);
    return 0;
}

static int take_put(lua_State *L, struct task *t)
{
    struct queue *q = t->wait.obj;
    if (t->wait.timed_out)
        return aux_fail_timeout(L, t, "queue");
    int failed = q->closed ? 0 : lua_cpcall(L, store_item, t);
    lua_pushnil(L);
    task_set_slot(L, t, SLOT_ITEM);
    if (t->wait.number == GRANTED)
        q->reserved--;
    if (q->closed)
        return fail_closed(L);
    if (!failed)
        q->tail++;
    serve_queue(q); /* if storing the item failed, the next putter may use the place */
    if (failed)
        return lua_error(L);
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_queue(struct task *t, char *out, size_t size)
{
    struct queue *q = t->wait.obj;
    snprintf(out, size, "%lld items", (long long)(q->tail - q->head));
}

static const struct wait_ops get_ops = {
    .name = "get", .cancel = cancel_get, .take = take_get, .describe = describe_queue};
static const struct wait_ops put_ops = {
    .name = "put", .cancel = cancel_put, .take = take_put, .describe = describe_queue};

static void begin_get(struct task *t, void *arg)
{
    struct aux_wait *j = arg;
    struct queue *q = j->obj;
    list_push_back(&q->getters, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
    serve_queue(q);
}

static void begin_put(struct task *t, void *arg)
{
    struct aux_wait *j = arg;
    struct queue *q = j->obj;
    list_push_back(&q->putters, &t->wait.node);
    task_wait_seconds(t, j->timeout_s);
    serve_queue(q);
}

/* Stores a value for the take in advance. An out-of-memory error between the take and the Lua code
 * that follows it would keep an item or a place reserved for ever. */
static void keep(lua_State *L, const struct wait_ops *ops, int index, enum task_slot slot)
{
    struct task *t = task_current(L, sched_of(L), ops->name);
    lua_pushvalue(L, index);
    task_set_slot(L, t, slot);
}

static int l_queue_get(lua_State *L)
{
    struct queue *q = check_queue(L);
    double timeout_s = aux_opt_timeout(L, 2, "get: timeout");
    bool gives_way = isinf(timeout_s) && task_gives_way(L, sched_of(L));
    /* Tasks that were woken for an item and have not run yet come first. */
    if (free_items(q) > 0 && q->granted == 0 && !gives_way)
        return pop_item(L, 1, q);
    if (q->closed && free_items(q) == 0)
        return push_end(L, 1);
    struct aux_wait j = {q, timeout_s};
    keep(L, &get_ops, 1, SLOT_KEEP);
    return task_park(L, sched_of(L), &get_ops, q, begin_get, &j);
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
    double timeout_s = aux_opt_timeout(L, 3, "put: timeout");
    if (q->closed)
        return fail_closed(L);
    if (has_room(q) && list_empty(&q->putters) && q->reserved == 0) {
        lua_settop(L, 2);
        push_item(L, 1, q);
        lua_pushboolean(L, 1);
        return 1;
    }
    struct aux_wait j = {q, timeout_s};
    keep(L, &put_ops, 1, SLOT_KEEP);
    keep(L, &put_ops, 2, SLOT_ITEM);
    return task_park(L, sched_of(L), &put_ops, q, begin_put, &j);
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
        /* Raises, with a hint, for method names of other queue libraries. */
        lua_gettable(L, lua_upvalueindex(2));
    }
    return 1;
}

static int l_queue_tostring(lua_State *L)
{
    struct queue *q = check_queue(L);
    lua_pushfstring(L, "queue (%d items%s)", (int)free_items(q), q->closed ? ", closed" : "");
    return 1;
}

static const luaL_Reg queue_methods[] = {{"_get_start", l_queue_get},  {"_put_start", l_queue_put},
                                         {"try_get", l_queue_try_get}, {"try_put", l_queue_try_put},
                                         {"close", l_queue_close},     {NULL, NULL}};

void lua_queue_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"queue", l_queue_new}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
    static const struct aux_class class = {.tname = "leat.queue",
                                           .name = "queue_methods",
                                           .methods = queue_methods,
                                           .index = l_queue_index,
                                           .gc = NULL,
                                           .tostring = l_queue_tostring};
    aux_open_class(L, rt, &class);
}
