/* HTTP/1.1: one request and its response on a channel. It writes the head and a short body in one
 * piece, and an upload as it comes; it gives the response to `response.c`, and waits while its
 * reader is full. When both are complete the channel goes back to its pool. Engine thread only. */
#pragma once

#include "engine/pool.h"
#include "engine/transport.h"
#include "ground/buf.h"
#include "ground/http1_parse.h"

/* Belongs to an exchange, and is used again with it. */
struct http1 {
    struct exchange *x;
    struct channel *channel; /* NULL: no request is under way */
    struct http1_parser parser;
    struct buf in;  /* read, and not used yet: a part of a head, or what the reader cannot take */
    size_t piece;   /* of `in`: bytes at its front that are a piece of the body */
    struct buf out; /* the head, or a part of an upload */
    size_t out_sent, body_sent;
    uint64_t first_byte_out;   /* how much the connection had sent before this request */
    struct timer expect_timer; /* how long the body waits for a 100 */
    bool is_sent;              /* all of the request */
    bool waits_for_100;
    bool cannot_write; /* the peer takes no more, but may have answered */
    bool keep_alive;   /* the response allows another request */
};

/* `h` must be zero or have been used before. */
void http1_init(struct http1 *h, struct exchange *x);
void http1_fini(struct http1 *h);
/* Sends the request of its exchange, and owns the channel from now on. False: that has ended the
 * hop already. */
bool http1_start(struct http1 *h, struct channel *c);

extern const struct transport http1_transport;

/* http1_request.c: appends the head of the request, with the blank line. */
NODISCARD enum err_kind http1_write_head(const struct exchange *x, struct buf *out);
