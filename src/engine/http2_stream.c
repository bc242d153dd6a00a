#include "engine/http2_stream.h"
#include "engine/http2_deliver.h"

void http2_stream_go_on(struct http2_stream *s)
{
    if (http2_stream_active(s) && !s->gone && s->kept.len > 0)
        http2_deliver_kept(s);
}

void http2_stream_fed(struct http2_stream *s)
{
    struct http2 *h = s->session;
    if (!h || !s->starved)
        return;
    s->starved = false;
    http2_session_check(h, nghttp2_session_resume_data(h->ng, s->id));
    http2_session_to_send(h);
}

void http2_stream_cancel(struct http2_stream *s)
{
    if (http2_stream_active(s))
        http2_deliver_forget(s, NGHTTP2_CANCEL);
}
