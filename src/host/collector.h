/* Decides how long Lua's collector rests between two cycles. */
#pragma once

#include <lua.h>

struct collector {
    int pause; /* what was set last, in percent; 0: it is left to the script */
};

/* For a Lua state of our own without a memory limit. */
void collector_begin(struct collector *c, lua_State *L);
/* Call it once per turn of the loop. Does nothing without collector_begin. */
void collector_pace(struct collector *c, lua_State *L);
