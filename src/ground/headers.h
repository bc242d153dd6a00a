/* HTTP header fields: an ordered list with case-insensitive look-up and a cap on count and bytes,
 * and the RFC 9110 checks that keep a header from smuggling a second request onto the wire. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"

struct header {
    uint32_t name_off, name_len, value_off, value_len; /* into headers.text */
};

struct headers {
    struct buf text;
    struct header *rows;
    size_t count, cap, max_count;
};

void headers_init(struct headers *h, struct mem *mem, size_t max_count, size_t max_bytes);
void headers_fini(struct headers *h);
void headers_clear(struct headers *h);
/* Bytes are copied. ERR_TOO_LARGE past a cap, ERR_MEMORY. Does not check the syntax. */
NODISCARD enum err_kind headers_add(struct headers *h, const char *name, size_t name_len,
                                    const char *value, size_t value_len);
/* Borrowed until the next change; NUL-terminated, like the values (which may hold a NUL of their
 * own where the syntax was not checked). */
static inline const char *headers_name(const struct headers *h, size_t i)
{
    return h->text.data + h->rows[i].name_off;
}
static inline const char *headers_value(const struct headers *h, size_t i)
{
    return h->text.data + h->rows[i].value_off;
}
/* The first value with this name (case-insensitive), *len set; NULL if absent. Borrowed until the
 * next change. `from`: index to start at; NULL or a cursor that is advanced past the hit. */
const char *headers_get(const struct headers *h, const char *name, size_t *from, size_t *len);

/* RFC 9110 5.1: a token, not empty. */
bool headers_valid_name(const char *name, size_t len);
/* RFC 9110 5.5: no CR, LF, NUL or other control byte but tab. */
bool headers_valid_value(const char *value, size_t len);
/* RFC 9110 9.1: a token. */
bool headers_valid_method(const char *method, size_t len);
