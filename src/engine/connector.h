/* Opens connections. libcurl finds the way (several addresses, proxies, tunnels, unix sockets), and
 * the caller gets a descriptor that libcurl knows nothing of any more. Nothing is sent to the
 * origin. The caller looks names up before (resolver.h): those of origins, unless the proxy does,
 * and those of proxies.
 *
 * While a connection is being made it holds two descriptors for each address that is tried. Loop
 * thread only. */
#pragma once

#include "engine/admit.h"
#include "engine/connect_rules.h"
#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"
#include "loop/poller.h"
#include <curl/curl.h>

struct connector;
struct connect_wait;
struct connect_attempt;

/* All is borrowed until connector_start returns, except `targets`. */
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
    /* Of the proxy's host (proxy_place), if that is a name. NULL: libcurl looks it up, on a thread
     * for each attempt. */
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
    const struct targets *targets; /* the connect rules; NULL: none; must outlive the attempt */
};

struct connected {
    int fd; /* the caller's, to close; non-blocking, closed on exec, in no poller */
    /* With an HTTPS proxy, TLS to the proxy stays with libcurl. Read and write with curl_easy_recv
     * and curl_easy_send, watch `fd`, and in the end drop and close `fd` and then call
     * connector_release. Otherwise NULL. */
    CURL *held;
    char peer[64]; /* the address that was connected to, which may be the proxy's; "": a unix socket
                    */
    unsigned peer_port;
};

/* `got` NULL: it failed, and `err` is set: kinds dns, connect, denied, io, memory, tls (to an HTTPS
 * proxy) and invalid (a proxy that cannot be used). Both are borrowed. Runs beneath loop_turn,
 * never beneath a callback of libcurl and never inside connector_start. `w` is free again before.
 * It may call anything but connector_free. */
typedef void (*connect_fn)(struct connect_wait *w, const struct connected *got,
                           const struct err *err);

/* To prepare one, set all to zero and set `fn`. */
struct connect_wait {
    connect_fn fn;
    struct connect_attempt *attempt; /* private; NULL: it waits for nothing */
};

/* At most `max_at_once` connections are made at once, and half of these to one place, so that one
 * that is dead does not delay the others. The rest wait in order. ERR_MEMORY. */
NODISCARD enum err_kind connector_new(struct connector **out, struct loop *loop,
                                      struct poller *poller, struct mem *mem, struct log *log,
                                      unsigned max_at_once, struct err *err);
/* Cancels what is left. Everything held must be released before. NULL is allowed. */
void connector_free(struct connector *c);

/* `w` must not move until its `fn` runs or it is cancelled. ERR_MEMORY, ERR_INVALID (no URL can be
 * made of the host): `fn` does not run. */
NODISCARD enum err_kind connector_start(struct connector *c, struct connect_wait *w,
                                        const struct connect_target *target, struct err *err);
/* Ends the wait at once, in every phase, and closes what was being opened. `fn` does not run.
 * Harmless if it waits for nothing. Not beneath a callback of libcurl. */
void connector_cancel(struct connector *c, struct connect_wait *w);
/* Gives back what `held` named. Not beneath a callback of libcurl. */
void connector_release(struct connector *c, CURL *held);

/* How many connections are being made or wait for it. */
size_t connector_busy(const struct connector *c);
/* How many handles are held by callers. */
size_t connector_held(const struct connector *c);
