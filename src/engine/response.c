#include "engine/response.h"
#include "engine/exchange_cookies.h"
#include "engine/exchange_failure.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_report.h"
#include "engine/exchange_types.h"
#include "engine/redirect.h"
#include <string.h>
#include <strings.h>

void response_begin(struct exchange *x)
{
    struct transfer_result *r = &x->transfer->result;
    r->status = 0;
    r->reason[0] = r->version[0] = '\0';
    headers_clear(&r->headers);
    headers_clear(&r->trailers);
    buf_clear(&r->body);
    if (!x->transfer->spec.stream)
        r->body.max_bytes = x->transfer->spec.max_body_bytes;
    x->paused = x->ended = x->starved = false;
    x->decoded = 0;
    r->got_bytes = 0;
    r->expected_bytes = -1;
    r->complete_unknown = r->encoding_unknown = false;
    x->head_done = x->chunked = x->has_length = x->discards = x->close_after = false;
    x->discarded = x->bytes_in = 0;
    x->hop_attempts = 0;
    x->sent_ns = x->first_byte_ns = x->activity_ns = 0;
    err_clear(&x->stop);
}

static bool stop_protocol(struct exchange *x, const char *what)
{
    err_set(&x->stop, ERR_PROTOCOL, "%s sent %s", x->url->origin->key, what);
    return false;
}

static void touch(struct exchange *x)
{
    x->activity_ns = loop_now_ns(x->engine->loop);
    if (x->state == EXCHANGE_RECEIVING)
        return;
    x->state = EXCHANGE_RECEIVING;
    x->first_byte_ns = x->activity_ns;
    exchange_rearm(x);
}

static void copy_text(char *out, size_t size, const char *from, const char *end)
{
    size_t len = MIN((size_t)(end - from), size - 1);
    memcpy(out, from, len);
    out[len] = '\0';
}

/* With two different lengths, two readers would see two bodies. */
static bool note_length(struct exchange *x, const char *value, size_t len)
{
    int64_t n = 0;
    if (len == 0 || len > 18)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        n = n * 10 + (value[i] - '0');
    }
    int64_t *expected = &x->transfer->result.expected_bytes;
    if (x->has_length && *expected != n)
        return false;
    x->has_length = true;
    *expected = n;
    return true;
}

static bool may_have_body(const struct exchange *x)
{
    int status = x->transfer->result.status;
    return status != 204 && status != 304 && strcmp(x->method, "HEAD") != 0;
}

static void choose_decoding(struct exchange *x)
{
    struct transfer_result *r = &x->transfer->result;
    size_t len = 0;
    const char *coding = headers_get(&r->headers, "content-encoding", NULL, &len);
    if (!coding || len == 0 || strcasecmp(coding, "identity") == 0)
        return;
    bool gzip = strcasecmp(coding, "gzip") == 0 || strcasecmp(coding, "x-gzip") == 0;
    size_t again = 0;
    headers_get(&r->headers, "content-encoding", &again, NULL);
    bool twice = headers_get(&r->headers, "content-encoding", &again, NULL);
    if (!x->transfer->spec.compressed || twice || (!gzip && strcasecmp(coding, "deflate") != 0)) {
        r->encoding_unknown = true;
        return;
    }
    const struct transfer_spec *spec = &x->transfer->spec;
    inflate_init(&x->inflate, gzip ? INFLATE_GZIP : INFLATE_DEFLATE, x->transfer->mem,
                 spec->stream && spec->max_body_bytes == 0 ? SIZE_MAX : spec->max_body_bytes);
    x->inflating = true;
}

/* The head is complete. */
static bool head_end(struct exchange *x)
{
    struct transfer_result *r = &x->transfer->result;
    if (r->status < 200)
        return true;
    x->head_done = true;
    x->url->origin->answered = true;
    if (x->transfer->spec.jar && exchange_take_cookies(x) != ERR_NONE) {
        err_set(&x->stop, ERR_MEMORY, "no memory for the cookies from %s", x->url->origin->key);
        return false;
    }
    bool body_of_204 = r->status == 204 && (x->chunked || r->expected_bytes > 0);
    /* Chunking counts. A server that sends both may have been tricked into it, so this connection
     * is not used again. The same holds for a body where none may be. */
    if ((x->chunked && x->has_length) || body_of_204)
        x->close_after = true;
    if (x->chunked || !may_have_body(x))
        r->expected_bytes = -1;
    x->discards = redirect_wanted(x);
    if (x->discards)
        return true;
    choose_decoding(x);
    if (x->transfer->spec.stream) {
        exchange_tell(x, TRANSFER_HEAD);
        return true;
    }
    if (r->expected_bytes > 0 && !x->inflating) {
        if ((uint64_t)r->expected_bytes > r->body.max_bytes) {
            exchange_failure_too_large(x, "body bytes", r->body.max_bytes, &x->stop);
            return false;
        }
        /* Only a hint: if there is no memory for all of it now, the buffer grows as the body comes.
         */
        enum err_kind kind = buf_reserve(&r->body, (size_t)MIN(r->expected_bytes, 1024 * 1024));
        UNUSED(kind);
    }
    return true;
}

