/* Writes a Lua value as JSON text. Reads tables raw, runs no Lua code, and on a value that JSON
 * cannot hold says which and where: "json: a function at .tools[2].run". */
#include "lua_json.h"

#include <math.h>
#include <string.h>

/* The way from the outermost value to the one being written, for messages and cycles. */
struct frame {
    const struct frame *up;
    const void *table;
    const char *key; /* NULL: an array, at `index` */
    size_t key_len;
    int index;
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
    return buf_printf(path, ".%.*s", (int)MIN(frame->key_len, 40), frame->key);
}

static enum err_kind fail(struct encoder *e, const struct frame *at, const char *what)
{
    struct buf *path = &e->st->scratch;
    buf_clear(path);
    /* A path that found no memory is cut short; the message stands without it. */
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
        return err_set(e->err, kind, "json: the text would pass %zu MiB", e->out->max_bytes >> 20);
    return err_set(e->err, kind, "json: no memory for the text");
}

static inline enum err_kind put(struct encoder *e, const char *bytes, size_t len)
{
    struct buf *out = e->out;
    if (len != 0 && len <= out->cap - out->len && out->data != NULL) {
        memcpy(out->data + out->len, bytes, len);
        buf_commit(out, len);
        return ERR_NONE;
    }
    enum err_kind kind = buf_append(e->out, bytes, len);
    return kind == ERR_NONE ? kind : fail_out(e, kind);
}

/* ---- Numbers */

static enum err_kind write_integer(struct encoder *e, int64_t value)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? (uint64_t)-value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0)
        *--at = '-';
    return put(e, at, (size_t)(digits + sizeof digits - at));
}

/* Few decimals, the common case (0.7, 12.25), without printf: where `value` is exactly the quotient
 * of a whole number and a power of ten, those digits read back as `value`. Returns the length or 0.
 */
static size_t short_decimal(char *out, double value)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    double size = fabs(value);
    if (size >= 1e9 || size < 1e-3)
        return 0;
    for (int places = 1; places <= 6; places++) {
        double scaled = nearbyint(size * powers[places]);
        if (scaled / powers[places] != size)
            continue;
        uint64_t all = (uint64_t)scaled;
        char digits[24];
        char *at = digits + sizeof digits;
        for (int i = 0; i < places || all != 0 || i == places; i++) {
            if (i == places)
                *--at = '.';
            *--at = (char)('0' + all % 10);
            all /= 10;
        }
        if (value < 0)
            *--at = '-';
        size_t len = (size_t)(digits + sizeof digits - at);
        memcpy(out, at, len);
        return len;
    }
    return 0;
}

static enum err_kind write_number(struct encoder *e, const struct frame *up, double value)
{
    const double exact = 9007199254740992.0; /* 2^53 */
    if (value >= -exact && value <= exact && (double)(int64_t)value == value &&
        !(value == 0 && signbit(value)))
        return write_integer(e, (int64_t)value);
    if (isnan(value))
        return fail(e, up, "NaN, which JSON cannot hold,");
    if (isinf(value))
        return fail(e, up, "an infinite number, which JSON cannot hold,");
    char text[40];
    size_t len = short_decimal(text, value);
    if (len != 0)
        return put(e, text, len);
    for (int digits = 15; digits <= 17; digits++) {
        len = (size_t)snprintf(text, sizeof text, "%.*g", digits, value);
        if (digits == 17 || strtod(text, NULL) == value)
            break;
    }
    /* The host's locale may write something else than a point. */
    for (size_t i = 0; i < len; i++)
        if (strchr("0123456789+-eE", text[i]) == NULL)
            text[i] = '.';
    return put(e, text, len);
}

/* ---- Strings */

/* What stands behind the backslash; 'u': four hex digits follow; 0: no escape needed. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 ? 'u' : 0;
    }
}

/* False: the string is not UTF-8. Room for the worst case (6 bytes for one) is not taken at once,
 * so that a large string of text does not cost six times itself. */
