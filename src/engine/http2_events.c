#include "engine/http2_events.h"
#include "engine/http2_deliver.h"
#include <string.h>

/* nghttp2 stops at once where a function answers so. */
static int go_on(const struct http2 *h)
{
    return http2_session_alive(h) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* NULL: it was given up, or has ended. */
static struct http2_stream *stream_of(nghttp2_session *ng, int32_t id)
{
    return nghttp2_session_get_stream_user_data(ng, id);
}

static enum http2_end unprocessed(const struct http2_stream *s)
{
    /* A peer that has answered has processed something, whatever it says later. */
    return s->answered ? HTTP2_LOST : HTTP2_REFUSED;
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *session)
{
    struct http2 *h = session;
    UNUSED(ng);
    if (hd->type == NGHTTP2_HEADERS)
        h->continuations = 0;
    if (hd->type == NGHTTP2_CONTINUATION && ++h->continuations > HTTP2_MAX_CONTINUATIONS)
        http2_session_fail(h, ERR_PROTOCOL, "flood",
                           "the server floods the connection with CONTINUATION frames");
    else if (hd->type != NGHTTP2_DATA)
        http2_session_spend(h, hd->type);
    return go_on(h);
}

/* ---- heads */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *session)
{
    struct http2_stream *s = stream_of(ng, frame->hd.stream_id);
    if (s && frame->hd.type == NGHTTP2_HEADERS) {
        s->fields = 0;
        s->field_bytes = 0;
        s->has_status = s->interim = false;
    }
    return go_on(session);
}

static bool fits(struct http2_stream *s, size_t name_len, size_t value_len)
{
    size_t len = name_len + value_len;
    s->fields++;
    s->field_bytes += len;
    return len <= HTTP2_MAX_FIELD_LINE && s->field_bytes <= HTTP2_MAX_FIELD_BYTES &&
           s->fields <= HTTP2_MAX_FIELDS + 1; /* and :status */
}

static void on_status(struct http2_stream *s, const uint8_t *value, size_t len)
{
    int status = 0;
    for (size_t i = 0; i < len; i++)
        status = status * 10 + (value[i] - '0'); /* nghttp2 has checked that it is three digits */
    s->answered = s->has_status = true;
    s->interim = status < 200;
    if (status < 100)
        http2_deliver_reset(s, NGHTTP2_PROTOCOL_ERROR, HTTP2_INVALID);
    else if (s->interim && ++s->interims > HTTP2_MAX_INTERIMS)
        http2_deliver_reset(s, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_TOO_LARGE);
    else
        http2_deliver_status(s, status);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *session)
{
    UNUSED(flags);
    /* The stream of a PUSH_PROMISE is that of the request it belongs to. */
    struct http2_stream *s =
        frame->hd.type == NGHTTP2_HEADERS ? stream_of(ng, frame->hd.stream_id) : NULL;
    if (!s)
        return 0;
    if (!fits(s, name_len, value_len))
        http2_deliver_reset(s, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_TOO_LARGE);
    else if (name[0] == ':')
        on_status(s, value, value_len);
    else if (!s->has_status && !s->head_done) /* nghttp2 sees it only at the end of the head */
        http2_deliver_reset(s, NGHTTP2_PROTOCOL_ERROR, HTTP2_INVALID);
    else if (!s->interim)
        http2_deliver_field(s, (const char *)name, name_len, (const char *)value, value_len);
    return go_on(session);
}

/* nghttp2 would leave the field out and go on. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *session)
{
    UNUSED(ng), UNUSED(frame), UNUSED(name), UNUSED(name_len), UNUSED(value), UNUSED(value_len);
    UNUSED(flags), UNUSED(session);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* ---- bodies and ends */

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *session)
{
    struct http2 *h = session;
    UNUSED(flags);
    /* The window of the connection is opened at once, whichever stream the bytes are for. Otherwise
     * a slow reader would hold up all streams, and bytes of a cancelled stream would be missing for
     * ever. */
    http2_session_check(h, nghttp2_session_consume_connection(ng, len));
    struct http2_stream *s = stream_of(ng, id);
    if (s)
        http2_deliver_body(s, (const char *)data, len);
    return go_on(h);
}

static void on_whole(struct http2_stream *s)
{
    /* A peer that answers before it has read all of the request does not want the rest. */
    if (!s->all_sent)
        http2_session_reset(s->session, s->id, NGHTTP2_NO_ERROR);
    http2_deliver_end(s, HTTP2_COMPLETE, 0);
}

static void on_response_frame(struct http2 *h, const nghttp2_frame *frame)
{
    int32_t id = frame->hd.stream_id;
    bool whole = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct http2_stream *s = stream_of(h->ng, id);
    if (frame->hd.type == NGHTTP2_DATA && !whole && frame->hd.length <= frame->data.padlen)
        http2_session_spend(h, NGHTTP2_DATA);
    if (s && frame->hd.type == NGHTTP2_HEADERS && !s->interim && !s->head_done) {
        http2_deliver_head_end(s);
        s = http2_session_alive(h) ? stream_of(h->ng, id) : NULL;
    }
    if (s && whole)
        on_whole(s);
}

