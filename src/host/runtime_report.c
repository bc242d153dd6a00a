/* Reports how a runtime's script ended. */
#include "host/runtime_report.h"

#include "ground/log.h"
#include "ground/redact.h"
#include "ground/secret.h"
#include "host/runtime_guard.h"
#include "lua/lua_aux.h"
#include <string.h>

int leat_exit_code(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    const char *why;
    return runtime_usable(runtime_host(r), true, &why) ? r->rt.exit_code : -1;
}

enum leat_status leat_result(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    const char *why;
    if (!runtime_usable(runtime_host(r), true, &why))
        return LEAT_MISUSE;
    if (r->rt.exit_requested)
        return LEAT_EXITED;
    if (r->stuck)
        return LEAT_STUCK;
    if (!r->main)
        return LEAT_OK;
    if (!r->main_ended)
        return LEAT_RUNNING;
    r->main_asked = true;
    switch (r->main->outcome) {
    case OUTCOME_OK:
        return LEAT_OK;
    case OUTCOME_FAILED:
        return LEAT_FAILED;
    case OUTCOME_BUG:
        return LEAT_RAISED;
    default:
        return LEAT_CANCELLED;
    }
}

enum { MAX_MESSAGE_BYTES = 16 * 1024 }; /* of an error value, in a report */

/* A task that has ended, and the reference that keeps it. */
struct reporting {
    struct leat_runtime *r;
    struct task *task;
    int ref;
};

/* Where a failure was raised (unknown if it was returned), and by which task. */
static void write_place(lua_State *L, const struct reporting *of)
{
    char where[128] = "?";
    struct leat_runtime *r = of->r;
    struct task *t = of->task, *from = t;
    sched_push_kept(L, of->ref);
    int at = lua_gettop(L);
    for (; from->outcome_from; from = from->outcome_from) {
        lua_getfenv(L, at);
        lua_rawgeti(L, -1, SLOT_BUG_CHILD);
        lua_replace(L, at);
        lua_settop(L, at);
    }
    if (from->raised)
        task_where(from->co, where, sizeof where);
    const char *raised = where[0] != '?' ? "raised at " : "";
    if (from != t) {
        task_push_name_of(L, at);
        (void)!buf_printf(&r->report, " (%s%s%sof task %llu, %s, that nobody awaited)", raised,
                          raised[0] ? where : "", raised[0] ? ", " : "",
                          (unsigned long long)from->id, lua_tostring(L, -1));
    } else if (raised[0]) {
        (void)!buf_printf(&r->report, " (%s%s)", raised, where);
    }
}

/* A suggestion for the text of a bug, if lua/leat/internal/check.lua has one. */
static void write_hint(lua_State *L, const char *text, char *out, size_t size)
{
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "leat.internal.check"); // loaded check
    if (lua_istable(L, -1) && !strchr(text, '\n')) {
        lua_getfield(L, -1, "hint");
        lua_pushstring(L, text);
        if (lua_pcall(L, 1, 1, 0) == 0 && lua_isstring(L, -1))
            snprintf(out, size, "%s", lua_tostring(L, -1));
    }
    lua_settop(L, top);
}

/* The text with secrets hidden. If nothing must be hidden, this allocates no memory. */
static const char *without_secrets(lua_State *L, const char *text)
{
    if (!strstr(text, "://") && !secret_shape(text, strlen(text)))
        return text;
    size_t size = 2 * strlen(text) + 64;
    char *shown = lua_newuserdata(L, size); // stays on the stack
    redact_words(shown, size, text);
    return shown;
}

static int write_report(lua_State *L)
{
    const struct reporting *of = lua_touserdata(L, 1);
    struct leat_runtime *r = of->r;
    struct task *t = of->task;
    buf_clear(&r->report);
    luaL_checkstack(L, 16, "report");
    sched_push_kept(L, of->ref); /* keeps it alive while it is examined */
    lua_getglobal(L, "tostring");
    task_push_outcome(L, t);
    if (t->outcome != OUTCOME_BUG)
        lua_remove(L, -2); /* the nil before the error */
    char bare[64] = "";
    if (!lua_isstring(L, -1) && !luaL_getmetafield(L, -1, "__tostring"))
        snprintf(bare, sizeof bare, "a %s value was raised as an error", luaL_typename(L, -1));
    else if (!lua_isstring(L, -1))
        lua_pop(L, 1); /* the metafield */
    bool ok = lua_pcall(L, 1, 1, 0) == 0 && lua_isstring(L, -1);
    const char *text = ok ? lua_tostring(L, -1) : "an error value whose __tostring fails";
    char hint[200] = "";
    if (ok && t->outcome == OUTCOME_BUG)
        write_hint(L, text, hint, sizeof hint);
    bool cut = strlen(text) > MAX_MESSAGE_BYTES;
    if (cut) { /* cuts a bit after the shown part, so that a secret is not shown in part */
        lua_pushlstring(L, text, MIN(strlen(text), (size_t)MAX_MESSAGE_BYTES + 1024));
        text = lua_tostring(L, -1);
    }
    text = without_secrets(L, text);
    if (buf_printf(&r->report, "%.*s%s%s", MAX_MESSAGE_BYTES, bare[0] ? bare : text,
                   cut ? "..." : "", hint) != ERR_NONE)
        return 0;
    if (t->outcome == OUTCOME_BUG) {
        task_push_trace(L, t);
        const char *trace = without_secrets(L, lua_tostring(L, -1));
        if (trace[0])
            (void)!buf_printf(&r->report, "\n%s", trace);
    } else if (t->outcome == OUTCOME_FAILED) {
        write_place(L, of);
    }
    return 0;
}

