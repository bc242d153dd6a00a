#include "host/host_function.h"

#include "host/host_value.h"
#include "host/runtime_guard.h"
#include "lua/lua_aux.h"
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* A host function: a userdata that its Lua function keeps alive. */
struct host_function {
    leat_function fn;
    leat_start start;
    leat_abandon cancel;
    void *arg;
    char name[HOST_NAME];
};

/* A call of an asynchronous host function, from its start to its take or cancel. The mailbox's lock
 * guards what other threads access. */
struct host_call {
    struct list node; /* mailbox->completed */
    uint64_t id;
    struct task *task; /* NULL: it does not wait yet */
    struct host_function *fn;
    bool completed;
    leat_value *result;
    struct leat_error error;
};

/* Lives longer than the runtime if a thread has retained it. */
struct leat_mailbox {
    pthread_mutex_t lock;
    atomic_uint refs;
    struct host *host; /* NULL: the runtime is gone */
    struct host_ids calls;
    struct list completed; /* completed calls whose tasks must still be woken */
};

/* ---- life ---- */

static void on_news(struct loop_hook *hook)
{
    struct host *e = CONTAINER_OF(hook, struct host, hook);
    struct leat_mailbox *box = e->box;
    struct list *node;
    pthread_mutex_lock(&box->lock);
    while ((node = list_pop_front(&box->completed)))
        task_wake(CONTAINER_OF(node, struct host_call, node)->task);
    pthread_mutex_unlock(&box->lock);
}

struct host *host_function_open(leat_runtime *r, struct rt *rt)
{
    struct host *e = mem_calloc(&rt->mem, sizeof *e);
    struct leat_mailbox *box = calloc(1, sizeof *box);
    if (!e || !box) {
        mem_free(&rt->mem, e);
        free(box);
        return NULL;
    }
    pthread_mutex_init(&box->lock, NULL);
    atomic_init(&box->refs, 1);
    list_init(&box->completed);
    box->host = e;
    *e = (struct host){.r = r, .rt = rt, .owner = pthread_self(), .process = getpid(), .box = box};
    list_init(&e->running);
    list_init(&e->ended);
    loop_hook_add(&rt->loop, &e->hook, on_news);
    return e;
}

void host_function_close(struct host *e)
{
    if (!e)
        return;
    struct list *node; /* calls remain if a host's state was closed before its runtime */
    while ((node = list_pop_front(&e->running)) || (node = list_pop_front(&e->ended))) {
        struct started *s = CONTAINER_OF(node, struct started, node);
        task_hook_remove(&s->hook);
        mem_free(&e->rt->mem, s);
    }
    pthread_mutex_lock(&e->box->lock);
    e->box->host = NULL; /* from now on, completions are refused */
    pthread_mutex_unlock(&e->box->lock);
    loop_hook_remove(&e->hook);
    host_ids_fini(&e->ids);
    leat_mailbox_release(e->box);
    mem_free(&e->rt->mem, e);
}

void leat_mailbox_retain(leat_mailbox *box)
{
    if (box)
        atomic_fetch_add(&box->refs, 1);
}

