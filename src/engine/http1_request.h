/* The head of a request, as HTTP/1.1 writes it. */
#pragma once

#include "ground/buf.h"

struct exchange;

/* Appends the request line and the fields, with the blank line. ERR_MEMORY, ERR_TOO_LARGE. */
NODISCARD enum err_kind http1_write_head(const struct exchange *x, struct buf *out);
