/* Freed runtimes, remembered in debug builds. */
#pragma once

struct leat_runtime;

/* Debug builds abort with a message if a host uses a runtime after freeing it. In other builds that
 * is undefined behaviour, as for any freed memory. */
#ifdef LEAT_DEBUG
void runtime_bury(const struct leat_runtime *r);
void runtime_unearth(const struct leat_runtime *r);
void runtime_check_alive(const struct leat_runtime *r, const char *call);
#define RUNTIME_CHECK(r) runtime_check_alive(r, __func__)
#else
#define runtime_bury(r) ((void)(r))
#define runtime_unearth(r) ((void)(r))
#define RUNTIME_CHECK(r) ((void)(r))
#endif
