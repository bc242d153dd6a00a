#include "lua/lua_aux.h"

#include "ground/redact.h"
#include "ground/secret.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

static void set_number(lua_State *L, const char *field, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, field);
}

static void set_string(lua_State *L, const char *field, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
}

void aux_push_err(lua_State *L, const struct err *err)
{
    luaL_checkstack(L, 4, "error");
    lua_createtable(L, 0, 6);
    set_string(L, "kind", err_kind_name(err->kind));
    set_string(L, "message", err->message);
    if (err->reason[0])
        set_string(L, "reason", err->reason);
    if (err->phase != PHASE_NONE)
        set_string(L, "phase", err_phase_name(err->phase));
    if (err->code)
        set_number(L, "code", err->code);
    if (err->limit_ms)
        set_number(L, "limit", (double)err->limit_ms / 1e3);
    if (err->elapsed_ms)
        set_number(L, "elapsed", (double)err->elapsed_ms / 1e3);
    lua_pushboolean(L, err->retryable);
    lua_setfield(L, -2, "retryable");
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
    lua_setmetatable(L, -2);
}

void aux_push_text(lua_State *L, bool ask)
{
    int type = lua_type(L, -1);
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        lua_pushvalue(L, -1);
        lua_tostring(L, -1);
        return;
    }
    if (type == LUA_TBOOLEAN) {
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
        return;
    }
    if (ask && luaL_getmetafield(L, -1, "__tostring")) {
        lua_pushvalue(L, -2);
        if (lua_pcall(L, 1, 1, 0) == 0 && lua_isstring(L, -1))
            return;
        lua_pop(L, 1);
    }
    lua_pushstring(L, luaL_typename(L, -1));
}

int aux_fail(lua_State *L, const struct err *err)
{
    lua_pushnil(L);
    aux_push_err(L, err);
    return 2;
}

int aux_failf(lua_State *L, enum err_kind kind, const char *fmt, ...)
{
    struct err e;
    err_clear(&e);
    e.kind = kind;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e.message, sizeof e.message, fmt, ap);
    va_end(ap);
    return aux_fail(L, &e);
}

bool aux_is_err(lua_State *L, int index)
{
    return task_is_err(L, index);
}

void aux_where(lua_State *L, char *out, size_t size)
{
    task_where(L, out, size);
}

void aux_raise(lua_State *L, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    task_vraise(L, fmt, ap);
}

