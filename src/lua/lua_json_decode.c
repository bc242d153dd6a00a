/* Builds the Lua value of a JSON text from the tokens of json_scan. */
#include "lua/lua_json_decode.h"

#include <locale.h>
#include <math.h>
#include <string.h>

/* Slots of a new object or array. Without them a growing object is rehashed at 1, 2 and 4 fields,
 * and an array at its first element. The outermost object of what services answer has often more
 * than 4 fields. It depends on the text alone, because it decides the order of pairs. */
enum { OUTER_SLOTS = 8, OBJECT_SLOTS = 4, ARRAY_SLOTS = 1 };

struct builder {
    lua_State *L;
    struct json_state *st;
    const struct json_decode_options *options;
    int array_mark;
    struct json_scan scan;
    const char *text;
    int counts[JSON_MAX_DEPTH + 1]; /* array elements so far at each depth; -1: an object */
};

/* Powers of ten that a double holds exactly. */
static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* True where one exact multiplication or division gives the correctly rounded result: at most 15
 * digits and a power of ten that is exact itself. */
static bool easy_number(const char *at, size_t len, double *out)
{
    const char *end = at + len;
    bool negative = *at == '-';
    if (negative)
        at++;
    uint64_t digits = 0;
    int count = 0, power = 0;
    bool behind_point = false;
    for (; at != end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            behind_point = true;
            continue;
        }
        digits = digits * 10 + (unsigned)(*at - '0');
        if (digits != 0 && ++count > 15)
            return false;
        if (behind_point && --power < -400)
            return false;
    }
    if (at != end) {
        at++;
        bool down = *at == '-';
        if (*at == '-' || *at == '+')
            at++;
        int exponent = 0;
        for (; at != end; at++) {
            exponent = exponent * 10 + (*at - '0');
            if (exponent > 400)
                return false;
        }
        power += down ? -exponent : exponent;
    }
    if (power < -22 || power > 22)
        return false;
    double value = (double)digits;
    value = power < 0 ? value / exact_powers[-power] : value * exact_powers[power];
    *out = negative ? -value : value;
    return true;
}

/* Whether a whole number of 16 or more digits is larger than 2^53. */
static bool is_big(const char *digits, size_t len)
{
    static const char limit[] = "9007199254740992";
    if (*digits == '-') {
        digits++;
        len--;
    }
    return len > 16 || (len == 16 && memcmp(digits, limit, 16) > 0);
}

/* Converts a number that needs the slow path. Its text is on top of the stack. */
static double any_number(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    char *end;
    double value = strtod(text, &end);
    if (*end == '\0')
        return value;
    /* The host's locale uses another decimal point. */
    lua_pushlstring(L, text, (size_t)(end - text)); // text whole
    lua_pushstring(L, localeconv()->decimal_point); // text whole point
    lua_pushstring(L, end + 1);                     // text whole point rest
    lua_concat(L, 3);                               // text localized
    value = strtod(lua_tostring(L, -1), NULL);
    lua_pop(L, 1); // text
    return value;
}

/* The same without creating a Lua string, for a short text in a locale whose decimal point is '.'.
 */
static bool short_number(const char *token, size_t len, double *out)
{
    char text[48];
    if (len >= sizeof text)
        return false;
    memcpy(text, token, len);
    text[len] = '\0';
    char *end;
    *out = strtod(text, &end);
    return *end == '\0' && !isinf(*out);
}

/* Pushes the number. False: it is outside the range of a double. */
static bool push_number(struct builder *b)
{
    const char *token = b->scan.token;
    size_t len = b->scan.token_len;
    double value;
    if (easy_number(token, len, &value)) {
        lua_pushnumber(b->L, value);
        return true;
    }
    bool as_text = b->options->big_as_string && b->scan.integer && is_big(token, len);
    if (!as_text && short_number(token, len, &value)) {
        lua_pushnumber(b->L, value);
        return true;
    }
    lua_pushlstring(b->L, token, len); // text
    if (as_text)
        return true;
    value = any_number(b->L);
    if (isinf(value))
        return b->options->big_as_string;
    lua_pop(b->L, 1);
    lua_pushnumber(b->L, value);
    return true;
}

