/* An HTTP/1.1 server on libmicrohttpd, driven by the runtime's loop: a server's life
 * (lua_serve_listen.c), its requests (lua_serve_http.c) and their heads (lua_serve_head.c), none of
 * which pushes anything to Lua, and what scripts see of them (lua_serve.c, lua_serve_request.c). A
 * server may also be one that the engine's own requests are led to without a socket
 * (lua_serve_simulate.c).
 *
 * No Lua runs beneath a callback of the library: a request whose body is in is suspended and put in
 * line, and the task that accepts is woken. Whatever answers a request resumes its connection, and
 * the library takes the answer when the loop turns next. Runtime's thread only. */
#pragma once

#include "engine/simulate.h"
#include "ground/buf.h"
#include "ground/headers.h"
#include "ground/list.h"
#include "lua/lua_rt.h"

#include <microhttpd.h>

/* Of the library for each connection: bounds a request's head, and with it the response's. */
#define CONNECTION_POOL_BYTES ((size_t)32 << 10)

/* A stream's writer waits while more than the first is unsent, until only the second is left. */
#define STREAM_HIGH_BYTES (256u << 10)
#define STREAM_LOW_BYTES (64u << 10)
#define STREAM_MAX_BYTES (64u << 20)

struct server {
    struct list node; /* rt->servers; unlinked: stopped */
    struct rt *rt;
    struct MHD_Daemon *daemon;     /* NULL: stopped, or simulated */
    struct simulation *simulation; /* NULL: stopped, or on sockets */
    uv_poll_t daemon_poll;         /* the library's epoll set */
    uv_poll_t watch_poll;          /* ours, see below */
    uv_poll_t listen_poll;         /* of listen_fd; stopped while no connection may be accepted */
    struct timer listen_timer;     /* when to try again */
    int listen_fd;                 /* -1: listens no longer */
    unsigned refused;              /* how often in a row no connection could be accepted */
    int watch_fd;           /* an epoll set of all connections, asked for their disconnect only */
    struct timer timer;     /* the library's own deadlines */
    bool run_soon;          /* the timer stands at "next turn" */
    struct list requests;   /* all that the library holds, by node */
    struct list pending;    /* requests in line, by queue_node */
    struct incoming *taken; /* the one that was accepted last, until it is bound; NULL: it is */
    struct list acceptors;  /* tasks, by wait.node */
    struct list idlers;     /* tasks that wait until no request is open, by wait.node */
    struct list heads;      /* connections that owe a head or a body, by due_ns */
    unsigned most;          /* connections at once */
    struct timer head_timer;
    double timeout_s; /* for a head; and without a byte in a body or of a response */
    size_t max_body;
    bool quiet;          /* no longer listens; further requests on open connections get 503 */
    unsigned refs;       /* the userdata, three uv handles, requests and connections */
    struct task *keeper; /* while the hook is on it; else NULL */
    struct task_hook keeper_hook; /* of the task whose end ends the server, see server_keep */

    /* gauges and counters, read-only */
    size_t connections, waiting, active;
    uint64_t accepted, received, gone;
    uint16_t port;
    char host[64];
    char *url; /* of a simulated one; NULL: host and port make it */
};

static inline bool server_open(const struct server *s)
{
    return s->daemon || s->simulation;
}

/* What stays known of a connection. */
struct peer {
    struct list node; /* server->heads */
    uint64_t due_ns;  /* when its next request's head is to be in, or its body is looked at */
    size_t seen;      /* of the body, at the last look */
    struct server *server;
    struct incoming *request; /* the one under way; NULL: none */
    int fd;
    bool gone;
    bool served; /* a request before */
    char address[64];
};

enum incoming_state {
    INCOMING_HEAD,     /* only the request line is known */
    INCOMING_BODY,     /* its body is being read */
    INCOMING_WAITING,  /* in line, or with its handler */
    INCOMING_ANSWERED, /* has its whole response */
    INCOMING_STREAM    /* has the head of its response; the body follows by incoming_write */
};

/* One request. Freed when neither the library nor Lua holds it any more. */
struct incoming {
    struct list node;       /* server->requests */
    struct list queue_node; /* server->pending */
    struct server *server;
    struct peer *peer;
    struct MHD_Connection *connection; /* NULL: the library is done with it */
    struct call *call;                 /* of a simulated server; NULL: the engine is done with it */
    bool held_by_lua;
    enum incoming_state state;
    bool suspended;
    enum err_kind refused; /* what was wrong with its body: it is read on, and answered so */
    bool no_body;          /* HEAD, 204, 304: what is written is dropped */
    bool old_http;         /* HTTP/1.0: a body without length ends with the connection */
    bool finished;         /* the stream's end was given */
    bool aborted;          /* the connection is to be broken */
    bool gone;             /* the client went away before it had the whole response */

    char *target;            /* as it was sent, query included */
    const char *sent_target; /* where libmicrohttpd has it, until the head is taken */
    char *method;
    char *version; /* "1.0" or "1.1" */
    char address[64];
    struct headers headers;
    struct buf body;