/* Writes `'text'`. Bytes that are not text are replaced; a long text is cut between characters. */
static void picture_text(const char *s, size_t len, char *out, size_t size)
{
    enum { SHOWN_MAX = 40 };
    char text[SHOWN_MAX + 1];
    size_t n = MIN(len, (size_t)SHOWN_MAX);
    while (n < len && n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        text[i] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? '?' : s[i];
    text[n] = '\0';
    snprintf(out, size, n < len ? "'%s...'" : "'%s'", text);
}

static void picture_string(lua_State *L, int index, const char *name, char *out, size_t size)
{
    size_t len;
    const char *s = lua_tolstring(L, index, &len);
    if ((name && len > 0 && secret_place(name, strlen(name))) || secret_text(s, len)) {
        snprintf(out, size, "a string (not shown: it may hold a secret)");
        return;
    }
    char url[256]; /* query parameters with key-like names have their values hidden */
    if (memchr(s, '=', len)) {
        redact_url(url, sizeof url, s, len);
        s = url;
        len = strlen(url);
    }
    picture_text(s, len, out, size);
    size_t used = strlen(out);
    if (lua_isnumber(L, index))
        snprintf(out + used, size - used, " (a string)");
}

/* Leat's own classes have names ("a response"). Other values are named by their type ("a table").
 */
static void picture_object(lua_State *L, int index, char *out, size_t size)
{
    const char *class = NULL;
    if (lua_islightuserdata(L, index) && !lua_touserdata(L, index)) {
        snprintf(out, size, "json.null (a JSON null; it counts as true in a condition)");
        return;
    }
    int top = lua_gettop(L);
    if (lua_getmetatable(L, index)) { // metatable
        const char *const fields[] = {"__name", "__metatable"};
        for (size_t i = 0; i < ARRAY_LEN(fields) && !class; i++) {
            lua_pushstring(L, fields[i]);
            lua_rawget(L, top + 1);
            if (lua_type(L, -1) == LUA_TSTRING && strncmp(lua_tostring(L, -1), "leat.", 5) == 0)
                class = lua_tostring(L, -1) + 5; // anchored by the metatable
        }
    }
    if (class && strcmp(class, "module") == 0) {
        snprintf(out, size, "the module itself (its functions are called with a point, no colon)");
        lua_settop(L, top);
        return;
    }
    if (!class)
        class = luaL_typename(L, index);
    snprintf(out, size, "%s %.60s", strchr("aeiou", class[0]) ? "an" : "a", class);
    lua_settop(L, top);
}

const char *aux_picture(lua_State *L, int index, const char *name, char *out, size_t size)
{
    switch (lua_type(L, index)) {
    case LUA_TNONE:
        snprintf(out, size, "nothing");
        break;
    case LUA_TNIL:
        snprintf(out, size, "nil");
        break;
    case LUA_TBOOLEAN:
        snprintf(out, size, "%s", lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        /* A smaller number is too short to be a PIN. */
        if (name && fabs(lua_tonumber(L, index)) >= 1000 && secret_place(name, strlen(name)))
            snprintf(out, size, "a number (not shown: it may hold a secret)");
        else if (isnan(lua_tonumber(L, index))) /* libc may print the sign of a NaN */
            snprintf(out, size, "nan");
        else
            snprintf(out, size, "%.14g", lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        picture_string(L, index, name, out, size);
        break;
    default:
        picture_object(L, index, out, size);
    }
    return out;
}

double aux_check_seconds(lua_State *L, int index, const char *what)
{
    char given[AUX_PICTURE_SIZE];
    double s = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : -1;
    if (isnan(s) || s < 0)
        aux_raise(L,
                  lua_type(L, index) == LUA_TNUMBER ? "%s must be 0 or more seconds, got %s"
                                                    : "%s must be a number of seconds, got %s",
                  what, aux_picture(L, index, what, given, sizeof given));
    return s > 10 * 366 * 86400.0 ? (double)INFINITY : s;
}

double aux_opt_seconds(lua_State *L, int index, const char *what, double absent)
{
    return lua_isnoneornil(L, index) ? absent : aux_check_seconds(L, index, what);
}

int64_t aux_check_integer(lua_State *L, int index, const char *what, int64_t min, int64_t max)
{
    char given[AUX_PICTURE_SIZE];
    double d = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : (double)NAN;
    if (!(d >= (double)min && d <= (double)max) || d != floor(d)) {
        aux_picture(L, index, what, given, sizeof given);
        if (max >= INT64_C(1) << 53)
            aux_raise(L, "%s must be a whole number of at least %d, got %s", what, (int)min, given);
        aux_raise(L, "%s must be a whole number from %d to %f, got %s", what, (int)min, (double)max,
                  given);
    }
    return (int64_t)d;
}

size_t aux_check_list(lua_State *L, int index, const char *what)
{
    size_t n = lua_objlen(L, index);
    char given[AUX_PICTURE_SIZE];
    luaL_checkstack(L, 2, what);
    lua_pushnil(L);
    while (lua_next(L, index)) { // key value
        double at = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        if (at != floor(at) || at < 1 || at > (double)n)
            aux_raise(L, "%s must be a list without holes, got one with the key %s", what,
                      aux_picture(L, -2, what, given, sizeof given));
        lua_pop(L, 1);
    }
    return n;
}

void aux_check_callable(lua_State *L, int index, const char *what)
{
    char given[AUX_PICTURE_SIZE];
    if (lua_isfunction(L, index))
        return;
    if (luaL_getmetafield(L, index, "__call")) {
        lua_pop(L, 1);
        return;
    }
    aux_picture(L, index, what, given, sizeof given);
    /* The mistake spawn(f(x)): it calls f at once and passes f's result. */
    bool result = lua_isnil(L, index) || lua_istable(L, index) ||
                  (lua_isboolean(L, index) && lua_toboolean(L, index));
    aux_raise(L, "%s must be a function, got %s%s", what, given,
              result ? " (pass the function itself and its arguments, not what a call of it has "
                       "returned)"
                     : "");
}

void aux_raise_unknown(lua_State *L, const char *who, int key, const char *names)
{
    char given[AUX_PICTURE_SIZE];
    luaL_checkstack(L, 8, who);
    lua_pushvalue(L, key); // key
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "leat.internal.check"); // key loaded check
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "unknown"); // key loaded check unknown
        lua_pushstring(L, who);
        lua_pushvalue(L, -5);
        lua_pushstring(L, names);
        lua_call(L, 3, 0);
    }
    aux_raise(L, "%s: unknown option %s", who, aux_picture(L, key, who, given, sizeof given));
}

struct rt *aux_open_rt(lua_State *L, const char *who)
{
    struct rt *rt = rt_of(L);
    if (rt->closed)
        aux_raise(L, "%s: the runtime has been closed", who);
    return rt;
}

void *aux_check_self(lua_State *L, const char *tname)
{
    void *self = lua_touserdata(L, 1);
    if (self && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, tname);
        bool same = lua_rawequal(L, -1, -2) != 0;
        lua_pop(L, 2);
        if (same)
            return self;
    }
    char given[AUX_PICTURE_SIZE];
    const char *noun = tname + strlen("leat.");
    aux_raise(L, "expected %s %s, got %s (its methods are called with a colon: %s:method())",
              noun[0] == 'e' ? "an" : "a", noun, aux_picture(L, 1, NULL, given, sizeof given),
              noun);
}

void aux_push_parked(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_PARKED);
}

/* ---- what semaphore, queue and event share ---- */

double aux_opt_timeout(lua_State *L, int index, const char *what)
{
    return aux_opt_seconds(L, index, what, (double)INFINITY);
}

int aux_fail_timeout(lua_State *L, struct task *t, const char *what)
{
    struct err e;
    double limit = (double)(t->wait.timer.due_ns - t->wait.since_ns) / 1e9;
    err_set(&e, ERR_TIMEOUT, "%s: nothing within %.6g s", what, limit);
    e.retryable = true;
    e.phase = PHASE_QUEUE;
    e.elapsed_ms = (loop_now_ns(t->sched->loop) - t->wait.since_ns) / NS_PER_MS;
    lua_pushnil(L);
    aux_push_err(L, &e);
    lua_pushnumber(L, limit);
    lua_setfield(L, -2, "limit");
    return 2;
}

void aux_open_class(lua_State *L, struct rt *rt, const struct aux_class *c)
{
    rt_newmetatable(L, rt, c->tname, c->methods, c->gc);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, c->name); /* module mt methods */
    if (c->index) {
        lua_pushlightuserdata(L, rt);
        lua_insert(L, -2);
        lua_pushcclosure(L, c->index, 2);
        lua_setfield(L, -2, "__index");
    } else {
        lua_pop(L, 1);
    }
    const luaL_Reg meta[] = {{"__tostring", c->tostring}, {NULL, NULL}};
    rt_setfuncs(L, rt, meta);
    lua_pop(L, 1);
}
