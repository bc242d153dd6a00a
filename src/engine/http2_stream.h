/* One request and its response on an HTTP/2 session (http2.h). Its user embeds the struct, and
 * learns what happens from a table of functions. In order, they are called like this:
 *
 *     status (1xx)*  status  field*  head_end  body*  field (trailer)*  end
 *
 * `upload` and `sent` come at any time between http2_start and `end`. Some of the others may be
 * missing, but `end` comes exactly once, as the last call. After http2_stream_cancel no call comes.
 *
 * A slow reader answers HTTP2_FULL. What it has not taken is then kept here, and the peer may send
 * at most HTTP2_STREAM_WINDOW bytes of it (more if the reader was fast before). Other streams go
 * on. `end` waits until the reader has taken all, even if the session is gone by then.
 *
 * The functions are called beneath http2_ready, http2_flush, http2_on_silence, http2_close and
 * http2_stream_go_on. They may call everything of http2.h and of this file, except
 * http2_stream_go_on for their own stream. `end` may free the stream. */
#pragma once

#include "engine/http2_types.h"

/* The reader has room again. What is kept is offered to it at once. */
void http2_stream_go_on(struct http2_stream *s);
/* `upload` has bytes again, or the end. */
void http2_stream_fed(struct http2_stream *s);
/* Gives the stream up: no function of it is called any more, and the peer gets RST_STREAM. Harmless
 * if it has ended or was never started. */
void http2_stream_cancel(struct http2_stream *s);
/* True from http2_start until `end` or a cancel. */
static inline bool http2_stream_active(const struct http2_stream *s)
{
    return s->session || s->ended;
}
