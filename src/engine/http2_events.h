/* What nghttp2 reports, made into calls of streams and into what the session knows of its peer.
 * Private to the http2 files. */
#pragma once

#include "engine/http2_session.h"

/* Sets the functions that nghttp2 calls. Their user data is the struct http2. */
void http2_events_set(nghttp2_session_callbacks *callbacks);
/* Ends every stream: the session is over. */
void http2_events_end_all(struct http2 *h);
