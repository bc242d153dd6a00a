/* What must not be shown to anybody: values whose name says so, and texts that look like a secret.
 * Pure functions; any thread. The redaction of texts is in redact.h. */
#pragma once

#include "ground/base.h"

/* True for header and parameter names whose values are secrets: authorization, cookie, anything
 * with "key", "token", "secret", "password" ... in it. Case-insensitive. */
bool secret_name(const char *name, size_t len);

/* True if an argument of this name may hold a secret. `name` may be a sentence that names it, such
 * as "request: option 'auth'": one such word in it is enough. */
bool secret_place(const char *name, size_t len);

/* True if the text holds what looks like a secret: an API key of a known form, "Bearer ...", a JSON
 * web token, a private key, a password in a URL, a long run of random letters and digits. */
bool secret_shape(const char *text, size_t len);

/* The same, or "name: value" or "name=value" where the name says that the value is a secret. */
bool secret_text(const char *text, size_t len);

/* `text`, or "***" if it holds what looks like a secret: for names and addresses in messages. */
const char *secret_hidden(const char *text);

/* True for a piece of a URL's path that looks like a token: those forms, but neither a hexadecimal
 * number nor a UUID, which name things there. */
bool secret_segment(const char *s, size_t len);
