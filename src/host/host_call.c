/* Tasks that the host starts, and the report of their ends to the host. */
#include "host/host_call.h"

#include "ground/redact.h"
#include "host/host_function.h"
#include "host/host_value.h"
#include "host/runtime_guard.h"
#include "host/runtime_report.h"
#include <string.h>

struct starting {
    struct host *host;
    struct started *s;
    const char *name, *source; /* source NULL: call the global function of that name */
    size_t len;
    const leat_value *const *args;
    size_t count;
    bool compiled;
};

static void task_ended(struct task_hook *hook, struct task *t)
{
    struct started *s = CONTAINER_OF(hook, struct started, hook);
    UNUSED(t);
    host_ids_remove(&s->host->ids, s->id);
    list_unlink(&s->node);
    list_push_back(&s->host->ended, &s->node);
}

static int push_function(lua_State *L, const struct starting *c)
{
    if (c->source) {
        if (luaL_loadbuffer(L, c->source, c->len, c->name) != 0)
            lua_error(L);
        runtime_push_chunk_globals(L);
        return lua_setfenv(L, -2);
    }
    runtime_push_globals(L);
    const char *dot = strchr(c->name, '.');
    lua_pushlstring(L, c->name, dot ? (size_t)(dot - c->name) : strlen(c->name));
    lua_rawget(L, -2);
    if (dot && lua_istable(L, -1)) {
        lua_pushstring(L, dot + 1);
        lua_rawget(L, -2);
    }
    if (!lua_isfunction(L, -1))
        luaL_error(L, "there is no global function '%s'", c->name);
    return 1;
}

struct started *host_call_new(struct host *e, const char *name, leat_done done, void *arg)
{
    struct mem *mem = &e->rt->mem;
    struct started *s = mem_calloc(mem, sizeof *s);
    if (!s) {
        /* Garbage of an earlier script may be the only obstacle. */
        sched_make_room(&e->rt->sched, e->rt->L);
        s = mem_calloc(mem, sizeof *s);
    }
    if (!s)
        return NULL;
    *s = (struct started){.host = e, .done = done, .arg = arg, .ref = LUA_NOREF};
    list_init(&s->node);
    snprintf(s->name, sizeof s->name, "%s", name + (name[0] == '@' || name[0] == '='));
    s->id = host_ids_add(&e->ids, s);
    if (s->id != 0)
        return s;
    mem_free(mem, s);
    return NULL;
}

void host_call_drop(struct started *s)
{
    sched_drop_kept(s->host->rt->L, s->ref);
    host_ids_remove(&s->host->ids, s->id);
    mem_free(&s->host->rt->mem, s);
}

void host_call_prepare(lua_State *L, struct started *s)
{
    if (s->ref != LUA_NOREF)
        return; /* a second try, after one that ran out of memory */
    lua_pushboolean(L, 0);
    s->ref = sched_keep(L);
}

void host_call_begin(lua_State *L, struct started *s, struct task *t)
{
    sched_set_kept(L, s->ref);
    s->task = t;
    s->hook.fn = task_ended;
    task_hook_add(t, &s->hook);
    list_push_back(&s->host->running, &s->node);
}

static int do_start(lua_State *L)
{
    struct starting *c = lua_touserdata(L, 1);
    leat_runtime *r = c->host->r;
    push_function(L, c);
    c->compiled = true;
    luaL_checkstack(L, (int)c->count + 8, "too many arguments");
    for (size_t i = 0; i < c->count; i++)
        host_value_push(L, c->args[i]);
    bool main = !c->s->done && !runtime_has_script(r);
    host_call_prepare(L, c->s);
    if (main)
        runtime_prepare_main(L, r);
    struct task *t = sched_spawn(L, &c->host->rt->sched, NULL, (int)c->count); // task
    lua_pushvalue(L, -1);
    host_call_begin(L, c->s, t);
    if (main)
        runtime_set_main(L, r, c->s, false);
    return 0;
}

static uint64_t start_task(leat_runtime *r, struct starting c, leat_done done, void *arg,
                           struct leat_error *err)
{
    const char *why;
    struct host *e = c.host = runtime_host(r);
    if (!runtime_usable(e, true, &why)) {
        runtime_set_error(err, "invalid", why);
        return 0;
    }
    if (e->closing) { /* otherwise a host that starts a new task at each end would never return from
                         leat_free */
        runtime_set_error(err, "invalid", "the runtime is being closed");
        return 0;
    }
    if (c.source && c.len > 0 && c.source[0] == LUA_SIGNATURE[0]) {
        runtime_set_error(err, "invalid", "the source is bytecode: only source text can be run");
        return 0;
    }
    struct started *s = c.s = host_call_new(e, c.name, done, arg);
    if (!s) {
        runtime_set_error(err, "memory", "not enough memory for a task");
        return 0;
    }
    if (!runtime_protected(r, do_start, &c)) {
        host_call_drop(s);
        const char *kind = c.source && !c.compiled ? "script" : "invalid";
        const char *text = runtime_error_text(r, &kind);
        runtime_set_error(err, kind, text);
        return 0;
    }
    loop_wake(&e->rt->loop);
    return s->id;
}

static bool bad_arguments(const leat_value *const *args, size_t count)
{
    return count > HOST_ARGUMENTS || (count > 0 && !args);
}

uint64_t leat_call(leat_runtime *r, const char *name, const leat_value *const *args, size_t count,
                   leat_done done, void *arg, struct leat_error *err)
{
    RUNTIME_CHECK(r);
    if (!host_function_good_name(name) || bad_arguments(args, count)) {
        runtime_set_error(err, "invalid",
                          "a function's name is a word, or two with a dot between them; and "
                          "it takes 64 arguments at most");
        return 0;
    }
    return start_task(r, (struct starting){.name = name, .args = args, .count = count}, done, arg,
                      err);
}

