/* Reads HTTP/1 messages from bytes: heads, bodies, chunks and trailers (RFC 9112), of responses and
 * of requests. It is strict: what two readers could understand in two ways is refused, except where
 * real servers need more room. It allocates nothing, keeps no bytes, and calls nobody.
 *
 * The bytes may come in pieces of any size. Bytes of a head, or of trailers, that is not complete
 * stay with the caller, who hands them in again with more behind them. All else is consumed. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"
#include "ground/http1_head.h"

enum http1_result { HTTP1_MORE, HTTP1_HEAD, HTTP1_BODY, HTTP1_TRAILERS, HTTP1_DONE, HTTP1_FAILED };

struct http1_limits {
    uint32_t head_bytes; /* of a head, its first line included, and of trailers */
    uint32_t line_bytes; /* of a line, its end included */
    uint32_t headers;    /* at most HTTP1_MAX_HEADERS; trailers count by themselves */
    uint32_t informational;
    uint32_t extension_bytes; /* of the extensions of one chunk */
};

/* What the parser has found. It takes 4 KB, and can serve any number of parsers by turns. */
struct http1_event {
    const char *data; /* HTTP1_BODY: borrowed from the input */
    size_t len;
    struct http1_head head; /* HTTP1_HEAD; of HTTP1_TRAILERS, only the fields */
};

struct http1_parser {
    /* For responses. The caller sets them between http1_parse_init and the first bytes. */
    bool to_head;     /* the request was a HEAD: no body follows */
    bool may_upgrade; /* the request asked for a 101, which ends the message */
    /* Private. */
    bool tainted; /* an interim response announced a body */
    uint8_t kind, state, fault;
    uint16_t lines, informational;
    uint32_t line, scanned; /* offsets: of the line that is being read, and of what is not read */
    uint32_t extension;     /* bytes of it in this chunk line */
    uint32_t digits;
    uint64_t left; /* bytes of the body, or of the chunk */
    const struct http1_limits *limits;
};

/* Prepares for one message; for the next one call it again. `limits` is kept; NULL: 256 KB, 64 KB,
 * 256 headers, 32 interim responses, and 1 KB. */
void http1_parse_init(struct http1_parser *p, enum http1_kind kind,
                      const struct http1_limits *limits);
/* Consumes bytes from the front of *in; *in and *len are set to the rest. Call it until it returns
 * one of the following:
 *
 * HTTP1_MORE    all is used, or *len bytes must be handed in again with more behind them (not more
 *               than head_bytes, as a longer head is refused)
 * HTTP1_DONE    the message is complete; the rest belongs to the next one, or to another protocol
 * HTTP1_FAILED  *err is ERR_PROTOCOL with a reason; every later call returns it again
 *
 * Otherwise it has filled *out: HTTP1_HEAD once (for informational responses, too: one each),
 * HTTP1_BODY for each piece of the body, HTTP1_TRAILERS if there are any. */
enum http1_result http1_parse_next(struct http1_parser *p, const char **in, size_t *len,
                                   struct http1_event *out, struct err *err);
/* The connection has ended, and all bytes were handed in. HTTP1_DONE: the message was complete, or
 * this is how it ends. HTTP1_FAILED: ERR_CLOSED with the reason `truncated`, or as before. */
enum http1_result http1_parse_end(struct http1_parser *p, struct err *err);
