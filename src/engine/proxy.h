/* Which proxy leads to an origin, by the environment: http_proxy, https_proxy, all_proxy and
 * no_proxy, as the `curl` program reads them. And what a proxy's URL says. */
#pragma once

#include "ground/err.h"
#include "ground/mem.h"

/* The environment's, as it was at proxy_env_init. */
struct proxy_env {
    struct mem *mem;
    char *http, *https, *bypass; /* of the variables; NULL: not set, or empty */
};

/* ERR_MEMORY: nothing is left behind. */
NODISCARD enum err_kind proxy_env_init(struct proxy_env *p, struct mem *mem, struct err *err);
void proxy_env_fini(struct proxy_env *p);
/* The URL of the proxy for this origin; NULL: none. `host`: as in a URL, IPv6 in brackets.
 * (no_proxy knows no ports.) Borrowed from `p`. */
const char *proxy_for(const struct proxy_env *p, bool https, const char *host);
/* True if a list such as no_proxy names the host: itself, a domain above it, its address, a block
 * of addresses (10.0.0.0/8), or everything ("*"). */
bool proxy_bypassed(const char *list, const char *host);

enum proxy_kind {
    PROXY_HTTP,
    PROXY_HTTPS,   /* HTTP over TLS */
    PROXY_SOCKS,   /* it looks names up itself: socks4a, socks5h */
    PROXY_SOCKS_IP /* it wants an address: socks, socks4, socks5 */
};

/* What the URL's scheme says; without one it is an HTTP proxy. */
enum proxy_kind proxy_kind_of(const char *url);
/* Why no connection to a proxy of this URL can be tried; NULL: it can. */
const char *proxy_unusable(const char *url);
/* The host of the URL, IPv6 in brackets, and the port that libcurl takes. False: the URL cannot be
 * used, or there is no memory. */
bool proxy_place(const char *url, char host[static 256], unsigned *port);
/* "user:password" of the URL, decoded, for a Proxy-Authorization of the kind Basic. *out is NULL if
 * there are none; otherwise mem_free it. ERR_MEMORY. */
NODISCARD enum err_kind proxy_credentials(const char *url, struct mem *mem, char **out,
                                          struct err *err);
