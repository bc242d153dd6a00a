/* leat.native.json_span: splits a JSON text into parts without decoding, so that parts can be
 * passed on exactly as they were written. */
#include "lua/lua_json_span.h"

#include "ground/json_scan.h"
#include "lua/lua_aux.h"

/* The start of the next value. */
static const char *value_start(const struct json_scan *s)
{
    const char *at = json_scan_at(s);
    while (*at == ' ' || *at == '\n' || *at == '\r' ||
           *at == '\t') /* Lua's strings end with a NUL */
        at++;
    return at;
}

/* Reads to the end of the value. False: it is not valid JSON. */
static bool skip_value(struct json_scan *s)
{
    unsigned depth = s->depth;
    do {
        if (json_scan_next(s) == JSON_ERROR)
            return false;
    } while (s->depth > depth);
    return true;
}

/* The token of `s`, a member name, as a Lua string. */
static void push_name(lua_State *L, const struct json_scan *s)
{
    if (!s->escaped) {
        lua_pushlstring(L, s->token, s->token_len);
        return;
    }
    char *plain = lua_newuserdata(L, s->token_len); // plain
    lua_pushlstring(L, plain, json_unescape(plain, s->token, s->token_len, s->halves));
    lua_remove(L, -2);
}

/* Appends name, "name", value to the list on top. */
static bool push_member(lua_State *L, struct json_scan *s, int *n)
{
    push_name(L, s);
    lua_rawseti(L, -2, ++*n);
    lua_pushlstring(L, s->token - 1, s->token_len + 2);
    lua_rawseti(L, -2, ++*n);
    const char *start = value_start(s);
    if (!skip_value(s))
        return false;
    lua_pushlstring(L, start, (size_t)(json_scan_at(s) - start));
    lua_rawseti(L, -2, ++*n);
    return true;
}

/* members(text): for an object, a list of three items per member: its name, its name as written,
 * and the text of its value. For anything else, and for invalid JSON: nil, err. Unpaired surrogates
 * are accepted. */
static int l_members(lua_State *L)
{
    struct json_scan s;
    struct err err;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    json_scan_init(&s, text, len, 0);
    s.halves = JSON_HALVES_REPLACED;
    enum json_token token = json_scan_next(&s);
    if (token != JSON_ERROR && token != JSON_OBJECT)
        return aux_failf(L, ERR_INVALID, "json: not an object");
    lua_createtable(L, 12, 0); // list, with room for four members
    for (int n = 0; token != JSON_ERROR && token != JSON_END; token = json_scan_next(&s)) {
        if (token == JSON_KEY && !push_member(L, &s, &n))
            break;
    }
    if (token == JSON_END)
        return 1;
    json_scan_err(&s, &err);
    return aux_fail(L, &err);
}

/* member(text, name): the text of the value that this member of a valid object has; of the last one
 * if the name is repeated, and nil if there is none. */
static int l_member(lua_State *L)
{
    struct json_scan s;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushnil(L); // text name value
    json_scan_init(&s, text, len, 0);
    s.halves = JSON_HALVES_REPLACED;
    enum json_token token = json_scan_next(&s);
    for (; token != JSON_ERROR && token != JSON_END; token = json_scan_next(&s)) {
        if (token != JSON_KEY)
            continue;
        push_name(L, &s);
        bool wanted = lua_rawequal(L, -1, 2) != 0;
        lua_pop(L, 1);
        const char *start = value_start(&s);
        if (!skip_value(&s))
            break;
        if (wanted) {
            lua_pushlstring(L, start, (size_t)(json_scan_at(&s) - start));
            lua_replace(L, 3);
        }
    }
    return 1;
}

/* has_digits(text, n): whether n decimal digits stand in a row. Looks at few bytes of a usual text:
 * no such row ends before the n-th byte after one that is no digit. */
static int l_has_digits(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t n = (size_t)luaL_checkinteger(L, 2), run = 0;
    for (size_t end = n; n > 0 && end <= len && run < n; end += n - run) {
        for (run = 0; run < n && text[end - 1 - run] >= '0' && text[end - 1 - run] <= '9';)
            run++;
    }
    lua_pushboolean(L, run == n);
    return 1;
}

int lua_open_json_span(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {
        {"members", l_members}, {"member", l_member}, {"has_digits", l_has_digits}, {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    return 1;
}
