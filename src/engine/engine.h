/* The engine: runs transfers over libcurl on one loop. The only caller of curl_multi.
 *
 * It meets the rest of the runtime in two queues: submissions go down (engine_submit, engine_took,
 * engine_feed, engine_cancel), events come up (engine_next_event). The calls below only append to
 * or take from those queues as far as the asker can tell: no callback of the asker ever runs inside
 * them. */
#pragma once

#include "engine/engine_config.h"

NODISCARD enum err_kind engine_new(struct engine **out, struct loop *loop, struct mem *mem,
                                   struct log *log, const struct engine_config *config,
                                   struct err *err);
/* Aborts what is left (those transfers come up as cancelled and must be taken and freed first by
 * engine_close + engine_next_event). */
void engine_free(struct engine *e);
/* Cancels every transfer the engine holds; their done events are queued when this returns. */
void engine_close(struct engine *e);

/* From now on an HTTP/2 connection gets at most `streams` requests: what libcurl does for each
 * event grows with them, and cannot be interrupted. */
void engine_bound_streams(struct engine *e, unsigned streams);

/* The engine holds `t` until its done event. Never fails: what goes wrong comes up as the event. */
void engine_submit(struct engine *e, struct transfer *t);
/* Aborts: closes the socket (HTTP/1.1) or resets the stream (HTTP/2), gives back the queue place
 * and the slot, all before it returns, and the done event (ERR_CANCELLED) is queued; with threads
 * of the engine's own all of it comes with their next turn. Harmless on a transfer whose done event
 * is queued already. Never blocks, a hanging name look-up included. */
void engine_cancel(struct engine *e, struct transfer *t);
/* The next transfer with something new and what that is (TRANSFER_*); with TRANSFER_DONE it is the
 * asker's again. NULL: none now. */
struct transfer *engine_next_event(struct engine *e, unsigned *events);
/* Stream: `len` of the bytes in t->unread are done with. With enough taken the engine reads on. */
void engine_took(struct engine *e, struct transfer *t, size_t len);
/* Upload: the next piece of the body, copied; more than TRANSFER_WINDOW unsent is for the asker to
 * avoid (TRANSFER_ROOM tells when). Nothing happens once the transfer is done. ERR_TOO_LARGE,
 * ERR_MEMORY. */
NODISCARD enum err_kind engine_feed(struct engine *e, struct transfer *t, const void *data,
                                    size_t len);
/* Upload: what was fed and is not sent yet. */
size_t engine_unsent(struct engine *e, const struct transfer *t);
/* Upload: that was all of it. */
void engine_feed_end(struct engine *e, struct transfer *t);
/* As engine_cancel, but it comes up with `err`. */
void engine_fail(struct engine *e, struct transfer *t, const struct err *err);
/* Between these the next three agree with each other: threads of the engine's own stand still. */
void engine_hold(struct engine *e);
void engine_release(struct engine *e);
/* The transfers that wait for a place, one after the other: from NULL, to NULL. */
struct transfer *engine_next_queued(struct engine *e, const struct transfer *after);
/* Whether `holder` has one of the places that the queued `t` waits for, and how many there are. */
bool engine_in_the_way(const struct engine *e, const struct transfer *holder,
                       const struct transfer *t);
size_t engine_count_in_the_way(const struct engine *e, const struct transfer *t);
/* Transfers submitted whose last event has not been taken. */
size_t engine_pending(const struct engine *e);
/* Any helper thread (a look-up) at work on behalf of the engine. */
bool engine_threads_busy(const struct engine *e);

/* With threads of its own the first waits for their turn to end; the second tells of their last. */
void engine_stats(struct engine *e, struct engine_stats *out);
void engine_glance(struct engine *e, struct engine_stats *out);
