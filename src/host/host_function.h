/* Host functions: C functions of the host that scripts call. */
#pragma once

#include "host/runtime_private.h"

/* Whether it is a valid name: one word, or two words with a dot between them. */
bool host_function_good_name(const char *name);
/* NULL: out of memory. */
struct host *host_function_open(leat_runtime *r, struct rt *rt);
/* Call it when all tasks have ended and the Lua state is closed. NULL is allowed. */
void host_function_close(struct host *e);
