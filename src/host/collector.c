#include "host/collector.h"

/* By default a cycle begins when the memory has doubled. While there is little of it, most of what
 * a cycle costs is looking at what stays, again and again: below this size the memory may grow
 * fourfold. */
enum { SMALL_KB = 4 << 10, SMALL_PAUSE = 400, PAUSE = 200 };

static int wanted(lua_State *L)
{
    return lua_gc(L, LUA_GCCOUNT, 0) < SMALL_KB ? SMALL_PAUSE : PAUSE;
}

void collector_begin(struct collector *c, lua_State *L)
{
    c->pause = wanted(L);
    lua_gc(L, LUA_GCSETPAUSE, c->pause);
}

void collector_pace(struct collector *c, lua_State *L)
{
    if (c->pause == 0)
        return;
    int pause = wanted(L);
    if (pause == c->pause)
        return;
    int found = lua_gc(L, LUA_GCSETPAUSE, pause);
    if (found == c->pause) {
        c->pause = pause;
    } else { /* by collectgarbage("setpause") of the script */
        lua_gc(L, LUA_GCSETPAUSE, found);
        c->pause = 0;
    }
}
