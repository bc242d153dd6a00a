#include "engine/exchange.h"
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
    x->paused = x->ended = x->starved = x->after_status = false;
    x->kick_ns = 0;
    x->decoded = 0;
    r->got_bytes = 0;
    r->expected_bytes = -1;
    r->complete_unknown = r->encoding_unknown = false;
    x->head_done = x->chunked = x->has_length = x->discards = x->body_begun = x->close_after =
        false;
    x->socket_error = 0;
    x->resend_refused = x->target_denied = x->refused = x->relaunch = false;
    x->discarded = x->uploaded = x->bytes_in = x->head_bytes = 0;
    x->hop_attempts = x->informational = 0;
    x->connects_seen = 0;
    h2_note_leave(x);
    x->connect_fd = -1;
    x->connect_port = 0;
    x->sent_ns = x->first_byte_ns = x->activity_ns = 0;
    x->curl_text[0] = '\0';
    err_clear(&x->stop);
}

/* Asked when a connection has been found for a request that may share it. */
static bool good_connection(struct exchange *x, const struct h2_ends *ends)
{
    long connects = 0;
    curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
    bool is_new = connects > x->connects_seen;
    x->connects_seen = connects;
    h2_note_connection(x, ends, is_new);
    /* Without one to share it would speak HTTP/1.1; on one that is going away it would wait for
     * its end. */
    x->relaunch = (is_new ? x->shares : h2_is_going(x)) && x->relaunches < RELAUNCH_MAX;
    return !x->relaunch;
}

/* The number behind `label` in one of libcurl's messages. */
static bool number_in(const char *text, size_t size, const char *label, uint32_t *out)
{
    const char *p = memmem(text, size, label, strlen(label));
    if (!p)
        return false;
    *out = 0;
    for (p += strlen(label); p < text + size && *p >= '0' && *p <= '9'; p++)
        *out = *out * 10 + (uint32_t)(*p - '0');
    return true;
}

size_t response_stop(struct exchange *x)
{
    ASSERT(x->stop.kind != ERR_NONE);
    return 0; /* never what curl expects: every call carries at least one byte */
}

size_t response_stop_large(struct exchange *x, const char *what, size_t limit)
{
    err_set(&x->stop, ERR_TOO_LARGE, "%s from %s: more than %zu", what, x->url->origin->key, limit);
    return response_stop(x);
}

static size_t stop_protocol(struct exchange *x, const char *what)
{
    err_set(&x->stop, ERR_PROTOCOL, "%s sent %s", x->url->origin->key, what);
    return response_stop(x);
}

/* libcurl before 8.1 keeps a pointer to the last header of the handle's previous transfer, which it
 * has freed, and appends a folded line to it. Behind the first header of this transfer that pointer
 * is good, so only a head that begins with a folded line is a danger. The debug callback sees each
 * line before it is stored, but cannot end a transfer: paused, libcurl sets the line aside, and our
 * timer ends the transfer. */
static void stop_fold(struct exchange *x, const char *line)
{
    x->after_status = false;
    curl_easy_setopt(x->easy, CURLOPT_VERBOSE, x->multiplexes ? 1L : 0L);
    if (line[0] != ' ' && line[0] != '\t')
        return;
    stop_protocol(x, "a folded line before any header");
    curl_easy_pause(x->easy, CURLPAUSE_RECV);
    loop_timer_start(x->engine->loop, &x->timer, loop_now_ns(x->engine->loop));
}

/* The line behind this one passes stop_fold. */
static void expect_first_line(struct exchange *x)
{
    if (!x->engine->guards_folds)
        return;
    x->after_status = true;
    curl_easy_setopt(x->easy, CURLOPT_VERBOSE, 1L);
}

static bool begins(const char *text, size_t size, const char *with)
{
    size_t len = strlen(with);
    return size >= len && memcmp(text, with, len) == 0;
}