static enum err_kind write_string(struct encoder *e, const char *text, size_t len, bool *valid)
{
    *valid = true;
    enum err_kind kind = buf_reserve(e->out, len > SIZE_MAX - 2 ? len : len + 2);
    if (kind != ERR_NONE)
        return fail_out(e, kind);
    size_t run = 0, i = json_plain_run(text, len);
    if (i == len) { /* nothing to escape, as nearly always */
        char *out = e->out->data + e->out->len;
        out[0] = '"';
        memcpy(out + 1, text, len);
        out[len + 1] = '"';
        buf_commit(e->out, len + 2);
        return ERR_NONE;
    }
    kind = put(e, "\"", 1);
    while (kind == ERR_NONE && (i += json_plain_run(text + i, len - i)) < len) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80) {
            /* One character at a time would be slow for text in other scripts: to the end of the
             * run. */
            size_t end = i + 1;
            while (end < len && (unsigned char)text[end] >= 0x80)
                end++;
            if (json_utf8_valid(text + i, end - i) != end - i) {
                *valid = false;
                return ERR_INVALID;
            }
            i = end;
            continue;
        }
        char escape = escape_of(c);
        char bytes[8] = {'\\', escape};
        size_t escape_len = 2;
        if (escape == 'u') {
            static const char hex[] = "0123456789abcdef";
            memcpy(bytes, "\\u00", 4);
            bytes[4] = hex[c >> 4];
            bytes[5] = hex[c & 15];
            escape_len = 6;
        }
        kind = put(e, text + run, i - run);
        if (kind == ERR_NONE)
            kind = put(e, bytes, escape_len);
        run = ++i;
    }
    if (kind == ERR_NONE)
        kind = put(e, text + run, len - run);
    return kind == ERR_NONE ? put(e, "\"", 1) : kind;
}

/* ---- Tables */

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

/* Opens the container (`mark` is its bracket), or separates from the element before. */
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

/* What no pair has opened is opened here. */
static enum err_kind close_object(struct encoder *e, bool empty)
{
    e->depth--;
    enum err_kind kind = empty ? put(e, "{", 1) : new_line(e);
    return kind == ERR_NONE ? put(e, "}", 1) : kind;
}

/* A whole number as a key of a table that was marked as an object. */
static enum err_kind number_key(struct encoder *e, struct frame *frame, int table, double key,
                                char *out, size_t size)
{
    if (floor(key) != key || fabs(key) > 9007199254740992.0)
        return fail(e, frame->up,
                    "a key that is neither a string nor a whole number, in the object");
    snprintf(out, size, "%.0f", key);
    lua_pushstring(e->L, out); // text
    lua_rawget(e->L, table);   // value or nil
    bool twice = !lua_isnil(e->L, -1);
    lua_pop(e->L, 1);
    return twice ? fail(e, frame->up, "a key twice, as a number and as a string, in the object")
                 : ERR_NONE;
}

static enum err_kind write_object_unsorted(struct encoder *e, struct frame *frame, int table,
                                           bool marked)
{
    bool first = true;
    lua_pushnil(e->L);              // key
    while (lua_next(e->L, table)) { // key value
        enum err_kind kind = ERR_NONE;
        char digits[32] = "";
        size_t len = 0;
        const char *key = digits;
        int type = lua_type(e->L, -2);
        if (type == LUA_TSTRING) {
            key = lua_tolstring(e->L, -2, &len);
        } else if (marked && type == LUA_TNUMBER) {
            kind = number_key(e, frame, table, lua_tonumber(e->L, -2), digits, sizeof digits);
            len = strlen(digits);
        } else {
            kind = fail(e, frame->up, type == LUA_TNUMBER ? MIXED_KEYS : BAD_KEY);
        }
        if (kind == ERR_NONE)
            kind = write_pair(e, frame, key, len, first);
        if (kind != ERR_NONE)
            return kind;
        first = false;
        lua_pop(e->L, 1); // key
    }
    return close_object(e, first);
}

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *left = a, *right = b;
    int order = memcmp(left->text, right->text, MIN(left->len, right->len));
    return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

