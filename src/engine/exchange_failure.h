/* What went wrong with an exchange, in our words. */
#pragma once

#include "engine/transport.h"
#include "ground/err.h"

struct exchange;

/* Puts the end of a hop that is no response into words; not for HOP_DONE and HOP_STOPPED. `why`:
 * for HOP_FAILED. */
void exchange_failure_of_hop(const struct exchange *x, enum hop_end end, const struct err *why,
                             struct err *err);
/* Adds to a failure below the exchange what was asked for. */
void exchange_failure_describe(const struct exchange *x, const struct err *why, struct err *err);
/* A look-up has failed: of the origin's name, or of its proxy's. */
void exchange_failure_lookup(const struct exchange *x, const struct err *why, struct err *err);
void exchange_failure_timeout(const struct exchange *x, struct err *err);
/* ERR_TOO_LARGE: more than `limit` of `what`. */
void exchange_failure_too_large(const struct exchange *x, const char *what, size_t limit,
                                struct err *err);
