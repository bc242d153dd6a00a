/* Tasks that the host starts, and what it is told of their ends. */
#pragma once

#include "host/runtime_private.h"

/* Tells hosts about what has ended; outside of Lua and of uv's callbacks. */
void embed_deliver(struct embed *e);
/* A record for a task that is about to be spawned; NULL: no memory. `name` as the source's. */
struct started *embed_started_new(struct embed *e, const char *name, leat_done done, void *arg);
/* Makes its reference, which raises, before the spawn; and takes the task, whose userdata it pops,
 * which does not. */
void embed_started_prepare(lua_State *L, struct started *s);
void embed_started_begin(lua_State *L, struct started *s, struct task *t);
/* There was no spawn. */
void embed_started_drop(struct started *s);
/* Something waits for embed_deliver. */
bool embed_pending(const struct embed *e);
