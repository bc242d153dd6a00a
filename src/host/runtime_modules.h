/* The Lua side of a runtime: which modules a state gets, and the start of its globals. */
#pragma once

#include "lua/lua_rt.h"

/* Opens the standard libraries and leat's modules in a state that the runtime owns. `script_dir`:
 * where require looks first; NULL: nowhere. Raises: call it protected. */
void runtime_open_modules(lua_State *L, struct rt *rt, const char *script_dir, bool limited,
                          const char *allow_modules);
/* Pushes package.preload, also where the global `package` is another table, or none. May raise. */
void runtime_push_preload(lua_State *L);
/* The same in a host's state, of which nothing but package.preload, package.loaded and the registry
 * changes. The host's `require` must not be on its way to a module named "leat.*". `module`: it is
 * on its way to "leat" itself, and there are no chunks. */
void runtime_open_hosted(lua_State *L, struct rt *rt, bool module);
