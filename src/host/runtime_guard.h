/* Checks whether a runtime may be used here, and makes protected calls into its Lua. The other
 * files of src/host depend on this one. */
#pragma once

#include "host/runtime_private.h"

/* Whether the runtime may be used here: on its thread, in its process, and not from a callback or a
 * task (unless `inside`). `e` NULL: it is closed. */
bool runtime_usable(const struct host *e, bool inside, const char **why);
/* Fills *err, if that is not NULL. */
void runtime_set_error(struct leat_error *err, const char *kind, const char *message);
/* NULL: the runtime is closed, or there is none. */
struct host *runtime_host(leat_runtime *r);
/* A runtime's internal state, for the parts that the leat program adds to it. */
struct rt *runtime_inside(struct leat_runtime *r);
/* Runs `fn` with `arg` protected; false: it raised, see runtime_error_text. */
bool runtime_protected(leat_runtime *r, lua_CFunction fn, void *arg);
/* The same, but tries once more if memory ran out. For an `fn` that changes nothing when it raises.
 */
bool runtime_protected_again(leat_runtime *r, lua_CFunction fn, void *arg);
/* The error of runtime_protected. Changes *kind if memory ran out. */
const char *runtime_error_text(leat_runtime *r, const char **kind);
/* Pushes the table in which the host's names are looked up and set: the globals of chunks. */
void runtime_push_globals(lua_State *L);
void runtime_push_chunk_globals(lua_State *L);
