/* The cookies of a hop. The transfer must have a jar. */
#pragma once

#include "ground/buf.h"

struct exchange;

/* Appends the value of the Cookie field: what the caller has set, then what the jar has. RFC 6265
 * 5.4 wants one field. Nothing if there is neither. */
NODISCARD enum err_kind exchange_put_cookies(const struct exchange *x, struct buf *out);
/* Puts the cookies of the response's head into the jar. ERR_MEMORY. */
NODISCARD enum err_kind exchange_take_cookies(const struct exchange *x);
