/* A runtime on the host's uv loop. */
#pragma once

#include "host/runtime_private.h"

/* The runtime goes on by `step` whenever the host runs its loop, until it is detached. */
void runtime_attach(struct leat_runtime *r, bool (*step)(struct leat_runtime *r));
/* The handles are closing; loop_fini waits for them. */
void runtime_detach(struct leat_runtime *r);
