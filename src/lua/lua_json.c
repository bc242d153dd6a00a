/* leat.native.json: the C functions behind lua/leat/json.lua. */
#include "lua/lua_json.h"

#include "lua/lua_aux.h"
#include "lua/lua_json_decode.h"
#include "lua/lua_json_encode.h"
#include <lua5.1/lua-cjson.h>
#include <string.h>

#define JSON_MAX_TEXT_BYTES ((size_t)256 << 20)
/* The capacity that buffers keep between two calls. */
#define KEEP_BYTES ((size_t)64 << 10)
/* lua-cjson allocates outside the runtime's memory limit, and ends the process when malloc fails.
 * So it gets only small texts. */
#define CJSON_MAX_BYTES ((size_t)1 << 20)

#define STATE_TNAME "leat.json.state"

/* Every function has these upvalues after the runtime. */
enum upvalue { UP_RT = 1, UP_STATE, UP_ARRAY_MARK, UP_OBJECT_MARK, UP_CJSON, UP_COUNT = UP_CJSON };

static void keep_small(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_fini(b);
}

static int state_gc(lua_State *L)
{
    struct json_state *st = lua_touserdata(L, 1);
    buf_fini(&st->out);
    buf_fini(&st->scratch);
    buf_fini(&st->keys);
    return 0;
}

/* Pushes a new state, with empty buffers. */
static struct json_state *new_state(lua_State *L, struct rt *rt)
{
    struct json_state *st = lua_newuserdata(L, sizeof *st); // state
    memset(st, 0, sizeof *st);
    buf_init(&st->out, &rt->mem, JSON_MAX_TEXT_BYTES);
    buf_init(&st->scratch, &rt->mem, JSON_MAX_TEXT_BYTES);
    buf_init(&st->keys, &rt->mem, JSON_MAX_TEXT_BYTES);
    luaL_getmetatable(L, STATE_TNAME);
    lua_setmetatable(L, -2);
    return st;
}

/* The runtime's state, marked as in use. If a finalizer calls in while it is in use: a new state,
 * left on the stack. An error leaves the mark set; that costs only speed. */
static struct json_state *borrow_state(lua_State *L)
{
    struct json_state *st = lua_touserdata(L, lua_upvalueindex(UP_STATE));
    if (st->busy) {
        const struct json_state *first = st;
        st = new_state(L, rt_of(L));
        st->array_mark = first->array_mark;
        st->object_mark = first->object_mark;
    }
    st->busy = true;
    return st;
}

static void give_back(struct json_state *st)
{
    keep_small(&st->out);
    keep_small(&st->scratch);
    keep_small(&st->keys);
    st->busy = false;
}

/* ---- Options */

static bool is_key(lua_State *L, int index, const char *name)
{
    return lua_type(L, index) == LUA_TSTRING && strcmp(lua_tostring(L, index), name) == 0;
}

static bool check_bool(lua_State *L, int index, const char *what)
{
    if (!lua_isboolean(L, index)) {
        char picture[AUX_PICTURE_SIZE];
        aux_raise(L, "%s must be true or false, got %s", what,
                  aux_picture(L, index, what, picture, sizeof picture));
    }
    return lua_toboolean(L, index);
}

static bool has_options(lua_State *L, int index, const char *who)
{
    if (lua_isnoneornil(L, index))
        return false;
    if (!lua_istable(L, index)) {
        char picture[AUX_PICTURE_SIZE];
        aux_raise(L, "%s: options must be a table, got %s", who,
                  aux_picture(L, index, who, picture, sizeof picture));
    }
    return true;
}

static void read_encode_options(lua_State *L, int index, struct json_encode_options *options)
{
    if (!has_options(L, index, "json.encode"))
        return;
    lua_pushnil(L);
    while (lua_next(L, index)) { // key value
        int value = lua_gettop(L), key = value - 1;
        if (is_key(L, key, "sorted"))
            options->sorted = check_bool(L, value, "json.encode: sorted");
        else if (is_key(L, key, "indent"))
            options->indent = (unsigned)aux_check_integer(L, value, "json.encode: indent", 0, 16);
        else if (is_key(L, key, "max_depth"))
            options->max_depth =
                (unsigned)aux_check_integer(L, value, "json.encode: max_depth", 1, JSON_MAX_DEPTH);
        else
            aux_raise_unknown(L, "json.encode", key, "sorted indent max_depth");
        lua_pop(L, 1);
    }
}

