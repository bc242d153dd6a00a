/* Writes a Lua value as JSON text. Reads tables raw and runs no Lua code. If JSON cannot represent
 * a value, the error names the value and its path: "json: a function at .tools[2].run". */
#include "lua/lua_json_encode.h"

#include "ground/json_put.h"
#include "ground/secret.h"
#include <math.h>
#include <string.h>

/* The path from the outermost value to the current one, for messages and to find cycles. */
struct frame {
    const struct frame *up;
    const void *table;
    const char *key; /* NULL: an array, at `index` */
    size_t key_len;
    int index;
    bool is_error; /* the table is an error value */
};

struct encoder {
    lua_State *L;
    struct json_state *st;
    struct buf *out;
    const struct json_encode_options *options;
    struct err *err;
    unsigned depth;
};

/* A row of st->keys. The bytes belong to a Lua string that its table keeps alive. */
struct sort_key {
    const char *text;
    size_t len;
};

static enum err_kind write_value(struct encoder *e, const struct frame *up, int index);

/* ---- Failures */

static enum err_kind write_path(struct buf *path, const struct frame *frame)
{
    if (frame == NULL)
        return ERR_NONE;
    enum err_kind kind = write_path(path, frame->up);
    if (kind != ERR_NONE)
        return kind;
    if (frame->key == NULL)
        return buf_printf(path, "[%d]", frame->index);
    if (secret_text(frame->key, frame->key_len))
        return buf_printf(path, ".***");
    return buf_printf(path, ".%.*s", (int)MIN(frame->key_len, 40), frame->key);
}

static enum err_kind fail(struct encoder *e, const struct frame *at, const char *what)
{
    struct buf *path = &e->st->scratch;
    buf_clear(path);
    /* Without memory the path is cut short; the message is still complete otherwise. */
    enum err_kind kind = write_path(path, at);
    if (at == NULL || (kind != ERR_NONE && path->len == 0)) {
        size_t len = strlen(what);
        if (what[len - 1] == ',')
            len--;
        return err_set(e->err, ERR_INVALID, "json: %.*s", (int)len, what);
    }
    const char *tail = path->data;
    bool cut = path->len > 150;
    if (cut)
        tail += path->len - 150;
    return err_set(e->err, ERR_INVALID, "json: %s at %s%s", what, cut ? "..." : "", tail);
}

static enum err_kind fail_out(struct encoder *e, enum err_kind kind)
{
    if (kind == ERR_TOO_LARGE)
        return err_set(e->err, kind, "json: the text would be larger than %zu MiB",
                       e->out->max_bytes >> 20);
    return err_set(e->err, kind, "json: no memory for the text");
}

static enum err_kind put(struct encoder *e, const char *bytes, size_t len)
{
    enum err_kind kind = json_put(e->out, bytes, len);
    return kind == ERR_NONE ? kind : fail_out(e, kind);
}

static enum err_kind write_number(struct encoder *e, const struct frame *up, double value)
{
    if (isnan(value))
        return fail(e, up, "NaN, which JSON cannot hold,");
    if (isinf(value))
        return fail(e, up, "an infinite number, which JSON cannot hold,");
    enum err_kind kind = json_put_number(e->out, value);
    return kind == ERR_NONE ? kind : fail_out(e, kind);
}

/* False in *valid: the string is not UTF-8. */
static enum err_kind write_string(struct encoder *e, const char *text, size_t len, bool *valid)
{
    enum err_kind kind = json_put_string(e->out, text, len, valid);
    return kind == ERR_NONE || !*valid ? kind : fail_out(e, kind);
}

/* ---- Tables */

#define JSON_MAX_RESULTS 1e8

#define MIXED_KEYS "a table with both string and number keys,"
#define BAD_KEY "a table with a key that is neither a string nor an index,"

