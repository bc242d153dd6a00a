/* Splits input, which arrives in pieces, into lines. A line ends with LF or CRLF. A CR alone is
 * data. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"

enum lines_result { LINES_MORE, LINES_LINE, LINES_FAILED };

/* Private. The struct is public only so that others can embed it. */
struct lines {
    struct buf part; /* the beginning of a line whose end has not arrived */
    bool handed_out;
    struct err failed;
};

/* Does not allocate. */
void lines_init(struct lines *l, struct mem *mem, size_t max_line_bytes);
void lines_fini(struct lines *l);
/* Consumes bytes from the front of *in. LINES_LINE: up to the end of the next line, which is in
 * *line. The line is borrowed until the next call, and only while the input is valid. LINES_MORE:
 * all bytes were consumed. LINES_FAILED: ERR_TOO_LARGE or ERR_MEMORY; every later call returns it
 * again. */
enum lines_result lines_next(struct lines *l, const char **in, size_t *len, const char **line,
                             size_t *line_len, struct err *err);
/* Call it after the last byte. True: the input ended with a line that has no line end. */
bool lines_finish(struct lines *l, const char **line, size_t *line_len);
