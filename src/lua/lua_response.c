/* Turns a finished transfer into Lua values, and keeps transfers for reuse. */
#include "lua/lua_response.h"

#include "ground/redact.h"
#include "lua/lua_aux.h"
#include <string.h>

/* Maximum of transfers kept for reuse: a burst of requests gives back this many. */
enum { MAX_SPARE = 256 };

void lua_response_recycle(struct rt *rt, struct transfer *t)
{
    if (rt->spare_count == MAX_SPARE) {
        transfer_free(t);
        return;
    }
    transfer_reset(t);
    list_push_front(&rt->spare, &t->event_node);
    rt->spare_count++;
}

struct transfer *lua_response_fresh(struct rt *rt)
{
    struct list *node = list_pop_front(&rt->spare);
    if (!node)
        return transfer_new(&rt->mem);
    rt->spare_count--;
    return CONTAINER_OF(node, struct transfer, event_node);
}

/* ---- the way up */

static void set_number(lua_State *L, const char *field, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, field);
}

/* The bytes received so far are part of the error where they may be useful. Not for too_large: they
 * would take as much memory as the limit allows, again. */
static bool has_partial(const struct transfer *t)
{
    const struct transfer_result *res = &t->result;
    enum err_kind kind = res->err.kind;
    return res->body.len > 0 && !t->spec.stream &&
           (kind == ERR_CLOSED || kind == ERR_PROTOCOL || kind == ERR_TIMEOUT || kind == ERR_TLS);
}

/* How often the request was resent below the policies; nil: not at all, the usual case. */
static void push_resends(lua_State *L, const struct transfer *t)
{
    const struct transfer_result *res = &t->result;
    if (res->wire_attempts > res->redirects + 1)
        lua_pushinteger(L, (lua_Integer)(res->wire_attempts - res->redirects - 1));
    else
        lua_pushnil(L);
}

void lua_response_push_failure(lua_State *L, const struct transfer *t)
{
    const struct transfer_result *res = &t->result;
    char url[1024];
    const char *full = res->url ? res->url : t->spec.url;
    aux_push_err(L, &res->err); // err
    redact_url(url, sizeof url, full, strlen(full));
    lua_pushstring(L, url);
    lua_setfield(L, -2, "url");
    set_number(L, "attempts", res->wire_attempts);
    if (res->status)
        set_number(L, "status", res->status);
    if (res->at_once) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "at_once");
    }
    push_resends(L, t);
    lua_setfield(L, -2, "resends");
    if (!transfer_idempotent(t) && !res->untouched) { /* for retry */
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "idempotent");
        lua_pushstring(L, transfer_method(t));
        lua_setfield(L, -2, "method");
    }
    if (strcmp(res->err.reason, "truncated") == 0) {
        set_number(L, "got", (double)res->got_bytes);
        if (res->expected_bytes >= 0)
            set_number(L, "expected", (double)res->expected_bytes);
    }
    if (has_partial(t)) {
        lua_pushlstring(L, res->body.data, res->body.len);
        lua_setfield(L, -2, "partial");
    }
}

/* Names and values, each ended by a NUL (a NUL cannot occur in them). The Lua side splits them on
 * demand. */
static void push_rows(lua_State *L, const struct headers *h)
{
    if (h->count == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, h->text.data, h->text.len);
}

/* Pushes values, not a table: Lua builds the table from a template, which is cheaper. The order is
 * that of `respond` in http.lua. */
int lua_response_push(lua_State *L, const struct transfer *t)
{
    const struct transfer_result *res = &t->result;
    luaL_checkstack(L, 14, "response");
    lua_pushinteger(L, res->status);
    lua_pushstring(L, res->reason);
    if (t->spec.stream)
        lua_pushnil(L);
    else
        lua_pushlstring(L, res->body.data ? res->body.data : "", res->body.len);
    lua_pushstring(L, res->url ? res->url : t->spec.url);
    lua_pushstring(L, res->version);
    lua_pushinteger(L, (lua_Integer)res->wire_attempts);
    push_rows(L, &res->headers);
    if (t->spec.stream) { /* a stream's trailers and timing are not known yet: see its state() */
        static const struct transfer_timing none = {-1, -1, -1, -1, -1, -1};
        lua_pushnil(L);
        lua_pushlstring(L, (const char *)&none, sizeof none);
        lua_pushboolean(L, false);
    } else {
        push_rows(L, &res->trailers);
        lua_pushlstring(L, (const char *)&res->timing, sizeof res->timing);
        lua_pushboolean(L, res->complete_unknown);
    }
    lua_pushboolean(L, res->encoding_unknown);
    if (transfer_idempotent(t))
        lua_pushboolean(L, false);
    else
        lua_pushstring(L, transfer_method(t));
    push_resends(L, t);
    return 13;
}