static const char *report_on(const struct reporting *of)
{
    struct leat_runtime *r = of->r;
    buf_clear(&r->report);
    if (!runtime_protected_again(r, write_report, (void *)(uintptr_t)of))
        (void)!buf_append_str(&r->report, r->error_text);
    return r->report.data ? r->report.data : "not enough memory";
}

const char *leat_report(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    const char *why;
    if (!runtime_usable(runtime_host(r), false, &why))
        return why;
    enum leat_status status = leat_result(r);
    if (status == LEAT_STUCK)
        return r->report.data ? r->report.data : "stuck";
    if (status == LEAT_OK || status == LEAT_EXITED)
        return "";
    if (status == LEAT_RUNNING)
        return "it has not ended yet";
    return report_on(&(struct reporting){r, r->main, r->main_ref});
}

/* ---- scripts and calls without a callback */

static void main_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    CONTAINER_OF(hook, struct leat_runtime, main_hook)->main_ended = true;
}

void runtime_prepare_main(lua_State *L, leat_runtime *r)
{
    if (r->main_ref != LUA_NOREF)
        return;
    lua_pushboolean(L, 0);
    r->main_ref = sched_keep(L);
}

void runtime_set_main(lua_State *L, leat_runtime *r, struct started *s, bool script)
{
    sched_set_kept(L, r->main_ref);
    task_hook_remove(&r->main_hook);
    r->main = s->task;
    r->main_is_script = script;
    r->main_ended = r->stuck = r->rt.exit_requested = false;
    r->main_asked = s->done != NULL; /* the callback reports how it ended */
    r->rt.exit_code = 0;
    snprintf(r->main_name, sizeof r->main_name, "%s", s->name);
    r->main_hook.fn = main_ended;
    task_hook_add(s->task, &r->main_hook);
}

bool runtime_has_script(const leat_runtime *r)
{
    return r->main && r->main_is_script;
}

static void log_end(const struct reporting *of, const char *name)
{
    struct log *log = &of->r->rt.log;
    bool bug = of->task->outcome == OUTCOME_BUG;
    enum log_level level = bug ? LOG_ERROR : LOG_WARN;
    log_write(log, level, "%s %s, and nobody asked how it ended:", name, bug ? "raised" : "failed");
    for (const char *line = report_on(of); *line;) {
        size_t len = strcspn(line, "\n");
        log_write(log, level, "%.*s", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static bool ended_badly(const struct task *t)
{
    return t->outcome == OUTCOME_BUG || t->outcome == OUTCOME_FAILED;
}

void runtime_ended_unasked(leat_runtime *r, struct started *s)
{
    if (s->task != r->main && ended_badly(s->task))
        log_end(&(struct reporting){r, s->task, s->ref}, s->name);
}

void runtime_tell_unasked(struct leat_runtime *r)
{
    if (!r->main || !r->main_ended || r->main_asked || !ended_badly(r->main))
        return;
    r->main_asked = true;
    log_end(&(struct reporting){r, r->main, r->main_ref}, r->main_name);
}

/* Sets the number of pipelines in which every item failed. */
static int conclude(lua_State *L)
{
    size_t *all_failed = lua_touserdata(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED"); /* the script may have removed `require` */
    lua_getfield(L, -1, "leat.pipeline.outcomes"); /* not loaded if there was no pipeline */
    if (!lua_istable(L, -1))
        return 0;
    lua_getfield(L, -1, "conclude");
    lua_call(L, 0, 1);
    *all_failed = (size_t)lua_tointeger(L, -1);
    return 0;
}

size_t runtime_conclude(struct rt *rt)
{
    size_t all_failed = 0;
    if (rt->concluded)
        return 0;
    rt->concluded = true;
    if (lua_cpcall(rt->L, conclude, &all_failed) != 0)
        lua_pop(rt->L, 1); /* out of memory: no report */
    return all_failed;
}
