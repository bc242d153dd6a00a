/* Errors in C: the kinds of failure that scripts see, and the details of each. A function that can
 * fail returns an err_kind (ERR_NONE, which is 0, for success) and fills a struct err. */
#pragma once

#include "ground/base.h"

enum err_kind {
    ERR_NONE,
    ERR_TIMEOUT,
    ERR_CONNECT,
    ERR_DNS,
    ERR_TLS,
    ERR_CLOSED,
    ERR_PROTOCOL,
    ERR_HTTP,
    ERR_TOO_LARGE,
    ERR_CANCELLED,
    ERR_CIRCUIT_OPEN,
    ERR_RATE_LIMITED,
    ERR_BUDGET,
    ERR_INVALID,
    ERR_IO,
    ERR_MEMORY,
    ERR_DENIED,
    ERR_SCRIPT,
    ERR_RAISED,
    ERR_INTERNAL,
    ERR_KIND_COUNT
};

enum err_phase {
    PHASE_NONE,
    PHASE_QUEUE,
    PHASE_DNS,
    PHASE_CONNECT,
    PHASE_TLS,
    PHASE_FIRST_BYTE,
    PHASE_IDLE,
    PHASE_TOTAL,
    PHASE_COUNT
};

struct err {
    enum err_kind kind;
    enum err_phase phase;
    char reason[24]; /* a word that refines the kind, or "" */
    int code;        /* the error code of libcurl, libuv or the system (errno); 0: none */
    bool retryable;
    uint64_t limit_ms;   /* for ERR_TIMEOUT: the limit that was exceeded */
    uint64_t elapsed_ms; /* 0: not measured */
    char message[256];   /* a sentence for a person to read; secrets are already redacted */
};

/* The names that scripts see: of a kind ("timeout", "connect", ...) and of a phase ("first_byte",
 * ...; "" for none). */
const char *err_kind_name(enum err_kind kind);
const char *err_phase_name(enum err_phase phase);
/* ERR_KIND_COUNT if `name` is not a kind. */
enum err_kind err_kind_from_name(const char *name);

void err_clear(struct err *e);
/* Clears *e, sets its kind and message, and returns the kind. `e` may be NULL. */
enum err_kind err_set(struct err *e, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Sets the reason of an error that is already set. Returns its kind. */
enum err_kind err_reason(struct err *e, const char *reason);