static enum err_kind new_line(struct encoder *e)
{
    if (e->options->indent == 0)
        return ERR_NONE;
    size_t spaces = (size_t)e->options->indent * e->depth;
    enum err_kind kind = buf_reserve(e->out, spaces + 1);
    if (kind != ERR_NONE)
        return fail_out(e, kind);
    kind = put(e, "\n", 1);
    for (; spaces != 0 && kind == ERR_NONE; spaces--)
        kind = put(e, " ", 1);
    return kind;
}

/* Writes the opening bracket `mark` for the first element, and a comma for each later one. */
static enum err_kind begin_element(struct encoder *e, char mark, bool first)
{
    char byte = first ? mark : ',';
    enum err_kind kind = put(e, &byte, 1);
    return kind == ERR_NONE ? new_line(e) : kind;
}

static enum err_kind write_array(struct encoder *e, struct frame *frame, int table, int count)
{
    if (count == 0)
        return put(e, "[]", 2);
    e->depth++;
    for (int i = 1; i <= count; i++) {
        enum err_kind kind = begin_element(e, '[', i == 1);
        if (kind != ERR_NONE)
            return kind;
        frame->index = i;
        lua_rawgeti(e->L, table, i); // value
        kind = write_value(e, frame, lua_gettop(e->L));
        if (kind != ERR_NONE)
            return kind;
        lua_pop(e->L, 1);
    }
    e->depth--;
    enum err_kind kind = new_line(e);
    return kind == ERR_NONE ? put(e, "]", 1) : kind;
}

/* The value is on top of the stack and stays there. */
static enum err_kind write_pair(struct encoder *e, struct frame *frame, const char *key, size_t len,
                                bool first)
{
    enum err_kind kind = begin_element(e, '{', first);
    if (kind != ERR_NONE)
        return kind;
    bool valid;
    kind = write_string(e, key, len, &valid);
    if (!valid)
        return fail(e, frame->up, "a key that is not UTF-8, in the object");
    if (kind == ERR_NONE)
        kind = put(e, ": ", e->options->indent != 0 ? 2 : 1);
    if (kind != ERR_NONE)
        return kind;
    frame->key = key;
    frame->key_len = len;
    kind = write_value(e, frame, lua_gettop(e->L));
    frame->key = NULL;
    return kind;
}

/* Opens the object if it has no members. */
static enum err_kind close_object(struct encoder *e, bool empty)
{
    e->depth--;
    enum err_kind kind = empty ? put(e, "{", 1) : new_line(e);
    return kind == ERR_NONE ? put(e, "}", 1) : kind;
}

/* Whether the field is left out: the `response` of an error is not data. */
static bool left_out(const struct frame *frame, const char *key, size_t len)
{
    return frame->is_error && len == 8 && memcmp(key, "response", 8) == 0;
}

/* Pushes the text of a whole number that is a key of a table marked as an object. */
static enum err_kind number_key(struct encoder *e, const struct frame *frame, int table, double key)
{
    char digits[32];
    if (floor(key) != key || fabs(key) > 9007199254740992.0)
        return fail(e, frame->up,
                    "a key that is neither a string nor a whole number, in the object");
    snprintf(digits, sizeof digits, "%.0f", key);
    lua_pushstring(e->L, digits); // text
    lua_pushvalue(e->L, -1);
    lua_rawget(e->L, table); // text value
    bool twice = !lua_isnil(e->L, -1);
    lua_pop(e->L, 1); // text
    return twice ? fail(e, frame->up, "a key twice, as a number and as a string, in the object")
                 : ERR_NONE;
}

static enum err_kind bad_key(struct encoder *e, const struct frame *frame, int key)
{
    return fail(e, frame->up, lua_type(e->L, key) == LUA_TNUMBER ? MIXED_KEYS : BAD_KEY);
}

