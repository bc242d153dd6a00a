/* The JSON binding without its runtime: each allocation of an encode and a decode is made to fail.
 */
#include "test.h"

#include "lua/lua_json.h"
#include "lua/lua_rt.h"
#include <lualib.h>

static const char script[] =
    "local core = ...\n"
    "local value = { list = core.array(), text = ('\\195\\169\"\\n'):rep(50), nested = { { 1.5, 2 "
    "} },\n"
    "  n = 0.1, no = core.null }\n"
    "local text, err = core.encode(value, { sorted = true, indent = 2 })\n"
    "if not text then return 'refused', err end\n"
    "local back, other = core.decode(text, { big = 'string' })\n"
    "if not back then return 'refused', other end\n"
    "assert(back.text == value.text and back.nested[1][1] == 1.5 and back.no == core.null)\n"
    "return 'done'\n";

/* 0: done; 1: an error came back as a value; 2: raised. */
static int run(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "test.script");
    lua_getfield(L, LUA_REGISTRYINDEX, "test.core");
    if (lua_pcall(L, 1, 1, 0) != 0) {
        lua_settop(L, 0);
        return 2;
    }
    int result = strcmp(lua_tostring(L, -1), "done") == 0 ? 0 : 1;
    lua_settop(L, 0);
    return result;
}

static int open_core(lua_State *L)
{
    struct rt *rt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_open_json(L, rt);
    lua_setfield(L, LUA_REGISTRYINDEX, "test.core");
    return 0;
}

TEST(no_failing_allocation_leaks_or_breaks_json)
{
    static struct rt rt;
    mem_init(&rt.mem, 0);
    lua_State *L = lua_newstate(mem_lua_alloc, &rt.mem);
    REQUIRE(L != NULL);
    rt.L = L;
    REQUIRE(lua_cpcall(L, open_core, &rt) == 0);
    REQUIRE(luaL_loadbuffer(L, script, sizeof script - 1, "=script") == 0);
    lua_setfield(L, LUA_REGISTRYINDEX, "test.script");
    CHECK_EQ(run(L), 0);
    long n = 0;
    int ended[3] = {0};
    for (; n < 100000; n++) {
        lua_gc(L, LUA_GCCOLLECT, 0);
        rt.mem.fail_in = n;
        int result = run(L);
        bool reached = rt.mem.fail_in < 0;
        rt.mem.fail_in = -1;
        ended[result]++;
        CHECK_EQ(run(L), 0);
        if (!reached)
            break;
    }
    CHECK(n > 10 && n < 100000);
    CHECK(ended[2] > 0);
    lua_close(L);
    CHECK_EQ(rt.mem.blocks, 0);
    CHECK_EQ(rt.mem.used_bytes, 0);
    CHECK_EQ(rt.mem.lua_bytes, 0);
    mem_fini(&rt.mem);
}

TEST_MAIN
