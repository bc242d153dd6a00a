/* Splits bytes that come in pieces into lines, ended by LF or CRLF. A CR alone is data. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"

enum lines_result { LINES_MORE, LINES_LINE, LINES_FAILED };

/* Private, but for being embedded. */
struct lines {
    struct buf part; /* of a line whose end has not come */
    bool handed_out;
    struct err failed;
};

/* Allocates nothing yet. */
void lines_init(struct lines *l, struct mem *mem, size_t max_line_bytes);
void lines_fini(struct lines *l);
/* Takes bytes from the front of *in up to the end of the next line, which is then in *line
 * (LINES_LINE; borrowed until the next call, and while the input stays), or all of them
 * (LINES_MORE). LINES_FAILED: ERR_TOO_LARGE or ERR_MEMORY; every later call repeats it. */
enum lines_result lines_next(struct lines *l, const char **in, size_t *len, const char **line,
                             size_t *line_len, struct err *err);
/* After the last byte: true if a line without an end stood there. */
bool lines_finish(struct lines *l, const char **line, size_t *line_len);
