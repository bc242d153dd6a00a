/* Threads for the network. Each has its own loop and its own engine, which no other thread uses
 * unless the thread stands still. Two queues of transfers connect a thread and the caller: commands
 * down, events up. A lock protects them. It is held only to link transfers and to move bytes, so a
 * handshake on the network thread does not delay the caller. An origin always belongs to the same
 * thread.
 *
 * All functions are for the caller's thread. engine.c calls them if the engine has threads. */
#pragma once

#include "engine/engine_config.h"

enum { NETTHREADS_MAX = 16 };

enum net_command { NET_SUBMIT = 1, NET_TOOK = 2, NET_FED = 4, NET_FED_END = 8, NET_CANCEL = 16 };

NODISCARD enum err_kind netthreads_new(struct engine **out, struct loop *caller, struct mem *mem,
                                       struct log *log, const struct engine_config *config,
                                       struct err *err);
/* Ends the threads and frees the engine. */
void netthreads_free(struct engine *e);
void netthreads_close(struct engine *e);

void netthreads_submit(struct engine *e, struct transfer *t);
void netthreads_command(struct engine *e, struct transfer *t, enum net_command command);
void netthreads_took(struct engine *e, struct transfer *t, size_t len);
NODISCARD enum err_kind netthreads_feed(struct engine *e, struct transfer *t, const void *data,
                                        size_t len);
size_t netthreads_unsent(struct engine *e, const struct transfer *t);
struct transfer *netthreads_next_event(struct engine *e, unsigned *events);

/* Between netthreads_hold and netthreads_release the threads stand still. All commands so far have
 * then been carried out. */
void netthreads_hold(struct engine *e);
void netthreads_release(struct engine *e);
/* Only between netthreads_hold and netthreads_release. */
struct transfer *netthreads_next_queued(struct engine *e, const struct transfer *after);
void netthreads_stats(struct engine *e, struct engine_stats *out);
/* The figures of the threads' last turns. Does not wait. */
void netthreads_glance(struct engine *e, struct engine_stats *out);
