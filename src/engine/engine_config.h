/* What an engine is made with, and what it counts. */
#pragma once

#include "engine/connect_rules.h"
#include "engine/transfer.h"
#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"
#include "loop/resolver.h"

struct engine;

struct engine_config {
    unsigned max_total;         /* transfers inside curl at once; 0: from the open-file limit */
    unsigned max_per_host;      /* 0: no limit of its own */
    unsigned shard_connections; /* 0: 128 */
    /* Threads of its own for the network, among which origins are divided; 0: it runs beneath the
     * asker's loop. The functions below stay for the asker's thread. Not under virtual time. */
    unsigned threads;
    bool use_env_proxy;            /* the command line's habit; off in embedding */
    bool keep_file_limit;          /* the process's limit of open files is not ours to raise */
    const struct targets *targets; /* what may be connected to; NULL: everything; borrowed */
    const char *user_agent;        /* NULL: "leat/<version>"; borrowed for the engine's life */
    resolver_lookup_fn lookup;     /* NULL: getaddrinfo */
    void *lookup_arg;
};

/* A snapshot of counters and gauges. After everything has ended every gauge is 0 but idle_handles,
 * the pool. */
struct engine_stats {
    /* gauges */
    size_t queued, active, resolving, in_curl, events_waiting, idle_handles;
    /* counters */
    uint64_t submitted, succeeded, failed, cancelled, redirects, wire_attempts, connects;
    uint64_t bytes_in, bytes_out;
    size_t peak_active;
};
