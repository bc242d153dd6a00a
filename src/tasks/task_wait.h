/* The begin and the end of a wait: park and take. Called in the task that waits. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"
#include <stdarg.h>

/* Returns the running task. Raises an error that names `who` if none runs. */
struct task *task_current(lua_State *L, struct sched *s, const char *who);

/* Makes the running task wait. Use it as `return task_park(L, s, &ops, ...)`. First it checks that
 * the task may wait here; otherwise it raises an error that says what to do. Then it records the
 * wait and yields. If a cancel is pending, the task is woken at once, and neither `begin` nor `ops`
 * is called (unless ops->joins). `begin` is called when the wait really begins, and may be NULL: it
 * links t->wait.node and starts the timer. Nothing is raised after the check. */
int task_park(lua_State *L, struct sched *s, const struct wait_ops *ops, void *obj,
              void (*begin)(struct task *t, void *arg), void *arg);
/* Raises an error if the running task may not wait here. task_park checks this too. Call it earlier
 * if something would have to be undone. */
void task_check_can_wait(lua_State *L, struct sched *s, const char *who);
/* True if the time is over that a host's step gives to Lua, and the running task may wait here. A
 * call that has its result already then waits all the same, and is woken at once. Otherwise a task
 * that reads what is there could go on far beyond the step. */
bool task_gives_way(lua_State *L, const struct sched *s);
/* Ends a wait. Called in the task when it runs again. Returns the results, or raises the cancel. */
int task_take(lua_State *L, struct sched *s);
/* Raises the cancel of the running task: always the same error object. */
int task_raise_cancel(lua_State *L, struct task *t);
/* Call it if a script's own coroutine, running on L, waits where it cannot. When it is resumed, its
 * take raises the error of task_check_can_wait. */
void task_refuse(lua_State *L, struct sched *s);
/* Undoes the wait of the running task if no take will follow: the task could not yield here, or an
 * error was raised first. Does nothing if there is no wait. */
void task_unpark(struct sched *s);
/* Raises a string that begins with "file:line" of the script. */
NORETURN void task_vraise(lua_State *L, const char *fmt, va_list ap);
