/* The way of one transfer through the engine: the queue, one hop after the other, and what the end
 * of a hop means. Engine thread only. */
#pragma once

#include "engine/exchange_types.h"

/* NULL: no memory. exchange_free is in exchange_hop.h. */
struct exchange *exchange_new(struct engine *e);
/* Enters the queue for `url`, the first hop or a further one. What goes wrong ends the transfer. */
void exchange_enter(struct exchange *x, const char *url);
/* Starts every exchange that may start now. */
void exchange_pump(struct engine *e);
/* The caller has made room: continues what had to wait. */
void exchange_go_on(struct exchange *x);
/* Continues in both directions as far as our side has room. False: that ended the transfer, and `x`
 * must not be used any more. */
bool exchange_unpause(struct exchange *x);

extern const struct engine_upcalls exchange_upcalls;
