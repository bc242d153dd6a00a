/* The engine's own side of a transfer: one exchange per transfer in the engine, with its easy
 * handle, pooled together. A transfer that follows redirects makes one hop after the other with the
 * same exchange. Private to the engine's files; engine thread only. */
#pragma once

#include "engine/admit.h"
#include "engine/curl_sockets.h"
#include "engine/dial.h"
#include "engine/engine_config.h"
#include "engine/http1.h"
#include "engine/inflate.h"
#include "engine/origin.h"
#include "engine/proxy.h"
#include "engine/shard.h"
#include "engine/simulate.h"
#include "engine/transport.h"
#include <curl/curl.h>

enum {
    HEADERS_MAX = 256,
    HEADER_BYTES_MAX = 256 * 1024,
    HEADER_LINE_MAX = 64 * 1024,
    INFORMATIONAL_MAX = 32,
    DISCARD_MAX = 64 * 1024, /* of the body of a redirect that is followed; then we hang up */
    HELD_MAX = 1024 * 1024,  /* of a compressed stream's bytes that wait to be decoded */
    KICKS_MAX = 10,          /* in one silence, at growing distances */
    KICKS_FOR_END = 5,       /* of a body that is whole: trailers may follow it */
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
    CURL *easy;
    bool roomy;      /* has the larger buffer: see opts_base */
    bool easy_dirty; /* options were set that the next request does not set again */
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
    struct pool *pool; /* of the connections that the hop may use; NULL: libcurl has it */
    struct dial dial;  /* a connection that is being made for it */
    const struct transport *transport; /* what carries it; NULL: nothing does yet */
    struct http1 http1;
    uint64_t connected_ns, secured_ns; /* 0: not in this hop */
    enum hop_end hop_end;              /* while `ended`, where libcurl does not have it */
    struct shard *shard;               /* set while the easy handle is in its multi */
    uint64_t entered_ns, admitted_ns, resolved_ns, launched_ns, sent_ns, first_byte_ns, activity_ns;
    uint64_t uploaded;     /* bytes of a large body seen sent */
    bool uploading;        /* a large body is on its way: its progress is watched */
    bool expired;          /* a limit has passed; one more turn reads what had arrived in time */
    unsigned connect_port; /* the port that socket goes to; 0: none, or a Unix socket */
    int connect_fd;        /* the socket last opened for it, which may be closed by now; -1: none */
    unsigned hop_attempts, informational;
    uint64_t bytes_in, head_bytes;

    /* The response. */
    bool head_done, chunked, has_length, discards, body_begun, inflating, close_after;
    uint64_t discarded;
    struct inflate inflate;
    /* Stream: our side is full, so the socket is not read. */
    bool paused;
    uint64_t kick_ns; /* HTTP/2: when to make libcurl check for data once more; 0: never */
    unsigned kicks;
    bool ended; /* libcurl has finished with end_code, but bytes wait in `held` */
    CURLcode end_code;
    struct buf held; /* compressed bytes for which there was no room */
    uint64_t decoded;
    bool starved;      /* upload: our side has nothing to send at present */
    bool after_status; /* the line that comes next is the first behind a status line */
    struct err stop;   /* why one of our callbacks stopped the hop; ERR_NONE: none did */
    bool resend_refused;
    bool refused; /* HTTP/2: the peer said that it did not process the request: it may be sent again
                   */
    bool multiplexes; /* HTTP/2 is possible */
    bool alone;       /* and if so, with no other request on the connection */
    bool shares;      /* http://, HTTP/2: it may only use a connection that is already open */
    bool relaunch;    /* it was not sent, because the connection is the wrong one: start it again */
    bool fresh;       /* on a connection of its own */
    bool reused;      /* on one that has carried a request before */
    long connects_seen;
    uint64_t connection; /* HTTP/2: the number of its connection; 0: none, or unknown */
    uint32_t stream_id;  /* on that; 0: none yet */
    unsigned relaunches;
    bool easy_spent;    /* the easy handle has state that the next request must not use */
    int socket_error;   /* errno of the last socket that could not be opened; 0: none */
    bool target_denied; /* an address was not tried, because connecting to it is not allowed */

    /* What curl reads while the hop runs. */
    struct buf text; /* header lines */
    struct curl_slist *lines;
    size_t line_cap;
    struct buf addresses;
    struct curl_slist address_line, connect_to_line;
    char curl_text[CURL_ERROR_SIZE];
};

