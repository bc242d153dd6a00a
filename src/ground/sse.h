/* Server-sent events, parsed to the letter of the WHATWG HTML standard, section 9.2.6, from bytes
 * in pieces of any size. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"

/* Borrowed until the next call with the same parser. */
struct sse_event {
    const char *type; /* "message" if the stream named none */
    size_t type_len;
    const char *data;
    size_t data_len;
    const char *id; /* the last one sent, over all events; "" before the first */
    size_t id_len;
};

/* Of lines that belong to no event so much is kept. */
#define SSE_STRAY_BYTES ((size_t)4096)

enum sse_result { SSE_MORE, SSE_EVENT, SSE_FAILED };

/* Private, but for being embedded. */
struct sse {
    struct buf line, data, type, id;
    struct buf stray;   /* lines that are no field of an event: at most SSE_STRAY_BYTES of them */
    const char *direct; /* data that still lies in the input; NULL: in `data` */
    size_t direct_len, max_bytes;
    bool has_data, handed_out, skip_lf;
    unsigned bom; /* bytes of a byte order mark seen; 3: over */
    int64_t retry_ms;
    struct err failed;
};

/* `max_event_bytes` caps a line, and the data of an event. Allocates nothing yet. */
void sse_init(struct sse *s, struct mem *mem, size_t max_event_bytes);
void sse_fini(struct sse *s);
/* Takes bytes from the front of *in up to the end of the next event, which is then in *out
 * (SSE_EVENT), or all of them (SSE_MORE); *in and *len say what is left. The input must stay where
 * it is while *out is used. SSE_FAILED: ERR_TOO_LARGE or ERR_MEMORY; every later call repeats it.
 */
enum sse_result sse_next(struct sse *s, const char **in, size_t *len, struct sse_event *out,
                         struct err *err);
/* After the last byte: true if the stream broke off within an event, which is none by the standard;
 * *out has what there is of it. */
bool sse_finish(struct sse *s, struct sse_event *out);
/* The beginning of what was sent in lines that the standard ignores, such as an error that a server
 * wrote between two events. Borrowed; NULL: there was none. */
const char *sse_stray(const struct sse *s, size_t *len);
/* The stream's last valid `retry`, at most a day; -1: none. */
int64_t sse_retry_ms(const struct sse *s);
