/* The engine's own side of a transfer: one exchange per transfer in the engine. A transfer that
 * follows redirects makes one hop after the other with the same exchange. Idle exchanges are kept.
 * And the engine that they belong to. Private to the engine's files; engine thread only. */
#pragma once

#include "engine/admit.h"
#include "engine/dial.h"
#include "engine/engine_config.h"
#include "engine/http1_types.h"
#include "engine/http2_stream.h"
#include "engine/inflate.h"
#include "engine/origin.h"
#include "engine/proxy.h"
#include "engine/transport.h"

struct call;

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
    struct call *call;     /* set while a simulated origin has it */
    const char *proxy;     /* the URL of the one that leads there; NULL: none. Borrowed */
    bool seeks_proxy;      /* the look-up is for the name of the proxy */
    char *proxy_addresses; /* what it found, until the connection is begun; owned */
    struct pool *pool;     /* of the connections that the hop may use; NULL: none is needed */
    struct dial dial;      /* a connection that is being made for it */
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
    bool fresh;      /* on none that has been used */
    bool reused;     /* on one that has carried a request before */
    unsigned relaunches;
};

/* What the files below exchange.c call in it. */
struct engine_upcalls {
    /* A transport has finished with the hop, and holds nothing of it any more. `why`: for
     * HOP_FAILED. Not beneath a callback of a library. */
    void (*hop_done)(struct exchange *x, enum hop_end end, const struct err *why);
    /* Starts every exchange that may start now. */
    void (*pump)(struct engine *e);
};

struct engine {
    const struct engine_upcalls *upcalls;
    struct netthreads
        *threads; /* it has threads, and engines of theirs: little below is used then */
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