void leat_mailbox_release(leat_mailbox *box)
{
    if (!box || atomic_fetch_sub(&box->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&box->lock);
    host_ids_fini(&box->calls);
    free(box);
}

leat_mailbox *leat_mailbox_of(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    struct host *e = runtime_host(r);
    return e ? e->box : NULL;
}

/* ---- calls of the host ---- */

/* Lives on the C stack, because the collector would not know its size. Nothing may raise while it
 * holds memory. */
struct crossed {
    leat_value *values[HOST_ARGUMENTS];
    int count;
};

static void crossed_free(struct crossed *x)
{
    for (int i = 0; i < x->count; i++)
        leat_value_free(x->values[i]);
    x->count = 0;
}

/* Raises if an argument cannot be passed to the host; `x` holds nothing then. */
static void take_arguments(lua_State *L, struct rt *rt, const char *name, struct crossed *x)
{
    int n = lua_gettop(L);
    if (n > HOST_ARGUMENTS)
        aux_raise(L, "%s: more than %d arguments", name, (int)HOST_ARGUMENTS);
    struct taking c = host_value_taking(L, rt);
    for (x->count = 0; x->count < n; x->count++) {
        int index = x->count + 1;
        if (!host_value_take(L, index, &c, &x->values[x->count])) {
            crossed_free(x);
            aux_raise(L, "%s: argument %d cannot be passed to the host: %s", name, index,
                      host_value_why(&c));
        }
    }
}

/* a host's strncpy may have filled them without a final NUL */
static void end_texts(struct leat_error *error)
{
    error->kind[sizeof error->kind - 1] = '\0';
    error->message[sizeof error->message - 1] = '\0';
}

static int push_error(lua_State *L, const struct leat_error *error)
{
    enum err_kind kind = err_kind_from_name(error->kind);
    return aux_failf(L, kind == ERR_KIND_COUNT || kind == ERR_NONE ? ERR_SCRIPT : kind, "%s",
                     error->message);
}

/* The result of a call, on its way to the script. */
struct given {
    const leat_value *result;
    const struct leat_error *error;
};

static const char finish_key; /* of finish_host in the registry */

static int finish_host(lua_State *L)
{
    const struct given *given = rt_of(L)->host->given;
    if (given->error->kind[0])
        return push_error(L, given->error);
    host_value_push(L, given->result);
    return 1;
}

/* Pushes the result and returns the number of values; below 0: pushing raised (memory), and the
 * error is on top. The call must not be lost then, so finish_host is created in advance. */
static int give(lua_State *L, struct host *e, const leat_value *result,
                const struct leat_error *error)
{
    struct given given = {result, error};
    int base = lua_gettop(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&finish_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    e->given = &given;
    int rc = lua_pcall(L, 0, LUA_MULTRET, 0);
    e->given = NULL;
    return rc != 0 ? -1 : lua_gettop(L) - base;
}

static int call_host(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct host_function *f = lua_touserdata(L, lua_upvalueindex(2));
    struct host *e = rt->host;
    if (!e)
        aux_raise(L, "%s: the runtime has been closed", f->name);
    struct crossed x;
    take_arguments(L, rt, f->name, &x);
    struct leat_error error = {{0}, {0}};
    e->inside++;
    leat_value *result =
        f->fn(f->arg, (const leat_value *const *)x.values, (size_t)x.count, &error);
    e->inside--;
    crossed_free(&x);
    end_texts(&error);
    int n = give(L, e, result, &error);
    leat_value_free(result);
    return n < 0 ? lua_error(L) : n;
}

static void call_free(struct host_call *c)
{
    leat_value_free(c->result);
    free(c);
}

/* Adds a new call with its number to the mailbox; NULL: out of memory. */
static struct host_call *call_new(struct leat_mailbox *box, struct host_function *f)
{
    struct host_call *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    list_init(&c->node);
    c->fn = f;
    pthread_mutex_lock(&box->lock);
    c->id = host_ids_add(&box->calls, c);
    pthread_mutex_unlock(&box->lock);
    if (c->id != 0)
        return c;
    free(c);
    return NULL;
}

/* Removes a call that no task waits for any more. Returns true if the host has not completed it
 * yet. */
static bool forget(struct leat_mailbox *box, struct host_call *c)
{
    pthread_mutex_lock(&box->lock);
    list_unlink(&c->node);
    host_ids_remove(&box->calls, c->id);
    bool completed = c->completed;
    pthread_mutex_unlock(&box->lock);
    return !completed;
}

/* Calls the host's cancel callback, so that the host does not go on working for nothing. That
 * callback must not wait, so it can be called here. */
static bool cancel_host(struct task *t)
{
    struct host_call *c = t->wait.obj;
    struct rt *rt = CONTAINER_OF(t->sched, struct rt, sched);
    struct host *e = rt->host;
    rt->sched.external--;
    if (forget(e->box, c) && c->fn->cancel) {
        e->inside++;
        c->fn->cancel(c->fn->arg, c->id);
        e->inside--;
    }
    call_free(c);
    return true;
}

static int take_host(lua_State *L, struct task *t)
{
    struct host_call *c = t->wait.obj;
    struct rt *rt = CONTAINER_OF(t->sched, struct rt, sched);
    rt->sched.external--;
    forget(rt->host->box, c);
    int n = give(L, rt->host, c->result, &c->error);
    call_free(c);
    return n < 0 ? lua_error(L) : n;
}

static void describe_host(struct task *t, char *out, size_t size)
{
    const struct host_call *c = t->wait.obj;
    snprintf(out, size, "%s", c->fn->name);
}

static const struct wait_ops host_ops = {
    .name = "host function", .cancel = cancel_host, .take = take_host, .describe = describe_host};

struct beginning {
    struct host *host;
    struct host_call *call;
    struct crossed *arguments;
};

static void begin_host(struct task *t, void *arg)
{
    struct beginning *b = arg;
    struct host *e = b->host;
    struct host_call *c = b->call;
    t->wait.obj = c;
    c->task = t; /* set before the host gets the call */
    e->rt->sched.external++;
    b->call = NULL;
    e->inside++;
    c->fn->start(c->fn->arg, c->id, (const leat_value *const *)b->arguments->values,
                 (size_t)b->arguments->count);
    e->inside--;
    crossed_free(b->arguments);
}

static int start_host(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct host_function *f = lua_touserdata(L, lua_upvalueindex(2));
    task_check_can_wait(L, &rt->sched, f->name);
    struct task *t = task_current(L, &rt->sched, f->name);
    struct crossed x;
    take_arguments(L, rt, f->name, &x);
    if (t->cancel_requested) {
        crossed_free(&x);
        return task_park(L, &rt->sched, &host_ops, NULL, NULL, NULL);
    }
    lua_pushvalue(L, lua_upvalueindex(2)); /* keeps the function alive during the call */
    task_set_slot(L, t, SLOT_KEEP);
    struct beginning b = {rt->host, call_new(rt->host->box, f), &x};
    if (!b.call) {
        crossed_free(&x);
        return aux_failf(L, ERR_MEMORY, "not enough memory for a call of %s", f->name);
    }
    return task_park(L, &rt->sched, &host_ops, NULL, begin_host, &b);
}

bool leat_complete(leat_mailbox *box, uint64_t id, leat_value *result, const struct leat_error *err)
{
    struct host_call *found = NULL;
    if (!box) {
        leat_value_free(result);
        return false;
    }
    pthread_mutex_lock(&box->lock);
    if (box->host)
        found = host_ids_get(&box->calls, id);
    if (found && found->completed)
        found = NULL;
    if (found) {
        found->completed = true;
        list_push_back(&box->completed, &found->node);
        if (err && err->kind[0])
            found->error = *err;
        else
            found->result = result;
        end_texts(&found->error);
        if (found->result == result)
            result = NULL;
        loop_wake(&box->host->rt->loop); /* under the lock, so the loop still exists */
    }
    pthread_mutex_unlock(&box->lock);
    leat_value_free(result);
    return found != NULL;
}

/* ---- registering ---- */

struct registering {
    struct host *host;
    const char *name;
    struct host_function fn;
};

static int do_register(lua_State *L)
{
    struct registering *g = lua_touserdata(L, 1);
    runtime_push_globals(L);
    const char *dot = strchr(g->name, '.'), *field = g->name;
    if (dot) {
        lua_pushlstring(L, g->name, (size_t)(dot - g->name));
        lua_rawget(L, -2);
        if (!lua_istable(L, -1)) {
            if (!lua_isnil(L, -1))
                luaL_error(L, "'%s': the part before the dot is not a table", g->name);
            lua_newtable(L);
            lua_pushlstring(L, g->name, (size_t)(dot - g->name));
            lua_pushvalue(L, -2);
            lua_rawset(L, 2);
        }
        field = dot + 1;
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)&finish_key);
    lua_pushlightuserdata(L, g->host->rt);
    lua_pushcclosure(L, finish_host, 1);
    lua_rawset(L, LUA_REGISTRYINDEX);
    bool waits = g->fn.start != NULL;
    if (waits) {
        /* function(start) return function(...) return await(start(...)) end end */
        static const char code[] = "local await, start = ... "
                                   "return function(...) return await(start(...)) end";
        if (luaL_loadbuffer(L, code, sizeof code - 1, "=host") != 0)
            lua_error(L);
        lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED"); /* the script may have removed `require` */
        lua_getfield(L, -1, "leat.internal.await");
        lua_replace(L, -2);
    }
    lua_pushlightuserdata(L, g->host->rt);
    struct host_function *f = lua_newuserdata(L, sizeof *f);
    *f = g->fn;
    lua_pushcclosure(L, waits ? start_host : call_host, 2);
    if (waits)
        lua_call(L, 2, 1);
    lua_pushstring(L, field);
    lua_insert(L, -2);
    lua_rawset(L, -3);
    return 0;
}

bool host_function_good_name(const char *name)
{
    size_t dots = 0, len = name ? strlen(name) : 0;
    bool begins = true;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        bool digit = c >= '0' && c <= '9';
        if (c == '.' && !begins && ++dots == 1)
            begins = true;
        else if (letter || (digit && !begins))
            begins = false;
        else
            return false;
    }
    return !begins && len < HOST_NAME;
}

