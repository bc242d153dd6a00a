/* A runtime on the host's libuv loop. */
#pragma once

#include "host/runtime_private.h"

/* Calls `step` whenever the host's loop runs, until the runtime is detached. */
void runtime_attach(struct leat_runtime *r, bool (*step)(struct leat_runtime *r));
/* Starts closing the handles; loop_fini waits for them. */
void runtime_detach(struct leat_runtime *r);
