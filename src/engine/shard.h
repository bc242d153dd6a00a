/* libcurl's multi handles. libcurl's work for each request grows with the number of connections in
 * its multi handle. Therefore each multi handle gets a bounded number, and more are created as
 * needed. */
#pragma once

#include "ground/err.h"
#include "ground/mem.h"
#include "loop/timer.h"
#include <curl/curl.h>

struct engine;
struct origin;
struct exchange;

struct shard {
    struct engine *engine;
    CURLM *multi;
    struct timer timer; /* libcurl's timer */
    unsigned index;
    size_t active; /* easy handles in it */
    bool alone;    /* requests never share a connection, whatever the protocol */
};

struct shards {
    struct shard **all;
    size_t count, cap;
    unsigned connections; /* the most connections in one shard */
    unsigned streams; /* the most requests of one origin in a shard, if they share a connection; 0:
                         no limit */
    size_t in_curl;
};

void shards_init(struct shards *s, unsigned connections);
/* No exchange may be in any shard. */
void shards_fini(struct engine *e);
/* The shard for a request that can start: one with an idle connection to its origin, otherwise the
 * least loaded one. NULL: no memory. */
struct shard *shard_for(const struct exchange *x);
NODISCARD enum err_kind shard_add(struct shard *s, struct exchange *x, struct err *err);
/* Call it before anything of the exchange is reused. Aborts the hop if it has not ended. */
void shard_remove(struct exchange *x);
/* For curl_sockets.h: `owner` is a shard. */
void shard_on_socket(void *owner, int fd, int bits);
/* CURLOPT_OPENSOCKETFUNCTION: `arg` is the exchange. */
curl_socket_t shard_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
/* CURLOPT_CLOSESOCKETFUNCTION: `arg` is the engine, because a pooled connection outlives the
 * exchange. */
int shard_close_socket(void *arg, curl_socket_t fd);
