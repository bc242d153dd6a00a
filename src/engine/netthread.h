/* Threads for the network. Each has a loop and an engine of its own, which nobody else touches but
 * while it stands still. Between a thread and the asker lie two queues of transfers, commands down
 * and events up, under a lock that is only held for as long as it takes to link and to hand over
 * bytes: a handshake on the other side does not hold the asker up. An origin always goes to the
 * same thread.
 *
 * All functions are for the asker's thread; engine.c calls them where an engine has threads. */
#pragma once

#include "engine/engine_config.h"

enum { NETS_MAX = 16 };

enum net_command { NET_SUBMIT = 1, NET_TOOK = 2, NET_FED = 4, NET_FED_END = 8, NET_CANCEL = 16 };

NODISCARD enum err_kind nets_new(struct engine **out, struct loop *asker, struct mem *mem,
                                 struct log *log, const struct engine_config *config,
                                 struct err *err);
/* Ends the threads, and frees the engine. */
void nets_free(struct engine *e);
void nets_close(struct engine *e);

void nets_submit(struct engine *e, struct transfer *t);
void nets_command(struct engine *e, struct transfer *t, enum net_command command);
void nets_took(struct engine *e, struct transfer *t, size_t len);
NODISCARD enum err_kind nets_feed(struct engine *e, struct transfer *t, const void *data,
                                  size_t len);
size_t nets_unsent(struct engine *e, const struct transfer *t);
struct transfer *nets_next_event(struct engine *e, unsigned *events);

/* The threads stand still in between, and every command so far has been carried out. */
void nets_hold(struct engine *e);
void nets_release(struct engine *e);
/* Only while held. */
struct transfer *nets_next_queued(struct engine *e, const struct transfer *after);
void nets_stats(struct engine *e, struct engine_stats *out);
/* As the threads' last turns have left them; holds nobody up. */
void nets_glance(struct engine *e, struct engine_stats *out);