uint64_t leat_eval(leat_runtime *r, const char *name, const char *source, size_t len,
                   const leat_value *const *args, size_t count, leat_done done, void *arg,
                   struct leat_error *err)
{
    RUNTIME_CHECK(r);
    if (!name || !source || bad_arguments(args, count)) {
        runtime_set_error(err, "invalid",
                          "a name and a source are required, and at most 64 arguments are allowed");
        return 0;
    }
    return start_task(r,
                      (struct starting){.name = name,
                                        .source = source,
                                        .len = len == SIZE_MAX ? strlen(source) : len,
                                        .args = args,
                                        .count = count},
                      done, arg, err);
}

bool leat_cancel(leat_runtime *r, uint64_t id)
{
    RUNTIME_CHECK(r);
    const char *why;
    struct host *e = runtime_host(r);
    if (!runtime_usable(e, true, &why))
        return false;
    struct started *s = host_ids_get(&e->ids, id);
    if (!s)
        return false;
    task_cancel(s->task, "cancelled by the host");
    loop_wake(&e->rt->loop);
    return true;
}

enum leat_status leat_status_of(leat_runtime *r, uint64_t id)
{
    RUNTIME_CHECK(r);
    const char *why;
    struct host *e = runtime_host(r);
    if (!runtime_usable(e, true, &why) || id == 0)
        return LEAT_MISUSE;
    if (host_ids_get(&e->ids, id))
        return LEAT_RUNNING;
    for (size_t i = 0; i < ARRAY_LEN(e->past); i++) {
        if (e->past[i].id == id)
            return e->past[i].status;
    }
    LIST_FOR(node, &e->ended)
    {
        if (CONTAINER_OF(node, struct started, node)->id == id)
            return LEAT_RUNNING; /* its callback has not been called yet */
    }
    return LEAT_MISUSE;
}

struct outcome {
    const struct started *s;
    enum leat_status status;
    leat_value *results[HOST_ARGUMENTS];
    int count;
    struct leat_error error;
};

static void text_field(lua_State *L, int index, const char *field, char *out, size_t size)
{
    lua_pushstring(L, field);
    lua_rawget(L, index);
    const char *text = lua_tostring(L, -1);
    if (text)
        redact_words(out, size, text); /* because a host may log it */
    lua_pop(L, 1);
}

static int take_outcome(lua_State *L)
{
    struct outcome *o = lua_touserdata(L, 1);
    struct task *t = o->s->task;
    int base = lua_gettop(L);
    int n = task_push_outcome(L, t);
    if (t->outcome == OUTCOME_OK && !o->s->done)
        return 0; /* the host does not want the results */
    if (t->outcome == OUTCOME_OK) {
        struct taking c = host_value_taking(L, o->s->host->rt);
        if (n > HOST_ARGUMENTS)
            return luaL_error(L, "more than %d results", (int)HOST_ARGUMENTS);
        for (int i = 0; i < n; i++) {
            if (!host_value_take(L, base + 1 + i, &c, &o->results[i]))
                return luaL_error(L, "result %d cannot be passed to the host: %s", i + 1,
                                  host_value_why(&c));
            o->count = i + 1;
        }
        return 0;
    }
    o->status = t->outcome == OUTCOME_BUG         ? LEAT_RAISED
                : t->outcome == OUTCOME_CANCELLED ? LEAT_CANCELLED
                                                  : LEAT_FAILED;
    bool bug = t->outcome == OUTCOME_BUG;
    runtime_set_error(&o->error, bug ? "raised" : "script",
                      "an error value whose __tostring fails");
    if (bug || !lua_istable(L, base + 2)) {
        lua_getglobal(L, "tostring");
        lua_pushvalue(L, base + n);
        lua_call(L, 1, 1);
        const char *text = lua_tostring(L, -1);
        if (text)
            redact_words(o->error.message, sizeof o->error.message, text);
        return 0;
    }
    text_field(L, base + 2, "kind", o->error.kind, sizeof o->error.kind);
    text_field(L, base + 2, "message", o->error.message, sizeof o->error.message);
    return 0;
}

bool host_call_pending(const struct host *e)
{
    return !list_empty(&e->ended);
}

void host_call_deliver(struct host *e)
{
    struct list *node;
    while (e->inside == 0 && (node = list_pop_front(&e->ended))) {
        struct started *s = CONTAINER_OF(node, struct started, node);
        struct outcome o = {.s = s, .status = LEAT_OK};
        if (!runtime_protected(e->r, take_outcome, &o) && o.status == LEAT_OK) {
            o.status = LEAT_FAILED;
            const char *kind = "invalid", *text = runtime_error_text(e->r, &kind);
            runtime_set_error(&o.error, kind, text);
        }
        e->past[e->past_next++ % ARRAY_LEN(e->past)] = (struct past){s->id, o.status};
        size_t count = o.status == LEAT_OK ? (size_t)o.count : 0;
        if (s->done) {
            e->inside++;
            s->done(s->arg, s->id, o.status, (const leat_value *const *)o.results, count,
                    o.status == LEAT_OK ? NULL : &o.error);
            e->inside--;
        } else {
            runtime_ended_unasked(e->r, s);
        }
        sched_drop_kept(e->rt->L, s->ref);
        for (int i = 0; i < o.count; i++)
            leat_value_free(o.results[i]);
        mem_free(&e->rt->mem, s);
    }
}
