/* Deadlocks of request slots: see lua_slot_deadlock.c. */
#pragma once

#include "lua/lua_rt.h"

/* Fails a request that waits for a slot which only unread streams of its own tasks could free. Call
 * it when no task is ready. */
void slot_deadlock_break(struct rt *rt);
