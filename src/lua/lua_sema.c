/* The semaphore as a C object; lua/leat/sync.lua completes it. */
#include "lua/lua_sema.h"

#include "lua/lua_aux.h"
#include "tasks/sema.h"
#include <string.h>

static struct sched *sched_of(lua_State *L)
{
    return &rt_of(L)->sched;
}

/* A permit from acquire is owned by nobody. It is recorded with its task so that the task can be
 * named if it ends without releasing it. */
struct hold {
    struct list node;
    struct task_hook hook;
    struct semaphore *sema;
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
    return aux_check_self(L, "leat.semaphore");
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
        return NULL; /* the record is only for messages: the permit matters more */
    *h = (struct hold){.hook = {.fn = hold_task_ended}, .sema = s, .task = t, .task_id = t->id};
    list_init(&h->node);
    list_init(&h->hook.node);
    task_where_in(L, t, h->where, sizeof h->where);
    return h;
}

static void hold_add(struct semaphore *s, struct hold *h)
{
    task_hook_add(h->task, &h->hook);
    list_push_back(&s->holds, &h->node);
}

static int l_sema_new(lua_State *L)
{
    if (lua_istable(L, 1))
        aux_raise(L, "semaphore takes a number: semaphore(5); got a table");
    int64_t n = aux_check_integer(L, 1, "semaphore: the number of permits", 0, INT64_C(1) << 53);
    struct semaphore *s = lua_newuserdata(L, sizeof *s);
    sema_init(&s->sema, n);
    s->rt = rt_of(L);
    list_init(&s->holds);
    luaL_getmetatable(L, "leat.semaphore");
    lua_setmetatable(L, -2);
    return 1;
}

enum { MAX_NAMED = 10 }; /* lost permits that get a message each */

static int l_sema_gc(lua_State *L)
{
    struct semaphore *s = lua_touserdata(L, 1);
    size_t lost = 0;
    LIST_FOR(node, &s->holds)
    {
        struct hold *h = CONTAINER_OF(node, struct hold, node);
        if (!h->task && lost++ < MAX_NAMED)
            log_write(&s->rt->log, LOG_WARN,
                      "semaphore: a permit acquired at %s by task %llu was never released",
                      h->where, (unsigned long long)h->task_id);
        hold_free(s, h);
    }
    if (lost > MAX_NAMED)
        log_write(&s->rt->log, LOG_WARN, "semaphore: %zu more permits were never released",
                  lost - MAX_NAMED);
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
        return aux_fail_timeout(L, t, "acquire");
    lua_pushboolean(L, 1);
    return 1;
}

/* Maximum of tasks examined to find the holders of a permit, and of waiters for whom that is done:
 * tasks() asks once per waiter. */
enum { MAX_ASKED = 1000 };

/* `with` records a permit only on its task's stack of clean-ups, so that it costs next to nothing.
 */
static bool holds_by_with(struct task *t, const struct semaphore *s)
{
    lua_State *L = t->sched->L;
    bool holds = false;
    if (!lua_checkstack(L, 8))
        return false;
    int top = lua_gettop(L);
    task_push_slot(L, t, SLOT_CLEANUPS);
    for (int i = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0; i > 0 && !holds; i--) {
        lua_rawgeti(L, top + 1, i);
        holds = lua_touserdata(L, -1) == s;
        lua_pop(L, 1);
    }
    lua_settop(L, top);
    return holds;
}

static void describe_sema(struct task *t, char *out, size_t size)
{
    struct semaphore *s = t->wait.obj;
    bool few = t->sched->live <= MAX_ASKED;
    int n = snprintf(out, size, "%lld permit%s", (long long)s->sema.limit,
                     s->sema.limit == 1 ? "" : "s");
    if (few) {
        n += snprintf(out + n, size - (size_t)n, ", %zu waiting", sema_waiting(&s->sema));
        LIST_FOR(node, &t->sched->tasks)
        {
            struct task *other = CONTAINER_OF(node, struct task, all);
            if (n > 0 && (size_t)n < size && holds_by_with(other, s))
                n += snprintf(out + n, size - (size_t)n, "; held by task %llu",
                              (unsigned long long)other->id);
        }
    }
    LIST_FOR(node, &s->holds)
    {
        struct hold *h = CONTAINER_OF(node, struct hold, node);
        if (n < 0 || (size_t)n >= size)
            break;
        n += snprintf(out + n, size - (size_t)n, "; held by task %llu since %s%s",
                      (unsigned long long)h->task_id, h->where, h->task ? "" : " (ended)");
    }
}

static const struct wait_ops acquire_ops = {
    .name = "acquire", .cancel = cancel_acquire, .take = take_acquire, .describe = describe_sema};

static void begin_acquire(struct task *t, void *arg)
{
    struct aux_wait *j = arg;
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
    struct aux_wait j = {s, timeout_s};
    return task_park(L, sched_of(L), &acquire_ops, s, begin_acquire, &j);
}

/* acquire([timeout]): the Lua side calls held() when it has the permit. */
static int l_sema_acquire(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    double timeout_s = aux_opt_timeout(L, 2, "acquire: timeout");
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

/* Forgets the latest hold of the running task, or else the oldest hold of all. Searches the task's
 * hooks, the latest first, because a semaphore may have any number of holders. */
static void forget_hold(struct semaphore *s, struct task *t)
{
    struct hold *found =
        list_empty(&s->holds) ? NULL : CONTAINER_OF(s->holds.next, struct hold, node);
    for (struct list *node = t ? t->hooks.prev : NULL; node && node != &t->hooks;
         node = node->prev) {
        struct task_hook *hook = CONTAINER_OF(node, struct task_hook, node);
        struct hold *h = CONTAINER_OF(hook, struct hold, hook);
        if (hook->fn == hold_task_ended && h->sema == s) {
            found = h;
            break;
        }
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

/* give(): returns the permit of `with`, which was never recorded as a hold. */
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
        lua_gettable(L, lua_upvalueindex(2)); /* raises for methods of other libraries */
    }
    return 1;
}

static int l_sema_tostring(lua_State *L)
{
    struct semaphore *s = check_sema(L);
    lua_pushfstring(L, "semaphore (%f of %f free, %d waiting)", (double)MAX(s->sema.available, 0),
                    (double)s->sema.limit, (int)sema_waiting(&s->sema));
    return 1;
}

static const luaL_Reg sema_methods[] = {{"_acquire_start", l_sema_acquire},
                                        {"_held", l_sema_held},
                                        {"_give", l_sema_give},
                                        {"try_acquire", l_sema_try},
                                        {"release", l_sema_release},
                                        {"resize", l_sema_resize},
                                        {NULL, NULL}};

void lua_sema_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"semaphore", l_sema_new}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
    static const struct aux_class class = {.tname = "leat.semaphore",
                                           .name = "semaphore_methods",
                                           .methods = sema_methods,
                                           .index = l_sema_index,
                                           .gc = l_sema_gc,
                                           .tostring = l_sema_tostring};
    aux_open_class(L, rt, &class);
}
