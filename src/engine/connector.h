/* Opens connections. libcurl finds the way (several addresses, proxies, tunnels, unix sockets), and
 * the caller gets a descriptor that libcurl knows nothing of any more. Nothing is sent to the
 * origin. The caller looks names up before (resolver.h): those of origins, unless the proxy does,
 * and those of proxies.
 *
 * While a connection is being made it holds two descriptors for each address that is tried. Loop
 * thread only. */
#pragma once

#include "engine/admit.h"
#include "engine/connect_target.h"
#include "ground/err.h"
#include "ground/log.h"
#include "loop/loop.h"
#include "loop/poller.h"
#include <curl/curl.h>

struct connector;
struct connect_wait;
struct connect_attempt;

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
