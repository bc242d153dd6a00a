/* Resolves a URL reference, such as that of a redirect, against a base URL (RFC 3986, 5.2). It only
 * handles text. The caller must check whether the result is a URL that can be requested. */
#pragma once

#include "ground/buf.h"

/* Appends the absolute form of `reference` to `out`, which must be empty. `base` must be an
 * absolute URL with an authority. With an http: base, "http:g" is read as "g", as browsers do (RFC
 * 3986, 5.4.2). */
NODISCARD enum err_kind reference_resolve(struct buf *out, const char *base, const char *reference);
