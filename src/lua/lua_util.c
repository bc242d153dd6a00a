/* leat.native.util: random identifiers, base64, and access to the log. */
#include "lua/lua_util.h"

#include "ground/redact.h"
#include "ground/secret.h"
#include "lua/lua_aux.h"
#include "lua/lua_crypto.h"
#include "lua/lua_stdin.h"
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static const char std_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* A run with a seed must repeat exactly, including identifiers. Any other run uses random bytes of
 * the operating system. */
static void random_bytes(struct rt *rt, unsigned char *out, size_t len)
{
    if (!rt->repeatable && getrandom(out, len, 0) == (ssize_t)len)
        return;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t r = rt_random_u64(rt);
        memcpy(out + i, &r, MIN(len - i, 8));
    }
}

static int uuid(lua_State *L)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[16];
    random_bytes(rt_of(L), bytes, sizeof bytes);
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40); /* version 4 */
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80); /* the variant of RFC 9562 */
    char text[36];
    char *at = text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[bytes[i] >> 4];
        *at++ = hex[bytes[i] & 15];
    }
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

/* Room for `len` bytes that a raise cannot leak: a userdata, left on the stack. */
static char *scratch(lua_State *L, size_t len)
{
    return lua_newuserdata(L, MAX(len, 1));
}

/* (bytes, url, pad) -> text */
static int base64_encode(lua_State *L)
{
    size_t len;
    const unsigned char *in = (const unsigned char *)luaL_checklstring(L, 1, &len);
    const char *alphabet = lua_toboolean(L, 2) ? url_alphabet : std_alphabet;
    bool pad = lua_toboolean(L, 3);
    if (len > SIZE_MAX / 4)
        return luaL_error(L, "base64.encode: too long");
    char *start = scratch(L, (len + 2) / 3 * 4), *at = start;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned bits = (unsigned)in[i] << 16;
        if (left > 1)
            bits |= (unsigned)in[i + 1] << 8;
        if (left > 2)
            bits |= in[i + 2];
        *at++ = alphabet[bits >> 18];
        *at++ = alphabet[bits >> 12 & 63];
        if (left > 1)
            *at++ = alphabet[bits >> 6 & 63];
        else if (pad)
            *at++ = '=';
        if (left > 2)
            *at++ = alphabet[bits & 63];
        else if (pad)
            *at++ = '=';
    }
    lua_pushlstring(L, start, (size_t)(at - start));
    return 1;
}

/* The value of each byte in `alphabet`, 64 for those outside it. */
static void invert(const char *alphabet, unsigned char values[256])
{
    memset(values, 64, 256);
    for (unsigned i = 0; i < 64; i++)
        values[(unsigned char)alphabet[i]] = (unsigned char)i;
}

/* (text, url) -> bytes, or nil and an error */
static int base64_decode(lua_State *L)
{
    size_t len;
    const char *in = luaL_checklstring(L, 1, &len);
    unsigned char values[256];
    invert(lua_toboolean(L, 2) ? url_alphabet : std_alphabet, values);
    size_t digits = len;
    while (digits != 0 && len - digits < 2 && in[digits - 1] == '=')
        digits--;
    if (digits != len && len % 4 != 0)
        return aux_failf(L, ERR_INVALID, "base64: wrong padding (%zu characters)", len);
    if (digits % 4 == 1)
        return aux_failf(L, ERR_INVALID, "base64: the text ends in the middle of a byte");
    char *start = scratch(L, digits / 4 * 3 + 3), *at = start;
    unsigned bits = 0, have = 0;
    for (size_t i = 0; i < digits; i++) {
        unsigned value = values[(unsigned char)in[i]];
        if (value > 63)
            return aux_failf(L, ERR_INVALID, "base64: byte %zu is not in the alphabet", i + 1);
        bits = (bits << 6 | value) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *at++ = (char)(bits >> have & 0xff);
        }
    }
    /* Two different texts must not decode to the same bytes. */
    if ((bits & ((1u << have) - 1)) != 0)
        return aux_failf(L, ERR_INVALID, "base64: stray bits at the end");
    lua_pushlstring(L, start, (size_t)(at - start));
    return 1;
}

static int log_enabled(lua_State *L)
{
    lua_pushboolean(L, luaL_checkinteger(L, 1) >= (lua_Integer)rt_of(L)->log.min_level);
    return 1;
}

/* () -> whether messages go to a log function of the host. */
static int log_is_hosts(lua_State *L)
{
    lua_pushboolean(L, rt_of(L)->log.is_hosts);
    return 1;
}

/* (level, line) */
static int log_line(lua_State *L)
{
    lua_Integer level = luaL_checkinteger(L, 1);
    log_write(&rt_of(L)->log, (enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* (whether standard error shows a line that is redrawn) */
static int line_open(lua_State *L)
{
    rt_of(L)->log.line_open = lua_toboolean(L, 1);
    return 0;
}

/* (name, value) -> the value as it may be shown */
static int redact(lua_State *L)
{
    size_t name_len, len;
    const char *name = luaL_checklstring(L, 1, &name_len);
    const char *value = luaL_checklstring(L, 2, &len);
    if (secret_name(name, name_len)) {
        lua_pushliteral(L, "***");
    } else if (strstr(value, "://") != NULL) {
        char shown[2048];
        redact_url(shown, sizeof shown, value, len);
        lua_pushstring(L, shown);
    } else {
        lua_pushvalue(L, 2);
    }
    return 1;
}

/* (value, name or nil) -> a short description of it, for messages */
static int picture(lua_State *L)
{
    char out[AUX_PICTURE_SIZE];
    const char *name = lua_tostring(L, 2);
    lua_pushstring(L, aux_picture(L, 1, name, out, sizeof out));
    return 1;
}

/* () -> "file:line" of the script, or "?" */
static int where(lua_State *L)
{
    char out[128];
    task_blame(L, out, sizeof out);
    lua_pushstring(L, out);
    return 1;
}

/* (text) -> whether it looks like a secret */
static int looks_secret(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, secret_shape(text, len));
    return 1;
}

/* (path) -> the path as it may be shown */
static int shown_path(lua_State *L)
{
    char shown[4096];
    redact_path(shown, sizeof shown, luaL_checkstring(L, 1));
    lua_pushstring(L, shown);
    return 1;
}

/* (text without a NUL) -> the text with *** for each word that looks like a secret */
static int scrubbed(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char *out = lua_newuserdata(L, 2 * len + 64);
    redact_words(out, 2 * len + 64, text);
    lua_pushstring(L, out);
    return 1;
}

/* (text) -> the text, or "***" if it holds a secret */
static int hidden(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (secret_text(text, len))
        lua_pushliteral(L, "***");
    else
        lua_pushvalue(L, 1);
    return 1;
}

static int is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty(luaL_checkint(L, 1)) == 1);
    return 1;
}

int lua_open_util(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"uuid", uuid},
                                         {"base64_encode", base64_encode},
                                         {"base64_decode", base64_decode},
                                         {"log_enabled", log_enabled},
                                         {"log", log_line},
                                         {"log_is_hosts", log_is_hosts},
                                         {"line_open", line_open},
                                         {"redact", redact},
                                         {"picture", picture},
                                         {"where", where},
                                         {"looks_secret", looks_secret},
                                         {"hidden", hidden},
                                         {"path", shown_path},
                                         {"scrubbed", scrubbed},
                                         {"isatty", is_terminal},
                                         {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    lua_crypto_register(L, rt);
    lua_stdin_register(L, rt);
    return 1;
}
