/* The Lua half of the runtime (lua/leat/), embedded as source when the binary is built. */
#pragma once

#include <stddef.h>

struct embedded_module {
    const char *name;      /* what require takes: "leat" (init.lua), "leat.retry" */
    const char *chunkname; /* "@leat/retry.lua" */
    const char *source;    /* `len` bytes, not NUL-terminated */
    size_t len;
};

/* Ended by a row whose name is NULL. */
extern const struct embedded_module embedded_modules[];