void response_note_bytes(struct exchange *x, size_t len)
{
    touch(x);
    x->bytes_in += len;
}

static bool kept(struct exchange *x, enum err_kind kind)
{
    if (kind == ERR_TOO_LARGE)
        exchange_failure_too_large(x, "headers", HEADERS_MAX, &x->stop);
    else if (kind != ERR_NONE)
        err_set(&x->stop, kind, "no memory for the response headers");
    return kind == ERR_NONE;
}

static bool keep_fields(struct exchange *x, struct headers *h, const struct http1_head *from)
{
    return kept(x, headers_add_rows(h, from->fields, from->fields_len, from->rows, from->count));
}

bool response_take_head(struct exchange *x, const struct http1_head *head)
{
    struct transfer_result *r = &x->transfer->result;
    snprintf(r->version, sizeof r->version, "1.%u", head->minor);
    r->status = (int)head->status;
    copy_text(r->reason, sizeof r->reason, head->word, head->word + head->word_len);
    x->has_length = head->content_length >= 0;
    x->chunked = head->body == HTTP1_CHUNKED;
    x->close_after = !head->keep_alive;
    r->expected_bytes = head->content_length;
    if (head->coded) /* a server may use others only if the client asks for them */
        return stop_protocol(x, "a Transfer-Encoding that was not asked for");
    return keep_fields(x, &r->headers, head) && head_end(x);
}

bool response_take_trailers(struct exchange *x, const struct http1_head *trailers)
{
    return keep_fields(x, &x->transfer->result.trailers, trailers);
}

void response_take_status(struct exchange *x, const char *version, int status, const char *reason)
{
    struct transfer_result *r = &x->transfer->result;
    snprintf(r->version, sizeof r->version, "%s", version);
    r->status = status;
    copy_text(r->reason, sizeof r->reason, reason, reason + strlen(reason));
    headers_clear(&r->headers); /* of a 1xx */
    x->chunked = x->has_length = false;
    r->expected_bytes = -1;
}

bool response_take_field(struct exchange *x, const char *name, size_t name_len, const char *value,
                         size_t value_len, bool trailer)
{
    struct transfer_result *r = &x->transfer->result;
    if (!trailer && name_len == 14 && strncasecmp(name, "content-length", 14) == 0 &&
        !note_length(x, value, value_len))
        return stop_protocol(x, "a Content-Length that is not a number, or two that differ");
    return kept(
        x, headers_add(trailer ? &r->trailers : &r->headers, name, name_len, value, value_len));
}

bool response_take_head_end(struct exchange *x)
{
    return head_end(x);
}

/* All of the body is kept, at most max_body of it. */
static enum response_take keep_body(struct exchange *x, const char *data, size_t len)
{
    struct transfer_result *r = &x->transfer->result;
    enum err_kind kind = x->inflating ? inflate_feed(&x->inflate, data, len, &r->body, &x->stop)
                                      : buf_append(&r->body, data, len);
    if (kind == ERR_TOO_LARGE)
        exchange_failure_too_large(x, x->inflating ? "decoded body bytes" : "body bytes",
                                   r->body.max_bytes, &x->stop);
    else if (kind != ERR_NONE && !x->inflating)
        err_set(&x->stop, kind, "no memory for the response body");
    return kind == ERR_NONE ? RESPONSE_TAKEN : RESPONSE_STOPPED;
}

enum response_take response_take_body(struct exchange *x, const char *data, size_t len)
{
    x->activity_ns = loop_now_ns(x->engine->loop);
    if (x->transfer->spec.stream && !x->discards)
        return response_stream_take(x, data, len);
    x->transfer->result.got_bytes += (int64_t)len;
    if (!x->discards)
        return keep_body(x, data, len);
    x->discarded += len;
    return x->discarded > DISCARD_MAX ? RESPONSE_STOPPED : RESPONSE_TAKEN;
}

size_t response_take_upload(struct exchange *x, char *out, size_t size)
{
    struct transfer *t = x->transfer;
    size_t len = MIN(size, t->upload.len - t->upload_sent);
    x->activity_ns = loop_now_ns(x->engine->loop);
    x->starved = len == 0 && !t->upload_ended;
    if (x->starved)
        return 0;
    if (len == 0) {
        x->uploading = false;
        x->sent_ns = x->activity_ns;
        exchange_rearm(x);
        return 0;
    }
    memcpy(out, t->upload.data + t->upload_sent, len);
    t->upload_sent += len;
    size_t left = t->upload.len - t->upload_sent;
    if (left == 0) {
        buf_clear(&t->upload);
        t->upload_sent = 0;
    }
    if (left <= TRANSFER_WINDOW / 2)
        exchange_tell(x, TRANSFER_ROOM);
    return len;
}

enum err_kind response_end(struct exchange *x, struct err *err)
{
    struct transfer_result *r = &x->transfer->result;
    if (x->inflating && inflate_finish(&x->inflate, err) != ERR_NONE)
        return err->kind;
    r->complete_unknown = !x->has_length && !x->chunked && r->version[0] == '1' && may_have_body(x);
    return ERR_NONE;
}
