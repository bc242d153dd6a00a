/* A request, from its first line until nobody holds it any more: what was asked, what is answered,
 * and its place in the line. How it came here and how its answer goes back is the business of its
 * carrier: a connection of libmicrohttpd (server_connection.c), or another floor's. */
#pragma once

#include "ground/buf.h"
#include "ground/err.h"
#include "ground/headers.h"
#include "server/server.h"

/* The writer of a stream waits while more than the first is unsent, until no more than the second
 * is left. Nobody may write more than the third ahead. */
#define SERVER_STREAM_HIGH_BYTES ((size_t)256 << 10)
#define SERVER_STREAM_LOW_BYTES ((size_t)64 << 10)
#define SERVER_STREAM_MAX_BYTES ((size_t)64 << 20)

enum server_request_state {
    SERVER_REQUEST_HEAD,     /* only the request line is known */
    SERVER_REQUEST_BODY,     /* its body is being read */
    SERVER_REQUEST_WAITING,  /* in line, or with its handler */
    SERVER_REQUEST_ANSWERED, /* has its whole response */
    SERVER_REQUEST_STREAM    /* has the head of its response; the body follows in pieces */
};

/* How a request is over for its carrier. */
enum server_request_end {
    SERVER_REQUEST_SENT,
    SERVER_REQUEST_CLIENT_GONE,
    SERVER_REQUEST_SERVER_CLOSED
};

/* What a carrier does. `answer`, `write`, `finish` and `abort` are only called while the request is
 * open. */
struct server_carrier {
    /* Sends r->status and r->headers_out, with r->body_out or as the head of a stream. On an error
     * nothing was sent, and another answer may follow. */
    enum err_kind (*answer)(struct server_request *r, bool stream, struct err *err);
    /* ERR_TOO_LARGE, ERR_MEMORY: nothing was appended. */
    enum err_kind (*write)(struct server_request *r, const char *data, size_t len);
    size_t (*unsent)(const struct server_request *r);
    void (*finish)(struct server_request *r);
    /* Breaks the connection behind what was written before. */
    void (*abort)(struct server_request *r);
    /* Frees the carrier's own part. */
    void (*fini)(struct server_request *r);
};

struct server_request {
    struct list node;      /* server.requests */
    struct list line_node; /* server.line */
    struct server *server;
    const struct server_carrier *carrier;
    void *owner; /* of whoever took it; NULL: nobody holds it */
    enum server_request_state state;
    bool open;     /* the carrier holds it */
    bool no_body;  /* HEAD, 204, 304: what is written is dropped */
    bool finished; /* the end of the response was given */
    bool aborted;  /* the connection is to be broken */
    bool gone;     /* the client went away before it had the whole response */

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
    size_t head_room; /* how many bytes the head of the response may have */
    size_t head_len;  /* how many bytes of it the headers of the script take */
};

/* `size`: of the carrier's struct, which begins with the request. `target` is taken over, also
 * where this fails. NULL: no memory. */
NODISCARD struct server_request *server_request_new(struct server *s, size_t size,
                                                    const struct server_carrier *carrier,
                                                    char *target);
/* Only of a request that neither its carrier nor an owner holds. */
void server_request_free(struct server_request *r);

/* ---- for the carrier */

/* The request is there in full. */
void server_request_put_in_line(struct server_request *r);
/* The client is no longer there to read what is still missing. */
void server_request_client_gone(struct server_request *r);
/* The stream has room again. */
void server_request_room(struct server_request *r);
/* The carrier lets go of it. Frees it where it has no owner. */
void server_request_over(struct server_request *r, enum server_request_end how);

/* ---- for the owner */

/* The next request in line, which is `owner`'s from now on; NULL: none. */
struct server_request *server_request_take(struct server *s, void *owner);
/* A handler answers for it from now on. If it needs no answer any more: why, else NULL. */
const char *server_request_claim(struct server_request *r);
/* The owner lets go of it. Without an answer it is broken off. */
void server_request_release(struct server_request *r);
/* Loses the last one that was taken, if nobody claimed it, for want of memory. */
void server_request_lose_taken(struct server *s);
/* Loses the next one in line for want of memory. False: there is none. */
bool server_request_drop(struct server *s);

/* Somebody is there to be answered. */
bool server_request_reachable(const struct server_request *r);
/* The body of a stream. ERR_CLOSED: the client is gone; ERR_TOO_LARGE, ERR_MEMORY: nothing was
 * appended. */
NODISCARD enum err_kind server_request_write(struct server_request *r, const char *data,
                                             size_t len);
size_t server_request_unsent(const struct server_request *r);
void server_request_finish(struct server_request *r);
/* Breaks the connection. What a stream was given before is still sent. Has no effect once the
 * response is complete. */
void server_request_abort(struct server_request *r);
