/* An engine that runs on the thread of its loop. engine.c uses it directly, and netthreads.c runs
 * one on each of its threads. */
#pragma once

#include "engine/engine_config.h"

NODISCARD enum err_kind engine_local_new(struct engine **out, struct loop *loop, struct mem *mem,
                                         struct log *log, const struct engine_config *config,
                                         struct err *err);
/* Cancels the remaining transfers and frees the engine. */
void engine_local_free(struct engine *e);
void engine_local_submit(struct engine *e, struct transfer *t);
void engine_local_cancel(struct engine *e, struct transfer *t);
void engine_local_fail(struct engine *e, struct transfer *t, const struct err *err);
void engine_local_took(struct engine *e, struct transfer *t, size_t len);
/* t->upload has new bytes, or t->upload_ended was set. */
void engine_local_fed(struct engine *e, struct transfer *t);
void engine_local_close(struct engine *e);
struct transfer *engine_local_next_queued(struct engine *e, const struct transfer *after);
void engine_local_stats(const struct engine *e, struct engine_stats *out);
/* As engine_next_event. */
struct transfer *engine_local_next_event(struct engine *e, unsigned *events);
/* Moves what has arrived to the caller's side. */
void engine_local_hand_over(struct engine *e, struct transfer *t);
/* The number of connections that the process may have. */
size_t engine_local_places(bool keep_limit);
