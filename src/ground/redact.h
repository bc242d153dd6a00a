/* Removes secrets from texts before they are shown. Pure functions; any thread. */
#pragma once

#include "ground/base.h"

/* Writes `url` to `out`, with "***" for the userinfo and for the values of query parameters with
 * names like "key". `out` always ends with a NUL and is cut to `size`. Accepts any text, including
 * malformed URLs. */
void redact_url(char *out, size_t size, const char *url, size_t len);
/* The same for the path of a file. Replaces only what looks like a secret. `size` must be over 0.
 */
void redact_path(char *out, size_t size, const char *path);
/* The same for any text. Replaces each word that looks like a secret, and redacts each URL. */
void redact_words(char *out, size_t size, const char *text);
