/* The configuration of an engine, and its statistics. */
#pragma once

#include "engine/connect_rules.h"
#include "engine/transfer.h"
#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"
#include "loop/resolver.h"

struct engine;

struct engine_config {
    unsigned max_total;    /* transfers under way at once; 0: from the limit of open files */
    unsigned max_per_host; /* 0: no limit per host */
    /* The number of network threads. Each origin belongs to one of them. 0: the engine runs on the
     * caller's loop. All functions still belong to the caller's thread. Not under virtual time. */
    unsigned threads;
    unsigned shares; /* of the network threads: so many engines share the places; 0: just one */
    bool
        use_env_proxy; /* use the environment's proxies: on in the command line, off in embedding */
    bool keep_file_limit;              /* do not raise the process's limit of open files */
    const struct connect_rules *rules; /* what scripts may connect to; NULL: everything; borrowed */
    const char *user_agent;    /* NULL: "leat/<version>"; borrowed as long as the engine lives */
    resolver_lookup_fn lookup; /* NULL: getaddrinfo */
    void *lookup_arg;
};

/* Gauges and counters. After all transfers have ended, every gauge is 0, except
 * idle_exchanges, which counts those that are kept for the next transfers. on_network: transfers
 * that have a connection or wait for one. */
struct engine_stats {
    /* gauges */
    size_t queued, active, resolving, on_network, events_waiting, idle_exchanges;
    /* counters */
    uint64_t submitted, succeeded, failed, cancelled, redirects, wire_attempts, connects;
    uint64_t bytes_in, bytes_out;
    size_t peak_active;
};
