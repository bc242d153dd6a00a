/* Fuzzes the parser of server-sent events (see run.sh). What must hold for any bytes: however they
 * are cut into pieces, the events are the same, and so are the failure, the rest that is no event,
 * and the retry time. */
#include "ground/sse.h"
#include "chunking.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small, so that inputs reach it. */
enum { EVENT_MAX = 48 };

static void add(struct buf *out, const char *what, const char *bytes, size_t len)
{
    enum err_kind kind = buf_printf(out, "%s %zu ", what, len);
    ASSERT(kind == ERR_NONE);
    kind = buf_append(out, bytes, len);
    ASSERT(kind == ERR_NONE);
}

static void add_event(struct buf *out, const char *what, const struct sse_event *e)
{
    ASSERT(e->data_len <= EVENT_MAX && e->type_len <= EVENT_MAX && e->id_len <= EVENT_MAX);
    ASSERT(e->type_len > 0 && (e->id_len == 0 || !memchr(e->id, '\0', e->id_len)));
    add(out, what, e->type, e->type_len);
    add(out, "data", e->data, e->data_len);
    add(out, "id", e->id, e->id_len);
}

/* Writes down all that comes of the pieces. */
static void parse(struct buf *out, struct chunking c)
{
    struct mem mem;
    struct sse s;
    struct sse_event e;
    struct err err;
    const char *piece;
    size_t len;
    enum sse_result result = SSE_MORE;
    mem_init(&mem, 0);
    sse_init(&s, &mem, EVENT_MAX);
    while (result != SSE_FAILED && chunking_next(&c, &piece, &len)) {
        do {
            size_t before = len;
            const char *end = piece + len;
            result = sse_next(&s, &piece, &len, &e, &err);
            ASSERT(len <= before && piece + len == end);
            ASSERT(result != SSE_MORE || len == 0);
            if (result == SSE_EVENT)
                add_event(out, "event", &e);
        } while (result == SSE_EVENT);
    }
    if (result == SSE_FAILED) {
        ASSERT(err.kind == ERR_TOO_LARGE && err.message[0] != '\0');
        add(out, "failed", err.message, strlen(err.message));
        ASSERT(sse_next(&s, &piece, &len, &e, &err) == SSE_FAILED);
    }
    bool rest = sse_finish(&s, &e);
    ASSERT(!rest || result != SSE_FAILED);
    if (rest)
        add_event(out, "rest", &e);
    int64_t retry = sse_retry_ms(&s);
    ASSERT(retry >= -1 && retry <= 24 * 60 * 60 * 1000);
    enum err_kind kind = buf_printf(out, "retry %lld", (long long)retry);
    ASSERT(kind == ERR_NONE);
    free(c.piece);
    sse_fini(&s);
    ASSERT(mem.blocks == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    chunking_compare(data, size, parse);
    return 0;
}

#define FUZZ_BYTES "dataeventidretry: \n\r\n\r\n\r0123456789\xef\xbb\xbf\x01\x02\x00\xff"
#include "standalone.h"
