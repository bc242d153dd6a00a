/* One HTTP exchange for its caller: a description to fill, and a result to read. Does not know Lua
 * or tasks. From engine_submit to the done event, only the engine may use the transfer. There are
 * two exceptions: `owner`, which belongs to the caller, and the data that a stream's events
 * announce. */
#pragma once

#include "engine/cookie_jar.h"
#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"
#include "ground/headers.h"
#include "ground/list.h"
#include "ground/mem.h"

/* 0: no limit. head: from leaving the queue to the end of the response's head. */
struct transfer_limits {
    uint64_t queue_ms, connect_ms, first_byte_ms, idle_ms, total_ms, head_ms;
};

enum http_version { HTTP_VERSION_AUTO, HTTP_VERSION_1_1, HTTP_VERSION_2, HTTP_VERSION_2_PRIOR };

/* The request. The transfer owns all strings (from mem_alloc of its mem). */
struct transfer_spec {
    char *url;    /* must have a scheme; checked by transfer_prepare */
    char *method; /* NULL: GET */
    struct headers headers;
    char *body; /* NULL: none */
    size_t body_len;
    /* engine_feed delivers the body in pieces. body_len is then its length, or
     * TRANSFER_LENGTH_UNKNOWN. */
    bool upload;
    /* The response is delivered as it arrives: TRANSFER_HEAD, then TRANSFER_DATA. */
    bool stream;
    struct transfer_limits limits;
    size_t max_body_bytes; /* the decoded size; for a stream 0 means no limit */
    unsigned max_redirects;
    bool follow;
    bool idempotent; /* the caller says that sending the request twice is harmless */
    bool once;       /* the caller counts attempts: do not send again, but fail */
    bool fresh;      /* use a new connection, because a kept one was lost */
    bool insecure;   /* do not check the certificate */
    bool compressed; /* ask for gzip, deflate */
    enum http_version http_version;
    char *ca_file;     /* NULL: the system's certificates */
    char *cert, *key;  /* files of a client certificate and its key; NULL: none */
    char *unix_socket; /* a path, used instead of a TCP connection; NULL: none */
    char *proxy;       /* a URL; "": no proxy; NULL: as the engine's configuration says */
    char *connect_to;  /* lines "host:port:address:", each ended by a NUL; NULL: none */
    size_t connect_to_count;
    struct cookie_jar *jar; /* cookies; the transfer has its own reference; NULL: none */
    unsigned max_per_host;  /* 0: the engine's limit */
};

/* Seconds since the transfer left our queue; negative: that phase did not happen. */
struct transfer_timing {
    double queued, dns, connect, tls, first_byte, total;
};

#define TRANSFER_LENGTH_UNKNOWN SIZE_MAX

/* If a stream has this many unread bytes, its socket is not read. If an upload has this many unsent
 * bytes, the caller should wait before it feeds more. A single read may decode to more than this.
 */
#define TRANSFER_WINDOW ((size_t)64 * 1024)

struct transfer_result {
    struct err err; /* kind ERR_NONE: a response arrived */
    int status;
    char reason[64];
    char version[8]; /* "1.0", "1.1", "2" */
    struct headers headers;
    struct headers trailers;
    struct buf
        body;  /* decoded; after a failure, the part that had arrived; for a stream see unread */
    char *url; /* the URL after redirects; NULL: the one of the request */
    bool complete_unknown; /* the body ended with the connection, without a length or chunking */
    bool encoding_unknown; /* the body has a Content-Encoding that we do not decode */
    unsigned wire_attempts;
    unsigned redirects;
    bool at_once;   /* it failed because of spec.once; otherwise it would have been sent again */
    bool untouched; /* the same; the peer said that it did not process the request */
    int64_t got_bytes, expected_bytes; /* expected_bytes -1: the length was not announced */
    struct transfer_timing timing;
};

/* The events of a transfer. */
enum transfer_event {
    TRANSFER_HEAD = 1, /* stream: status and headers have arrived, and do not change any more */
    TRANSFER_DATA = 2, /* stream: there are unread bytes */
    TRANSFER_ROOM = 4, /* upload: there is room for more */
    TRANSFER_DONE = 8, /* the engine has released the transfer: the last event */
};

/* What one thread leaves for the other. Protected by the lock of the queues (netthreads.c). */
struct crossing {
    struct net *net; /* NULL: in no queue */
    struct list command_node, event_node;
    unsigned commands, events;
    size_t took, unsent;
    size_t window;
    struct buf fed, came;
    bool busy; /* the engine's thread is working on it */
};

struct transfer {
    struct list event_node; /* engine: event queue */
    unsigned events;        /* engine: events that were not taken yet */
    struct mem *mem;
    struct buf unread; /* stream: the bytes after `taken` were not consumed yet */
    size_t taken;
    size_t handed;     /* engine: bytes that were delivered and not reported as consumed */
    size_t wanted;     /* stream: the window, see TRANSFER_WINDOW; the caller may raise it */
    size_t window;     /* engine: the window that it knows of */
    bool lost;         /* there was no memory for bytes that arrived: it ends with ERR_MEMORY */
    struct buf upload; /* the bytes after upload_sent were fed and are not sent yet */
    size_t upload_sent;
    bool upload_ended;
    struct transfer_spec spec;
    struct transfer_result result;
    void *owner;    /* for the caller; the engine never reads it */
    bool cancelled; /* engine_cancel was called: the done event will follow */
    struct exchange
        *exchange;            /* the engine's state of it; NULL while the engine does not hold it */
    struct crossing crossing; /* used while it moves between two threads */
};

/* spec and result are empty. Limits have the documented defaults: connect 10 s, first_byte 120 s,
 * idle 120 s, max_body 64 MiB. NULL: no memory. */
NODISCARD struct transfer *transfer_new(struct mem *mem);
/* Resets the transfer to its new state but keeps its buffers, so the next exchange allocates
 * little. Not while the engine holds it. */
void transfer_reset(struct transfer *t);
/* Not while the engine holds it. NULL is allowed. */
void transfer_free(struct transfer *t);

/* Checks everything that will be sent: scheme, host, control bytes in the URL, method, header names
 * and values. Moves userinfo from the URL into an Authorization header. ERR_INVALID: the message
 * names the part. Call it before engine_submit, on the caller's thread. */
NODISCARD enum err_kind transfer_prepare(struct transfer *t, struct err *err);

/* The method; GET if none was set. */
const char *transfer_method(const struct transfer *t);

/* True if sending the request twice has the effect of sending it once: by its method (RFC 9110,
 * 9.2.2), by an Idempotency-Key, or because the caller says so. */
bool transfer_idempotent(const struct transfer *t);
/* The same for the method after a redirect. */
bool transfer_idempotent_as(const struct transfer *t, const char *method);

/* False for two kinds of host name that libcurl handles badly. It decodes escapes such as %7f into
 * control bytes. For a name that is not ASCII it depends on the locale: without a suitable one it
 * reports "no memory" and leaks. */
bool transfer_host_usable(const char *host);
