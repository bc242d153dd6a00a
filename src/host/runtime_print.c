#include "host/runtime_print.h"

#include "host/runtime_private.h"

static int l_print(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct leat_runtime *r = CONTAINER_OF(rt, struct leat_runtime, rt);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (rt->host)
        rt->host->inside++;
    r->config.print(r->config.print_arg, text, len);
    if (rt->host)
        rt->host->inside--;
    return 0;
}

void runtime_push_print(lua_State *L, struct rt *rt)
{
    if (!CONTAINER_OF(rt, struct leat_runtime, rt)->config.print) {
        lua_pushnil(L);
        return;
    }
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, l_print, 1);
}