static bool add_function(leat_runtime *r, const char *name, struct host_function fn,
                         struct leat_error *err)
{
    const char *why;
    struct registering g = {runtime_host(r), name, fn};
    if (!runtime_usable(g.host, false, &why)) {
        runtime_set_error(err, "invalid", why);
        return false;
    }
    if (!host_function_good_name(name)) {
        runtime_set_error(
            err, "invalid",
            "the name of a host function must be one word, or two words with a dot between "
            "them");
        return false;
    }
    if (!fn.fn && !fn.start) {
        runtime_set_error(err, "invalid", "the host function is NULL");
        return false;
    }
    snprintf(g.fn.name, sizeof g.fn.name, "%s", name);
    if (runtime_protected(r, do_register, &g))
        return true;
    const char *kind = "invalid", *text = runtime_error_text(r, &kind);
    runtime_set_error(err, kind, text);
    return false;
}

bool leat_register(leat_runtime *r, const char *name, leat_function fn, void *arg,
                   struct leat_error *err)
{
    RUNTIME_CHECK(r);
    return add_function(r, name, (struct host_function){.fn = fn, .arg = arg}, err);
}

bool leat_register_async(leat_runtime *r, const char *name, leat_start start, leat_abandon cancel,
                         void *arg, struct leat_error *err)
{
    RUNTIME_CHECK(r);
    return add_function(r, name,
                        (struct host_function){.start = start, .cancel = cancel, .arg = arg}, err);
}