static enum err_kind write_object_unsorted(struct encoder *e, struct frame *frame, int table,
                                           bool marked)
{
    bool first = true;
    lua_pushnil(e->L);              // key
    while (lua_next(e->L, table)) { // key value
        enum err_kind kind = ERR_NONE;
        int key = lua_gettop(e->L) - 1;
        size_t len = 0;
        const char *text = NULL;
        if (lua_type(e->L, key) == LUA_TSTRING) {
            text = lua_tolstring(e->L, key, &len);
        } else if (marked && lua_type(e->L, key) == LUA_TNUMBER) {
            kind = number_key(e, frame, table, lua_tonumber(e->L, key)); // key value text
            if (kind == ERR_NONE) {
                text = lua_tolstring(e->L, -1, &len);
                lua_insert(e->L, -2); // key text value
            }
        } else {
            kind = bad_key(e, frame, key);
        }
        if (kind == ERR_NONE && !left_out(frame, text, len)) {
            kind = write_pair(e, frame, text, len, first);
            first = false;
        }
        if (kind != ERR_NONE)
            return kind;
        lua_settop(e->L, key); // key
    }
    return close_object(e, first);
}

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *left = a, *right = b;
    int order = memcmp(left->text, right->text, MIN(left->len, right->len));
    return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

/* Whether all keys are strings. */
static bool names_only(lua_State *L, int table)
{
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            return false;
        }
    }
    return true;
}

/* Adds a row to st->keys for the key on top of the stack. `numbers`: index of a table that maps the
 * text of a number to the number; it also keeps the text alive. 0: numbers may not be keys. */
static enum err_kind note_key(struct encoder *e, const struct frame *frame, int table, int numbers)
{
    int key = lua_gettop(e->L);
    struct sort_key row;
    if (lua_type(e->L, key) == LUA_TSTRING) {
        row.text = lua_tolstring(e->L, key, &row.len);
        if (left_out(frame, row.text, row.len))
            return ERR_NONE;
    } else if (numbers != 0 && lua_type(e->L, key) == LUA_TNUMBER) {
        enum err_kind kind = number_key(e, frame, table, lua_tonumber(e->L, key)); // key text
        if (kind != ERR_NONE)
            return kind;
        row.text = lua_tolstring(e->L, -1, &row.len);
        lua_pushvalue(e->L, key);  // key text key
        lua_rawset(e->L, numbers); // key
    } else {
        return bad_key(e, frame, key);
    }
    enum err_kind kind = buf_append(&e->st->keys, &row, sizeof row);
    return kind == ERR_NONE ? kind : fail_out(e, kind);
}

/* st->keys holds the keys of all open objects, one object after another. `from` is where this
 * object's keys start: an index, because an inner object may move the rows when it adds its own. */
static enum err_kind write_object_sorted(struct encoder *e, struct frame *frame, int table,
                                         bool marked)
{
    struct buf *keys = &e->st->keys;
    size_t from = keys->len;
    int numbers = 0;
    if (marked && !names_only(e->L, table)) {
        lua_newtable(e->L);
        numbers = lua_gettop(e->L);
    }
    lua_pushnil(e->L);              // key
    while (lua_next(e->L, table)) { // key value
        lua_pop(e->L, 1);           // key
        enum err_kind kind = note_key(e, frame, table, numbers);
        if (kind != ERR_NONE)
            return kind;
    }
    size_t count = (keys->len - from) / sizeof(struct sort_key);
    if (count > 0)
        qsort(keys->data + from, count, sizeof(struct sort_key), compare_keys);
    for (size_t i = 0; i < count; i++) {
        struct sort_key row;
        memcpy(&row, keys->data + from + i * sizeof row, sizeof row);
        lua_pushlstring(e->L, row.text, row.len); // key
        if (numbers != 0) {
            lua_pushvalue(e->L, -1);
            lua_rawget(e->L, numbers); // key number or nil
            lua_remove(e->L, lua_isnil(e->L, -1) ? -1 : -2);
        }
        lua_rawget(e->L, table); // value
        enum err_kind kind = write_pair(e, frame, row.text, row.len, i == 0);
        if (kind != ERR_NONE)
            return kind;
        lua_pop(e->L, 1);
    }
    if (numbers != 0)
        lua_pop(e->L, 1);
    keys->len = from;
    return close_object(e, count == 0);
}

