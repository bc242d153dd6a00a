/* The fault server: plays well-behaved and broken HTTP on loopback, one path per behaviour, and
 * counts what really arrived, so that a test has a witness other than the client it tests. It
 * shares no code with the runtime.
 *
 * One thread, one epoll. A route turns a request into a script of steps (wait, send, close, reset,
 * hang); the connection plays them. Bodies may be of any size in both directions: what is long is
 * made by a step piece by piece, and a route called at the head reads its body as it arrives.
 * Running out of memory ends the program. */
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes */

struct bytes {
    char *data;
    size_t len, cap;
};

void *xmalloc(size_t size);
void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes. Bytes that are not UTF-8 are taken as Latin-1. */
void bytes_json(struct bytes *b, const char *s, size_t len);
/* Drops the first n bytes. */
void bytes_drop(struct bytes *b, size_t n);
void bytes_free(struct bytes *b);

/* ---- counters */

struct counter {
    char path[64];
    unsigned long requests, in_flight, peak_in_flight, aborted;
    unsigned long bytes_sent; /* taken by the kernel, heads among them */
};

struct counter *counter_of(const char *path);
void counter_begin(struct counter *c);
void counter_end(struct counter *c, bool aborted);
void counter_sent(struct counter *c, size_t len);
void counter_connection(int change);
/* One more request with this id; returns how many there are now. */
unsigned long seen_add(const char *id);
unsigned long seen_count(const char *id);
/* A line for each id: the id, a blank and its count. */
void seen_list(struct bytes *out);
void stats_json(struct bytes *out);
/* Back to zero, but for what is in flight. */
void stats_reset(void);

/* ---- what epoll watches */

struct watch {
    void (*on_event)(struct watch *w, uint32_t events);
};

void watch_add(struct watch *w, int fd, uint32_t events);
void watch_change(struct watch *w, int fd, uint32_t events);
void watch_remove(int fd);

/* ---- connections and their steps */

/* STEP_HALF says that no more will be sent, and reads on. STEP_SPOIL sends bytes past TLS, and
 * closes. STEP_RESET waits until all that was sent has been received. STEP_LINGER says that it is
 * done, and then throws away what still comes until the client leaves. */
enum step_kind { STEP_SEND, STEP_CLOSE, STEP_RESET, STEP_HALF, STEP_HANG, STEP_LINGER, STEP_SPOIL };

struct step {
    struct step *next;
    enum step_kind kind;
    uint64_t wait_ms; /* before each round */
    bool idle;        /* if something is received during the wait, the step is left out */
    struct bytes data;
    uint64_t rounds;
    /* Instead of rounds: fills the empty `data` with the next piece, each sent by itself; false:
     * that was all. */
    bool (*make)(struct step *s);
    void *state;
    void (*free_state)(void *state);
    bool made; /* a piece is there and not all sent yet */
};

struct upload;

struct conn {
    struct watch watch;       /* the first member */
    struct conn *next, *prev; /* of all, newest first */
    int fd;
    SSL *ssl;    /* NULL: plain */
    bool silent; /* never answers, never speaks TLS */
    bool flaky;
    bool paused;           /* reads nothing more */
    struct upload *upload; /* the request whose body is being read; NULL: none */
    uint64_t id;
    unsigned requests; /* on this connection so far */
    uint32_t events;   /* registered in epoll */
    struct bytes in;
    struct step *steps, *last_step;
    size_t sent; /* of the first step's data */
    bool waited; /* the first step's wait is over */
    bool close_after;
    struct counter *counter; /* of the request in flight; NULL: none */
    uint64_t due_ms;
    size_t heap_at; /* 1-based place in the timer heap; 0: no timer */
};

/* Every other connection ends. */
void conn_end_others(const struct conn *but);
void conn_accept(int fd, SSL_CTX *tls, bool silent, bool flaky);
/* Reads the clock that timers go by: once for each round of events. */
void conn_clock(void);
/* Milliseconds until the next timer, a second at most; -1: there is none. */
int conn_next_timer(void);
void conn_run_timers(void);
/* The next `n` connections of the flaky listener are reset. */
void flaky_set(long n);

