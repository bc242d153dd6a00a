/* Looks up names on helper threads. Concurrent look-ups of the same name share one job. At most 16
 * run at once; the rest wait in order. Answers are cached for 30 s, failures are not. A look-up
 * that hangs blocks neither the loop nor closing. Loop thread only. */
#pragma once

#include "ground/list.h"
#include "loop/loop.h"

struct resolver;
struct resolver_entry;
struct resolver_wait;

/* Receives the result of a look-up. `addresses`: numeric addresses in the order of getaddrinfo,
 * separated by commas, with IPv6 addresses in brackets, as CURLOPT_RESOLVE expects. On failure it
 * is NULL and `err` is set. Both are borrowed for the call. It runs inside loop_turn or
 * resolver_lookup, never on a helper thread. `w` is unlinked before and may be used again. It may
 * call resolver_lookup and resolver_cancel, but not resolver_free. */
typedef void (*resolver_fn)(struct resolver_wait *w, const char *addresses, const struct err *err);

/* To prepare one, set all to zero and set `fn`. */
struct resolver_wait {
    struct list node;
    struct resolver_entry *entry; /* private */
    resolver_fn fn;
};

/* Called on helper threads. Writes the addresses in the format above, with a NUL, and returns 0; or
 * returns an EAI_ code. `out` has room for 2 KiB. Addresses that do not fit are left out. */
typedef int (*resolver_lookup_fn)(const char *name, char *out, size_t out_size, void *arg);

/* `lookup` NULL: getaddrinfo. `lookup_arg` must stay valid as long as a look-up may hang. */
NODISCARD enum err_kind resolver_new(struct resolver **out, struct loop *loop, struct mem *mem,
                                     resolver_lookup_fn lookup, void *lookup_arg, struct err *err);
/* Returns at once, even if look-ups hang: their threads end later on their own. No callback runs
 * afterwards, and waits that are still linked get no answer. NULL is allowed. */
void resolver_free(struct resolver *r);

/* If the answer is cached, `w->fn` runs before this returns. Otherwise `w` is linked, and `fn` runs
 * later. On an error `fn` does not run: ERR_INVALID (it cannot be a host name), ERR_MEMORY, or
 * ERR_DNS (no thread could be started). */
NODISCARD enum err_kind resolver_lookup(struct resolver *r, const char *name,
                                        struct resolver_wait *w, struct err *err);
/* Removes the wait: `fn` will not run. Harmless if it is not linked. O(1), never blocks. */
void resolver_cancel(struct resolver_wait *w);
/* The number of look-ups that have not ended, queued or running, including those that nobody waits
 * for. */
size_t resolver_busy(const struct resolver *r);
