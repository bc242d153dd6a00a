/* One HTTP exchange, from the side of whoever asks for it: a plain description to fill, a result to
 * read. Knows nothing of Lua or of tasks. While the engine holds a transfer (from engine_submit to
 * its done event) only the engine touches it, but for `owner`, which belongs to the asker, and what
 * a stream's events say is there. */
#pragma once

#include "engine/cookies.h"
#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"
#include "ground/headers.h"
#include "ground/list.h"
#include "ground/mem.h"

/* 0: none. head: from leaving the queue to the end of the response's head. */
struct transfer_limits {
    uint64_t queue_ms, connect_ms, first_byte_ms, idle_ms, total_ms, head_ms;
};

enum http_version { HTTP_VERSION_AUTO, HTTP_VERSION_1_1, HTTP_VERSION_2, HTTP_VERSION_2_PRIOR };

/* What to do. All strings are owned by the transfer (mem_alloc'ed from its mem). */
struct transfer_spec {
    char *url;    /* scheme required; validated by transfer_prepare */
    char *method; /* NULL: GET */
    struct headers headers;
    char *body; /* NULL: none */
    size_t body_len;
    /* The body comes piece by piece, by engine_feed; body_len is its length then, or
     * TRANSFER_LENGTH_UNKNOWN. */
    bool upload;
    /* The response is handed over as it comes: TRANSFER_HEAD, then TRANSFER_DATA. */
    bool stream;
    struct transfer_limits limits;
    size_t max_body_bytes; /* decoded; of a stream 0 means no limit */
    unsigned max_redirects;
    bool follow;
    bool idempotent; /* the caller says that sending it twice is harmless */
    bool once;       /* whoever asks counts attempts: what may be sent again fails instead */
    bool insecure;   /* no certificate check */
    bool compressed; /* ask for gzip, deflate */
    enum http_version http_version;
    char *ca_file;     /* NULL: the system's */
    char *cert, *key;  /* files of a client certificate and its key; NULL: none */
    char *unix_socket; /* path, instead of a TCP connection; NULL: none */
    char *proxy;       /* URL; "": none; NULL: as the engine's configuration has it */
    char *connect_to;  /* lines "host:port:address:", each ended by a NUL; NULL: none */
    size_t connect_to_count;
    struct jar *jar;       /* cookies; a reference of the transfer's own; NULL: none */
    unsigned max_per_host; /* 0: the engine's */
};

/* Seconds from leaving our queue; negative: that phase did not happen. */
struct transfer_timing {
    double queued, dns, connect, tls, first_byte, total;
};

#define TRANSFER_LENGTH_UNKNOWN SIZE_MAX

/* How much of a stream may lie unread before its socket is not read any more; the same of an
 * upload, before the one who feeds it should wait. What one read decodes to comes on top. */
#define TRANSFER_WINDOW ((size_t)64 * 1024)

struct transfer_result {
    struct err err; /* kind ERR_NONE: a response came */
    int status;
    char reason[64];
    char version[8]; /* "1.0", "1.1", "2" */
    struct headers headers;
    struct headers trailers;
    struct buf body;       /* decoded; on failure what had arrived; of a stream see unread */
    char *url;             /* after redirects; NULL: the one asked for */
    bool complete_unknown; /* ended by EOF, with neither length nor chunking */
    bool encoding_unknown; /* body is in a Content-Encoding that we do not decode */
    unsigned wire_attempts;
    unsigned redirects;
    bool at_once;   /* failed, with spec.once, where it would have been sent again */
    bool untouched; /* the same, as the peer said that it has not acted on the request */
    int64_t got_bytes, expected_bytes; /* expected -1: not announced */
    struct transfer_timing timing;
};

/* What is new about a transfer. */
enum transfer_event {
    TRANSFER_HEAD = 1, /* stream: status and headers are there, and stay */
    TRANSFER_DATA = 2, /* stream: there are unread bytes */
    TRANSFER_ROOM = 4, /* upload: there is room again */
    TRANSFER_DONE = 8, /* the engine has let go of it: the last event */
};

/* What one thread leaves for the other; under the lock of its queues (netthread.c). */
struct crossing {
    struct net *net; /* NULL: on no way */
    struct list command_node, event_node;
    unsigned commands, events;
    size_t took, unsent;
    size_t window;
    struct buf fed, came;
    bool busy; /* the engine's thread is at it */
};

struct transfer {
    struct list event_node; /* engine: event queue */
    unsigned events;        /* engine: not taken yet */
    struct mem *mem;
    struct buf unread; /* stream: what came up and was not taken yet, from `taken` on */
    size_t taken;
    size_t handed;     /* engine: bytes that went up and were not reported as taken */
    size_t wanted;     /* stream: the window, see TRANSFER_WINDOW; the asker may raise it */
    size_t window;     /* engine: the same, as far as it was told */
    bool lost;         /* there was no memory for what came up: it ends as ERR_MEMORY */
    struct buf upload; /* fed and not sent yet, from upload_sent on */
    size_t upload_sent;
    bool upload_ended;
    struct transfer_spec spec;
    struct transfer_result result;
    void *owner;               /* the asker's; the engine never reads it */
    bool cancelled;            /* engine_cancel was called: the done event follows */
    struct exchange *exchange; /* the engine's own state; NULL outside it */
    struct crossing crossing;  /* on its way between two threads */
};

/* All of spec and result empty, limits at the documented defaults (connect 10 s, first_byte 120 s,
 * idle 120 s), max_body 64 MiB. NULL: no memory. */
NODISCARD struct transfer *transfer_new(struct mem *mem);
/* As new again, with its buffers kept: a new exchange then allocates little. Not while the engine
 * holds it. */
void transfer_reset(struct transfer *t);
/* Not while the engine holds it. NULL is allowed. */
void transfer_free(struct transfer *t);

/* Checks everything that will reach the wire: scheme, host, control bytes in URL, method, header
 * names and values. Moves userinfo out of the URL into an Authorization header. ERR_INVALID with a
 * message that names the part. Call before engine_submit, on the asker's thread. */
NODISCARD enum err_kind transfer_prepare(struct transfer *t, struct err *err);

/* GET unless another was asked for. */
const char *transfer_method(const struct transfer *t);

/* Sending it twice does no more than sending it once: by its method (RFC 9110, 9.2.2), by an
 * Idempotency-Key, or because the caller says so. */
bool transfer_idempotent(const struct transfer *t);
/* The same for the method that a redirect made of it. */
bool transfer_idempotent_as(const struct transfer *t, const char *method);

/* False for a name with a control byte, which curl lets an escape such as %7f make, and for one
 * that is not ASCII: curl finds its other spelling by the locale alone, and where it finds none it
 * says "no memory" and leaks. */
bool transfer_host_usable(const char *host);
