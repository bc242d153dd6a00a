/* Numbers and strings as JSON text. The buffer's own kinds of failure come back: no memory, too
 * large. */
#pragma once

#include "ground/buf.h"
#include <string.h>

static inline enum err_kind json_put(struct buf *out, const char *bytes, size_t len)
{
    if (len != 0 && len <= out->cap - out->len && out->data != NULL) {
        memcpy(out->data + out->len, bytes, len);
        buf_commit(out, len);
        return ERR_NONE;
    }
    return buf_append(out, bytes, len);
}

/* A finite number, in as few digits as read back the same. */
NODISCARD enum err_kind json_put_number(struct buf *out, double value);
/* With quotes and escapes. ERR_INVALID, and false in *valid: it is not UTF-8. */
NODISCARD enum err_kind json_put_string(struct buf *out, const char *text, size_t len, bool *valid);
