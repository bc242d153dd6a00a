/* The two ends of a wait: park and take. Runs in the task that waits. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"
#include <stdarg.h>

/* The running task; raises (naming `who`) when called outside one. */
struct task *task_current(lua_State *L, struct sched *s, const char *who);

/* Parks the running task: checks that this spot may wait (raises with what to do if not), records
 * the wait and yields; use as `return task_park(L, s, &ops, ...)`. A pending cancel wakes it at
 * once, and unless ops->joins neither `begin` nor `ops` is asked then. `begin` runs when the wait
 * really begins: link t->wait.node and start the timer there; may be NULL. Raises nothing after the
 * check. */
int task_park(lua_State *L, struct sched *s, const struct wait_ops *ops, void *obj,
              void (*begin)(struct task *t, void *arg), void *arg);
/* Raises unless the running task may wait at this spot. task_park does it too; call it earlier
 * where something would have to be undone. */
void task_check_can_wait(lua_State *L, struct sched *s, const char *who);
/* The other end of a park, called in the task when it runs again: the results, or the cancel
 * raised. */
int task_take(lua_State *L, struct sched *s);
/* Raises the cancel of the running task, the same error each time. */
int task_raise_cancel(lua_State *L, struct task *t);
/* The same where a coroutine of the script's own was found to wait at a spot, on L, that cannot:
 * the take that it comes to when it is resumed raises what task_check_can_wait does. */
void task_refuse(lua_State *L, struct sched *s);
/* Gives the running task's wait back where it is not taken: this spot cannot yield, or an error
 * came first. Nothing to do without a wait. */
void task_unpark(struct sched *s);
/* Raises a string that begins with the script's own file:line. */
NORETURN void task_vraise(lua_State *L, const char *fmt, va_list ap);