/* `marked`: json.object marked the table, so numbers may be keys. */
static enum err_kind write_object(struct encoder *e, struct frame *frame, int table, bool marked)
{
    e->depth++;
    if (!e->options->sorted && !e->options->stable)
        return write_object_unsorted(e, frame, table, marked);
    return write_object_sorted(e, frame, table, marked);
}

/* Decides by the keys whether an unmarked table is an array or an object. */
enum shape { SHAPE_EMPTY, SHAPE_ARRAY, SHAPE_OBJECT, SHAPE_HOLES, SHAPE_MIXED, SHAPE_BAD_KEY };

static enum shape shape_of(lua_State *L, int table, int *count)
{
    int strings = 0, numbers = 0;
    double largest = 0;
    lua_pushnil(L);              // key
    while (lua_next(L, table)) { // key value
        lua_pop(L, 1);           // key
        int type = lua_type(L, -1);
        double number = type == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (type == LUA_TSTRING) {
            strings++;
        } else if (type == LUA_TNUMBER && number >= 1 && floor(number) == number) {
            numbers++;
            largest = MAX(largest, number);
        } else {
            lua_pop(L, 1);
            return SHAPE_BAD_KEY;
        }
        /* One string key decides. An object need not be walked again, except to look for numbers as
         * keys. */
        if (strings == 1 && numbers == 0 && lua_objlen(L, table) == 0) {
            lua_pop(L, 1);
            return SHAPE_OBJECT;
        }
        if (strings != 0 && numbers != 0) {
            lua_pop(L, 1);
            return SHAPE_MIXED;
        }
    }
    *count = numbers;
    if (numbers != 0)
        return largest > (double)numbers ? SHAPE_HOLES : SHAPE_ARRAY;
    return strings != 0 ? SHAPE_OBJECT : SHAPE_EMPTY;
}

/* The first `n` items of a list with holes, or as many as there are: the results of gather and
 * similar functions. */
static enum err_kind write_results(struct encoder *e, struct frame *frame, int table)
{
    double count = 0;
    lua_pushnil(e->L);              // key
    while (lua_next(e->L, table)) { // key value
        const char *name = lua_type(e->L, -2) == LUA_TSTRING ? lua_tostring(e->L, -2) : NULL;
        double index = name != NULL ? 0 : lua_tonumber(e->L, -2);
        if (name != NULL && strcmp(name, "n") == 0)
            index = lua_tonumber(e->L, -1);
        else if (name != NULL && strcmp(name, "errors") != 0)
            return fail(e, frame->up, MIXED_KEYS);
        count = MAX(count, index);
        lua_pop(e->L, 1); // key
    }
    /* A larger `n` is not a count of results, and would make the loop endless. */
    if (!(count <= JSON_MAX_RESULTS))
        return fail(e, frame->up, "results with an 'n' that is too large,");
    return write_array(e, frame, table, (int)count);
}

static enum err_kind too_deep(struct encoder *e, const struct frame *up, const struct frame *frame)
{
    /* Checked only at this depth, so that tables without a cycle pay nothing. The error names the
     * place where the table first repeats. */
    const struct frame *first = NULL, *second = frame;
    for (const struct frame *f = up; f != NULL; f = f->up) {
        if (f->table != frame->table)
            continue;
        if (first != NULL)
            second = first;
        first = f;
    }
    if (first != NULL)
        return fail(e, second->up, "a table that contains itself,");
    return fail(e, up, "nested too deep,");
}

/* How the metatable of one of our own tables says that it is encoded. */
enum own_form { OWN_NONE, OWN_LIST, OWN_OBJECT, OWN_ERROR, OWN_REFUSED };

/* The metatable is on top of the stack. `why`: the reason for OWN_REFUSED, valid as long as the
 * metatable lives. */
