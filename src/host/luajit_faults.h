/* Faults of LuaJIT that a state must avoid. The versions before the rolling releases have them
 * (2.1.0-beta3 and before); Debian 12 has such a version. */
#pragma once

#include <lua.h>
#include <stdbool.h>

/* Whether compiled code crashes when an allocation is refused: it then reads a frame that may be
 * gone. */
bool luajit_fails_refusals(lua_State *L);
/* Whether compiled loops over `pairs` and `next` may crash: on x86-64, the compiled code may lose
 * the upper half of the address of an item. The leat program repairs this (cli/cli_next.h). */
bool luajit_fails_next(lua_State *L);
/* Puts a `pairs` and a `next` that are never compiled into the table of globals at `index`. An item
 * of a loop then takes some 50 ns more. */
void luajit_avoid_next(lua_State *L, int index);
