/* Digests by libcrypto, which libcurl has loaded into the process already. */
#include "lua/lua_crypto.h"

#include "lua/lua_aux.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

static int push_digest(lua_State *L, const unsigned char *digest, size_t len, bool raw)
{
    static const char hex[] = "0123456789abcdef";
    if (raw) {
        lua_pushlstring(L, (const char *)digest, len);
        return 1;
    }
    char text[2 * EVP_MAX_MD_SIZE];
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = hex[digest[i] >> 4];
        text[2 * i + 1] = hex[digest[i] & 15];
    }
    lua_pushlstring(L, text, 2 * len);
    return 1;
}

/* (bytes, raw) -> digest */
static int sha256(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    if (EVP_Digest(bytes, len, digest, &digest_len, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "sha256: libcrypto refused");
    return push_digest(L, digest, digest_len, lua_toboolean(L, 2));
}

/* (key, bytes, algorithm, raw) -> digest */
static int hmac(lua_State *L)
{
    size_t key_len, len;
    const char *key = luaL_checklstring(L, 1, &key_len);
    const char *bytes = luaL_checklstring(L, 2, &len);
    const EVP_MD *algorithm = EVP_get_digestbyname(luaL_checkstring(L, 3));
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    if (algorithm == NULL || key_len > INT32_MAX ||
        HMAC(algorithm, key, (int)key_len, (const unsigned char *)bytes, len, digest,
             &digest_len) == NULL)
        return luaL_error(L, "hmac: libcrypto refused");
    return push_digest(L, digest, digest_len, lua_toboolean(L, 4));
}

void lua_crypto_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"sha256", sha256}, {"hmac", hmac}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
}
