/* Speaks HTTP/2 on one connection, through nghttp2. Many streams (http2_stream.h) share it, slow
 * ones too. It knows nothing of what the streams are for, or of how the connection was made.
 *
 * The flow: the owner opens and secures a connection, and gives it to http2_open. From then on it
 * tells the session when the connection can be read or written (http2_ready), and the session says
 * what it waits for (connection_want). http2_start adds a request. What is written to the session
 * at other times than beneath http2_ready is collected, so that the requests of one turn go out
 * together: the session asks for http2_flush once (`to_send`). When the session is over, its
 * streams end, then comes `over`. The owner then closes the session and the connection.
 *
 * Flow control: the peer may always send HTTP2_CONNECTION_WINDOW bytes on the connection, whatever
 * the readers do, but on each stream only what its reader has room for. A slow reader thus holds up
 * nobody else, and keeps at most HTTP2_STREAM_WINDOW bytes, or HTTP2_STREAM_MOST after it was fast.
 *
 * A peer that floods, that does not answer a PING, or that breaks the protocol ends the session.
 * All memory, nghttp2's too, comes from `mem`. Loop thread only. */
#pragma once

#include "engine/connection.h"
#include "engine/http2_stream.h"
#include "ground/err.h"
#include "loop/loop.h"

/* `c` is open, and has agreed on "h2" or is used with prior knowledge. It stays the owner's, who
 * must not use it otherwise until http2_close. Nothing is sent yet: to_send is called. ERR_MEMORY.
 */
NODISCARD enum err_kind http2_open(struct http2 **out, struct connection *c, struct loop *loop,
                                   struct mem *mem, const struct http2_ops *ops, void *owner,
                                   struct err *err);
/* Ends the streams that are left (HTTP2_LOST, or HTTP2_REFUSED if nothing of them was sent), says
 * goodbye to the peer if that is possible without waiting, and frees the session. May be called
 * beneath any function of its streams. The connection stays open. NULL is allowed. */
void http2_close(struct http2 *h);

/* The owner's connection_fn calls it. */
void http2_ready(struct http2 *h, bool can_read, bool can_write);
/* Sends what there is. */
void http2_flush(struct http2 *h);
/* Call it when the connection has been silent for long. If streams are open, it sends a PING; if
 * the last one's time has passed without a sign of life, it ends the session. */
void http2_on_silence(struct http2 *h);

/* False: a request needs another connection. The peer's limit is reached, or it has sent GOAWAY, or
 * the session is over or has used up its stream ids. */
bool http2_can_take(const struct http2 *h);
/* The same, for a request that comes after a pause: if no stream is open, what the peer has sent
 * since then is read first. The session may be over and gone then. */
bool http2_can_take_now(struct http2 *h);
/* How many streams the peer allows at once; before it has said so, 100 or more. */
uint32_t http2_limit(const struct http2 *h);
/* Starts a request. `s` must not be active. On failure, no function of it is called: ERR_CLOSED
 * (see http2_can_take), ERR_TOO_LARGE (the header fields), ERR_MEMORY. */
NODISCARD enum err_kind http2_start(struct http2 *h, struct http2_stream *s,
                                    const struct http2_stream_ops *ops,
                                    const struct http2_request *request, struct err *err);
/* How many streams the peer may still count as open, with those that were just cancelled. */
unsigned http2_open_streams(const struct http2 *h);
/* Why it is over; its kind is ERR_NONE before that. Borrowed until http2_close. */
const struct err *http2_why(const struct http2 *h);
