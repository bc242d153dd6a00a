/* Name look-ups off the loop: coalesced per name, at most 16 at once, the rest in order of asking.
 * Answers are kept for 30 s, failures not at all. A look-up that hangs never blocks the loop, nor
 * closing. Loop thread only. */
#pragma once

#include "ground/list.h"
#include "loop/loop.h"

struct resolver;
struct resolver_entry;
struct resolver_wait;

/* `addresses`: comma-separated numeric addresses in the order getaddrinfo gave, IPv6 in brackets,
 * as CURLOPT_RESOLVE wants them; NULL on failure, with `err` set. Both borrowed until return. Runs
 * in loop_turn or in resolver_lookup's caller, never on a helper thread; `w` is no longer linked
 * and may be used again. May call resolver_lookup and resolver_cancel, but not resolver_free. */
typedef void (*resolver_fn)(struct resolver_wait *w, const char *addresses, const struct err *err);

/* All zero, with `fn` set, is ready for use. */
struct resolver_wait {
    struct list node;
    struct resolver_entry *entry; /* private */
    resolver_fn fn;
};

/* Called on helper threads. Writes the addresses as described above, NUL-terminated, and returns 0,
 * or returns an EAI_ code. `out` has room for 2 KiB; addresses that do not fit are left out. */
typedef int (*resolver_lookup_fn)(const char *name, char *out, size_t out_size, void *arg);

/* `lookup`: NULL for getaddrinfo. `lookup_arg` must live as long as a look-up may hang. */
NODISCARD enum err_kind resolver_new(struct resolver **out, struct loop *loop, struct mem *mem,
                                     resolver_lookup_fn lookup, void *lookup_arg, struct err *err);
/* Returns at once even while look-ups hang: their threads are left to end by themselves. No
 * callback runs after; waits that are still linked are forgotten. NULL is allowed. */
void resolver_free(struct resolver *r);

/* A cached answer: `w->fn` has run when this returns. Otherwise `w` is linked and `fn` runs later.
 * Errors (`fn` does not run then): ERR_INVALID for a name that cannot be one, ERR_MEMORY, ERR_DNS
 * if no thread could be had. */
NODISCARD enum err_kind resolver_lookup(struct resolver *r, const char *name,
                                        struct resolver_wait *w, struct err *err);
/* Forgets the wait; harmless if it is not linked. O(1), never blocks. */
void resolver_cancel(struct resolver_wait *w);
/* Look-ups that have not ended, queued or on a helper thread, whether anybody still waits or not.
 */
size_t resolver_busy(const struct resolver *r);
