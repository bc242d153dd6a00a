#include "ground/buf.h"

#include <stdarg.h>
#include <string.h>

#define BUF_FIRST_BYTES 64

void buf_init(struct buf *b, struct mem *mem, size_t max_bytes)
{
    /* One byte is reserved for the NUL. */
    *b = (struct buf){.mem = mem, .max_bytes = MIN(max_bytes, SIZE_MAX - 1)};
}

void buf_fini(struct buf *b)
{
    mem_free(b->mem, b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

enum err_kind buf_reserve(struct buf *b, size_t len)
{
    if (len > b->max_bytes || b->len > b->max_bytes - len)
        return ERR_TOO_LARGE;
    size_t need = b->len + len;
    if (need <= b->cap)
        return ERR_NONE;
    size_t cap = b->cap > b->max_bytes / 2 ? b->max_bytes : b->cap * 2;
    cap = MIN(MAX(cap, MAX(need, BUF_FIRST_BYTES)), b->max_bytes);
    char *data = mem_realloc(b->mem, b->data, cap + 1);
    if (data == NULL)
        return ERR_MEMORY;
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return ERR_NONE;
}

enum err_kind buf_append(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return ERR_NONE;
    enum err_kind kind = buf_reserve(b, len);
    if (kind != ERR_NONE)
        return kind;
    memcpy(b->data + b->len, data, len);
    buf_commit(b, len);
    return ERR_NONE;
}

enum err_kind buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

enum err_kind buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len <= 0)
        return len == 0 ? ERR_NONE : ERR_INTERNAL;
    enum err_kind kind = buf_reserve(b, (size_t)len);
    if (kind != ERR_NONE)
        return kind;
    va_start(args, fmt);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf_commit(b, (size_t)len);
    return ERR_NONE;
}

char *buf_detach(struct buf *b, size_t *len)
{
    char *data = b->data;
    *len = b->len;
    b->data = NULL;
    b->len = b->cap = 0;
    return data;
}

/* An empty buffer larger than this is freed: a pair of buffers that swap their contents would
 * otherwise keep a full window of memory each. */
enum { POUR_KEEPS = 8 * 1024 };

static void poured_out(struct buf *b)
{
    if (b->cap > POUR_KEEPS)
        buf_fini(b);
    buf_clear(b);
}

enum err_kind buf_pour(struct buf *to, size_t *skip, struct buf *from)
{
    ASSERT(*skip <= to->len && to->mem == from->mem);
    if (from->len == 0)
        return ERR_NONE;
    if (*skip > 0 && to->len > *skip)
        memmove(to->data, to->data + *skip, to->len - *skip);
    to->len -= *skip;
    *skip = 0;
    if (to->data != NULL)
        to->data[to->len] = '\0';
    if (to->len == 0) {
        struct buf empty = *to;
        to->data = from->data;
        to->len = from->len;
        to->cap = from->cap;
        from->data = empty.data;
        from->cap = empty.cap;
    } else {
        to->max_bytes = MAX(to->max_bytes, to->len + from->len);
        enum err_kind kind = buf_append(to, from->data, from->len);
        if (kind != ERR_NONE)
            return kind;
    }
    poured_out(from);
    return ERR_NONE;
}
