/* What a transport has read of a response, and what it sends of an upload. */
#pragma once

#include "engine/response_stream.h"
#include "ground/http1_parse.h"

void response_begin(struct exchange *x);
/* The hop is complete: what is left to check. */
enum err_kind response_end(struct exchange *x, struct err *err);
/* False, or RESPONSE_STOPPED: it has stopped the hop; see x->stop. */

/* So many bytes have been read. */
void response_note_bytes(struct exchange *x, size_t len);
bool response_take_head(struct exchange *x, const struct http1_head *head);
/* The same for HTTP/2, where it comes in parts. A status of 1xx has no fields. */
void response_take_status(struct exchange *x, const char *version, int status, const char *reason);
bool response_take_field(struct exchange *x, const char *name, size_t name_len, const char *value,
                         size_t value_len, bool trailer);
bool response_take_head_end(struct exchange *x);
bool response_take_trailers(struct exchange *x, const struct http1_head *trailers);
enum response_take response_take_body(struct exchange *x, const char *data, size_t len);
/* The next bytes of an upload. 0: there are none: it is over, or x->starved. */
size_t response_take_upload(struct exchange *x, char *out, size_t size);
