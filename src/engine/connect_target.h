/* Where a connection is to be made, and by what way: what connector.h is asked for. */
#pragma once

#include "engine/connect_rules.h"

/* All is borrowed until connector_start returns, except `rules`. */
struct connect_target {
    const char *host; /* the origin's, as in its URL: IPv6 in brackets */
    unsigned port;
    bool https; /* only names the origin in messages, and says that CONNECT is for TLS */
    /* Numeric, as the resolver gives them: "1.2.3.4,[::1]". NULL: the host is an address, or a
     * proxy looks it up, or unix_socket or connect_to lead elsewhere. */
    const char *addresses;
    const char *unix_socket; /* NULL: none. It comes before a proxy */
    const char *connect_to;  /* "host:port:address:": go to this address instead; NULL: none */
    const char *proxy;       /* a URL, maybe with credentials; NULL or "": none */
    /* Of the proxy's host (proxy_place), if that is a name. With NULL libcurl would look it up, on
     * a thread for each attempt, which no cancel ends. */
    const char *proxy_addresses;
    bool proxy_of_environment; /* the connect rules do not apply to the proxy's address */
    /* CONNECT through an HTTP or HTTPS proxy: for https, with connect_to, and where the proxy would
     * need more than a request with Basic credentials. Others get a connection to the proxy. */
    bool tunnel;
    const char *user_agent;          /* sent with CONNECT; NULL: none */
    const char *ca_file, *ca_folder; /* whom to trust as an HTTPS proxy; NULL: nobody */
    /* The time for connecting, which the caller enforces with connector_cancel. libcurl divides it
     * among the addresses of a host. 0: no limit. */
    uint64_t connect_ms;
    const struct connect_rules *rules; /* the connect rules; NULL: none; must outlive the attempt */
};