/* ---- requests */

#define MAX_REQUEST_HEADERS 300

struct request {
    char *head; /* one block, cut up in place; the strings below point into it */
    const char *method, *path, *query, *version;
    struct {
        const char *name, *value;
    } headers[MAX_REQUEST_HEADERS];
    size_t header_count;
    struct bytes body;
};

/* Takes one request off the front of `in`: the whole of it, or the head alone where the route wants
 * it so (route_is_early). 1: done, 0: more bytes needed, -1: not HTTP. */
int request_take(struct bytes *in, struct request *req);
/* The same for a head alone. */
int request_take_head(struct bytes *in, struct request *req);
void request_free(struct request *req);
/* NULL if absent. */
const char *request_header(const struct request *req, const char *name);
/* The query parameter, decoded; `absent` if there is none. */
const char *query_str(const struct request *req, const char *name, char *out, size_t size,
                      const char *absent);
long query_num(const struct request *req, const char *name, long absent);

/* A body read as it arrives, by its head's Content-Length or chunks. */
struct body_reader {
    enum { BODY_DATA, BODY_CHUNK_SIZE, BODY_CHUNK_END, BODY_TRAILER } phase;
    bool chunked, done, broken;
    uint64_t left; /* of the body, or of the chunk */
};

void body_begin(struct body_reader *r, const struct request *req);
/* Reads on at `p`; how many of the bytes there are used up (0: more are needed, or it is done or
 * broken). *data_len bytes of them, at *data, are the body's. */
size_t body_next(struct body_reader *r, const char *p, size_t len, const char **data,
                 size_t *data_len);

/* ---- what routes use */

/* Adds a step to the connection's script and returns it. */
struct step *step_add(struct conn *c, enum step_kind kind);
struct step *step_printf(struct conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends head and body of a whole response; `extra` is header lines, each ended by CRLF. No body
 * is sent for HEAD. Returns the step. */
struct step *respond(struct conn *c, const struct request *req, int status, const char *extra,
                     const void *body, size_t len);
/* Status line and header lines up to the blank line. */
struct step *respond_head(struct conn *c, const struct request *req, int status, const char *extra);
void respond_json(struct conn *c, const struct request *req, struct bytes *json);
/* Members of a JSON object: header_list keeps order and repeats; `headers` has lower-case names,
 * the last of repeats winning. */
void add_headers_members(struct bytes *out, const struct request *req);
void say_ok(struct conn *c, const struct request *req);

struct route_row {
    const char *path; /* NULL: the table's end */
    void (*play)(struct conn *c, const struct request *req);
};

/* Those of upload_routes are called at the head, with the body still to be read. */
extern const struct route_row stream_routes[], upload_routes[];

void route(struct conn *c, const struct request *req);
bool route_is_early(const char *path);

/* ---- uploads */

struct upload {
    struct request req;
    struct body_reader reader;
    EVP_MD_CTX *hash;
    uint64_t bytes;
    bool stall;
};

/* Reads on. 1: all there and answered, and the upload is gone; 0: more needed; -1: not HTTP. */
int upload_feed(struct conn *c);
void upload_free(struct upload *u);

/* ---- proxies: faultd_relay.h */

void relay_accept(int fd, bool socks, bool auth);
/* Frees those that are over: no event of this round can name them any more. */
void relay_bury(void);
void proxy_stats_json(struct bytes *out);
void proxy_stats_reset(void);

/* ---- TLS */

enum cert_kind { CERT_GOOD, CERT_EXPIRED, CERT_WRONG_HOST, CERT_MTLS };

/* A context with a fresh self-signed certificate of that kind, which is also appended to `ca`. */
SSL_CTX *tls_context(enum cert_kind kind, FILE *ca);
/* Of the kind CERT_MTLS, and wants a client certificate like the one it writes. */
SSL_CTX *tls_context_mutual(FILE *ca, const char *cert_path, const char *key_path);
/* The common name in the peer's certificate; NULL: it has shown none. */
const char *tls_peer_name(SSL *ssl, char *out, size_t size);
