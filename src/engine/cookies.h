/* A cookie jar that several transfers share, on whatever threads they run. Its creator and each
 * transfer that uses it hold a reference. The count may be used only on the thread that submits
 * transfers. */
#pragma once

#include "ground/mem.h"

struct jar;

/* NULL: no memory. */
NODISCARD struct jar *jar_new(struct mem *mem);
struct jar *jar_ref(struct jar *j);
/* NULL is allowed. */
void jar_unref(struct jar *j);
/* The libcurl share object. */
void *jar_share(struct jar *j);
