#include "engine/response_stream.h"
#include "engine/exchange_failure.h"
#include "engine/exchange_report.h"
#include "engine/exchange_types.h"
#include <string.h>

/* A few bytes of a compressed stream may become a thousand times as many, so no more than these are
 * decoded between two looks at the window. */
enum { SLICE = 256, SLICE_OUT_MAX = 512 * 1024 };

/* The size of a stream is not limited. But beyond RATIO_FROM bytes, a body that decodes to more
 * than RATIO_MAX times its size counts as a bomb. */
enum { RATIO_FROM = 16 * 1024 * 1024, RATIO_MAX = 250 };

static bool full(const struct exchange *x)
{
    const struct transfer *t = x->transfer;
    return t->result.body.len + t->handed >= t->window;
}

size_t response_stream_room(const struct exchange *x)
{
    const struct transfer *t = x->transfer;
    size_t used = t->result.body.len + t->handed;
    return x->held.len > 0 || used >= t->window ? 0 : t->window - used;
}

/* `more`: bytes that are about to come. */
static void make_room(struct exchange *x, size_t more)
{
    struct transfer *t = x->transfer;
    t->result.body.max_bytes = MAX(t->result.body.len, t->window) + more;
}

static enum err_kind too_large(struct exchange *x)
{
    exchange_failure_too_large(x, "decoded body bytes", x->transfer->spec.max_body_bytes, &x->stop);
    return x->stop.kind;
}

static enum err_kind decode(struct exchange *x, const char *data, size_t len)
{
    struct transfer_result *r = &x->transfer->result;
    make_room(x, SLICE_OUT_MAX);
    size_t before = r->body.len;
    enum err_kind kind = inflate_feed(&x->inflate, data, len, &r->body, &x->stop);
    x->decoded += r->body.len - before;
    if (kind == ERR_TOO_LARGE)
        return too_large(x);
    if (kind == ERR_NONE && x->decoded > RATIO_FROM &&
        x->decoded / RATIO_MAX > (uint64_t)r->got_bytes) {
        kind = err_set(&x->stop, ERR_TOO_LARGE,
                       "the body from %s decodes to more than %d times its size: reading stopped",
                       x->url->origin->key, RATIO_MAX);
        err_reason(&x->stop, "ratio");
    }
    return kind;
}

enum err_kind response_stream_decode_held(struct exchange *x)
{
    size_t done = 0;
    enum err_kind kind = ERR_NONE;
    while (kind == ERR_NONE && done < x->held.len && !full(x)) {
        size_t n = MIN((size_t)SLICE, x->held.len - done);
        kind = decode(x, x->held.data + done, n);
        done += n;
    }
    if (done > 0 && x->transfer->result.body.len > 0)
        exchange_tell(x, TRANSFER_DATA);
    if (done == x->held.len) {
        buf_clear(&x->held);
    } else if (done > 0) {
        memmove(x->held.data, x->held.data + done, x->held.len - done);
        x->held.len -= done;
    }
    return kind;
}

static enum err_kind keep(struct exchange *x, const char *data, size_t len)
{
    if (x->inflating) {
        enum err_kind kind = buf_append(&x->held, data, len);
        if (kind != ERR_NONE)
            return err_set(&x->stop, kind, "no memory for the response body");
        return response_stream_decode_held(x);
    }
    make_room(x, len);
    enum err_kind kind = buf_append(&x->transfer->result.body, data, len);
    if (kind != ERR_NONE)
        return err_set(&x->stop, kind, "no memory for the response body");
    x->decoded += len;
    uint64_t max = x->transfer->spec.max_body_bytes;
    if (max > 0 && x->decoded > max)
        return too_large(x);
    exchange_tell(x, TRANSFER_DATA);
    return ERR_NONE;
}

enum response_take response_stream_take(struct exchange *x, const char *data, size_t len)
{
    if (full(x) || x->held.len > 0) {
        x->paused = true;
        return RESPONSE_FULL;
    }
    x->transfer->result.got_bytes += (int64_t)len;
    return keep(x, data, len) == ERR_NONE ? RESPONSE_TAKEN : RESPONSE_STOPPED;
}
