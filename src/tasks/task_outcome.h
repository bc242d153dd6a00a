/* The outcome of a task: its values, its error, or its bug with the traceback. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"

/* Pushes the outcome of an ended task and returns the number of values. OUTCOME_OK: its values. A
 * failure or a cancel: nil, err. A bug: only the raised value. May raise (memory). */
int task_push_outcome(lua_State *L, struct task *t);
/* Sets *e to the error for the cancel of `t`. */
void task_cancel_err(const struct task *t, struct err *e);
/* Pushes one value of the outcome: the first result, the error, or the raised value. */
void task_push_first(lua_State *L, struct task *t);
/* Pushes the traceback of an ended task's bug, including the tasks that it passed through. */
void task_push_trace(lua_State *L, struct task *t);
/* Raises the bug of the ended task `from` in the running task, and keeps its traceback. */
int task_raise_bug(lua_State *L, struct sched *s, struct task *from);
/* Call it when the running task raises the error value on top of L, before the frames on `of` are
 * lost. If the value is a bug, keeps the traceback. */
void task_note_trace(lua_State *L, struct sched *s, lua_State *of);
/* True if the value at `index` is one of our error tables (it has our metatable from the registry).
 */
bool task_is_err(lua_State *L, int index);
