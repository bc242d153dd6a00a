/* Whether a runtime may be used here, and protected calls into its Lua. The other files of the
 * hosts' floor stand on this one. */
#pragma once

#include "host/runtime_private.h"

/* Whether the runtime may be used here: on its thread, in its process, not from a callback or a
 * task (unless `inside`). `e` NULL: it is closed. */
bool runtime_usable(const struct host *e, bool inside, const char **why);
/* Fills *err, if that is not NULL. */
void runtime_set_error(struct leat_error *err, const char *kind, const char *message);
/* NULL: it is closed, or there is none. */
struct host *runtime_host(leat_runtime *r);
/* The inside of a runtime, for what the leat program adds to it. */
struct rt *runtime_inside(struct leat_runtime *r);
/* Runs `fn` with `arg` protected; false: it raised, see runtime_error_text. */
bool runtime_protected(leat_runtime *r, lua_CFunction fn, void *arg);
/* Once more where memory ran out: for an `fn` that has changed nothing where it raised. */
bool runtime_protected_again(leat_runtime *r, lua_CFunction fn, void *arg);
/* What runtime_protected ran into; *kind is changed if that was a lack of memory. */
const char *runtime_error_text(leat_runtime *r, const char **kind);
/* Where the names that the host uses are looked up and set; what chunks have for globals. */
void runtime_push_globals(lua_State *L);
void runtime_push_chunk_globals(lua_State *L);
