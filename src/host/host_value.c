/* The values of leat.h are plain trees. This file also converts them from and to Lua values. */
#include "host/host_value.h"

#include "ground/secret.h"
#include <lauxlib.h>
#include <limits.h>
#include <string.h>

/* Deeper than any sensible message; a table that contains itself stops here. */
enum { MAX_DEPTH = 32 };
/* Lua stack slots needed to convert one level of a table. */
enum { TAKE_SLOTS = 3 };

/* Tables with more fields than this find them by a hash index. */
enum { FEW_FIELDS = 16 };

struct field {
    char *name;
    leat_value *value;
};

struct leat_value {
    enum leat_type type;
    leat_value *parent; /* the table that owns it; NULL: the caller owns it */
    union {
        bool boolean;
        double number;
        struct {
            char *bytes;
            size_t len;
        } string;
        struct {
            leat_value **items;
            struct field *fields;
            size_t count, field_count, field_room;
            /* Hash index of the field names with open addressing: 1 + the position in `fields`; 0:
             * free. NULL if there are few fields. */
            uint32_t *index;
            size_t index_room; /* a power of two */
            union {
                size_t room;
                leat_value *next; /* queue of values to free */
            };
        } table;
    } as;
};

static leat_value *new_value(enum leat_type type)
{
    leat_value *v = calloc(1, sizeof *v);
    if (v)
        v->type = type;
    return v;
}

leat_value *leat_boolean(bool value)
{
    leat_value *v = new_value(LEAT_BOOLEAN);
    if (v)
        v->as.boolean = value;
    return v;
}

leat_value *leat_number(double value)
{
    leat_value *v = new_value(LEAT_NUMBER);
    if (v)
        v->as.number = value;
    return v;
}

leat_value *leat_string(const char *text, size_t len)
{
    if (!text)
        return NULL;
    if (len == SIZE_MAX)
        len = strlen(text);
    leat_value *v = new_value(LEAT_STRING);
    char *bytes = v ? malloc(len + 1) : NULL;
    if (!bytes) {
        free(v);
        return NULL;
    }
    memcpy(bytes, text, len);
    bytes[len] = '\0';
    v->as.string.bytes = bytes;
    v->as.string.len = len;
    return v;
}

leat_value *leat_table(void)
{
    return new_value(LEAT_TABLE);
}

static bool grow(void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return true;
    size_t more = *room ? *room * 2 : 4;
    void *bigger = more < SIZE_MAX / size ? realloc(*array, more * size) : NULL;
    if (!bigger)
        return false;
    *array = bigger;
    *room = more;
    return true;
}

/* A table owns it already, or it contains `table`: it stays where it is, as it would be freed
 * twice. */
static bool is_taken(const leat_value *table, const leat_value *item)
{
    if (!item)
        return false;
    for (const leat_value *v = table; v; v = v->parent) {
        if (v == item)
            return true;
    }
    return item->parent != NULL;
}

bool leat_append(leat_value *table, leat_value *item)
{
    void *items = table && table->type == LEAT_TABLE ? table->as.table.items : NULL;
    if (is_taken(table, item))
        return false;
    if (!item || leat_type_of(table) != LEAT_TABLE ||
        !grow(&items, table->as.table.count, &table->as.table.room, sizeof item)) {
        leat_value_free(item);
        return false;
    }
    table->as.table.items = items;
    table->as.table.items[table->as.table.count++] = item;
    item->parent = table;
    return true;
}

/* FNV-1a with a different start in each table, so that data from a server cannot force hash
 * collisions. */
static size_t hash_of(const leat_value *table, const char *name)
{
    uint64_t h = 14695981039346656037u ^ ((uintptr_t)table * 0x9e3779b97f4a7c15u);
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(h ^ (h >> 32));
}

static void index_put(const leat_value *table, uint32_t *index, size_t room, size_t position)
{
    size_t i = hash_of(table, table->as.table.fields[position].name) & (room - 1);
    while (index[i] != 0)
        i = (i + 1) & (room - 1);
    index[i] = (uint32_t)position + 1;
}

