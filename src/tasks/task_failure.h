/* Remembers the last failure that a script received, for the message of a bug that it causes. */
#pragma once

#include "tasks/sched_state.h"

/* Call it when `what` returns the error on top of L to a script: see struct task_failure. */
void task_note_failure(lua_State *L, struct sched *s, const char *what);
/* If a failure caused the bug of this task, pushes and returns the bug's message with that failure.
 * Otherwise pushes nothing and returns NULL. May raise (memory). */
const char *task_push_cause(lua_State *L, struct sched *s, uint64_t task, const char *message);
