/* The body of a response that is delivered as it arrives: how much its reader can take, and what is
 * kept meanwhile. */
#pragma once

#include "ground/err.h"

struct exchange;

enum response_take {
    RESPONSE_TAKEN,
    RESPONSE_FULL, /* nothing was taken, because the reader is full (x->paused) */
    RESPONSE_STOPPED,
};

/* For a stream: how many bytes of the body its reader can take now. */
size_t response_stream_room(const struct exchange *x);
/* What response_take_body does for a stream. */
enum response_take response_stream_take(struct exchange *x, const char *data, size_t len);
/* Decodes what had to wait, as far as there is room. A failure is in x->stop. */
enum err_kind response_stream_decode_held(struct exchange *x);
