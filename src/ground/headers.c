#include "ground/headers.h"

#include <string.h>
#include <strings.h>

#define FIRST_ROWS 8

void headers_init(struct headers *h, struct mem *mem, size_t max_count, size_t max_bytes)
{
    *h = (struct headers){.max_count = max_count};
    /* Rows hold 32-bit offsets. */
    buf_init(&h->text, mem, MIN(max_bytes, (size_t)UINT32_MAX));
}

void headers_fini(struct headers *h)
{
    mem_free(h->text.mem, h->rows);
    buf_fini(&h->text);
    h->rows = NULL;
    h->count = h->cap = 0;
}

void headers_clear(struct headers *h)
{
    buf_clear(&h->text);
    h->count = 0;
}

static enum err_kind grow_rows(struct headers *h)
{
    if (h->count >= h->max_count)
        return ERR_TOO_LARGE;
    if (h->count < h->cap)
        return ERR_NONE;
    size_t cap = MIN(h->cap == 0 ? FIRST_ROWS : h->cap * 2, h->max_count);
    if (cap > SIZE_MAX / sizeof(struct header))
        return ERR_TOO_LARGE;
    struct header *rows = mem_realloc(h->text.mem, h->rows, cap * sizeof(*rows));
    if (rows == NULL)
        return ERR_MEMORY;
    h->rows = rows;
    h->cap = cap;
    return ERR_NONE;
}

static uint32_t append_text(struct headers *h, const char *s, size_t len)
{
    uint32_t off = (uint32_t)h->text.len;
    if (len != 0)
        memcpy(h->text.data + off, s, len);
    h->text.data[off + len] = '\0';
    buf_commit(&h->text, len + 1);
    return off;
}

enum err_kind headers_add(struct headers *h, const char *name, size_t name_len, const char *value,
                          size_t value_len)
{
    enum err_kind kind = grow_rows(h);
    if (kind != ERR_NONE)
        return kind;
    if (name_len > h->text.max_bytes || value_len > h->text.max_bytes - name_len)
        return ERR_TOO_LARGE;
    kind = buf_reserve(&h->text, name_len + value_len + 2);
    if (kind != ERR_NONE)
        return kind;
    struct header *row = &h->rows[h->count];
    row->name_off = append_text(h, name, name_len);
    row->name_len = (uint32_t)name_len;
    row->value_off = append_text(h, value, value_len);
    row->value_len = (uint32_t)value_len;
    h->count++;
    return ERR_NONE;
}

const char *headers_get(const struct headers *h, const char *name, size_t *from, size_t *len)
{
    size_t name_len = strlen(name);
    for (size_t i = from != NULL ? *from : 0; i < h->count; i++) {
        const struct header *row = &h->rows[i];
        if (row->name_len != name_len || strncasecmp(headers_name(h, i), name, name_len) != 0)
            continue;
        if (from != NULL)
            *from = i + 1;
        if (len != NULL)
            *len = row->value_len;
        return headers_value(h, i);
    }
    if (from != NULL)
        *from = h->count;
    return NULL;
}

static bool token_char(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool token_valid(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!token_char((unsigned char)s[i]))
            return false;
    }
    return len != 0;
}

bool headers_valid_name(const char *name, size_t len)
{
    return token_valid(name, len);
}

bool headers_valid_value(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool headers_valid_method(const char *method, size_t len)
{
    return token_valid(method, len);
}
