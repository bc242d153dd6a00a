/* Requests that wait for a place which only their own side could free. */
#pragma once

#include "lua/lua_rt.h"

/* Fails a request that waits for a place that none but the streams of its own side could free. Call
 * when no task is ready. */
void slot_deadlock_break(struct rt *rt);