/* `end` may cancel streams and close the session. A separate list makes that harmless. */
static void refuse(struct list *streams)
{
    struct list *node;
    while ((node = list_pop_front(streams)) != NULL) {
        struct http2_stream *s = CONTAINER_OF(node, struct http2_stream, node);
        http2_deliver_end(s, unprocessed(s), NGHTTP2_REFUSED_STREAM);
    }
}

/* Text of the peer's, for a person to read. */
static void note_bye(struct http2 *h, const nghttp2_goaway *f)
{
    int n = snprintf(h->bye, sizeof h->bye, "%s%s", nghttp2_http2_strerror(f->error_code),
                     f->opaque_data_len > 0 ? ": " : "");
    for (size_t i = 0; i < f->opaque_data_len && (size_t)n + 1 < sizeof h->bye; i++) {
        char c = (char)f->opaque_data[i];
        h->bye[n++] = c >= ' ' && c <= '~' ? c : '?';
    }
    h->bye[n] = '\0';
}

static void on_goaway(struct http2 *h, const nghttp2_goaway *f)
{
    h->goaway = true;
    note_bye(h, f);
    struct list refused;
    list_init(&refused);
    LIST_FOR(node, &h->streams)
    {
        if (CONTAINER_OF(node, struct http2_stream, node)->id > f->last_stream_id) {
            list_unlink(node);
            list_push_back(&refused, node);
        }
    }
    refuse(&refused);
}

/* The peer has lowered its limit. Requests that wait here would have to wait for others to end, so
 * they go to another connection. */
static void refuse_excess(struct http2 *h)
{
    uint32_t limit =
        nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    struct list refused;
    list_init(&refused);
    struct list *node = h->streams.prev;
    for (unsigned left = h->open; left > limit && node != &h->streams;) {
        struct list *before = node->prev;
        struct http2_stream *s = CONTAINER_OF(node, struct http2_stream, node);
        if (!s->head_sent) {
            http2_session_reset(h, s->id, NGHTTP2_CANCEL);
            list_unlink(node);
            list_push_front(&refused, node);
            left--;
        }
        node = before;
    }
    refuse(&refused);
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *frame, void *session)
{
    struct http2 *h = session;
    struct http2_stream *s;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
        on_response_frame(h, frame);
        break;
    case NGHTTP2_RST_STREAM:
        s = stream_of(ng, frame->hd.stream_id);
        if (s)
            s->was_reset = true;
        break;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            refuse_excess(h);
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            h->pinged = false;
        break;
    case NGHTTP2_GOAWAY:
        on_goaway(h, &frame->goaway);
        break;
    default:
        break;
    }
    return go_on(h);
}

/* The functions that nghttp2 calls while it makes frames go on after a failure: the GOAWAY must
 * still be sent. */
static int go_on_sending(const struct http2 *h)
{
    return h->closed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *session)
{
    struct http2 *h = session;
    struct http2_stream *s = stream_of(ng, id);
    h->open--;
    if (s && code == NGHTTP2_REFUSED_STREAM && !s->answered)
        http2_deliver_end(s, HTTP2_REFUSED, code);
    else if (s)
        http2_deliver_end(s, s->was_reset ? HTTP2_RESET : HTTP2_INVALID, code);
    return go_on_sending(h);
}

/* ---- what we send */

/* Called before a frame is made: from here on the peer may see it. */
static int before_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *session)
{
    if (frame->hd.type == NGHTTP2_HEADERS) {
        struct http2_stream *s = stream_of(ng, frame->hd.stream_id);
        if (s)
            s->head_sent = true;
    }
    UNUSED(session);
    return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *frame, void *session)
{
    struct http2 *h = session;
    uint8_t type = frame->hd.type;
    if (type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        note_bye(h, &frame->goaway);
        http2_session_fail(h, ERR_PROTOCOL, "", "the server broke HTTP/2: %s", h->bye);
    }
    if (type == NGHTTP2_DATA)
        http2_guard_earn(&h->guard, HTTP2_GUARD_SENT_DATA);
    bool last = (type == NGHTTP2_DATA || type == NGHTTP2_HEADERS) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    struct http2_stream *s = last ? stream_of(ng, frame->hd.stream_id) : NULL;
    if (s)
        http2_deliver_sent(s);
    return go_on_sending(h);
}

void http2_events_set(nghttp2_session_callbacks *c)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(c, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
    nghttp2_session_callbacks_set_before_frame_send_callback(c, before_frame_send);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
}

void http2_events_end_all(struct http2 *h)
{
    struct list *node;
    while ((node = list_pop_front(&h->streams)) != NULL) {
        struct http2_stream *s = CONTAINER_OF(node, struct http2_stream, node);
        http2_deliver_end(s, s->head_sent ? HTTP2_LOST : HTTP2_REFUSED, 0);
    }
}
