/* The engine's own side of a transfer: one exchange per transfer in the engine. A transfer that
 * follows redirects makes one hop after the other with the same exchange. Idle exchanges are kept.
 * Private to the engine's files; engine thread only. */
#pragma once

#include "engine/admit.h"
#include "engine/dial.h"
#include "engine/engine_config.h"
#include "engine/http1.h"
#include "engine/inflate.h"
#include "engine/origin.h"
#include "engine/proxy.h"
#include "engine/shared.h"
#include "engine/simulate.h"
#include "engine/transport.h"

enum {
    HEADERS_MAX = 256,
    HEADER_BYTES_MAX = 256 * 1024,
    HEADER_LINE_MAX = 64 * 1024,
    INFORMATIONAL_MAX = 32,
    DISCARD_MAX = 64 * 1024, /* of the body of a redirect that is followed; then we hang up */
    HELD_MAX = 1024 * 1024,  /* of a compressed stream's bytes that wait to be decoded */
    FEW_PLACES = 256,        /* for connections; one that waits for a place then wonders why */
    RELAUNCH_MAX = 4,        /* of one hop, on other connections */
    POOL_MAX = 512,          /* idle exchanges kept */
    SCRATCH_BYTES = 64 * 1024,
    HTTP1_KEPT_BYTES = 16 * 1024, /* of a buffer that an exchange keeps for its next request */
    CONNECTS_AT_ONCE = 128,
};

enum exchange_state {
    EXCHANGE_IDLE,      /* in the pool */
    EXCHANGE_QUEUED,    /* waits for admission */
    EXCHANGE_RESOLVING, /* waits for a look-up */
    EXCHANGE_CONNECTING,
    EXCHANGE_WAITING,   /* a connection is there: the request is on its way or sent */
    EXCHANGE_RECEIVING, /* the head of the response has begun */
};

struct exchange {
    struct list node; /* engine.live or engine.pool */
    struct engine *engine;
    struct transfer *transfer;
    enum exchange_state state;

    /* Of the whole transfer. */
    uint64_t submitted_ns, started_ns; /* started: left the queue for the first time; 0: not yet */
    uint64_t queued_ns;                /* time in queues, all hops */
    bool foreign;                      /* a redirect left the origin: most headers stay behind */
    bool drop_body;                    /* a redirect turned it into a GET */
    const char *method;

    /* Of this hop. */
    struct url_entry *url;
    struct admit_ticket ticket;
    struct resolver_wait lookup;
    struct timer timer;
    struct call *call; /* set while a simulated origin has it */
    const char *proxy; /* the URL of the one that leads there; NULL: none. Borrowed */
    struct pool *pool; /* of the connections that the hop may use; NULL: none is needed */
    struct dial dial;  /* a connection that is being made for it */
    const struct transport *transport; /* what carries it; NULL: nothing does yet */
    struct list wait_node;             /* pool.waiting */
    struct http1 http1;
    struct http2_stream stream;
    struct headers request_headers;    /* HTTP/2: all that are sent */
    uint64_t connected_ns, secured_ns; /* 0: not in this hop */
    enum hop_end hop_end;              /* while `ended` */
    uint64_t entered_ns, admitted_ns, resolved_ns, launched_ns, sent_ns, first_byte_ns, activity_ns;
    bool uploading; /* a large body is on its way: its progress is watched */
    bool expired;   /* a limit has passed; one more turn reads what had arrived in time */
    unsigned hop_attempts;
    uint64_t bytes_in;

    /* The response. */
    bool head_done, chunked, has_length, discards, inflating, close_after;
    uint64_t discarded;
    struct inflate inflate;
    /* Stream: our side is full, so the socket is not read. */
    bool paused;
    bool ended;      /* the transport has finished, but bytes wait in `held` */
    struct buf held; /* compressed bytes for which there was no room */
    uint64_t decoded;
    bool starved;    /* upload: our side has nothing to send at present */
    struct err stop; /* why our side stopped the hop; ERR_NONE: it did not */
    bool fresh;      /* on none that is there already */
    bool reused;     /* on one that has carried a request before */
    unsigned relaunches;
};

struct engine {
    struct nets *nets; /* it has threads, and engines of theirs: little below is used then */
    struct loop *loop;
    struct mem *mem;
    struct log *log;
    struct engine_config config;
    bool few_places; /* because of the limit of open files: it is not a setting */
    struct resolver *resolver;
    struct poller *poller;
    struct connector *connector;
    struct tls tls;
    struct proxy_env proxy_env;
    struct pools pools;
    struct list shared;   /* the connections that requests share */
    struct list to_flush; /* shared connections with something to send */
    struct timer flush_timer;
    struct http1_event http1_event; /* for one parser at a time */
    char *scratch;                  /* SCRATCH_BYTES: for one read at a time */
    struct origins origins;
    struct admit admit;
    size_t hops; /* that hold a connection or wait for one */
    struct list live, pool, events, call_events;
    size_t pool_count, event_count, pending;
    bool pumping;
    struct engine_stats stats; /* counters; gauges are filled in by engine_stats */
};

/* exchange.c: the way of one transfer through the engine. */

/* NULL: no memory. */
struct exchange *exchange_new(struct engine *e);
void exchange_free(struct exchange *x);
/* Enters the queue for `url`, the first hop or a further one. What goes wrong ends the transfer. */
void exchange_enter(struct exchange *x, const char *url);
/* A place has been given to its ticket. */
void exchange_admitted(struct exchange *x);
/* Releases everything that the exchange holds and queues the transfer's event: a failure if `err`
 * is set, otherwise the response as it is. */