/* The keys of all open objects lie one behind the other in st->keys, this object's from `from` on:
 * an index, because the rows move when an inner object adds its own. */
static enum err_kind write_object_sorted(struct encoder *e, struct frame *frame, int table,
                                         bool marked)
{
    struct buf *keys = &e->st->keys;
    size_t from = keys->len;
    lua_pushnil(e->L);              // key
    while (lua_next(e->L, table)) { // key value
        lua_pop(e->L, 1);           // key
        if (lua_type(e->L, -1) != LUA_TSTRING)
            return fail(e, frame->up,
                        !marked && lua_type(e->L, -1) == LUA_TNUMBER
                            ? MIXED_KEYS
                            : "a key that is not a string (with sorted=true), in the object");
        struct sort_key row;
        row.text = lua_tolstring(e->L, -1, &row.len);
        enum err_kind kind = buf_append(keys, &row, sizeof row);
        if (kind != ERR_NONE)
            return fail_out(e, kind);
    }
    size_t count = (keys->len - from) / sizeof(struct sort_key);
    if (count > 0)
        qsort(keys->data + from, count, sizeof(struct sort_key), compare_keys);
    for (size_t i = 0; i < count; i++) {
        struct sort_key row;
        memcpy(&row, keys->data + from + i * sizeof row, sizeof row);
        lua_pushlstring(e->L, row.text, row.len); // key
        lua_rawget(e->L, table);                  // value
        enum err_kind kind = write_pair(e, frame, row.text, row.len, i == 0);
        if (kind != ERR_NONE)
            return kind;
        lua_pop(e->L, 1);
    }
    keys->len = from;
    return close_object(e, count == 0);
}

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

/* `marked`: by json.object, so that numbers may be keys. */
static enum err_kind write_object(struct encoder *e, struct frame *frame, int table, bool marked)
{
    e->depth++;
    bool sorted = e->options->sorted || (e->options->stable && names_only(e->L, table));
    if (!sorted)
        return write_object_unsorted(e, frame, table, marked);
    return write_object_sorted(e, frame, table, marked);
}

/* What a table is when no mark says so: its keys decide. */
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
        /* One string key settles it: an object need not be walked twice, but for the numbers in it.
         */
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

static enum err_kind write_table(struct encoder *e, const struct frame *up, int table)
{
    struct frame frame = {.up = up, .table = lua_topointer(e->L, table)};
    if (e->depth >= e->options->max_depth) {
        /* Only here, so that a table without a cycle pays nothing for the question. The place to
         * name is the one where the table first comes back. */
        const struct frame *first = NULL, *second = &frame;
        for (const struct frame *f = up; f != NULL; f = f->up) {
            if (f->table != frame.table)
                continue;
            if (first != NULL)
                second = first;
            first = f;
        }
        if (first != NULL)
            return fail(e, second->up, "a table that contains itself,");
        return fail(e, up, "nested too deep,");
    }
    luaL_checkstack(e->L, 8, "json");
    const void *mark = NULL;
    if (lua_getmetatable(e->L, table)) { // metatable
        mark = lua_topointer(e->L, -1);
        lua_pop(e->L, 1);
    }
    if (mark != NULL && mark == e->st->object_mark)
        return write_object(e, &frame, table, true);
    int count = 0;
    enum shape shape = shape_of(e->L, table, &count);
    bool marked = mark != NULL && mark == e->st->array_mark;
    switch (shape) {
    case SHAPE_EMPTY:
        return put(e, marked ? "[]" : "{}", 2);
    case SHAPE_ARRAY:
        return write_array(e, &frame, table, count);
    case SHAPE_OBJECT:
        if (marked)
            return fail(e, up, "string keys in what json.array marked,");
        return write_object(e, &frame, table, false);
    case SHAPE_HOLES:
        return fail(e, up, "a list with holes (fill them with json.null, or use json.object),");
    case SHAPE_MIXED:
        return fail(e, up, MIXED_KEYS);
    case SHAPE_BAD_KEY:
        break;
    }
    return fail(e, up, BAD_KEY);
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