/* Grows the index for one more field; it stays at most half full. False: out of memory. */
static bool index_grow(leat_value *table)
{
    size_t count = table->as.table.field_count + 1;
    if (count <= FEW_FIELDS || count * 2 <= table->as.table.index_room)
        return true;
    size_t room = table->as.table.index_room ? table->as.table.index_room * 2 : 4 * FEW_FIELDS;
    uint32_t *index = room < UINT32_MAX ? calloc(room, sizeof *index) : NULL;
    if (!index)
        return false;
    for (size_t i = 0; i < table->as.table.field_count; i++)
        index_put(table, index, room, i);
    free(table->as.table.index);
    table->as.table.index = index;
    table->as.table.index_room = room;
    return true;
}

static struct field *find_field(const leat_value *table, const char *name)
{
    const uint32_t *index = table->as.table.index;
    if (index) {
        size_t mask = table->as.table.index_room - 1;
        for (size_t i = hash_of(table, name) & mask; index[i] != 0; i = (i + 1) & mask) {
            struct field *f = &table->as.table.fields[index[i] - 1];
            if (strcmp(f->name, name) == 0)
                return f;
        }
        return NULL;
    }
    for (size_t i = 0; i < table->as.table.field_count; i++) {
        if (strcmp(table->as.table.fields[i].name, name) == 0)
            return &table->as.table.fields[i];
    }
    return NULL;
}

/* Adds a field whose name is new. Frees `item` on failure. */
static bool add_field(leat_value *table, const char *field, leat_value *item)
{
    void *fields = table->as.table.fields;
    size_t size = strlen(field) + 1;
    char *name = malloc(size);
    if (name)
        memcpy(name, field, size);
    bool room = name && grow(&fields, table->as.table.field_count, &table->as.table.field_room,
                             sizeof(struct field));
    if (room)
        table->as.table.fields = fields;
    if (!room || !index_grow(table)) {
        free(name);
        leat_value_free(item);
        return false;
    }
    size_t position = table->as.table.field_count++;
    table->as.table.fields[position] = (struct field){name, item};
    if (table->as.table.index)
        index_put(table, table->as.table.index, table->as.table.index_room, position);
    item->parent = table;
    return true;
}

bool leat_set(leat_value *table, const char *field, leat_value *item)
{
    if (is_taken(table, item))
        return false;
    if (!item || !field || leat_type_of(table) != LEAT_TABLE) {
        leat_value_free(item);
        return false;
    }
    struct field *there = find_field(table, field);
    if (!there)
        return add_field(table, field, item);
    there->value->parent = NULL;
    leat_value_free(there->value);
    there->value = item;
    item->parent = table;
    return true;
}

/* Frees a value that is not a table. Tables go to a queue instead of a recursion, because they may
 * be nested deeper than the C stack allows. */
static void drop(leat_value *v, leat_value **tables)
{
    if (!v)
        return;
    if (v->type == LEAT_TABLE) {
        v->as.table.next = *tables;
        *tables = v;
        return;
    }
    if (v->type == LEAT_STRING)
        free(v->as.string.bytes);
    free(v);
}

void leat_value_free(leat_value *value)
{
    leat_value *tables = NULL;
    if (value && value->parent) /* its table frees it */
        return;
    drop(value, &tables);
    while (tables) {
        leat_value *v = tables;
        tables = v->as.table.next;
        for (size_t i = 0; i < v->as.table.count; i++)
            drop(v->as.table.items[i], &tables);
        for (size_t i = 0; i < v->as.table.field_count; i++) {
            free(v->as.table.fields[i].name);
            drop(v->as.table.fields[i].value, &tables);
        }
        free(v->as.table.items);
        free(v->as.table.fields);
        free(v->as.table.index);
        free(v);
    }
}

enum leat_type leat_type_of(const leat_value *v)
{
    return v ? v->type : LEAT_NIL;
}

bool leat_to_boolean(const leat_value *v)
{
    return leat_type_of(v) != LEAT_NIL && (v->type != LEAT_BOOLEAN || v->as.boolean);
}

double leat_to_number(const leat_value *v, double otherwise)
{
    return v && v->type == LEAT_NUMBER ? v->as.number : otherwise;
}

const char *leat_to_string(const leat_value *v, size_t *len)
{
    if (!v || v->type != LEAT_STRING)
        return NULL;
    if (len)
        *len = v->as.string.len;
    return v->as.string.bytes;
}

size_t leat_length(const leat_value *v)
{
    return v && v->type == LEAT_TABLE ? v->as.table.count : 0;
}

const leat_value *leat_at(const leat_value *v, size_t index)
{
    return index < leat_length(v) ? v->as.table.items[index] : NULL;
}

