/* The Lua side of a runtime: installs its modules and sets up its globals. */
#pragma once

#include "lua/lua_rt.h"

/* Opens the standard libraries and leat's modules in a state that the runtime owns. `script_dir`:
 * the first folder that require searches; NULL: none. Raises, so call it protected. */
void runtime_open_modules(lua_State *L, struct rt *rt, const char *script_dir, bool limited,
                          const char *allow_modules);
/* Pushes package.preload, even if the global `package` is another table, or missing. May raise. */
void runtime_push_preload(lua_State *L);
/* The same in a host's state. It changes only package.preload, package.loaded and the registry. The
 * host must not be in the middle of a require of a module named "leat.*". `module`: the host
 * requires "leat" itself, and there are no chunks. */
void runtime_open_hosted(lua_State *L, struct rt *rt, bool module);
