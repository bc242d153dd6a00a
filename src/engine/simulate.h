/* Origins that the process itself answers. A request to one takes the same path as any other: the
 * queue and its limits, the parser of heads, the decoder, the window of a stream. Only in place of
 * the socket there is a call. The simulator of the origin takes the call (simulate_next_call) and
 * answers it with the functions below. As for transfers, these functions never call their caller
 * back. Engine thread only. */
#pragma once

#include "engine/engine_config.h"

struct simulation;

/* The events of a call. */
enum call_event {
    CALL_ASKED = 1, /* the request has arrived completely */
    CALL_ROOM = 2,  /* the unread part of the answer is no larger than `mark` */
    CALL_OVER = 4,  /* the client side has released the call: the last event */
};

struct call {
    struct list event_node;    /* engine.call_events */
    struct list node;          /* linked in simulation.calls; unlinked: the call is over */
    unsigned events;           /* events that were not taken yet */
    struct simulation *origin; /* NULL: the simulation has ended */
    struct exchange *exchange; /* NULL: the call is over */
    void *owner;               /* for the simulator; the engine never reads it */
    bool taken;                /* CALL_ASKED was taken: the simulator frees the call */
    struct buf body;           /* the body of an upload, as it was fed */
    bool too_large;            /* that body was too large and is not kept */
    struct buf out;            /* the answer; the bytes after out_sent were not read yet */
    size_t out_sent;
    size_t mark; /* CALL_ROOM is raised when at most this many bytes are unread; SIZE_MAX: never */
    bool ended;  /* the answer is complete */
    bool broken; /* it ends as if the connection had broken */
    bool complete; /* the client side has the whole answer */
};

/* From now on, requests to the origin of `url` (a scheme and a host, no path) become calls.
 * simulate_call_owner returns `owner`. The body of an upload is not kept if it is longer than
 * `max_body`. No more than `max_unread` bytes may be written ahead. ERR_INVALID (the URL is not
 * valid, or the origin is already simulated), ERR_MEMORY. */
NODISCARD enum err_kind simulate_begin(struct engine *e, const char *url, size_t max_body,
                                       size_t max_unread, void *owner, struct simulation **out,
                                       struct err *err);
/* Breaks off the calls in progress. Further requests go to the network again; under virtual time
 * they are refused. Calls that were taken are over, and must still be freed. NULL is allowed. */
void simulate_end(struct engine *e, struct simulation *s);
void *simulate_call_owner(const struct call *c);

/* The next call that has events, with these events (CALL_*); NULL: none at present. After
 * CALL_ASKED the call belongs to the caller, who may free it at any time. */
struct call *simulate_next_call(struct engine *e, unsigned *events);
/* Frees the call. Breaks it off if it is not over. */
void simulate_call_free(struct engine *e, struct call *c);

/* Only until the call is over. `target`: path and query, "/..."; the caller owns it and frees it
 * with mem_free of the engine's mem. */
NODISCARD enum err_kind simulate_call_request(const struct call *c, const char **method,
                                              char **target, struct headers *headers);
const char *simulate_call_body(const struct call *c, size_t *len);

/* These write the answer: first its head, then the body in pieces, then the end. `broken`: the
 * client sees the connection end too early, after the bytes written so far. They have no effect if
 * the call is over. simulate_call_write: on ERR_TOO_LARGE and ERR_MEMORY nothing was written. */
void simulate_call_head(struct engine *e, struct call *c, int status, const char *reason,
                        const struct headers *headers);
NODISCARD enum err_kind simulate_call_write(struct engine *e, struct call *c, const char *data,
                                            size_t len);
void simulate_call_end(struct engine *e, struct call *c, bool broken);
size_t simulate_call_unread(const struct call *c);

/* For the engine's own files. */

/* The exchange has a place, and its origin is simulated. */
void simulate_launch(struct exchange *x);
/* Continues in both directions if there is room. False: the exchange's hop has ended. */
bool simulate_go_on(struct exchange *x);
/* The exchange leaves its hop. */
void simulate_leave(struct exchange *x);
