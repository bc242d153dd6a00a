/* The time limits of an exchange, and the timer that carries them. */
#pragma once

#include "ground/err.h"

struct exchange;

/* When the next limit passes, and which one; NEVER_NS: none. */
uint64_t exchange_due(const struct exchange *x, enum err_phase *phase, uint64_t *limit_ms);
/* When the response counts as complete although its end has not come; NEVER_NS: it does not. */
uint64_t exchange_end_due(const struct exchange *x);
/* The limit that applies now may be earlier than the one that its timer is set to. */
void exchange_rearm(struct exchange *x);
