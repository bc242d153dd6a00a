/* Digests by libcrypto. */
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

#define HASHER_TNAME "leat.hasher"

/* The second upvalue of what uses SHA-256: a context that is used again. Otherwise libcrypto would
 * look the algorithm up for each digest, which costs more than the digest of a short text. */
struct hasher {
    EVP_MD_CTX *ctx; /* NULL before the first digest, and after the finalizer */
    bool was_tried;
};

static void push_hasher(lua_State *L)
{
    struct hasher *h = lua_newuserdata(L, sizeof *h);
    *h = (struct hasher){0};
    luaL_getmetatable(L, HASHER_TNAME);
    lua_setmetatable(L, -2);
}

/* Not at the start: libcrypto takes 3,000,000 instructions for its first look-up. */
static void begin_hashing(struct hasher *h)
{
    h->was_tried = true;
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx && EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(h->ctx);
        h->ctx = NULL;
    }
}

static int hasher_gc(lua_State *L)
{
    struct hasher *h = lua_touserdata(L, 1);
    EVP_MD_CTX_free(h->ctx);
    *h = (struct hasher){.was_tried = true};
    return 0;
}

/* The SHA-256 of the text at index 1. */
static void hash(lua_State *L, unsigned char digest[EVP_MAX_MD_SIZE], unsigned *digest_len)
{
    struct hasher *h = lua_touserdata(L, lua_upvalueindex(2));
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    if (!h->was_tried)
        begin_hashing(h);
    bool done = h->ctx ? EVP_DigestInit_ex(h->ctx, NULL, NULL) == 1 &&
                             EVP_DigestUpdate(h->ctx, bytes, len) == 1 &&
                             EVP_DigestFinal_ex(h->ctx, digest, digest_len) == 1
                       : EVP_Digest(bytes, len, digest, digest_len, EVP_sha256(), NULL) == 1;
    if (!done)
        luaL_error(L, "sha256: libcrypto refused");
}

/* (bytes, raw) -> digest */
static int sha256(lua_State *L)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    hash(L, digest, &digest_len);
    return push_digest(L, digest, digest_len, lua_toboolean(L, 2));
}

/* A number of 52 bits. */
static lua_Number number_of(const unsigned char *bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < 6; i++)
        n = n << 8 | bytes[i];
    return (lua_Number)(n << 4 | (bytes[6] & 15));
}

/* (bytes) -> two numbers of the SHA-256, with 104 bits of it */
static int fingerprint(lua_State *L)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    hash(L, digest, &digest_len);
    lua_pushnumber(L, number_of(digest));
    lua_pushnumber(L, number_of(digest + 7));
    return 2;
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
    static const luaL_Reg functions[] = {{"hmac", hmac}, {NULL, NULL}};
    static const luaL_Reg hashing[] = {
        {"sha256", sha256}, {"fingerprint", fingerprint}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
    rt_newmetatable(L, rt, HASHER_TNAME, NULL, hasher_gc);
    lua_pop(L, 1);
    push_hasher(L);
    for (const luaL_Reg *f = hashing; f->name; f++) { // module hasher
        lua_pushlightuserdata(L, rt);
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, f->func, 2);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
}
