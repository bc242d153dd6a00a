/* How a runtime's script ended, and what is said of it. */
#pragma once

#include "host/runtime_private.h"

/* The task on top of the stack is the one that leat_result is about. Prepared beforehand, as this
 * may raise. */
void runtime_prepare_main(lua_State *L, leat_runtime *r);
void runtime_set_main(lua_State *L, leat_runtime *r, struct started *s, bool script);
/* A script has been started: calls do not stand for it any more. */
bool runtime_has_script(const leat_runtime *r);
/* A task without a callback has ended: where that was badly, and leat_result is not about it, the
 * log says so. */
void runtime_ended_unasked(leat_runtime *r, struct started *s);
/* Logs how the last script ended, if that was badly and the host has not asked. */
void runtime_tell_unasked(struct leat_runtime *r);
/* Says, once for a runtime, which pipelines had no success, and where responses that are not ok
 * went unlooked at. The number of such pipelines. */
size_t runtime_conclude(struct rt *rt);
