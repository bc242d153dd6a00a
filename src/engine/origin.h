/* Origins (scheme, host, port) and the parsed URLs that lead to them. Parsing a URL is the dearest
 * avoidable part of a request, so the last few hundred are kept parsed; an origin lives as long as
 * a URL or a transfer refers to it. Engine thread only. */
#pragma once

#include "engine/admit.h"
#include "ground/err.h"
#include "ground/mem.h"
#include <curl/curl.h>

enum origin_protocol { ORIGIN_UNKNOWN, ORIGIN_HTTP1, ORIGIN_HTTP2 };

/* A connection that HTTP/2 requests share, as far as we have seen it. */
struct h2_connection {
    uint64_t number; /* no other connection of the engine ever has it */
    uint64_t ends;   /* a hash of the addresses and ports of both sides */
    int port;        /* of our side */
    int fd;          /* it may be closed by now */
    bool gone;       /* a GOAWAY came: it takes no new requests */
};

struct simulation;

struct origin {
    struct origin *hash_next;
    uint64_t hash;
    char *key;  /* "https://host:port", owned */
    char *host; /* as it goes into the address book: lower case, IPv6 in brackets; owned */
    unsigned port;
    bool https;
    bool numeric; /* needs no look-up */
    unsigned refs;
    struct simulation *simulation; /* who answers instead of the network; NULL: nobody */
    struct admit_host admit;
    enum origin_protocol protocol;
    struct h2_connection *shared; /* those that are open, and some that were */
    size_t shared_count, shared_cap;
    bool h2c; /* http://: a connection by prior knowledge was begun, and may be there to share */
    unsigned home_shard; /* where its HTTP/2 connections live */
    /* Shards that (probably) hold an idle connection to it, last used last. */
    uint16_t *idle;
    size_t idle_count, idle_cap;
    /* So many requests to come use a connection of their own: kept ones were lost. */
    unsigned distrust;
    bool answered; /* in HTTP, once at least: so the scheme is the right one */
};

struct url_entry {
    struct list lru;
    struct url_entry *hash_next;
    uint64_t hash;
    char *url;
    size_t len;
    CURLU *handle;
    struct origin *origin;
    unsigned refs; /* transfers on their way */
    bool cached;   /* in the table; else freed with the last ref */
};

enum { ORIGIN_BUCKETS = 256, URL_BUCKETS = 512, URL_CACHE_MAX = 256 };

struct origins {
    struct mem *mem;
    struct origin *by_key[ORIGIN_BUCKETS];
    struct url_entry *by_url[URL_BUCKETS];
    struct list lru; /* of url_entry, oldest first */
    size_t url_count, origin_count;
};

void origins_init(struct origins *o, struct mem *mem);
/* Every entry must have been released. */
void origins_fini(struct origins *o);
/* The entry for an http or https URL, with a reference that origins_release gives back. ERR_INVALID
 * or ERR_MEMORY. */
NODISCARD enum err_kind origins_get(struct origins *o, const char *url, struct url_entry **out,
                                    struct err *err);
void origins_release(struct origins *o, struct url_entry *u);

/* Remembers that shard `index` keeps a connection. Forgets silently when memory is short. */
void origin_push_idle(struct origin *g, struct mem *mem, unsigned index, size_t max);
/* The shard last remembered; -1: none. */
int origin_pop_idle(struct origin *g);