void exchange_finish(struct exchange *x, const struct err *err);
/* A transport has finished with the hop, and holds nothing of it any more. `why`: for HOP_FAILED.
 * Not beneath a callback of a library. */
void exchange_hop_done(struct exchange *x, enum hop_end end, const struct err *why);
/* Starts every exchange that may start now. */
void engine_pump(struct engine *e);
/* True if the hop may be sent a second time by us: see RESENDS_MAX. */
bool exchange_may_resend(const struct exchange *x);
void exchange_note_timing(struct exchange *x);
/* Goes where the response leads. */
void exchange_follow(struct exchange *x);
/* Queues events for the caller. */
void exchange_tell(struct exchange *x, unsigned events);
/* The caller has made room: continues what had to wait. */
void exchange_go_on(struct exchange *x);
/* Continues in both directions as far as our side has room. False: that ended the transfer, and `x`
 * must not be used any more. */
bool exchange_unpause(struct exchange *x);
/* The limit that applies now may be earlier than the one that its timer is set to. */
void exchange_rearm(struct exchange *x);
void exchange_on_timer(struct timer *t);
void exchange_on_lookup(struct resolver_wait *w, const char *addresses, const struct err *err);

/* exchange_hop.c: one hop over a connection. */

/* The URL of the proxy on the way; NULL: none. */
const char *exchange_proxy(const struct exchange *x);
/* True while the TLS handshake is under way that the hop waits for. */
bool exchange_is_securing(const struct exchange *x);
/* True if a proxy is asked for the whole URL (plain http through an HTTP proxy). */
bool exchange_asks_proxy(const struct exchange *x);

/* Finds a connection for the request, or makes one. What goes wrong ends the transfer. */
void exchange_hop_begin(struct exchange *x);
void exchange_hop_resolved(struct exchange *x, const char *addresses);
void exchange_on_dial(struct dial *d, struct channel *got, const struct err *err);
/* Gives back what the hop holds of connections. Harmless if it holds nothing. */
void exchange_hop_leave(struct exchange *x);
/* The request goes out now. */
void exchange_sending(struct exchange *x);
/* True if the hop may use HTTP/2. */
bool exchange_may_share(const struct exchange *x);

/* The request has a body, even if it is empty. */
bool exchange_sends_body(const struct exchange *x);
/* The line of spec.connect_to that leads the hop elsewhere; NULL: none. */
const char *exchange_connect_to(const struct exchange *x);
/* transfer_idempotent for this hop's method. */
bool exchange_idempotent(const struct exchange *x);

/* response.c: what a transport has read, and what is sent of an upload. */

void response_begin(struct exchange *x);
/* The hop is complete: what is left to check. */
enum err_kind response_end(struct exchange *x, struct err *err);
/* Sets x->stop. */
void response_stop_large(struct exchange *x, const char *what, size_t limit);
/* False, or RESPONSE_STOPPED: it has stopped the hop; see x->stop. */

/* So many bytes have been read. */
void response_note_bytes(struct exchange *x, size_t len);
bool response_take_head(struct exchange *x, const struct http1_head *head);
/* The same for HTTP/2, where it comes in parts. A status of 1xx has no fields. */
void response_take_status(struct exchange *x, const char *version, int status, const char *reason);
bool response_take_field(struct exchange *x, const char *name, size_t name_len, const char *value,
                         size_t value_len, bool trailer);
bool response_take_head_end(struct exchange *x);
bool response_take_trailers(struct exchange *x, const struct http1_head *trailers);
enum response_take {
    RESPONSE_TAKEN,
    RESPONSE_FULL, /* nothing was taken, because the reader is full (x->paused) */
    RESPONSE_STOPPED,
};
enum response_take response_take_body(struct exchange *x, const char *data, size_t len);
/* The next bytes of an upload. 0: there are none: it is over, or x->starved. */
size_t response_take_upload(struct exchange *x, char *out, size_t size);

/* For a stream: how many bytes of the body its reader can take now. */
size_t response_stream_room(const struct exchange *x);
/* What response_take_body does for a stream. */
enum response_take response_stream_take(struct exchange *x, const char *data, size_t len);
/* Decodes what had to wait, as far as there is room. A failure is in x->stop. */
enum err_kind response_stream_decode_held(struct exchange *x);

/* exchange_failure.c: what went wrong, in our words. */

/* Puts the end of a hop that is no response into words; not for HOP_DONE and HOP_STOPPED. `why`:
 * for HOP_FAILED. */
void failure_of_hop(const struct exchange *x, enum hop_end end, const struct err *why,
                    struct err *err);
/* Adds to a failure below the exchange what was asked for. */
void failure_describe(const struct exchange *x, const struct err *why, struct err *err);
void failure_timeout(const struct exchange *x, struct err *err);
/* When the next limit passes, and which one; NEVER_NS: none. */
uint64_t failure_due(const struct exchange *x, enum err_phase *phase, uint64_t *limit_ms);

/* exchange_cookies.c: the cookies of a hop. The transfer must have a jar. */

/* Appends the value of the Cookie field: what the caller has set, then what the jar has. RFC 6265
 * 5.4 wants one field. Nothing if there is neither. */
NODISCARD enum err_kind exchange_put_cookies(const struct exchange *x, struct buf *out);
/* Puts the cookies of the response's head into the jar. ERR_MEMORY. */
NODISCARD enum err_kind exchange_take_cookies(const struct exchange *x);

/* redirect.c */

/* True for a status that is followed when the spec says so and a Location came. */
bool redirect_wanted(const struct exchange *x);
/* Where the response leads, resolved against where it came from; applies the rules to the exchange.
 * `url`: owned by the caller, mem_free. */
NODISCARD enum err_kind redirect_next(struct exchange *x, char **url, struct err *err);