static enum own_form own_form(lua_State *L, const char **why)
{
    enum own_form form = OWN_NONE;
    lua_pushliteral(L, JSON_FORM_FIELD);
    lua_rawget(L, -2); // metatable form
    if (lua_type(L, -1) == LUA_TSTRING) {
        *why = lua_tostring(L, -1);
        form = strcmp(*why, "list") == 0     ? OWN_LIST
               : strcmp(*why, "object") == 0 ? OWN_OBJECT
               : strcmp(*why, "error") == 0  ? OWN_ERROR
                                             : OWN_REFUSED;
    }
    lua_pop(L, 1); // metatable
    return form;
}

static enum err_kind write_unmarked(struct encoder *e, const struct frame *up, struct frame *frame,
                                    int table, bool is_array)
{
    int count = 0;
    switch (shape_of(e->L, table, &count)) {
    case SHAPE_EMPTY:
        return put(e, is_array ? "[]" : "{}", 2);
    case SHAPE_ARRAY:
        return write_array(e, frame, table, count);
    case SHAPE_OBJECT:
        if (is_array)
            return fail(e, up, "string keys in what json.array marked,");
        return write_object(e, frame, table, false);
    case SHAPE_HOLES:
        return fail(e, up, "a list with holes (fill them with json.null, or use json.object),");
    case SHAPE_MIXED:
        return fail(e, up, MIXED_KEYS);
    case SHAPE_BAD_KEY:
        break;
    }
    return fail(e, up, BAD_KEY);
}

static enum err_kind write_table(struct encoder *e, const struct frame *up, int table)
{
    struct frame frame = {.up = up, .table = lua_topointer(e->L, table)};
    if (e->depth >= e->options->max_depth)
        return too_deep(e, up, &frame);
    luaL_checkstack(e->L, 8, "json");
    const void *mark = NULL;
    const char *why = NULL;
    enum own_form form = OWN_NONE;
    if (lua_getmetatable(e->L, table)) { // metatable
        mark = lua_topointer(e->L, -1);
        if (mark == e->st->object_mark)
            form = OWN_OBJECT;
        else if (mark != e->st->array_mark)
            form = own_form(e->L, &why);
        lua_pop(e->L, 1);
    }
    frame.is_error = form == OWN_ERROR;
    if (form == OWN_LIST)
        return write_results(e, &frame, table);
    if (form == OWN_OBJECT)
        return write_object(e, &frame, table, true);
    if (form == OWN_REFUSED)
        return fail(e, up, why);
    return write_unmarked(e, up, &frame, table, mark != NULL && mark == e->st->array_mark);
}

static enum err_kind write_value(struct encoder *e, const struct frame *up, int index)
{
    lua_State *L = e->L;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return put(e, "null", 4);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? put(e, "true", 4) : put(e, "false", 5);
    case LUA_TNUMBER:
        return write_number(e, up, lua_tonumber(L, index));
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        bool valid;
        enum err_kind kind = write_string(e, text, len, &valid);
        return valid ? kind : fail(e, up, "a string that is not UTF-8");
    }
    case LUA_TTABLE:
        return write_table(e, up, index);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL)
            return put(e, "null", 4);
        break;
    default:
        break;
    }
    char what[48];
    snprintf(what, sizeof what, "a %s, which JSON cannot hold,",
             lua_typename(L, lua_type(L, index)));
    return fail(e, up, what);
}

enum err_kind json_encode(lua_State *L, struct json_state *st, int index,
                          const struct json_encode_options *options, struct err *err)
{
    struct encoder e = {.L = L, .st = st, .out = &st->out, .options = options, .err = err};
    buf_clear(&st->out);
    buf_clear(&st->keys);
    int top = lua_gettop(L);
    lua_pushvalue(L, index); // value
    enum err_kind kind = write_value(&e, NULL, top + 1);
    lua_settop(L, top);
    return kind;
}
