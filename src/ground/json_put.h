/* Writes numbers and strings as JSON text. Errors are those of the buffer: ERR_MEMORY,
 * ERR_TOO_LARGE. */
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

/* Writes a finite number with the fewest digits that read back as the same number. */
NODISCARD enum err_kind json_put_number(struct buf *out, double value);
/* Writes a string with quotes and escapes. If it is not UTF-8: ERR_INVALID, and *valid is false. */
NODISCARD enum err_kind json_put_string(struct buf *out, const char *text, size_t len, bool *valid);
