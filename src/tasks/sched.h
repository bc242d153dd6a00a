/* The scheduler: the ready queue, the tree of tasks, and the project's only call of lua_resume. */
#pragma once

#include "tasks/sched_state.h"
#include "tasks/task.h"

/* Prepares the registry of L. May raise (memory): call it in a protected call. */
void sched_init(struct sched *s, struct loop *loop, struct log *log, lua_State *L, bool own_state);

/* Pops the value on top of the stack and keeps it from being collected. Returns its reference. May
 * raise (memory). */
int sched_keep(lua_State *L);
/* These three change, push and drop a kept value. sched_set_kept pops the value on top of the stack
 * and stores it under `ref`. sched_push_kept pushes it (nil for LUA_NOREF). sched_drop_kept drops
 * it (LUA_NOREF: does nothing). None of them allocates, so they may be called outside of a
 * protected call. luaL_unref on the registry may allocate, because it adds a key. */
void sched_set_kept(lua_State *L, int ref);
void sched_push_kept(lua_State *L, int ref);
void sched_drop_kept(lua_State *L, int ref);
/* Pops a function and `nargs` arguments from L, creates a task for them, and pushes the task's
 * userdata. The task starts in its turn of the ready queue. `parent` NULL: the task is a root. May
 * raise (memory, closing). */
struct task *sched_spawn(lua_State *L, struct sched *s, struct task *parent, int nargs);

/* Runs the ready tasks, and then those that they wake, up to a bound. Then decides the time limits
 * that passed in this tick. Stops early after `until_ns`. False: no task was ready. */
bool sched_run_ready(struct sched *s, uint64_t until_ns);
/* True if there are tasks, none is ready, and nothing can ever make one ready. */
bool sched_is_stuck(const struct sched *s);
/* While a task runs: true if other tasks are ready, or a turn of the loop could make some ready. */
bool sched_others_wait(const struct sched *s);
/* Call it after an out-of-memory failure that no resume has seen. LuaJIT does not collect garbage
 * then; this does, if it will probably free enough. `L`: the running state. */
void sched_make_room(struct sched *s, lua_State *L);
/* Someone has taken the task's failure: its parent need not report it. */
void sched_observe(struct task *t);
