#include "ground/lines.h"
#include <string.h>

void lines_init(struct lines *l, struct mem *mem, size_t max_line_bytes)
{
    *l = (struct lines){0};
    buf_init(&l->part, mem, max_line_bytes);
}

void lines_fini(struct lines *l)
{
    buf_fini(&l->part);
}

static enum lines_result fail(struct lines *l, enum err_kind kind, struct err *err)
{
    if (kind == ERR_TOO_LARGE)
        err_set(&l->failed, kind, "a line is larger than %zu bytes", l->part.max_bytes);
    else
        err_set(&l->failed, kind, "no memory for a line");
    *err = l->failed;
    return LINES_FAILED;
}

static size_t without_cr(const char *line, size_t len)
{
    return len > 0 && line[len - 1] == '\r' ? len - 1 : len;
}

enum lines_result lines_next(struct lines *l, const char **in, size_t *len, const char **line,
                             size_t *line_len, struct err *err)
{
    if (l->failed.kind != ERR_NONE) {
        *err = l->failed;
        return LINES_FAILED;
    }
    if (l->handed_out)
        buf_clear(&l->part);
    l->handed_out = false;
    const char *start = *in;
    const char *end = memchr(start, '\n', *len);
    size_t n = end ? (size_t)(end - start) : *len;
    *in += end ? n + 1 : n;
    *len -= end ? n + 1 : n;
    if (end && l->part.len == 0) {
        if (n > l->part.max_bytes)
            return fail(l, ERR_TOO_LARGE, err);
        *line = start;
        *line_len = without_cr(start, n);
        return LINES_LINE;
    }
    enum err_kind kind = buf_append(&l->part, start, n);
    if (kind != ERR_NONE)
        return fail(l, kind, err);
    if (!end)
        return LINES_MORE;
    l->handed_out = true;
    *line = l->part.data;
    *line_len = without_cr(l->part.data, l->part.len);
    return LINES_LINE;
}

bool lines_finish(struct lines *l, const char **line, size_t *line_len)
{
    if (l->handed_out || l->failed.kind != ERR_NONE || l->part.len == 0)
        return false;
    l->handed_out = true;
    *line = l->part.data;
    *line_len = l->part.len;
    return true;
}
