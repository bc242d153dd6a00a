/* What every server has in common, wherever its requests come from: the list of its requests, the
 * line of those that wait for a handler, and the counters. server_listen.h makes a server that
 * listens on a socket; whoever has requests of another origin makes one with server_init.
 *
 * The server floor knows the loop and the parser of HTTP/1. It knows neither Lua nor tasks: it
 * reports through `struct server_events`. All calls: the runtime's thread only. */
#pragma once

#include "ground/list.h"
#include "ground/log.h"
#include "ground/mem.h"

struct server;
struct server_request;

/* The most bytes that the head of a request, or of a response, may have. */
#define SERVER_HEAD_BYTES ((size_t)32 << 10)

/* These run beneath callbacks of libuv. So they may only record what happened and wake tasks: they
 * must not run Lua, and they must not call functions of this floor. */
struct server_events {
    /* A request came into the line. */
    void (*arrived)(struct server *s);
    /* No request is open any more. */
    void (*idle)(struct server *s);
    /* Of a request that was taken: it needs no answer any more. `reason` is a constant text. */
    void (*ended)(struct server_request *r, const char *reason);
    /* Of a request that was taken: its stream has room again, or takes no more. */
    void (*room)(struct server_request *r);
};

struct server_config {
    struct mem *mem;
    struct log *log;
    size_t max_body; /* a request with a longer body is answered with 413 */
    const struct server_events *events;
    void *owner;
};

struct server {
    struct mem *mem;
    struct log *log;
    size_t max_body;
    const struct server_events *events;
    void *owner; /* belongs to the creator; not read here */

    bool open;  /* false: stopped */
    bool quiet; /* takes no new requests: they are answered with 503 */
    unsigned refs;
    struct list requests;         /* all that are open, by server_request.node */
    struct list line;             /* those that wait for a handler, by server_request.line_node */
    struct server_request *taken; /* the last one taken, until it is claimed; else NULL */

    /* gauges and counters, read-only */
    size_t connections, waiting, active;
    uint64_t accepted, received, gone;
};

/* Initialises a server inside a block of mem_alloc that begins with it. The caller holds one
 * reference. */
void server_init(struct server *s, const struct server_config *config);
void server_hold(struct server *s);
/* Frees the block with the last reference. Requests and connections hold one each. */
void server_release(struct server *s);
/* Logs that a request was lost because there was not enough memory. */
void server_log_lost(struct server *s);
