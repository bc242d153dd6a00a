/* Fuzzes the JSON scanner, builder and encoder (see run.sh). What must hold for any bytes: tokens
 * lie in the text and obey the grammar, a text that is accepted survives decode and encode, and the
 * text so made is a fixed point. */
#include "lua/lua_json_decode.h"
#include "lua/lua_json_encode.h"

#include <lualib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tokens(const char *text, size_t len, enum json_halves halves)
{
    struct json_scan s;
    json_scan_init(&s, text, len, 64);
    s.halves = halves;
    for (;;) {
        enum json_token token = json_scan_next(&s);
        ASSERT(s.depth <= 64);
        if (token == JSON_END)
            return;
        if (token == JSON_ERROR) {
            ASSERT(s.offset <= len && s.fault != NULL);
            ASSERT(json_scan_next(&s) == JSON_ERROR);
            return;
        }
        if (token != JSON_STRING && token != JSON_KEY && token != JSON_NUMBER)
            continue;
        ASSERT(s.token >= text && s.token + s.token_len <= text + len);
        if (token == JSON_NUMBER)
            continue;
        char *out = malloc(s.token_len + 1);
        ASSERT(out != NULL);
        size_t n = json_unescape(out, s.token, s.token_len, halves);
        ASSERT(n <= s.token_len);
        ASSERT(halves == JSON_HALVES_KEPT || json_utf8_valid(out, n) == n);
        free(out);
    }
}

static bool decode(lua_State *L, struct json_state *st, const char *text, size_t len, bool big)
{
    const struct json_decode_options options = {.big_as_string = big, .max_depth = 64};
    struct err err;
    size_t offset = 0;
    enum err_kind kind = json_decode(L, st, text, len, &options, 1, &err, &offset);
    ASSERT(kind == ERR_NONE || (kind == ERR_INVALID && offset <= len && err.message[0] != '\0'));
    return kind == ERR_NONE;
}

/* Pushes the text of the value on top of the stack. */
static void encode(lua_State *L, struct json_state *st)
{
    const struct json_encode_options options = {.sorted = true, .max_depth = 64};
    struct err err;
    enum err_kind kind = json_encode(L, st, lua_gettop(L), &options, &err);
    ASSERT(kind == ERR_NONE);
    lua_pushlstring(L, st->out.data, st->out.len);
}

static int round_trip(lua_State *L)
{
    const char *text = lua_touserdata(L, 1);
    size_t len = *(size_t *)lua_touserdata(L, 2);
    lua_settop(L, 0);
    struct mem mem;
    mem_init(&mem, 0);
    struct json_state st = {0};
    buf_init(&st.out, &mem, 1u << 24);
    buf_init(&st.scratch, &mem, 1u << 24);
    buf_init(&st.keys, &mem, 1u << 24);
    lua_newtable(L); /* the mark of empty arrays, at index 1 */
    st.array_mark = lua_topointer(L, 1);
    /* Large numbers as text are no part of the round trip: a fraction may come back whole. */
    bool valid = decode(L, &st, text, len, true);
    lua_settop(L, 1);
    if (decode(L, &st, text, len, false)) {
        ASSERT(valid);
        encode(L, &st); // mark value text
        size_t first_len, second_len;
        const char *first = lua_tolstring(L, -1, &first_len);
        ASSERT(decode(L, &st, first, first_len, false)); // mark value text value
        encode(L, &st);                                  // mark value text value text
        const char *second = lua_tolstring(L, -1, &second_len);
        ASSERT(first_len == second_len && memcmp(first, second, first_len) == 0);
    }
    buf_fini(&st.out);
    buf_fini(&st.scratch);
    buf_fini(&st.keys);
    ASSERT(mem.blocks == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL)
        L = luaL_newstate();
    ASSERT(L != NULL);
    /* A copy of the exact size, so that the sanitizer sees a read behind the end. */
    char *text = malloc(size ? size : 1);
    ASSERT(text != NULL);
    if (size)
        memcpy(text, data, size);
    check_tokens(text, size, JSON_HALVES_REFUSED);
    check_tokens(text, size, JSON_HALVES_REPLACED);
    check_tokens(text, size, JSON_HALVES_KEPT);
    lua_pushcfunction(L, round_trip);
    lua_pushlightuserdata(L, text);
    lua_pushlightuserdata(L, &size);
    int rc = lua_pcall(L, 2, 0, 0);
    ASSERT(rc == 0);
    free(text);
    return 0;
}

#define FUZZ_BYTES "{}[],:\"\\u0123456789abcdefE+-.tfn \n\xc3\xa9\xff\x80"
#include "standalone.h"
