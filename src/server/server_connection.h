/* The connection of a client, below the protocol: its socket, the bytes that were not sent yet, its
 * time limits, and its end. A client that sends or reads too slowly is disconnected. An idle client
 * is disconnected if another one needs its place. */
#pragma once

#include "server/server_listener.h"
#include "server/server_request.h"

#include <sys/socket.h>

enum server_connection_state {
    SERVER_READS_HEAD,
    SERVER_READS_BODY,
    SERVER_ANSWERS, /* a request has arrived; its response is composed or being sent */
    SERVER_REFUSES, /* the last response is being sent; no more is read */
    SERVER_LINGERS  /* it was sent; what still comes is discarded */
};

struct server_connection {
    struct list node;       /* listener.connections */
    struct list wait_node;  /* listener.waits.line or listener.lingers.line */
    struct list ready_node; /* listener.ready */
    uint64_t due_ns;        /* while wait_node is linked */
    struct server_listener *listener;
    int fd;
    struct poller_fd poll;
    enum server_connection_state state;
    struct http1_parser parser;
    struct server_request *request; /* the present one, from its head to the end of the response */
    struct buf in;                  /* the part of a head, or what came behind a request */
    struct buf out;                 /* the bytes after out_sent are not sent yet, */
    size_t out_sent;
    const char *rest; /* and after them come these, which are borrowed */
    size_t rest_len;
    bool served;     /* it has had a response before */
    bool keeps;      /* another request may follow the present one */
    bool to_head;    /* the present request is a HEAD: its response has no body */
    bool chunked;    /* the response has a body in chunks */
    bool last_chunk; /* `rest` is the last chunk */
    bool holds;      /* more came while a response was due: it stays in the kernel */
    bool half_open;  /* the client sends no more, but reads a response that is complete */
    bool blocked;    /* the kernel takes no more bytes at present */
    size_t received; /* bytes of the present body so far */
    size_t seen;     /* how many there were at the last check */
    size_t discarded;
    char address[64];
};

enum server_connection_sent { SERVER_SENT_ALL, SERVER_SENT_SOME, SERVER_SENT_NOT };

/* Takes `fd` over, even on failure, when it is closed. From now on the client must send a head in
 * time. NULL: no memory, or the system does not watch the descriptor; it was logged. */
struct server_connection *server_connection_new(struct server_listener *l, int fd, poller_fn fn,
                                                const struct sockaddr *address);
/* Closes and frees the connection. A request of it ends as `how` says. */
void server_connection_close(struct server_connection *c, enum server_request_end how);
/* Closes it when the client has read what was sent and closes its side, or soon. Closing at once
 * would lose the response: the kernel answers bytes that come later with a reset. */
void server_connection_linger(struct server_connection *c);
/* Watches for what the state waits for. */
void server_connection_watch(struct server_connection *c);

/* Reads into listener.bytes. Returns the number of bytes; 0: none at present; -1: no more come. */
ssize_t server_connection_read(struct server_connection *c);
/* Sends what is there. SENT_SOME: the rest has to wait. SENT_NOT: the connection is broken. */
enum server_connection_sent server_connection_send(struct server_connection *c);
/* The number of bytes that wait in `out`. */
size_t server_connection_unsent(const struct server_connection *c);
/* Moves the bytes of `out` to its front if many were sent, before more are appended. */
void server_connection_compact(struct server_connection *c);

/* From now on, the client must send a head in time, or a body at the least rate, or read. */
void server_connection_await(struct server_connection *c);
/* The client need not do anything at present. */
void server_connection_await_nothing(struct server_connection *c);
/* If another connection needs a place: closes the one that has been idle for longest. */
void server_connection_make_room(struct server_listener *l);

void server_connection_init(struct server_listener *l, double timeout_s);
/* Breaks every connection. */
void server_connection_close_all(struct server_listener *l);
