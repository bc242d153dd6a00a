/* How a runtime's script ended, and what is said of it. */
#include "leat.h"

#include "lua_aux.h"
#include "runtime_impl.h"
#include <string.h>

int leat_exit_code(leat_runtime *r)
{
    const char *why;
    return embed_usable(runtime_embed(r), true, &why) ? r->rt.exit_code : -1;
}

enum leat_status leat_result(leat_runtime *r)
{
    const char *why;
    if (!embed_usable(runtime_embed(r), true, &why))
        return LEAT_MISUSE;
    if (r->rt.exit_requested)
        return LEAT_EXITED;
    if (r->stuck)
        return LEAT_STUCK;
    if (!r->main || !r->main_ended)
        return LEAT_CANCELLED;
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

enum { MAX_MESSAGE_BYTES = 16 * 1024 }; /* of what was raised, in a report */

/* Where a failure was raised (of one that was returned nobody knows), and whose it was. */
static void write_place(lua_State *L, struct leat_runtime *r, struct task *t)
{
    char where[128] = "?";
    struct task *from = t;
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->main_ref);
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

static int write_report(lua_State *L)
{
    struct leat_runtime *r = lua_touserdata(L, 1);
    struct task *t = r->main;
    buf_clear(&r->report);
    luaL_checkstack(L, 16, "report");
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->main_ref); /* holds it while it is looked at */
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
    if (buf_printf(&r->report, "%.*s%s", MAX_MESSAGE_BYTES, bare[0] ? bare : text,
                   strlen(text) > MAX_MESSAGE_BYTES ? "..." : "") != ERR_NONE)
        return 0;
    if (t->outcome == OUTCOME_BUG) {
        task_push_trace(L, t);
        const char *trace = lua_tostring(L, -1);
        if (trace[0])
            (void)!buf_printf(&r->report, "\n%s", trace);
    } else if (t->outcome == OUTCOME_FAILED) {
        write_place(L, r, t);
    }
    return 0;
}

const char *leat_report(leat_runtime *r)
{
    const char *why;
    if (!embed_usable(runtime_embed(r), false, &why))
        return why;
    enum leat_status status = leat_result(r);
    if (status == LEAT_STUCK)
        return r->report.data ? r->report.data : "stuck";
    buf_clear(&r->report);
    if (status == LEAT_OK || status == LEAT_EXITED)
        return "";
    if (r->main && r->main_ended && !runtime_protected_again(r, write_report, r))
        (void)!buf_append_str(&r->report, r->error_text);
    return r->report.data ? r->report.data : "not enough memory";
}
