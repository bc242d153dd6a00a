/* Texts as they may be shown: without the secrets in them. Pure functions; any thread. */
#pragma once

#include "ground/base.h"

/* Writes `url` to `out` (always NUL-terminated, cut to `size`) with the userinfo and the values of
 * key-like query parameters replaced by "***". Any text is accepted, a malformed URL included. */
void redact_url(char *out, size_t size, const char *url, size_t len);
/* The same for the path of a file, in which only what looks like a secret is replaced. `size` is
 * more than 0. */
void redact_path(char *out, size_t size, const char *path);
/* The same for any text: in it, each word that is a URL or looks like a secret. */
void redact_words(char *out, size_t size, const char *text);