const leat_value *leat_field(const leat_value *v, const char *field)
{
    const struct field *f = v && field && v->type == LEAT_TABLE ? find_field(v, field) : NULL;
    return f ? f->value : NULL;
}

size_t leat_field_count(const leat_value *v)
{
    return v && v->type == LEAT_TABLE ? v->as.table.field_count : 0;
}

const char *leat_field_name(const leat_value *v, size_t index)
{
    return index < leat_field_count(v) ? v->as.table.fields[index].name : NULL;
}

/* ---- into Lua and out of it ---- */

static void push(lua_State *L, const leat_value *v, int depth)
{
    if (depth > MAX_DEPTH)
        luaL_error(L,
                   "a value of the host cannot be passed to Lua: tables nested more than 32 deep");
    luaL_checkstack(L, 4, "values");
    switch (leat_type_of(v)) {
    case LEAT_NIL:
        lua_pushnil(L);
        break;
    case LEAT_BOOLEAN:
        lua_pushboolean(L, v->as.boolean);
        break;
    case LEAT_NUMBER:
        lua_pushnumber(L, v->as.number);
        break;
    case LEAT_STRING:
        lua_pushlstring(L, v->as.string.bytes, v->as.string.len);
        break;
    case LEAT_TABLE:
        lua_newtable(L);
        for (size_t i = 0; i < v->as.table.count; i++) {
            push(L, v->as.table.items[i], depth + 1);
            lua_rawseti(L, -2, (int)i + 1);
        }
        for (size_t i = 0; i < v->as.table.field_count; i++) {
            lua_pushstring(L, v->as.table.fields[i].name);
            push(L, v->as.table.fields[i].value, depth + 1);
            lua_rawset(L, -3);
        }
        break;
    }
}

void host_value_push(lua_State *L, const leat_value *v)
{
    push(L, v, 0);
}

struct taking host_value_taking(lua_State *L, const struct rt *rt)
{
    luaL_checkstack(L, (MAX_DEPTH + 1) * TAKE_SLOTS, "values");
    size_t limit = mem_limit(&rt->mem);
    return (struct taking){.left = limit ? limit : SIZE_MAX};
}

/* Adds to the path of a value that cannot be converted, while the recursion returns: the innermost
 * part last. */
static void came_from_item(struct taking *c, size_t i)
{
    char inner[sizeof c->path];
    memcpy(inner, c->path, sizeof inner);
    snprintf(c->path, sizeof c->path, "[%zu]%.*s", i, (int)sizeof inner - 24, inner);
}

static void came_from_field(struct taking *c, const char *name)
{
    char inner[sizeof c->path];
    memcpy(inner, c->path, sizeof inner);
    snprintf(c->path, sizeof c->path, ".%.40s%.*s", secret_hidden(name), (int)sizeof inner - 48,
             inner);
}

const char *host_value_why(struct taking *c)
{
    snprintf(c->text, sizeof c->text, "%s%s%s", c->path, c->path[0] ? ": " : "", c->why);
    return c->text;
}

/* A table that occurs twice in another one is copied twice, so a small table may become a huge
 * tree. */
static bool charge(struct taking *c, size_t bytes)
{
    bytes += sizeof(leat_value) + sizeof(leat_value *);
    if (bytes > c->left) {
        c->why = "it takes more memory than the runtime may have";
        return false;
    }
    c->left -= bytes;
    return true;
}

static bool take(lua_State *L, int index, int depth, struct taking *c, leat_value **out);

/* A metatable field: a function that is called with the table before the table is converted. */
#define CROSSES_FIELD "__leat_crosses"

/* What our own metatables say about a table. */
struct crossing_form {
    bool holes;    /* results of tasks: an item may be missing */
    bool numbered; /* json.object: whole numbers are field names */
    bool is_error; /* its response is left out */
};