static enum err_kind push_string(struct builder *b)
{
    const char *token = b->scan.token;
    size_t len = b->scan.token_len;
    if (!b->scan.escaped) {
        lua_pushlstring(b->L, token, len);
        return ERR_NONE;
    }
    struct buf *scratch = &b->st->scratch;
    buf_clear(scratch);
    enum err_kind kind = buf_reserve(scratch, len);
    if (kind != ERR_NONE)
        return kind;
    lua_pushlstring(b->L, scratch->data,
                    json_unescape(scratch->data, token, len, b->options->halves));
    return ERR_NONE;
}

/* Moves the value on top of the stack into the container below it; at depth 0 leaves it there. */
static void store(struct builder *b)
{
    unsigned depth = b->scan.depth;
    if (depth == 0)
        return;
    if (b->counts[depth] < 0)
        lua_rawset(b->L, -3); // container (key and value gone)
    else
        lua_rawseti(b->L, -2, ++b->counts[depth]); // container
}

static enum err_kind fail(struct builder *b, int base, const char *fault, struct err *err,
                          size_t *offset)
{
    if (fault != NULL) {
        b->scan.fault = fault;
        b->scan.offset = (size_t)(b->scan.token - b->text);
    }
    lua_settop(b->L, base);
    *offset = b->scan.offset;
    return json_scan_err(&b->scan, err);
}

enum err_kind json_decode(lua_State *L, struct json_state *st, const char *text, size_t len,
                          const struct json_decode_options *options, int array_mark,
                          struct err *err, size_t *offset)
{
    /* Set field by field: to clear the counters of a thousand levels costs more than a small text
     * takes to decode. */
    struct builder b;
    b.L = L;
    b.st = st;
    b.options = options;
    b.array_mark = array_mark;
    b.text = text;
    json_scan_init(&b.scan, text, len, options->max_depth);
    b.scan.halves = options->halves;
    int base = lua_gettop(L);
    for (;;) {
        enum json_token token = json_scan_next(&b.scan);
        enum err_kind kind = ERR_NONE;
        switch (token) {
        case JSON_ERROR:
            return fail(&b, base, NULL, err, offset);
        case JSON_END:
            return ERR_NONE;
        case JSON_OBJECT:
            luaL_checkstack(L, 6, "json");
            lua_createtable(L, 0, b.scan.depth == 1 ? OUTER_SLOTS : OBJECT_SLOTS);
            b.counts[b.scan.depth] = -1;
            continue;
        case JSON_ARRAY:
            luaL_checkstack(L, 6, "json");
            lua_createtable(L, ARRAY_SLOTS, 0);
            b.counts[b.scan.depth] = 0;
            continue;
        case JSON_ARRAY_END:
            if (b.counts[b.scan.depth + 1] == 0) {
                lua_pushvalue(L, b.array_mark);
                lua_setmetatable(L, -2);
            }
            break;
        case JSON_OBJECT_END:
            break;
        case JSON_KEY:
            kind = push_string(&b);
            if (kind == ERR_NONE)
                continue;
            break;
        case JSON_STRING:
            kind = push_string(&b);
            break;
        case JSON_NUMBER:
            if (!push_number(&b))
                return fail(&b, base, "a number beyond the range of a double", err, offset);
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            lua_pushboolean(L, token == JSON_TRUE);
            break;
        case JSON_NULL:
            lua_pushlightuserdata(L, NULL);
            break;
        }
        if (kind != ERR_NONE) {
            lua_settop(L, base);
            return err_set(err, kind, "json: no memory for a string of %zu bytes",
                           b.scan.token_len);
        }
        store(&b);
    }
}