struct engine {
    struct nets *nets; /* it has threads, and engines of theirs: little below is used then */
    struct loop *loop;
    struct mem *mem;
    struct log *log;
    struct engine_config config;
    bool few_places;           /* because of the limit of open files: it is not a setting */
    bool proxied[2];           /* the environment names a proxy for http, https */
    bool guards_folds;         /* libcurl's version needs it: see stop_fold */
    char *ca_file, *ca_folder; /* whom to trust where a request does not say; either may be NULL */
    struct resolver *resolver;
    struct poller *poller;
    struct connector *connector;
    struct tls tls;
    struct proxy_env proxy_env;
    struct pools pools;
    struct http1_event http1_event; /* for one parser at a time */
    char *scratch;                  /* SCRATCH_BYTES: for one read at a time */
    struct sockets *sockets;
    struct origins origins;
    struct admit admit;
    struct shards shards;
    struct list live, pool, roomy_pool, events, call_events;
    int corked[16]; /* descriptors that hold back what is written for a turn of the loop */
    size_t corked_count;
    struct timer cork_timer;
    uint64_t h2_connections; /* made so far */
    bool cork_waited;
    size_t pool_count, event_count, pending;
    bool pumping;
    struct engine_stats stats; /* counters; gauges are filled in by engine_stats */
};

/* exchange.c: the way of one transfer through the engine. */

struct exchange *exchange_new(struct engine *e, bool roomy);
void exchange_free(struct exchange *x);
/* Enters the queue for `url`, the first hop or a further one. What goes wrong ends the transfer. */
void exchange_enter(struct exchange *x, const char *url);
/* A place has been given to its ticket. */
void exchange_admitted(struct exchange *x);
/* libcurl has finished with the easy handle. Not beneath a callback. */
void exchange_curl_done(struct exchange *x, CURLcode code);
/* Releases everything that the exchange holds and queues the transfer's event: a failure if `err`
 * is set, otherwise the response as it is. Not beneath a libcurl callback. */
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
/* The caller has made room: continues what had to wait. Not beneath a libcurl callback. */
void exchange_go_on(struct exchange *x);
/* Lets libcurl continue in both directions as far as our side has room. False: that ended the
 * transfer, and `x` must not be used any more. Not beneath a callback. */
bool exchange_unpause(struct exchange *x);
/* Bytes arrived over a shared connection: they may have been the last. */
void exchange_expect_end(struct exchange *x);
/* The limit that applies now may be earlier than the one that its timer is set to. */
void exchange_rearm(struct exchange *x, uint64_t now_ns);
void exchange_on_timer(struct timer *t);
void exchange_on_lookup(struct resolver_wait *w, const char *addresses, const struct err *err);

/* exchange_hop.c: one hop over our own transports. */

/* True if the hop takes these, and not libcurl's. */
bool exchange_is_own(const struct exchange *x);
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
/* False for a header of the caller's that stays behind in this hop. */
bool exchange_sends_header(const struct exchange *x, const char *name);
bool exchange_keeps_across_origins(const char *name);
/* True if the body waits for a 100 (Expect: 100-continue). */
bool exchange_expects(const struct exchange *x);

/* curl_options.c: what curl is told. */

/* Whether a request needs a handle with the larger buffer. */
bool opts_need_room(const struct transfer_spec *spec, bool https);
/* false: the handle cannot be used; if it was a fresh one, there is no memory. */
NODISCARD bool opts_base(struct exchange *x);
NODISCARD enum err_kind opts_hop(struct exchange *x, struct err *err);
/* Whether a body field goes out, be it an empty one. */
bool exchange_sends_body(const struct exchange *x);
/* Whether a proxy makes the connection. */
bool exchange_proxied(const struct exchange *x);
/* The proxy that the environment names for http:// or https://; NULL: none. */
const char *exchange_environment_proxy(bool https);
/* The line of spec.connect_to that this hop's host and port match; NULL: none. */
const char *exchange_connect_to(const struct exchange *x);
bool exchange_idempotent(const struct exchange *x);

/* response.c: what curl tells us. */

void response_begin(struct exchange *x);
size_t response_on_header(char *data, size_t size, size_t count, void *arg);
size_t response_on_body(char *data, size_t size, size_t count, void *arg);
size_t response_on_upload(char *out, size_t size, size_t count, void *arg);
/* CURLOPT_DEBUGFUNCTION: the one way to hear why curl sends again. */
int response_on_debug(CURL *easy, curl_infotype type, char *data, size_t size, void *arg);
int response_on_prereq(void *arg, char *remote, char *local, int remote_port, int local_port);
/* The body has ended as curl sees it: decoding must have ended as well. */
enum err_kind response_end(struct exchange *x, struct err *err);