int response_on_debug(CURL *easy, curl_infotype type, char *data, size_t size, void *arg)
{
    struct exchange *x = arg;
    uint32_t number;
    UNUSED(easy);
    if (type == CURLINFO_HEADER_IN && x->after_status && size > 0)
        stop_fold(x, data);
    if (type != CURLINFO_TEXT || size == 0)
        return 0;
    /* "REFUSED_STREAM, retrying a fresh connect", "Connection died, retrying a fresh connect" */
    bool refused = begins(data, size, "REFUSED_STREAM");
    if (refused || begins(data, size, "Connection died")) {
        h2_note_leave(x);
        x->easy_spent = true; /* see opts_hop */
    }
    x->refused = x->refused || refused;
    if (data[0] == 'U' && number_in(data, size, "Using Stream ID: ", &number))
        x->stream_id = number;
    else if (data[0] == 'r' && number_in(data, size, "last_stream=", &number))
        h2_note_goaway(x, number);
    return 0;
}

int response_on_prereq(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    const struct h2_ends ends = {local ? local : "", remote ? remote : "", local_port, remote_port};
    struct exchange *x = arg;
    /* A second call means that libcurl lost a kept connection and would send again what the
     * server may have acted on; or that the server has not taken it. */
    bool again = x->hop_attempts > 0;
    bool untouched = x->refused;
    x->refused = false;
    bool once = x->transfer->spec.once;
    if (again && (once || (!untouched && !exchange_idempotent(x)))) {
        x->resend_refused = true;
        x->refused = untouched;
        x->easy_dirty = true;
        return CURL_PREREQFUNC_ABORT;
    }
    /* What came on an idle connection is no answer to this request. (libcurl looks at it for
     * HTTP/2 alone.) */
    if (!x->multiplexes && x->relaunches < RELAUNCH_MAX &&
        sockets_spoke(x->engine->sockets, local_port, remote_port)) {
        x->relaunch = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (x->multiplexes && !good_connection(x, &ends))
        return CURL_PREREQFUNC_ABORT;
    /* libcurl counts re-sends over the life of the handle and gives up at five. */
    if (x->hop_attempts > 0)
        x->easy_dirty = true;
    if (x->multiplexes && x->transfer->spec.body_len > 0)
        h2_cork(x);
    x->hop_attempts++;
    x->transfer->result.wire_attempts++;
    x->engine->stats.wire_attempts++;
    x->sent_ns = x->activity_ns = loop_now_ns(x->engine->loop);
    x->state = EXCHANGE_WAITING;
    /* The limit that holds now may be shorter than the one the timer was set for. */
    exchange_rearm(x, x->sent_ns);
    return CURL_PREREQFUNC_OK;
}

static void touch(struct exchange *x)
{
    x->activity_ns = loop_now_ns(x->engine->loop);
    if (x->state == EXCHANGE_RECEIVING)
        return;
    x->state = EXCHANGE_RECEIVING;
    x->first_byte_ns = x->activity_ns;
    exchange_rearm(x, x->activity_ns);
}

static void copy_text(char *out, size_t size, const char *from, const char *end)
{
    size_t len = MIN((size_t)(end - from), size - 1);
    memcpy(out, from, len);
    out[len] = '\0';
}

/* "HTTP/1.1 200 OK", of which curl has seen to the shape. Whatever came before it (1xx) is void. */
static bool status_line(struct exchange *x, const char *line, size_t len)
{
    struct transfer_result *r = &x->transfer->result;
    if (++x->informational > INFORMATIONAL_MAX + 1)
        return false;
    headers_clear(&r->headers);
    x->chunked = x->has_length = x->close_after = false;
    r->expected_bytes = -1;
    const char *end = line + len;
    const char *p = line + 5;
    const char *space = memchr(p, ' ', (size_t)(end - p));
    if (!space)
        space = end;
    copy_text(r->version, sizeof r->version, p, space);
    r->status = 0;
    for (p = space; p < end && *p == ' '; p++)
        ;
    for (int digits = 0; p < end && *p >= '0' && *p <= '9' && digits < 3; p++, digits++)
        r->status = r->status * 10 + (*p - '0');
    if (p < end && *p == ' ')
        p++;
    copy_text(r->reason, sizeof r->reason, p, end);
    x->close_after = strcmp(r->version, "1.0") == 0;
    return true;
}

/* Two lengths that differ would let two readers see two bodies. */
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

static bool has_word(const char *value, size_t len, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= len; i++) {
        if (strncasecmp(value + i, word, n) == 0)
            return true;
    }
    return false;
}

