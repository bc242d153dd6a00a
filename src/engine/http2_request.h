/* Makes a stream of nghttp2 of a request: its header fields and its body. Private to the http2
 * files.
 */
#pragma once

#include "engine/http2_session.h"

/* Submits it. The stream is in the session afterwards. */
NODISCARD enum err_kind http2_request_submit(struct http2 *h, struct http2_stream *s,
                                             const struct http2_request *r, struct err *err);
