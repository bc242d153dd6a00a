/* Origins that are answered in process. A request to one takes the same way as any: through the
 * queue and its limits, the parser of heads, the decoder, the window of a stream; only where others
 * meet a socket it becomes a call, which comes up to whoever simulates the origin
 * (engine_next_call) and is answered through the functions below. As with transfers, no callback of
 * theirs runs inside these. Engine thread only. */
#pragma once

#include "engine/engine_config.h"

struct simulation;

/* What is new about a call. */
enum call_event {
    CALL_ASKED = 1, /* the request is there in full */
    CALL_ROOM = 2,  /* what was written has been read on, below the mark asked for */
    CALL_OVER = 4,  /* whoever asked has let go of it: the last event */
};

struct call {
    struct list event_node;    /* engine.call_events */
    struct list node;          /* simulation.calls; unlinked: it is over */
    unsigned events;           /* not taken yet */
    struct simulation *origin; /* NULL: it is no more */
    struct exchange *exchange; /* NULL: it is over */
    void *owner;               /* of whoever answers; the engine never reads it */
    bool taken;                /* CALL_ASKED was: whoever answers frees it */
    struct buf body;           /* of an upload, as it was fed */
    bool too_large;            /* that body was, and is not kept */
    struct buf out;            /* written, and not read by the asker yet: from out_sent on */
    size_t out_sent;
    size_t mark;   /* CALL_ROOM when no more than this is unread; SIZE_MAX: never */
    bool ended;    /* nothing more is written */
    bool broken;   /* it ends as if the connection broke */
    bool complete; /* the asker has the whole answer */
};

/* From now on requests to the origin of `url` (a scheme, a host, and no path) come up as calls.
 * `owner` is handed out by call_owner. Bodies of uploads beyond `max_body` are not kept, nor is
 * more than `max_unread` written ahead. ERR_INVALID (the URL, or the origin is simulated already),
 * ERR_MEMORY. */
NODISCARD enum err_kind engine_simulate(struct engine *e, const char *url, size_t max_body,
                                        size_t max_unread, void *owner, struct simulation **out,
                                        struct err *err);
/* Breaks off what is under way; further requests meet the network again, or, under virtual time,
 * are refused. Calls that were taken are over, and stay to be freed. NULL is allowed. */
void engine_simulate_end(struct engine *e, struct simulation *s);
void *call_owner(const struct call *c);

/* The next call with something new, and what (CALL_*); NULL: none now. After CALL_ASKED it is the
 * taker's to free, at any time. */
struct call *engine_next_call(struct engine *e, unsigned *events);
/* Breaks off what is not over. */
void engine_call_free(struct engine *e, struct call *c);

/* Only until the call is over. `target`: path and query, "/..."; owned by the caller, mem_free of
 * the engine's mem. */
NODISCARD enum err_kind engine_call_request(const struct call *c, const char **method,
                                            char **target, struct headers *headers);
const char *engine_call_body(const struct call *c, size_t *len);

/* The answer: its head, then the body in pieces, then the end; `broken`: the asker sees the
 * connection end too early, behind what was written. Without effect on a call that is over.
 * engine_call_write: ERR_TOO_LARGE and ERR_MEMORY, and nothing was written. */
void engine_call_head(struct engine *e, struct call *c, int status, const char *reason,
                      const struct headers *headers);
NODISCARD enum err_kind engine_call_write(struct engine *e, struct call *c, const char *data,
                                          size_t len);
void engine_call_end(struct engine *e, struct call *c, bool broken);
size_t engine_call_unread(const struct call *c);

/* Of the engine's own files. */

/* The exchange has its place, and its origin is simulated. */
void simulate_launch(struct exchange *x);
/* What waits on either side goes on. False: that ended the exchange's hop. */
bool simulate_go_on(struct exchange *x);
/* The exchange leaves its hop. */
void simulate_leave(struct exchange *x);
