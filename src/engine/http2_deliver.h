/* Calls the functions of a stream (http2_stream.h), and ends it. Any of them may give the stream up
 * or close the session, so nothing of the stream is touched afterwards without a look at `gone`.
 * Private to the http2 files. */
#pragma once

#include "engine/http2_session.h"

/* Puts a stream into a session. */
void http2_deliver_begin(struct http2_stream *s, struct http2 *h, int32_t id);
void http2_deliver_status(struct http2_stream *s, int status);
void http2_deliver_field(struct http2_stream *s, const char *name, size_t name_len,
                         const char *value, size_t value_len);
void http2_deliver_head_end(struct http2_stream *s);
void http2_deliver_body(struct http2_stream *s, const char *data, size_t len);
/* Offers what is kept, and then the end if it is decided. */
void http2_deliver_kept(struct http2_stream *s);
/* -1: the stream was given up. */
ssize_t http2_deliver_upload(struct http2_stream *s, char *out, size_t cap, bool *ended);
void http2_deliver_sent(struct http2_stream *s);
/* Takes the stream out of its session, and calls `end` now or when the reader has taken all.
 * nghttp2 may still hold the stream. */
void http2_deliver_end(struct http2_stream *s, enum http2_end how, uint32_t code);
/* The same, and nghttp2 resets the stream. */
void http2_deliver_reset(struct http2_stream *s, uint32_t reset_code, enum http2_end how);
/* The same without any call of its functions. */
void http2_deliver_forget(struct http2_stream *s, uint32_t reset_code);
