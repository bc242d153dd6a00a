/* Base64 (RFC 4648, section 4), with padding. */
#pragma once

#include "ground/buf.h"

/* Appends the text of `len` bytes. ERR_TOO_LARGE, ERR_MEMORY: nothing is appended. */
NODISCARD enum err_kind base64_append(struct buf *out, const void *data, size_t len);
