/* Cookies that several transfers share, whichever thread each of them is on. Counted: whoever made
 * it and each transfer that uses it. The count is the asker's thread's alone. */
#pragma once

#include "ground/mem.h"

struct jar;

/* NULL: no memory. */
NODISCARD struct jar *jar_new(struct mem *mem);
struct jar *jar_ref(struct jar *j);
/* NULL is allowed. */
void jar_unref(struct jar *j);
/* libcurl's own object. */
void *jar_share(struct jar *j);
