/* The connection of one hop: a kept one, one that is shared, or a new one. And the end of a
 * transfer, which gives all of that back. */
#pragma once

#include "engine/dial.h"
#include "ground/err.h"

struct exchange;

/* Finds a connection for the request, or makes one. What goes wrong ends the transfer. */
void exchange_hop_begin(struct exchange *x);
/* A look-up has ended: with numeric addresses, as the resolver gives them, or with NULL and `err`.
 */
void exchange_hop_resolved(struct exchange *x, const char *addresses, const struct err *err);
void exchange_hop_on_dial(struct dial *d, struct channel *got, const struct err *err);
/* Gives back everything that the hop holds. An unfinished connection is closed. */
void exchange_hop_leave(struct exchange *x);
/* Gives back its place in a pool alone. Harmless if it has none. */
void exchange_hop_leave_pool(struct exchange *x);

/* Releases everything that the exchange holds and queues the transfer's event: a failure if `err`
 * is set, otherwise the response as it is. */
void exchange_finish(struct exchange *x, const struct err *err);
void exchange_free(struct exchange *x);
