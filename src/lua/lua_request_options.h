/* The options of a request, read from a Lua table into a transfer. Private to the request binding.
 */
#pragma once

#include "engine/transfer.h"
#include "lua/lua_rt.h"

/* Fills `t` from several tables, in order of precedence: a later table does not change what an
 * earlier one has set. Headers are compared by name. */
struct request_reader {
    lua_State *L;
    struct transfer *t;
    const char *who;    /* the public function, for messages */
    bool client;        /* the options are those of client{...} */
    uint64_t seen;      /* bits of the options and limits set so far */
    bool sink;          /* the response goes to a file: a stream inside */
    bool plain_timeout; /* the total limit was given as `timeout = seconds` */
    size_t own_headers; /* headers of earlier tables: their names are taken */
};

/* Reads the table at `index` (absolute). Raises on wrong use, so `t` must have an owner. Fails on
 * wrong data. Runs no Lua code. */
NODISCARD enum err_kind request_read(struct request_reader *r, int index, struct err *err);
/* The prepared options of client{...}, made once for all its requests. */
struct prepared {
    struct transfer *t;
    uint64_t seen;
    bool plain_timeout;
};
/* Like request_read, for prepared options: it only copies. */
NODISCARD enum err_kind request_apply(struct request_reader *r, const struct prepared *p,
                                      struct err *err);
/* Adds a header unless an earlier table has that name. */
NODISCARD enum err_kind request_add_header(struct request_reader *r, const char *name,
                                           const char *value, size_t len, struct err *err);
/* Replaces *field with a copy of the string at `index`; fails on a NUL in it. */
NODISCARD enum err_kind request_set_string(struct request_reader *r, int index, const char *what,
                                           char **field, struct err *err);
/* Sets the method, in capitals if it is one of the usual ones. */
NODISCARD enum err_kind request_set_method(struct request_reader *r, int index, struct err *err);
/* Sets the method for a request that has a body but no method. */
NODISCARD enum err_kind request_set_post(struct request_reader *r, struct err *err);
NODISCARD enum err_kind request_set_body(struct request_reader *r, int index, struct err *err);
/* Sets the defaults; call it after the last table. */
void request_set_defaults(struct request_reader *r);
/* Whether the rows of the option table are sorted, which the look-up requires. */
bool request_options_sorted(void);
/* Pushes the names of the options, separated by spaces. */
void request_push_names(lua_State *L, bool client);
