/* An engine on the thread that its loop runs on: what engine.c and the threads of netthread.c
 * drive. */
#pragma once

#include "engine/engine_config.h"

NODISCARD enum err_kind local_new(struct engine **out, struct loop *loop, struct mem *mem,
                                  struct log *log, const struct engine_config *config,
                                  struct err *err);
/* Cancels what is left, and frees it. */
void local_free(struct engine *e);
void local_submit(struct engine *e, struct transfer *t);
void local_cancel(struct engine *e, struct transfer *t);
void local_fail(struct engine *e, struct transfer *t, const struct err *err);
void local_took(struct engine *e, struct transfer *t, size_t len);
/* Something is in t->upload, or t->upload_ended was set. */
void local_fed(struct engine *e, struct transfer *t);
void local_close(struct engine *e);
struct transfer *local_next_queued(struct engine *e, const struct transfer *after);
void local_stats(const struct engine *e, struct engine_stats *out);
/* The next transfer with something new, as engine_next_event says it; NULL: none now. */
struct transfer *local_next_event(struct engine *e, unsigned *events);
/* What came up goes over to the asker. */
void local_hand_over(struct engine *e, struct transfer *t);
/* How many connections the process may have. */
size_t local_places(bool keep_limit);