    unsigned status;
    struct MHD_Response *response; /* owned until it is queued */
    char *response_body;           /* of a whole response */
    size_t response_len;
    struct headers answer; /* of a simulated server: the response's */
    size_t head_room;      /* bytes that the response's head may have */
    size_t head_len;       /* those that the script has given */
    struct buf out;        /* of a stream: unsent from out_sent on */
    size_t out_sent;
    struct task *writer; /* in incoming_write's wait */

    struct task *bound; /* is cancelled when the client goes away; its end ends the request */
    struct task_hook bound_hook;
};

/* Somebody waits for its answer, or for the rest of it. */
static inline bool incoming_open(const struct incoming *r)
{
    return r->connection || r->call;
}

/* `host`: an IP address, or "localhost". ERR_INVALID for another name, ERR_IO (code: errno) where
 * the address cannot be had. The caller holds the one reference. */
NODISCARD enum err_kind server_start(struct server **out, struct rt *rt, const char *host,
                                     uint16_t port, size_t max_body, double timeout_s,
                                     struct err *err);
/* A server for the engine's own requests to `url`. ERR_INVALID, ERR_IO (reason "in_use"). */
NODISCARD enum err_kind server_simulate(struct server **out, struct rt *rt, const char *url,
                                        size_t max_body, struct err *err);
/* Stops listening; open connections go on until their present request is done. */
void server_quiesce(struct server *s);
/* Breaks every connection. Wakes whoever waits. Harmless when stopped already. Not beneath a
 * callback of the library (nothing of ours is ever called there). */
void server_stop(struct server *s);
void server_release(struct server *s);
/* From now on the server is stopped when the task has ended, however that comes about. */
void server_keep(struct server *s, struct task *t);

/* Lets the library take note of a resumed connection, in the loop's next turn. */
void server_run_soon(struct server *s);
/* Of the parts to each other: the daemon with its callbacks, without a socket to listen on;
 * connections that broke; nothing suspended. */
NODISCARD struct MHD_Daemon *server_start_daemon(struct server *s);
/* Closes the connection that has been idle for longest, where another one needs its place. */
void server_make_room(struct server *s);
/* A connection has ended: another one may be accepted. */
void server_listen_again(struct server *s);
void server_note_disconnects(struct server *s);
/* Answers at once, in place of a handler, and closes the connection then. */
enum MHD_Result server_reply(struct MHD_Connection *connection, unsigned status,
                             const char *message);
/* Lost for want of memory, which is the server's trouble: it says so to both sides. */
enum MHD_Result server_reply_lost(struct server *s, struct MHD_Connection *connection);
/* Beneath the library's callback, when the head is in. */
enum MHD_Result incoming_take_head(struct incoming *r, const char *method, const char *version);
void server_end_slow_heads(struct server *s);
/* Its head is in: from now on its body is to come, at no less than some bytes a second. */
void incoming_await_body(struct incoming *r);
void server_resume_all(struct server *s);
void server_stop_simulation(struct server *s);
NODISCARD struct server *server_new(struct rt *rt, size_t max_body);
/* It is open from now on. */
void server_started(struct server *s);

enum incoming_end { INCOMING_SENT, INCOMING_CLIENT_GONE, INCOMING_SERVER_CLOSED };

/* NULL: no memory. `target` is taken over. */
NODISCARD struct incoming *incoming_new(struct server *s, char *target);
void incoming_free(struct incoming *r);
/* The request is there in full: whoever accepts is woken. */
void incoming_put_in_line(struct incoming *r);
void incoming_wake_writer(struct incoming *r);
/* Neither the library nor the engine holds it any more. */
void incoming_over(struct incoming *r, enum incoming_end how);
/* Gives a simulated call what r->response_body or the stream's head says. */
void incoming_answer_call(struct incoming *r);

/* The next request in line, now held by Lua; NULL: none. */
struct incoming *server_take(struct server *s);
/* Lua lets go of it; unanswered, it is broken off. */
void incoming_release(struct incoming *r);
/* From now on the task is cancelled when the client goes away, and its end ends the request. */
void incoming_bind(struct incoming *r, struct task *t);
/* Hands r->response over. The state must be INCOMING_WAITING and the library still hold it. */
void incoming_answer(struct incoming *r, enum incoming_state state);
/* The content reader of a streamed response; its argument is the request. */
MHD_ContentReaderCallback incoming_reader(void);
/* ERR_CLOSED: the client is gone; ERR_TOO_LARGE, ERR_MEMORY: nothing was appended. */
NODISCARD enum err_kind incoming_write(struct incoming *r, const char *data, size_t len);
size_t incoming_unsent(const struct incoming *r);
void incoming_finish(struct incoming *r);
/* Breaks the connection; what a stream has been given before is still sent. No effect once the
 * response is complete. */
void incoming_abort(struct incoming *r);

/* The same for want of memory, which is logged: the request that was taken last, where nobody was
 * bound to it. */
void server_lose_taken(struct server *s);
/* Loses the next request in line. False: there is none. */
bool server_drop(struct server *s);
void server_log_lost(struct server *s);

/* The metatable of a request, a userdata with a pointer to its struct incoming. */
#define REQUEST_META "leat.server_request"
/* Makes it, and sets its methods as "request_methods" in the table on top of L. */
void server_open_request(lua_State *L, struct rt *rt);