static struct crossing_form form_of(lua_State *L, int index)
{
    struct crossing_form form = {false, false, false};
    if (!lua_getmetatable(L, index))
        return form;
    lua_pushliteral(L, JSON_FORM_FIELD);
    lua_rawget(L, -2); // metatable form
    if (lua_type(L, -1) == LUA_TSTRING) {
        const char *name = lua_tostring(L, -1);
        form.holes = strcmp(name, "list") == 0;
        form.numbered = strcmp(name, "object") == 0;
        form.is_error = strcmp(name, "error") == 0;
    }
    lua_pop(L, 1);
    lua_pushliteral(L, CROSSES_FIELD);
    lua_rawget(L, -2); // metatable function
    if (lua_isfunction(L, -1)) {
        lua_pushvalue(L, index);
        lua_call(L, 1, 0); // metatable
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
    return form;
}

/* Converts the items from 1 to n. */
static bool take_items(lua_State *L, int index, int depth, struct taking *c, leat_value *table,
                       size_t n, bool holes)
{
    for (size_t i = 1; i <= n; i++) {
        leat_value *item = NULL;
        lua_rawgeti(L, index, (int)i);
        bool ok = take(L, lua_gettop(L), depth + 1, c, &item);
        lua_pop(L, 1);
        if (!ok) {
            came_from_item(c, i);
            return false;
        }
        if (!item && holes && charge(c, 0))
            item = new_value(LEAT_NIL);
        else if (!item && !holes)
            c->why = "a list with a hole in it";
        if (!c->why && !leat_append(table, item))
            c->why = "not enough memory";
        if (c->why)
            return false;
    }
    return true;
}

/* Adds the value on top of the stack as a field of that name. */
static void take_field(lua_State *L, const char *name, size_t len, int depth, struct taking *c,
                       leat_value *table)
{
    leat_value *item = NULL;
    if (strlen(name) != len)
        c->why = "a field whose name holds a NUL byte";
    else if (charge(c, len) && take(L, lua_gettop(L), depth + 1, c, &item) && item &&
             !add_field(table, name, item))
        c->why = "not enough memory";
    if (c->why)
        came_from_field(c, name);
}

static bool take_table(lua_State *L, int index, int depth, struct taking *c, leat_value *table)
{
    struct crossing_form form = form_of(L, index);
    size_t n = form.numbered ? 0 : lua_objlen(L, index);
    if (form.holes) {
        lua_pushliteral(L, "n");
        lua_rawget(L, index);
        double given = lua_tonumber(L, -1);
        lua_pop(L, 1);
        if (given > (double)n && given < INT_MAX)
            n = (size_t)given;
    }
    if (!take_items(L, index, depth, c, table, n, form.holes))
        return false;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        char digits[32];
        size_t len;
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *name = lua_tolstring(L, -2, &len);
            if (!form.is_error || strcmp(name, "response") != 0)
                take_field(L, name, len, depth, c, table);
        } else if (form.numbered && lua_type(L, -2) == LUA_TNUMBER) {
            take_field(L, digits, (size_t)snprintf(digits, sizeof digits, "%.14g", key), depth, c,
                       table);
        } else if (key < 1 || key > (double)n || key != (double)(size_t)key) {
            c->why = "a table with keys that are neither strings nor list indices";
        }
        lua_pop(L, 1);
        if (c->why) {
            lua_pop(L, 1);
            return false;
        }
    }
    return true;
}

static bool take(lua_State *L, int index, int depth, struct taking *c, leat_value **out)
{
    *out = NULL;
    if (depth > MAX_DEPTH) {
        c->why = "tables nested more than 32 deep, or in a cycle";
        return false;
    }
    if (lua_isnoneornil(L, index))
        return true;
    int type = lua_type(L, index);
    if (!charge(c, type == LUA_TSTRING ? lua_objlen(L, index) : 0))
        return false;
    switch (type) {
    case LUA_TBOOLEAN:
        *out = leat_boolean(lua_toboolean(L, index));
        break;
    case LUA_TNUMBER:
        *out = leat_number(lua_tonumber(L, index));
        break;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        *out = leat_string(text, len);
        break;
    }
    case LUA_TTABLE:
        *out = leat_table();
        if (*out && !take_table(L, index, depth, c, *out)) {
            leat_value_free(*out);
            *out = NULL;
            return false;
        }
        break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) { /* json.null */
            *out = new_value(LEAT_NIL);
            break;
        }
        c->why = "a light userdata";
        return false;
    default:
        c->why = type == LUA_TFUNCTION ? "a function"
                 : type == LUA_TTHREAD ? "a coroutine"
                                       : "a userdata";
        return false;
    }
    if (!*out)
        c->why = "not enough memory";
    return *out != NULL;
}

bool host_value_take(lua_State *L, int index, struct taking *c, leat_value **out)
{
    return take(L, index, 0, c, out);
}