static enum json_halves read_halves(lua_State *L, int value)
{
    if (is_key(L, value, "strict"))
        return JSON_HALVES_REFUSED;
    if (is_key(L, value, "replace"))
        return JSON_HALVES_REPLACED;
    if (is_key(L, value, "keep"))
        return JSON_HALVES_KEPT;
    char picture[AUX_PICTURE_SIZE];
    aux_raise(L, "json.decode: surrogates must be 'strict', 'replace' or 'keep', got %s",
              aux_picture(L, value, NULL, picture, sizeof picture));
}

static void read_decode_options(lua_State *L, int index, struct json_decode_options *options,
                                bool *cjson)
{
    if (!has_options(L, index, "json.decode"))
        return;
    lua_pushnil(L);
    while (lua_next(L, index)) { // key value
        int value = lua_gettop(L), key = value - 1;
        char picture[AUX_PICTURE_SIZE];
        if (is_key(L, key, "big")) {
            if (!is_key(L, value, "string") && !is_key(L, value, "number"))
                aux_raise(L, "json.decode: big must be 'number' or 'string', got %s",
                          aux_picture(L, value, NULL, picture, sizeof picture));
            options->big_as_string = is_key(L, value, "string");
        } else if (is_key(L, key, "surrogates")) {
            options->halves = read_halves(L, value);
        } else if (is_key(L, key, "max_depth")) {
            options->max_depth =
                (unsigned)aux_check_integer(L, value, "json.decode: max_depth", 1, JSON_MAX_DEPTH);
        } else if (is_key(L, key, "builder")) {
            if (!is_key(L, value, "leat") && !is_key(L, value, "cjson"))
                aux_raise(L, "json.decode: builder must be 'leat' or 'cjson', got %s",
                          aux_picture(L, value, NULL, picture, sizeof picture));
            *cjson = is_key(L, value, "cjson");
        } else {
            aux_raise_unknown(L, "json.decode", key, "big surrogates max_depth builder");
        }
        lua_pop(L, 1);
    }
}

/* ---- Encode */

static int encode(lua_State *L)
{
    struct json_encode_options options = {.max_depth = JSON_DEFAULT_DEPTH,
                                          .stable = rt_of(L)->repeatable};
    lua_settop(L, 2);
    read_encode_options(L, 2, &options);
    struct json_state *st = borrow_state(L);
    struct err err;
    err_clear(&err);
    enum err_kind kind = json_encode(L, st, 1, &options, &err);
    if (kind == ERR_NONE)
        lua_pushlstring(L, st->out.data, st->out.len); // text
    give_back(st);
    return kind == ERR_NONE ? 1 : aux_fail(L, &err);
}

/* ---- Decode */

/* One strict pass. *lossless: true if lua-cjson builds the same value as json_decode. lua-cjson
 * does not mark empty arrays, and treats large numbers differently. */
static enum err_kind check_text(const char *text, size_t len,
                                const struct json_decode_options *options, bool *lossless,
                                struct err *err, size_t *offset)
{
    struct json_scan s;
    json_scan_init(&s, text, len, options->max_depth);
    s.halves = options->halves;
    *lossless = len <= CJSON_MAX_BYTES;
    enum json_token before = JSON_END;
    for (;;) {
        enum json_token token = json_scan_next(&s);
        if (token == JSON_END)
            return ERR_NONE;
        if (token == JSON_ERROR) {
            *offset = s.offset;
            return json_scan_err(&s, err);
        }
        if (token == JSON_ARRAY_END && before == JSON_ARRAY)
            *lossless = false;
        if ((token == JSON_STRING || token == JSON_KEY) && s.escaped &&
            options->halves != JSON_HALVES_REFUSED)
            *lossless = false;
        if (token == JSON_NUMBER &&
            (s.integer ? s.token_len > 15
                       : s.token_len > 300 || memchr(s.token, 'e', s.token_len) ||
                             memchr(s.token, 'E', s.token_len)))
            *lossless = false;
        before = token;
    }
}

static int fail_decode(lua_State *L, const struct err *err, size_t offset)
{
    aux_fail(L, err); // nil err
    if (err->kind == ERR_INVALID) {
        lua_pushnumber(L, (lua_Number)offset + 1); // nil err offset
        lua_setfield(L, -2, "offset");             // nil err
    }
    return 2;
}

