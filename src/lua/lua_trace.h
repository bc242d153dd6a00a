/* What a run does, written down while it runs: for --trace, --report and --stats. Without it
 * everything here costs one test of a pointer. */
#pragma once

#include "engine/transfer.h"
#include "ground/err.h"
#include "lua/lua_rt.h"

struct record;

/* Begins a record of the runtime (and its trace, where a path is given). NULL: see *err. */
struct record *trace_new(struct rt *rt, const char *trace_path, struct err *err);
/* Completes the trace: 0, or the errno of why it could not be written. NULL is allowed. */
int trace_close(struct record *r);
/* After trace_close; no task may run any more. NULL is allowed. */
void trace_free(struct record *r);
int lua_open_trace(lua_State *L, struct rt *rt);
/* The engine has let go of the transfer. */
void trace_note_request(struct record *r, const struct transfer *t);
