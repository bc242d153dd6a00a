/* A request, from its first line until nobody holds it: what was asked, the response, and its place
 * in the line. Its carrier knows how the request arrived and how the response goes back. A carrier
 * is a connection (server_http1.c) or belongs to another floor. */
#pragma once

#include "ground/buf.h"
#include "ground/err.h"
#include "ground/headers.h"
#include "server/server.h"

/* The writer of a stream waits when more than HIGH bytes are unsent, until at most LOW bytes are
 * left. Nobody may write more than MAX bytes ahead. */
#define SERVER_STREAM_HIGH_BYTES ((size_t)256 << 10)
#define SERVER_STREAM_LOW_BYTES ((size_t)64 << 10)
#define SERVER_STREAM_MAX_BYTES ((size_t)64 << 20)

enum server_request_state {
    SERVER_REQUEST_BODY,     /* its body is being read */
    SERVER_REQUEST_WAITING,  /* it is in line, or a handler has it */
    SERVER_REQUEST_ANSWERED, /* its whole response is given */
    SERVER_REQUEST_STREAM    /* the head of its response is given; the body follows in pieces */
};

/* How a request has ended for its carrier. */
enum server_request_end {
    SERVER_REQUEST_SENT,
    SERVER_REQUEST_CLIENT_GONE,
    SERVER_REQUEST_SERVER_CLOSED
};

/* The operations of a carrier. `answer`, `write`, `finish` and `abort` are called only while the
 * request is open. */
struct server_carrier {
    /* Sends r->status and r->headers_out, with r->body_out or as the head of a stream. On an error
     * nothing was sent, and another response may follow. */
    enum err_kind (*answer)(struct server_request *r, bool stream, struct err *err);
    /* ERR_TOO_LARGE, ERR_MEMORY: nothing was appended. */
    enum err_kind (*write)(struct server_request *r, const char *data, size_t len);
    size_t (*unsent)(const struct server_request *r);
    void (*finish)(struct server_request *r);
    /* Breaks the connection after the bytes that were already written. */
    void (*abort)(struct server_request *r);
    /* Frees the carrier's own part. */
    void (*fini)(struct server_request *r);
};

struct server_request {
    struct list node;      /* server.requests */
    struct list line_node; /* server.line */
    struct server *server;
    const struct server_carrier *carrier;
    void *owner; /* set by the code that took it; NULL: nobody holds it */
    enum server_request_state state;
    bool open;     /* the carrier holds it */
    bool no_body;  /* for HEAD, 204, 304: bytes that are written are dropped */
    bool finished; /* the end of the response was given */
    bool aborted;  /* the connection will be broken */
    bool gone;     /* the client disconnected before it had the whole response */

    char *target; /* as it was sent, with the query */
    char *method;
    char *version; /* "1.0" or "1.1" */
    char address[64];
    struct headers headers;
    struct buf body;

    unsigned status;
    struct headers headers_out;
    char *body_out; /* of a whole response */
    size_t body_out_len;
    size_t head_len; /* the bytes of the script's headers in the head of the response */
};

/* `size`: the size of the carrier's struct, which begins with the request. `target` is taken over,
 * even on failure. NULL: no memory. */
NODISCARD struct server_request *server_request_new(struct server *s, size_t size,
                                                    const struct server_carrier *carrier,
                                                    char *target);
/* Only for a request that neither a carrier nor an owner holds. */
void server_request_free(struct server_request *r);

/* ---- for the carrier */

/* The request has arrived completely. */
void server_request_put_in_line(struct server_request *r);
/* The client has disconnected and will not read the rest. */
void server_request_client_gone(struct server_request *r);
/* The stream has room again. */
void server_request_room(struct server_request *r);
/* The carrier releases the request. Frees it if it has no owner. */
void server_request_over(struct server_request *r, enum server_request_end how);

/* ---- for the owner */

/* Takes the next request in line; it belongs to `owner` then. NULL: there is none. */
struct server_request *server_request_take(struct server *s, void *owner);
/* A handler takes charge of the request. If it needs no answer any more, returns the reason;
 * otherwise NULL. */
const char *server_request_claim(struct server_request *r);
/* The owner releases the request. If it has no response, it is broken off. */
void server_request_release(struct server_request *r);
/* Because memory is short: gives up the request that was taken last, unless it was claimed. */
void server_request_lose_taken(struct server *s);
/* Because memory is short: gives up the next request in line. False: there is none. */
bool server_request_drop(struct server *s);

/* True until the whole response is given. */
bool server_request_unanswered(const struct server_request *r);
/* True if the client is still there to receive a response. */
bool server_request_reachable(const struct server_request *r);
/* Writes a part of a stream's body. ERR_CLOSED: the client has disconnected. ERR_TOO_LARGE,
 * ERR_MEMORY: nothing was appended. */
NODISCARD enum err_kind server_request_write(struct server_request *r, const char *data,
                                             size_t len);
size_t server_request_unsent(const struct server_request *r);
void server_request_finish(struct server_request *r);
/* Breaks the connection. Bytes that were written to a stream before are still sent. Has no effect
 * if the response is complete. */
void server_request_abort(struct server_request *r);