static size_t field_line(struct exchange *x, const char *line, size_t len, bool trailer)
{
    struct transfer_result *r = &x->transfer->result;
    struct headers *h = trailer ? &r->trailers : &r->headers;
    const char *colon = memchr(line, ':', len);
    const char *value = colon ? colon + 1 : line + len;
    if (line[0] == ' ' || line[0] == '\t')
        return stop_protocol(x, "a folded header line");
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t value_len = (size_t)(end - value);
    if (!headers_valid_value(value, value_len))
        return stop_protocol(x, "a control byte in a header value");
    size_t name_len = colon ? (size_t)(colon - line) : 0;
    if (!headers_valid_name(line, name_len))
        return stop_protocol(x, "a line that is not a header");
    if (!trailer && name_len == 14 && strncasecmp(line, "content-length", 14) == 0) {
        if (!note_length(x, value, value_len))
            return stop_protocol(x, "a Content-Length that is not a number, or two that differ");
    } else if (!trailer && name_len == 17 && strncasecmp(line, "transfer-encoding", 17) == 0) {
        /* Others must be asked for, and curl would undo them by itself. */
        bool chunked = value_len == 7 && strncasecmp(value, "chunked", 7) == 0;
        if (!chunked && (value_len != 8 || strncasecmp(value, "identity", 8) != 0))
            return stop_protocol(x, "a Transfer-Encoding that was not asked for");
        x->chunked = x->chunked || chunked;
    } else if (!trailer && name_len == 10 && strncasecmp(line, "connection", 10) == 0) {
        x->close_after = has_word(value, value_len, "close");
    }
    enum err_kind kind = headers_add(h, line, name_len, value, value_len);
    if (kind == ERR_TOO_LARGE)
        return response_stop_large(x, "headers", HEADERS_MAX);
    if (kind != ERR_NONE) {
        err_set(&x->stop, kind, "no memory for the response headers");
        return response_stop(x);
    }
    return 1;
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

/* The blank line. */
static size_t head_end(struct exchange *x)
{
    struct transfer_result *r = &x->transfer->result;
    if (r->status < 200)
        return 1;
    x->head_done = true;
    x->url->origin->answered = true;
    exchange_expect_end(x);
    if (x->transfer->spec.jar && exchange_take_cookies(x) != ERR_NONE) {
        err_set(&x->stop, ERR_MEMORY, "no memory for the cookies from %s", x->url->origin->key);
        return response_stop(x);
    }
    bool body_of_204 = r->status == 204 && (x->chunked || r->expected_bytes > 0);
    if ((x->chunked && x->has_length) || body_of_204) {
        /* Chunking wins. Whoever sends both may have been led to, so nothing follows on this
         * connection; nor behind a body where none may be. */
        curl_easy_setopt(x->easy, CURLOPT_FORBID_REUSE, 1L);
        x->close_after = true;
    }
    if (x->chunked || !may_have_body(x))
        r->expected_bytes = -1;
    x->discards = redirect_wanted(x);
    if (x->discards)
        return 1;
    choose_decoding(x);
    if (x->transfer->spec.stream) {
        exchange_tell(x, TRANSFER_HEAD);
        return 1;
    }
    if (r->expected_bytes > 0 && !x->inflating) {
        if ((uint64_t)r->expected_bytes > r->body.max_bytes)
            return response_stop_large(x, "body bytes", r->body.max_bytes);
        /* A hint only: what does not fit now is asked for as it comes. */
        enum err_kind kind = buf_reserve(&r->body, (size_t)MIN(r->expected_bytes, 1024 * 1024));
        UNUSED(kind);
    }
    return 1;
}

size_t response_on_header(char *data, size_t size, size_t count, void *arg)
{
    struct exchange *x = arg;
    size_t total = size * count, len = total;
    touch(x);
    x->bytes_in += total;
    x->head_bytes += total;
    if (total > HEADER_LINE_MAX)
        return response_stop_large(x, "bytes in one header", HEADER_LINE_MAX);
    if (x->head_bytes > HEADER_BYTES_MAX)
        return response_stop_large(x, "header bytes", HEADER_BYTES_MAX);
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    if (!x->head_done && len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        if (!headers_valid_value(data, len))
            return stop_protocol(x, "a control byte in the status line");
        if (!status_line(x, data, len))
            return response_stop_large(x, "informational responses", INFORMATIONAL_MAX);
        expect_first_line(x);
        return total;
    }
    size_t went_on = 1;
    if (len > 0)
        went_on = field_line(x, data, len, x->head_done);
    else if (!x->head_done)
        went_on = head_end(x);
    return went_on ? total : 0;
}

void response_note_bytes(struct exchange *x, size_t len)
{
    touch(x);
    x->bytes_in += len;
}

static bool keep_fields(struct exchange *x, struct headers *h, const struct http1_head *from)
{
    enum err_kind kind =
        headers_add_rows(h, from->fields, from->fields_len, from->rows, from->count);
    if (kind == ERR_TOO_LARGE)
        response_stop_large(x, "headers", HEADERS_MAX);
    else if (kind != ERR_NONE)
        err_set(&x->stop, kind, "no memory for the response headers");
    return kind == ERR_NONE;
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
    if (head->coded) { /* others must be asked for */
        stop_protocol(x, "a Transfer-Encoding that was not asked for");
        return false;
    }
    return keep_fields(x, &r->headers, head) && head_end(x) != 0;
}

bool response_take_trailers(struct exchange *x, const struct http1_head *trailers)
{
    return keep_fields(x, &x->transfer->result.trailers, trailers);
}

size_t response_take_body(struct exchange *x, const char *data, size_t len)
{
    uint64_t bytes_in = x->bytes_in; /* counted when they were read */
    size_t n = response_on_body((char *)(uintptr_t)data, 1, len, x);
    x->bytes_in = bytes_in;
    return n == CURL_WRITEFUNC_PAUSE ? RESPONSE_FULL : n;
}

size_t response_on_body(char *data, size_t size, size_t count, void *arg)
{
    struct exchange *x = arg;
    struct transfer_result *r = &x->transfer->result;
    size_t len = size * count;
    x->activity_ns = loop_now_ns(x->engine->loop);
    exchange_expect_end(x);
    if (x->transfer->spec.stream && !x->discards)
        return response_stream_on_body(x, data, len);
    x->bytes_in += len;
    r->got_bytes += (int64_t)len;
    if (x->discards) {
        x->discarded += len;
        return x->discarded > DISCARD_MAX ? 0 : len;
    }
    enum err_kind kind;
    if (x->inflating) {
        kind = inflate_feed(&x->inflate, data, len, &r->body, &x->stop);
        if (kind == ERR_TOO_LARGE)
            return response_stop_large(x, "decoded body bytes", r->body.max_bytes);
        return kind == ERR_NONE ? len : response_stop(x);
    }
    kind = buf_append(&r->body, data, len);
    if (kind == ERR_NONE)
        return len;
    if (kind == ERR_TOO_LARGE)
        return response_stop_large(x, "body bytes", r->body.max_bytes);
    err_set(&x->stop, kind, "no memory for the response body");
    return response_stop(x);
}

size_t response_take_upload(struct exchange *x, char *out, size_t size)
{
    size_t n = response_on_upload(out, 1, size, x);
    return n == CURL_READFUNC_PAUSE ? 0 : n;
}

size_t response_on_upload(char *out, size_t size, size_t count, void *arg)
{
    struct exchange *x = arg;
    struct transfer *t = x->transfer;
    size_t len = MIN(size * count, t->upload.len - t->upload_sent);
    x->activity_ns = loop_now_ns(x->engine->loop);
    if (len == 0 && !t->upload_ended) {
        x->starved = true;
        return CURL_READFUNC_PAUSE;
    }
    if (len == 0) {
        x->uploading = false;
        x->sent_ns = x->activity_ns;
        exchange_rearm(x, x->activity_ns);
        return 0;
    }
    memcpy(out, t->upload.data + t->upload_sent, len);
    t->upload_sent += len;
    x->uploaded += len;
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
