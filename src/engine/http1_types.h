/* The state of one HTTP/1.1 exchange of messages: see http1.h. */
#pragma once

#include "engine/pool.h"
#include "ground/buf.h"
#include "ground/http1_parse.h"

struct exchange;

/* Belongs to an exchange, and is used again with it. */
struct http1 {
    struct exchange *x;
    struct channel *channel; /* NULL: no request is under way */
    struct http1_parser parser;
    struct buf in;  /* read, and not used yet: a part of a head, or what the reader cannot take */
    size_t piece;   /* how many bytes at the front of `in` are a piece of the body */
    struct buf out; /* the head, or a part of an upload */
    size_t out_sent, body_sent;
    uint64_t first_byte_out;   /* how much the connection had sent before this request */
    struct timer expect_timer; /* how long the body waits for a 100 */
    bool is_sent;              /* all of the request */
    bool waits_for_100;
    bool cannot_write; /* the peer takes no more, but may have answered */
    bool keep_alive;   /* the response allows another request */
};
