/* Fuzzes the reader of HTTP/1 (see run.sh). What must hold for any bytes: however they are cut into
 * pieces, the messages are the same, and so is the reason why one is refused. The connection goes
 * on after a message that lets it. */
#include "../unit/http1_show.h"
#include "chunking.h"
#include "ground/http1_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KIND_BYTE = CHUNKING_BYTES, FIRST_BYTE };

/* Small, so that inputs reach them. */
static const struct http1_limits limits = {
    .head_bytes = 300,
    .line_bytes = 100,
    .headers = 6,
    .informational = 3,
    .extension_bytes = 20,
};

struct reader {
    struct http1_parser p;
    uint8_t flags;
    bool keep_alive;
    struct http1_show shown;
    char *kept; /* what must be handed in again */
    size_t kept_len;
};

static void begin(struct reader *r)
{
    http1_parse_init(&r->p, r->flags & 1 ? HTTP1_REQUEST : HTTP1_RESPONSE,
                     r->flags & 2 ? &limits : NULL);
    r->p.to_head = r->flags & 4;
    r->p.may_upgrade = r->flags & 8;
}

static void check_head(const struct http1_head *h)
{
    ASSERT(h->count <= HTTP1_MAX_HEADERS);
    for (size_t i = 0; i < h->count; i++) {
        const struct header *row = &h->rows[i];
        const char *value = h->fields + row->value_off;
        ASSERT(headers_valid_name(h->fields + row->name_off, row->name_len));
        ASSERT(headers_valid_value(value, row->value_len));
        ASSERT(row->value_len == 0 || (value[0] != ' ' && value[row->value_len - 1] != ' '));
    }
}

/* Reads as many messages as the bytes have. */
static enum http1_result read_bytes(struct reader *r, const char *in, size_t len)
{
    struct http1_event e;
    struct err err;
    for (;;) {
        const char *before = in;
        size_t before_len = len;
        enum http1_result result = http1_parse_next(&r->p, &in, &len, &e, &err);
        ASSERT(len <= before_len && in + len == before + before_len);
        if (result == HTTP1_HEAD || result == HTTP1_TRAILERS)
            check_head(&e.head);
        if (result == HTTP1_HEAD)
            r->keep_alive = e.head.keep_alive;
        if (result == HTTP1_BODY)
            ASSERT(e.data == in - e.len && e.data >= before);
        if (result == HTTP1_HEAD || result == HTTP1_BODY || result == HTTP1_TRAILERS) {
            http1_show_event(&r->shown, result, &e);
            continue;
        }
        if (result == HTTP1_DONE && r->keep_alive) {
            http1_show_end(&r->shown, &r->p, result, "", 0);
            begin(r);
            continue;
        }
        ASSERT(result != HTTP1_MORE || len <= r->p.limits->head_bytes);
        r->kept = realloc(r->kept, len + 1);
        ASSERT(r->kept != NULL);
        memmove(r->kept, in, len);
        r->kept_len = len;
        return result;
    }
}

/* Writes down all that comes of the pieces. */
static struct http1_show parse(uint8_t flags, struct chunking c)
{
    struct reader r = {.flags = flags, .kept_len = 0};
    const char *piece;
    size_t len;
    enum http1_result result = HTTP1_MORE;
    begin(&r);
    while (result == HTTP1_MORE && chunking_next(&c, &piece, &len)) {
        size_t all = r.kept_len + len;
        char *bytes = malloc(all ? all : 1);
        ASSERT(bytes != NULL);
        if (r.kept_len != 0)
            memcpy(bytes, r.kept, r.kept_len);
        if (len != 0)
            memcpy(bytes + r.kept_len, piece, len);
        result = read_bytes(&r, bytes, all);
        free(bytes);
    }
    http1_show_end(&r.shown, &r.p, result, r.kept, 0);
    free(c.piece);
    free(r.kept);
    return r.shown;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t whole[CHUNKING_BYTES] = {255, 255, 255, 255},
                         single[CHUNKING_BYTES] = {1, 1, 1, 1};
    if (size < FIRST_BYTE)
        return 0;
    const uint8_t *ways[] = {whole, single, data};
    struct http1_show out[ARRAY_LEN(ways)];
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        out[i] = parse(data[KIND_BYTE], chunking_of(ways[i], data + FIRST_BYTE, size - FIRST_BYTE));
        ASSERT(out[i].len == out[0].len && memcmp(out[i].text, out[0].text, out[0].len) == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        free(out[i].text);
    return 0;
}

#define FUZZ_BYTES "\r\n\r\n\r\n: ,;\t0123456789afx\x00\x01\x7f\xff=\"chunkedTEL"
#include "standalone.h"
