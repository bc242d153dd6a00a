/* Tasks that the host starts, and the report of their ends to the host. */
#pragma once

#include "host/runtime_private.h"

/* Reports ended tasks to the host. Call it outside of Lua and of libuv's callbacks. */
void host_call_deliver(struct host *e);
/* Makes a record for a task that is about to be spawned. NULL: out of memory. `name`: like the
 * source's name. */
struct started *host_call_new(struct host *e, const char *name, leat_done done, void *arg);
/* host_call_prepare makes the record's reference and may raise: call it before the spawn.
 * host_call_begin takes the task and pops its userdata; it does not raise. */
void host_call_prepare(lua_State *L, struct started *s);
void host_call_begin(lua_State *L, struct started *s, struct task *t);
/* Frees the record when the spawn failed. */
void host_call_drop(struct started *s);
/* Whether host_call_deliver has something to report. */
bool host_call_pending(const struct host *e);
