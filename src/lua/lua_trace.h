/* Records what a run does, for --trace, --report and --stats. Without a record, each function here
 * costs one test of a pointer. */
#pragma once

#include "engine/transfer.h"
#include "ground/err.h"
#include "lua/lua_rt.h"

struct record;

/* Begins a record of the runtime, and a trace if a path is given. NULL on failure: see *err. */
struct record *trace_new(struct rt *rt, const char *trace_path, struct err *err);
/* Completes the trace. Returns 0, or the errno of a failed write. NULL is allowed. */
int trace_close(struct record *r);
/* Frees the record. Call it after trace_close, when no task runs any more. NULL is allowed. */
void trace_free(struct record *r);
int lua_open_trace(lua_State *L, struct rt *rt);
/* Called when the engine has released the transfer. */
void trace_note_request(struct record *r, const struct transfer *t);
