/* The fault server: plays well-behaved and broken HTTP on loopback, one path per behaviour, and
 * counts what really arrived, so that a test has a witness other than the client it tests. It
 * shares no code with the runtime.
 *
 * One thread, one epoll. A route turns a request into a script of steps (wait, send, close, reset,
 * hang); the connection plays them. Running out of memory ends the program. */
#pragma once

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
void bytes_free(struct bytes *b);

/* ---- counters */

struct counter {
    char path[64];
    unsigned long requests, in_flight, peak_in_flight, aborted;
};

struct counter *counter_of(const char *path);
void counter_begin(struct counter *c);
void counter_end(struct counter *c, bool aborted);
void counter_connection(int change);
/* One more request with this id; returns how many there are now. */
unsigned long seen_add(const char *id);
unsigned long seen_count(const char *id);
void stats_json(struct bytes *out);
/* Back to zero, but for what is in flight. */
void stats_reset(void);

/* ---- connections and their steps */

enum step_kind { STEP_SEND, STEP_CLOSE, STEP_RESET, STEP_HANG };

struct step {
    struct step *next;
    enum step_kind kind;
    uint64_t wait_ms; /* before each round */
    struct bytes data;
    uint64_t rounds;
};

struct conn {
    struct conn *next, *prev;
    int fd;
    SSL *ssl;    /* NULL: plain */
    bool silent; /* never answers, never speaks TLS */
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

/* Takes one whole request off the front of `in`. 1: done, 0: more bytes needed, -1: not HTTP. */
int request_take(struct bytes *in, struct request *req);
void request_free(struct request *req);
/* NULL if absent. */
const char *request_header(const struct request *req, const char *name);
/* The query parameter, decoded; `absent` if there is none. */
const char *query_str(const struct request *req, const char *name, char *out, size_t size,
                      const char *absent);
long query_num(const struct request *req, const char *name, long absent);

/* ---- what routes use */

/* Adds a step to the connection's script and returns it. */
struct step *step_add(struct conn *c, enum step_kind kind);
struct step *step_printf(struct conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends head and body of a whole response; `extra` is header lines, each ended by CRLF. No body
 * is sent for HEAD. Returns the step. */
struct step *respond(struct conn *c, const struct request *req, int status, const char *extra,
                     const void *body, size_t len);
void route(struct conn *c, const struct request *req);

/* ---- TLS */

enum cert_kind { CERT_GOOD, CERT_EXPIRED, CERT_WRONG_HOST };

/* A context with a fresh self-signed certificate of that kind, which is also appended to `ca`. */
SSL_CTX *tls_context(enum cert_kind kind, FILE *ca);
