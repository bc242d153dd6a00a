/* Origins (scheme, host, port) and the parsed URLs that lead to them. Parsing is the most expensive
 * avoidable part of a request, so the last few hundred URLs are kept parsed. An origin lives as
 * long as a URL or a transfer refers to it. Engine thread only. */
#pragma once

#include "engine/admit.h"
#include "ground/err.h"
#include "ground/mem.h"
#include <curl/curl.h>

enum origin_protocol { ORIGIN_UNKNOWN, ORIGIN_HTTP1, ORIGIN_HTTP2 };

struct simulation;

struct origins;

struct origin {
    struct origins *all;
    struct origin *hash_next;
    uint64_t hash;
    char *key;         /* "https://host:port", owned */
    char *host;        /* as CURLOPT_RESOLVE needs it: lower case, IPv6 in brackets; owned */
    char *authority;   /* the same with the port, if that is not the scheme's own; owned */
    struct list pools; /* see pool.h */
    unsigned port;
    bool https;
    bool numeric; /* it is an address and needs no look-up */
    unsigned refs;
    struct simulation *simulation; /* answers instead of the network; NULL: none */
    struct admit_host admit;
    enum origin_protocol protocol; /* of https: what its last connection agreed on */
    bool answered;                 /* it has answered in HTTP before: so the scheme is right */
};

struct url_entry {
    struct list lru;
    struct url_entry *hash_next;
    uint64_t hash;
    char *url;
    size_t len;
    char *target; /* path and query, as the request line has them; owned */
    CURLU *handle;
    struct origin *origin;
    unsigned refs; /* the number of its transfers in the engine */
    bool cached;   /* in the table; otherwise freed with the last reference */
};

enum { ORIGIN_BUCKETS = 256, URL_BUCKETS = 512, URL_CACHE_MAX = 256 };

struct origins {
    struct mem *mem;
    struct origin *by_key[ORIGIN_BUCKETS];
    struct url_entry *by_url[URL_BUCKETS];
    struct list lru; /* list of url_entry, oldest first */
    size_t url_count, origin_count;
};

void origins_init(struct origins *o, struct mem *mem);
/* All entries must be released before. */
void origins_fini(struct origins *o);
/* Returns the entry for an http or https URL in *out, with a reference; release it with
 * origins_release. ERR_INVALID or ERR_MEMORY. */
NODISCARD enum err_kind origins_get(struct origins *o, const char *url, struct url_entry **out,
                                    struct err *err);
void origins_release(struct origins *o, struct url_entry *u);
/* True if a host, as in a URL, is an address. */
bool origin_is_numeric(const char *host);
/* A reference of one's own to the origin of an entry. */
void origin_ref(struct origin *g);
void origin_unref(struct origin *g);