/* The reason that `stop` holds ends the transfer: what a callback returns then. */
size_t response_stop(struct exchange *x);
size_t response_stop_large(struct exchange *x, const char *what, size_t limit);

/* response_stream.c: a body that is handed over as it comes. */

/* From our own transports. False, or less than `len`: it has stopped the hop; see x->stop. */

/* So many bytes have been read. */
void response_note_bytes(struct exchange *x, size_t len);
bool response_take_head(struct exchange *x, const struct http1_head *head);
bool response_take_trailers(struct exchange *x, const struct http1_head *trailers);
/* `len`: all was taken; RESPONSE_FULL: nothing was, because the reader is full (x->paused). */
size_t response_take_body(struct exchange *x, const char *data, size_t len);
#define RESPONSE_FULL SIZE_MAX
/* The next bytes of an upload. 0: there are none: it is over, or x->starved. */
size_t response_take_upload(struct exchange *x, char *out, size_t size);

/* For a stream: how many bytes of the body its reader can take now. */
size_t response_stream_room(const struct exchange *x);
/* What the body callback does for a stream. */
size_t response_stream_on_body(struct exchange *x, const char *data, size_t len);
/* Decodes what had to wait, as far as there is room. A failure is in x->stop. */
enum err_kind response_stream_decode_held(struct exchange *x);

/* exchange_failure.c: what went wrong, in our words. */

/* Translates the end of a hop that is no response. */
void failure_from_curl(const struct exchange *x, CURLcode code, struct err *err);
/* The same for a hop over our own transports, but not for HOP_DONE and HOP_STOPPED. `why`: for
 * HOP_FAILED. */
void failure_of_hop(const struct exchange *x, enum hop_end end, const struct err *why,
                    struct err *err);
/* Adds to a failure below the exchange what was asked for. */
void failure_describe(const struct exchange *x, const struct err *why, struct err *err);
void failure_timeout(const struct exchange *x, uint64_t now_ns, struct err *err);
/* When the next limit passes, and which one; NEVER_NS: none. */
uint64_t failure_due(const struct exchange *x, enum err_phase *phase, uint64_t *limit_ms);

/* exchange_failure_proxy.c: what a proxy has to do with it. */

/* "the proxy http://host:port"; NULL: none makes the connection. */
const char *failure_proxy_text(const struct exchange *x, char out[static 160]);
/* True if the proxy answers in place of the target. */
bool failure_proxy_is_peer(const struct exchange *x);
/* True if the TLS handshake was with the proxy, and not yet with the target behind it. */
bool failure_tls_to_proxy(const struct exchange *x);
/* False: the failure was not caused by a proxy. */
bool failure_from_proxy(const struct exchange *x, CURLcode code, struct err *err);

/* h2.c: connections that requests share. */

/* The request goes out on the connection between these two ends, which was made for it (`is_new`)
 * or was there. */
struct h2_ends {
    const char *local, *remote;
    int local_port, remote_port;
};
void h2_note_connection(struct exchange *x, const struct h2_ends *ends, bool is_new);
/* libcurl takes the request off its connection, to send it on another one. */
void h2_note_leave(struct exchange *x);
/* The exchange's connection received a GOAWAY: it takes no new requests, and does not process those
 * above `last_stream`. */
void h2_note_goaway(struct exchange *x, uint32_t last_stream);
/* True if the connection that this request will use has received a GOAWAY. */
bool h2_is_going(const struct exchange *x);
/* Sends head and body together, one turn of the loop later. A server that does not want the body
 * may answer after the head and reset the stream. libcurl (7.88) loses that answer if the body is
 * still to be sent. Half as many packets are also half the work. */
void h2_cork(struct exchange *x);
void h2_on_cork_timer(struct timer *t);

/* exchange_cookies.c: the cookies of a hop. The transfer must have a jar. */

/* Appends the Cookie field, without an end of line: what the caller has set, then what the jar has.
 * RFC 6265 5.4 wants one field. Nothing if there is neither. */
NODISCARD enum err_kind exchange_put_cookies(const struct exchange *x, struct buf *out);
/* Puts the cookies of the response's head into the jar. ERR_MEMORY. */
NODISCARD enum err_kind exchange_take_cookies(const struct exchange *x);

/* redirect.c */

/* True for a status that is followed when the spec says so and a Location came. */
bool redirect_wanted(const struct exchange *x);
/* Where the response leads, resolved against where it came from; applies the rules to the exchange.
 * `url`: owned by the caller, mem_free. */
NODISCARD enum err_kind redirect_next(struct exchange *x, char **url, struct err *err);
