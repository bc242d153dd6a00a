/* Reports how a runtime's script ended. */
#pragma once

#include "host/runtime_private.h"

/* Makes the task on top of the stack the one that leat_result is about. Called in advance, because
 * it may raise. */
void runtime_prepare_main(lua_State *L, leat_runtime *r);
void runtime_set_main(lua_State *L, leat_runtime *r, struct started *s, bool script);
/* Call it when a script has been started: leat_result is then about the script, not about later
 * calls. */
bool runtime_has_script(const leat_runtime *r);
/* Call it when a task without a callback has ended. If it failed and leat_result is not about it,
 * logs the failure. */
void runtime_ended_unasked(leat_runtime *r, struct started *s);
/* Logs how the last script ended, if it failed and the host has not asked. */
void runtime_tell_unasked(struct leat_runtime *r);
/* Reports, once per runtime, the pipelines without any success, and where scripts ignored responses
 * that were not ok. Returns the number of such pipelines. */
size_t runtime_conclude(struct rt *rt);
