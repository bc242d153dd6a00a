/* Multi handles. libcurl's cost per request grows with the connections in one, so there are as
 * many as needed for each to hold a bounded number. */
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
    struct timer timer; /* libcurl's own */
    unsigned index;
    size_t active; /* easy handles in it */
    bool alone;    /* no two requests share a connection, whatever the protocol */
};

struct shards {
    struct shard **all;
    size_t count, cap;
    unsigned connections; /* per shard */
    unsigned streams;     /* per shard, of an origin whose requests share; 0: all in one */
    size_t in_curl;
};

void shards_init(struct shards *s, unsigned connections);
/* No exchange may be in any. */
void shards_fini(struct engine *e);
/* The shard for a request that is ready to go: one with an idle connection to its origin, else the
 * least loaded one. NULL: no memory. */
struct shard *shard_for(const struct exchange *x);
NODISCARD enum err_kind shard_add(struct shard *s, struct exchange *x, struct err *err);
/* Before anything of the exchange is reused; aborts the hop if it has not ended. */
void shard_remove(struct exchange *x);
/* For curl_sockets.h: `owner` is a shard. */
void shard_on_socket(void *owner, int fd, int bits);
/* CURLOPT_OPENSOCKETFUNCTION: `arg` is the exchange. */
curl_socket_t shard_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
/* CURLOPT_CLOSESOCKETFUNCTION: `arg` is the engine, as a pooled connection outlives the exchange.
 */
int shard_close_socket(void *arg, curl_socket_t fd);
