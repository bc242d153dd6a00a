/* The last failure that a script was handed, for the message of a bug that comes of it. */
#pragma once

#include "tasks/sched_state.h"

/* A script is being handed the error on top of L by `what`: see struct task_failure. */
void task_note_failure(lua_State *L, struct sched *s, const char *what);
/* The message of a bug in that task, with the failure that has led to it: pushed and returned;
 * NULL, and nothing is pushed, if none has. May raise (memory). */
const char *task_push_cause(lua_State *L, struct sched *s, uint64_t task, const char *message);
