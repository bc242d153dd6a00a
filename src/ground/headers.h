/* HTTP header fields: an ordered list with case-insensitive look-up. Their number and their bytes
 * are capped. The checks of RFC 9110 prevent request smuggling: no header can add a second request.
 */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"

struct header {
    uint32_t name_off, name_len, value_off, value_len; /* into headers.text */
};

struct headers {
    struct buf text; /* name, NUL, value, NUL, of each header in their order, and nothing else */
    struct header *rows;
    size_t count, cap, max_count;
};

void headers_init(struct headers *h, struct mem *mem, size_t max_count, size_t max_bytes);
void headers_fini(struct headers *h);
void headers_clear(struct headers *h);
/* Copies the bytes. ERR_TOO_LARGE (past a cap) or ERR_MEMORY. Does not check the syntax. */
NODISCARD enum err_kind headers_add(struct headers *h, const char *name, size_t name_len,
                                    const char *value, size_t value_len);
/* Adds `count` headers that lie in text[0..len), which the offsets of the rows count from. None of
 * them overlap, and behind each name and each value there is a byte of no use (so `len` bytes are
 * enough for the copy). Fails as headers_add does, and adds nothing then. */
NODISCARD enum err_kind headers_add_rows(struct headers *h, const char *text, size_t len,
                                         const struct header *rows, size_t count);
/* Borrowed until the next change. Names and values end with a NUL. If the syntax was not checked, a
 * value may also contain NULs. */
static inline const char *headers_name(const struct headers *h, size_t i)
{
    return h->text.data + h->rows[i].name_off;
}
static inline const char *headers_value(const struct headers *h, size_t i)
{
    return h->text.data + h->rows[i].value_off;
}
/* The first value with this name (case-insensitive), with its length in *len; NULL: there is none.
 * Borrowed until the next change. `from` is NULL, or a cursor: the index to start at, which is
 * moved past the field that was found. */
const char *headers_get(const struct headers *h, const char *name, size_t *from, size_t *len);

/* How many bytes at the front of s[0..len) may stand in a name (RFC 9110 5.1: a token), or in a
 * value (RFC 9110 5.5: no CR, LF, NUL or other control byte but tab). */
size_t headers_name_span(const char *s, size_t len);
size_t headers_value_span(const char *s, size_t len);
/* RFC 9110 5.1: a token, not empty. */
bool headers_valid_name(const char *name, size_t len);
/* RFC 9110 5.5: no CR, LF, NUL or other control byte but tab. */
bool headers_valid_value(const char *value, size_t len);
/* RFC 9110 9.1: a token. */
bool headers_valid_method(const char *method, size_t len);
