/* The header fields of a request, whatever protocol carries it. */
#pragma once

#include "ground/base.h"
#include "ground/err.h"
#include "ground/headers.h"

struct exchange;

/* Borrowed for the call; neither ends with a NUL. */
typedef enum err_kind (*request_field_fn)(void *arg, const char *name, size_t name_len,
                                          const char *value, size_t value_len);

/* Calls `fn` for each field of the hop's request, Host first. Content-Length and Transfer-Encoding
 * are left to the transport. Stops at the first failure of `fn`, and returns it. ERR_MEMORY. */
NODISCARD enum err_kind request_fields(const struct exchange *x, request_field_fn fn, void *arg);
/* Adds them all to `h`. */
NODISCARD enum err_kind request_fields_into(const struct exchange *x, struct headers *h);
/* True if the body waits for a 100 (Expect: 100-continue). */
bool request_expects(const struct exchange *x);