static int decode(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        char picture[AUX_PICTURE_SIZE];
        aux_picture(L, 1, NULL, picture, sizeof picture);
        aux_raise(L, "json.decode: text must be a string, got %s%s", picture,
                  strcmp(picture, "a response") == 0 ? " (write res:json())" : "");
    }
    struct json_decode_options options = {.max_depth = JSON_DEFAULT_DEPTH};
    bool cjson = false;
    if (lua_gettop(L) > 1) {
        lua_settop(L, 2);
        read_decode_options(L, 2, &options, &cjson);
    }
    size_t len, offset = 0;
    const char *text = lua_tolstring(L, 1, &len);
    struct err err;
    err.kind = ERR_NONE;
    if (cjson) {
        bool lossless;
        if (check_text(text, len, &options, &lossless, &err, &offset) != ERR_NONE)
            return fail_decode(L, &err, offset);
        if (lossless) {
            lua_pushvalue(L, lua_upvalueindex(UP_CJSON)); // cjson.decode
            lua_pushvalue(L, 1);
            lua_call(L, 1, 1); // value
            return 1;
        }
    }
    struct json_state *st = borrow_state(L);
    enum err_kind kind = json_decode(L, st, text, len, &options, lua_upvalueindex(UP_ARRAY_MARK),
                                     &err, &offset); // value
    give_back(st);
    return kind == ERR_NONE ? 1 : fail_decode(L, &err, offset);
}

/* ---- Marks */

static int mark(lua_State *L, const char *who, enum upvalue which)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    } else if (!lua_istable(L, 1)) {
        char picture[AUX_PICTURE_SIZE];
        aux_raise(L, "%s: expected a table, got %s", who,
                  aux_picture(L, 1, NULL, picture, sizeof picture));
    }
    if (lua_getmetatable(L, 1)) {
        const struct json_state *st = lua_touserdata(L, lua_upvalueindex(UP_STATE));
        const void *old = lua_topointer(L, -1);
        if (old != st->array_mark && old != st->object_mark)
            aux_raise(L, "%s: the table has a metatable of its own", who);
        lua_pop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex((int)which));
    lua_setmetatable(L, 1);
    return 1;
}

static int array(lua_State *L)
{
    return mark(L, "json.array", UP_ARRAY_MARK);
}

static int object(lua_State *L)
{
    return mark(L, "json.object", UP_OBJECT_MARK);
}

/* Pushes an empty metatable, which only marks a table. */
static const void *push_mark(lua_State *L, const char *name, const char *form)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushstring(L, form);
    lua_setfield(L, -2, JSON_FORM_FIELD);
    return lua_topointer(L, -1);
}

/* Pushes the decode function of a private lua-cjson instance, which no other code can configure. */
static void push_cjson_decode(lua_State *L)
{
    lua_pushcfunction(L, luaopen_cjson);
    lua_call(L, 0, 1);          // cjson
    lua_getfield(L, -1, "new"); // cjson new
    lua_call(L, 0, 1);          // cjson own
    lua_getfield(L, -1, "decode_max_depth");
    lua_pushinteger(L, JSON_MAX_DEPTH);
    lua_call(L, 1, 0);             // cjson own
    lua_getfield(L, -1, "decode"); // cjson own decode
    lua_replace(L, -3);
    lua_pop(L, 1); // decode
}

int lua_open_json(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {
        {"encode", encode}, {"decode", decode}, {"array", array}, {"object", object}, {NULL, NULL}};
    lua_newtable(L); // core
    int core = lua_gettop(L);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, core, "null");
    luaL_newmetatable(L, STATE_TNAME); // core metatable
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1); // core
    lua_pushlightuserdata(L, rt);
    struct json_state *st = new_state(L, rt);
    st->array_mark = push_mark(L, "json.array", "array");
    st->object_mark = push_mark(L, "json.object", "object");
    push_cjson_decode(L); // core rt state array_mark object_mark cjson
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        for (int i = 1; i <= UP_COUNT; i++)
            lua_pushvalue(L, core + i);
        lua_pushcclosure(L, f->func, UP_COUNT);
        lua_setfield(L, core, f->name);
    }
    lua_settop(L, core);
    return 1;
}
