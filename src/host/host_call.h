/* Tasks that the host starts, and what it is told of their ends. */
#pragma once

#include "host/runtime_private.h"

/* Tells hosts about what has ended; outside of Lua and of uv's callbacks. */
void host_call_deliver(struct host *e);
/* A record for a task that is about to be spawned; NULL: no memory. `name` as the source's. */
struct started *host_call_new(struct host *e, const char *name, leat_done done, void *arg);
/* Makes its reference, which raises, before the spawn; and takes the task, whose userdata it pops,
 * which does not. */
void host_call_prepare(lua_State *L, struct started *s);
void host_call_begin(lua_State *L, struct started *s, struct task *t);
/* There was no spawn. */
void host_call_drop(struct started *s);
/* Something waits for host_call_deliver. */
bool host_call_pending(const struct host *e);
