/* Parses server-sent events exactly as the WHATWG HTML standard says (section 9.2.6). The bytes may
 * arrive in pieces of any size. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"

/* Borrowed until the next call with the same parser. */
struct sse_event {
    const char *type; /* "message" if the event names no type */
    size_t type_len;
    const char *data;
    size_t data_len;
    const char *id; /* the last id of the whole stream so far; "" before the first */
    size_t id_len;
};

/* How much is kept of lines that belong to no event. */
#define SSE_STRAY_BYTES ((size_t)4096)

enum sse_result { SSE_MORE, SSE_EVENT, SSE_FAILED };

/* Private. The struct is public only so that others can embed it. */
struct sse {
    struct buf line, data, type, id;
    struct buf stray;   /* lines that are no field of an event, cut to SSE_STRAY_BYTES */
    const char *direct; /* data that still lies in the input; NULL: the data is in `data` */
    size_t direct_len, max_bytes;
    bool has_data, handed_out, skip_lf;
    unsigned bom; /* bytes of a byte order mark seen so far; 3: the check is done */
    int64_t retry_ms;
    struct err failed;
};

/* `max_event_bytes` is the largest size of a line and of the data of an event. Does not allocate.
 */
void sse_init(struct sse *s, struct mem *mem, size_t max_event_bytes);
void sse_fini(struct sse *s);
/* Consumes bytes from the front of *in. SSE_EVENT: up to the end of the next event, which is in
 * *out. SSE_MORE: all bytes were consumed. *in and *len are set to the rest of the input. The input
 * must stay valid while *out is used. SSE_FAILED: ERR_TOO_LARGE or ERR_MEMORY; every later call
 * returns it again. */
enum sse_result sse_next(struct sse *s, const char **in, size_t *len, struct sse_event *out,
                         struct err *err);
/* Call it after the last byte. True: the stream broke off within an event. By the standard this is
 * not an event; *out has the part that arrived. */
bool sse_finish(struct sse *s, struct sse_event *out);
/* The beginning of the lines that the standard ignores, such as an error that a server wrote
 * between two events. Borrowed. NULL: there were none. */
const char *sse_stray(const struct sse *s, size_t *len);
/* The last valid `retry` of the stream, at most one day; -1: none. */
int64_t sse_retry_ms(const struct sse *s);
