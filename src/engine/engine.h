/* The engine runs HTTP transfers on one loop, over connections of its own, which libcurl opens.
 *
 * Two queues connect it to the rest of the runtime. Commands go down (engine_submit, engine_took,
 * engine_feed, engine_cancel), events come up (engine_next_event). For the caller, these functions
 * only append to the queues or take from them: they never call the caller back. */
#pragma once

#include "engine/engine_config.h"

NODISCARD enum err_kind engine_new(struct engine **out, struct loop *loop, struct mem *mem,
                                   struct log *log, const struct engine_config *config,
                                   struct err *err);
/* Frees the engine. Call engine_close before, and take and free the cancelled transfers with
 * engine_next_event. */
void engine_free(struct engine *e);
/* Cancels every transfer in the engine. Their done events are queued when this returns. */
void engine_close(struct engine *e);

/* The engine holds `t` until its done event. This never fails: an error is reported with that
 * event. */
void engine_submit(struct engine *e, struct transfer *t);
/* Aborts a transfer. Before it returns, it closes the socket (HTTP/1.1) or resets the stream
 * (HTTP/2), frees the queue place and the slot, and queues the done event (ERR_CANCELLED). With
 * network threads, all this happens in their next turn. Harmless if the done event is already
 * queued. Never blocks, not even on a name look-up that hangs. */
void engine_cancel(struct engine *e, struct transfer *t);
/* The next transfer that has events, with these events (TRANSFER_*); NULL: none at present. After
 * TRANSFER_DONE the transfer belongs to the caller again. */
struct transfer *engine_next_event(struct engine *e, unsigned *events);
/* For a stream: `len` bytes of t->unread were consumed. When enough were, the engine reads more. */
void engine_took(struct engine *e, struct transfer *t, size_t len);
/* For an upload: appends the next part of the body, which is copied. The caller should not have
 * more than TRANSFER_WINDOW bytes unsent (TRANSFER_ROOM reports room). Does nothing if the transfer
 * is done. ERR_TOO_LARGE, ERR_MEMORY. */
NODISCARD enum err_kind engine_feed(struct engine *e, struct transfer *t, const void *data,
                                    size_t len);
/* For an upload: the number of bytes that were fed and not sent yet. */
size_t engine_unsent(struct engine *e, const struct transfer *t);
/* For an upload: the body is complete. */
void engine_feed_end(struct engine *e, struct transfer *t);
/* As engine_cancel, but the transfer fails with `err`. */
void engine_fail(struct engine *e, struct transfer *t, const struct err *err);
/* Between engine_hold and engine_release the network threads stand still, so the results of the
 * next three functions agree. */
void engine_hold(struct engine *e);
void engine_release(struct engine *e);
/* Iterates over the transfers that wait for a place: begins with NULL and ends with NULL. */
struct transfer *engine_next_queued(struct engine *e, const struct transfer *after);
/* The first is true if `holder` has one of the places for which the queued `t` waits. The second is
 * the number of these places. */
bool engine_in_the_way(const struct engine *e, const struct transfer *holder,
                       const struct transfer *t);
size_t engine_count_in_the_way(const struct engine *e, const struct transfer *t);
/* The number of submitted transfers whose last event was not taken yet. */
size_t engine_pending(const struct engine *e);
/* True if a helper thread (a look-up) works for the engine. */
bool engine_threads_busy(const struct engine *e);

/* With network threads, engine_stats waits for the end of their present turn. engine_glance returns
 * the figures of their last turn at once. */
void engine_stats(struct engine *e, struct engine_stats *out);
void engine_glance(struct engine *e, struct engine_stats *out);
