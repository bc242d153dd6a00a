/* Where a redirect leads, and what of the request goes there. */
#pragma once

#include "ground/err.h"

struct exchange;

/* True for a status that is followed when the spec says so and a Location came. */
bool redirect_wanted(const struct exchange *x);
/* Where the response leads, resolved against where it came from; applies the rules to the exchange.
 * `url`: owned by the caller, mem_free. */
NODISCARD enum err_kind redirect_next(struct exchange *x, char **url, struct err *err);
