/* The outcome of a task: its values, its failure, or its bug with the tracebacks of all tasks that
 * the bug passed through. */
#include "tasks/task_outcome.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool task_is_err(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
    bool same = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
    return same;
}

void task_cancel_err(const struct task *t, struct err *e)
{
    err_set(e, ERR_CANCELLED, "%s", t->cancel_reason[0] ? t->cancel_reason : "by request");
}

static void push_wrapped(lua_State *L, struct task *t)
{
    if (task_is_err(L, -1))
        return;
    struct err e;
    luaL_checkstack(L, 4, "error");
    err_set(&e, ERR_SCRIPT, "%s", luaL_typename(L, -1));
    t->sched->push_err(L, &e); /* v err */
    lua_insert(L, -2);         /* err v */
    /* err v text; not cut, unlike the text in struct err */
    t->sched->push_text(L, t->sched->running != NULL);
    lua_setfield(L, -3, "message");
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
        for (int i = 1; i <= n; i++) { /* one by one: the stack may have no room for all of them */
            lua_pushvalue(co, i);
            lua_xmove(co, L, 1);
        }
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
        if (t->stopped) {
            lua_pushvalue(co, -1);
            lua_xmove(co, L, 1);
            if (!lua_istable(L, -1)) { /* there was no memory for the error */
                err_set(&e, ERR_BUDGET, "time limit");
                err_reason(&e, "time_limit");
                t->sched->push_err(L, &e);
            }
            return 2;
        }
        if (t->broken) {
            err_set(&e, ERR_MEMORY, "not enough memory, in task %llu", (unsigned long long)t->id);
            t->sched->push_err(L, &e);
            return 2;
        }
        if (t->abandoned) {
            err_set(&e, ERR_INTERNAL,
                    "the task caught its cancel %u times and did not end, so it was abandoned",
                    t->swallowed);
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
        /* The raised error may contain more details, such as a failed clean-up. */
        if (t->raised || (lua_gettop(co) >= 2 && lua_isnil(co, 1) && !lua_isnil(co, 2))) {
            lua_pushvalue(co, t->raised ? -1 : 2);
            lua_xmove(co, L, 1);
            return 2;
        }
        task_cancel_err(t, &e);
        t->sched->push_err(L, &e);
        return 2;
    }
}

void task_push_first(lua_State *L, struct task *t)
{
    if (t->outcome == OUTCOME_OK) {
        if (lua_gettop(t->co) == 0) {
            lua_pushnil(L);
            return;
        }
        lua_pushvalue(t->co, 1);
        lua_xmove(t->co, L, 1);
    } else if (task_push_outcome(L, t) > 1) {
        lua_remove(L, -2); /* the nil before the error */
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

/* The line number at the start of a message, if it is in this source; otherwise -1. */
static int line_in(const char *message, const char *source)
{
    size_t len = strlen(source);
    if (!message || strncmp(message, source, len) != 0 || message[len] != ':')
        return -1;
    char *end;
    long line = strtol(message + len + 1, &end, 10);
    return *end == ':' && line > 0 && line < INT_MAX ? (int)line : -1;
}

/* Only the script's own frames: those of leat and of C do not help its author. */
static void trace_frames(struct trace *tr, lua_State *L, const char *message)
{
    lua_Debug ar;
    int shown = 0;
    for (int level = 0; shown < 30 && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Snl", &ar);
        if (ar.what[0] == 'C' || strncmp(ar.source, "@leat/", 6) == 0)
            continue;
        /* LuaJIT does not keep the line of a dead coroutine's top frame, but the message has it. */
        int line = ar.currentline > 0 ? ar.currentline : line_in(message, ar.short_src);
        if (line > 0)
            trace_add(tr, "\n\t%s:%d: in ", ar.short_src, line);
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
    const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    trace_frames(&tr, of, message);
    if (of != L)
        trace_frames(&tr, L, NULL);
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
        trace_frames(&tr, t->co,
                     lua_type(t->co, -1) == LUA_TSTRING ? lua_tostring(t->co, -1) : NULL);
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
