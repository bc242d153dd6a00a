/* What a reference, such as that of a redirect, means from the URL where it stands (RFC 3986, 5.2).
 * Text only: whether the result can be asked for is for others to say. */
#pragma once

#include "ground/buf.h"

/* Appends the absolute form of `reference` to `out`, which is empty. `base` is an absolute URL with
 * an authority. "http:g" on an http: base is read as "g", as browsers do (RFC 3986, 5.4.2). */
NODISCARD enum err_kind reference_resolve(struct buf *out, const char *base, const char *reference);
