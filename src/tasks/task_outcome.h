/* How a task has ended: its values, its error, its bug and the traceback of that. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"

/* Pushes the outcome of an ended task: its values for OUTCOME_OK; nil, err for a failure or a
 * cancel. For a bug pushes the raised value alone. Returns the number of values. May raise
 * (memory). */
int task_push_outcome(lua_State *L, struct task *t);
/* The error that the cancel of `t` stands for. */
void task_cancel_err(const struct task *t, struct err *e);
/* Pushes one value of it: the first result, the error, or the raised value. */
void task_push_first(lua_State *L, struct task *t);
/* Pushes the traceback of an ended task's bug, those of the tasks it came through included. */
void task_push_trace(lua_State *L, struct task *t);
/* Raises the bug of the ended task `from` in the running task, with its traceback noted. */
int task_raise_bug(lua_State *L, struct sched *s, struct task *from);
/* The error value on top of L is being raised in the running task and its frames on `L` are about
 * to be lost: keeps their traceback if it is a bug. */
void task_note_trace(lua_State *L, struct sched *s, lua_State *of);
/* The value at `index` is an error table of ours (it has the metatable in the registry). */
bool task_is_err(lua_State *L, int index);
