/* Host functions: C functions of the host's that scripts call. */
#pragma once

#include "host/runtime_private.h"

/* A word, or two with a dot between them. */
bool host_function_good_name(const char *name);
/* NULL: no memory. */
struct host *host_function_open(leat_runtime *r, struct rt *rt);
/* All tasks have ended and the Lua state is closed. NULL is allowed. */
void host_function_close(struct host *e);
