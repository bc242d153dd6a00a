/* Fuzzes the splitting into lines (see run.sh). What must hold for any bytes: however they are cut
 * into pieces, the lines are the same, and so are the failure and the rest; and put together again
 * the lines are the input. */
#include "ground/lines.h"
#include "chunking.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small, so that inputs reach it. */
enum { LINE_LIMIT = 24 };

static void add(struct buf *out, const char *what, const char *bytes, size_t len)
{
    enum err_kind kind = buf_printf(out, "%s %zu ", what, len);
    ASSERT(kind == ERR_NONE);
    kind = buf_append(out, bytes, len);
    ASSERT(kind == ERR_NONE);
}

/* Writes down all that comes of the pieces. */
static void split(struct buf *out, struct chunking c)
{
    const char *input = (const char *)c.rest;
    struct mem mem;
    struct lines l;
    struct err err;
    const char *piece, *line;
    size_t len, line_len, at = 0;
    enum lines_result result = LINES_MORE;
    mem_init(&mem, 0);
    lines_init(&l, &mem, LINE_LIMIT);
    while (result != LINES_FAILED && chunking_next(&c, &piece, &len)) {
        do {
            const char *end = piece + len;
            result = lines_next(&l, &piece, &len, &line, &line_len, &err);
            ASSERT(piece + len == end && (result != LINES_MORE || len == 0));
            if (result != LINES_LINE)
                continue;
            ASSERT(line_len <= LINE_LIMIT && !memchr(line, '\n', line_len));
            ASSERT(memcmp(input + at, line, line_len) == 0);
            at += line_len;
            at += input[at] == '\r' ? 2 : 1;
            ASSERT(input[at - 1] == '\n');
            add(out, "line", line, line_len);
        } while (result == LINES_LINE);
    }
    if (result == LINES_FAILED) {
        ASSERT(err.kind == ERR_TOO_LARGE);
        add(out, "failed", err.message, strlen(err.message));
        ASSERT(lines_next(&l, &piece, &len, &line, &line_len, &err) == LINES_FAILED);
        ASSERT(!lines_finish(&l, &line, &line_len));
    } else if (lines_finish(&l, &line, &line_len)) {
        ASSERT(line_len > 0);
        ASSERT(memcmp(input + at, line, line_len) == 0);
        add(out, "rest", line, line_len);
        ASSERT(!lines_finish(&l, &line, &line_len));
    }
    free(c.piece);
    lines_fini(&l);
    ASSERT(mem.blocks == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    chunking_compare(data, size, split);
    return 0;
}

#define FUZZ_BYTES "abc{}\n\r\n\r\n\r\n\x01\x02\x00\xff"
#include "standalone.h"
