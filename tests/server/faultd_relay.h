/* A relay joins a client to a target on loopback: what faultd_proxy.c (HTTP) and faultd_socks.c
 * (SOCKS5) share. */
#pragma once

#include "faultd.h"

struct relay;

struct side {
    struct watch watch; /* the first member */
    struct relay *relay;
    struct side *other;
    int fd;           /* -1: not there */
    uint32_t events;  /* in epoll; 0: not there */
    struct bytes out; /* to be sent to it */
    size_t sent;      /* of `out` */
    bool ended;       /* nothing more comes from it */
    bool shut;        /* it has been told that nothing more comes */
};

enum relay_phase {
    RELAY_HTTP_HEAD,
    RELAY_HTTP_BODY,
    RELAY_SOCKS_HELLO,
    RELAY_SOCKS_AUTH,
    RELAY_SOCKS_REQUEST,
    RELAY_CONNECTING,
    RELAY_TUNNEL,
};

struct relay {
    struct relay *next; /* among the dead */
    struct side client, server;
    enum relay_phase phase;
    bool socks, auth, connect, dead;
    struct bytes in; /* from the client, not looked at yet */
    struct body_reader body;
    bool discard;     /* the body's request was turned away */
    char target[300]; /* where `server` is connected to */
};

/* The loopback address of a name or address as clients write it: 127.0.0.0/8, ::1, `localhost` and
 * names in .test. False: not to be reached from here. */
struct target {
    bool v6;
    uint32_t v4; /* in host order */
    uint16_t port;
};
bool target_of(struct target *out, const char *host, long port);
/* Then goes on with relay_connected or relay_failed of the protocol. */
void relay_connect(struct relay *r, const struct target *target);
/* The client gets what is due to it, and then the end. */
void relay_finish(struct relay *r);

/* Looks at r->in. True: there may be more to look at. */
bool http_advance(struct relay *r);
void http_connected(struct relay *r, bool ok);
bool socks_advance(struct relay *r);
void socks_connected(struct relay *r, bool ok);

void http_stats_json(struct bytes *out);
void http_stats_reset(void);
void socks_stats_json(struct bytes *out);
void socks_stats_reset(void);
