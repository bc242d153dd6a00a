/* Host functions: C functions of the host's that scripts call. */
#pragma once

#include "host/runtime_private.h"

/* A word, or two with a dot between them. */
bool embed_good_name(const char *name);
/* NULL: no memory. */
struct embed *embed_new(leat_runtime *r, struct rt *rt);
/* All tasks have ended and the Lua state is closed. NULL is allowed. */
void embed_free(struct embed *e);
