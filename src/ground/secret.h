/* Recognises secrets: values with a telling name, and texts that look like a secret. Pure
 * functions; any thread. redact.h removes them from texts. */
#pragma once

#include "ground/base.h"

/* True for header and parameter names whose values are secrets: authorization, cookie, anything
 * with "key", "token", "secret", "password" ... in it. Case-insensitive. */
bool secret_name(const char *name, size_t len);

/* True if an argument with this name may hold a secret. `name` may be a sentence such as "request:
 * option 'auth'": one such word in it is enough. */
bool secret_place(const char *name, size_t len);

/* True if the text contains something that looks like a secret: an API key of a known form, "Bearer
 * ...", a JSON web token, a private key, a password in a URL, or a long run of random letters and
 * digits. */
bool secret_shape(const char *text, size_t len);

/* As secret_shape. Also true for "name: value" and "name=value" with the name of a secret. */
bool secret_text(const char *text, size_t len);

/* Returns `text`, or "***" if it contains something that looks like a secret. For names and
 * addresses in messages. */
const char *secret_hidden(const char *text);

/* True if a segment of a URL's path looks like a secret. Hexadecimal numbers and UUIDs do not
 * count: they usually identify things in paths. */
bool secret_segment(const char *s, size_t len);
