/* A cookie jar by RFC 6265, with what browsers have added since (rfc6265bis): Secure cookies and
 * the prefixes __Secure- and __Host- are protected, and no cookie is for a public suffix such as
 * co.uk. Several transfers share a jar, on whatever threads they run. Its creator and each transfer
 * that uses it hold a reference. The count may be used only on the thread that submits transfers;
 * the other functions lock. */
#pragma once

#include "ground/buf.h"
#include "ground/mem.h"

enum {
    COOKIE_JAR_COOKIES_MAX = 3000,
    COOKIE_JAR_DOMAIN_MAX = 50, /* cookies of one domain */
    COOKIE_JAR_SENT_MAX = 150,  /* cookies in one request */
    COOKIE_JAR_SENT_BYTES_MAX =
        8182, /* in one request; libcurl's number, and a common limit of servers */
};

struct cookie_jar;

/* Where a request goes to. */
struct cookie_jar_site {
    bool https;
    const char *host; /* IPv6 in brackets */
    const char *path; /* as it is sent, without the query */
    size_t path_len;
};

/* NULL: no memory. */
NODISCARD struct cookie_jar *cookie_jar_new(struct mem *mem);
struct cookie_jar *cookie_jar_ref(struct cookie_jar *j);
/* NULL is allowed. */
void cookie_jar_unref(struct cookie_jar *j);

/* Takes the value of a Set-Cookie field that came from `site`. `now_s`: seconds since 1970.
 * ERR_NONE: the cookie was stored or removed, or it must be ignored. ERR_MEMORY: the jar is as it
 * was. If there are too many cookies, those go first whose last use is the longest ago. */
NODISCARD enum err_kind cookie_jar_store(struct cookie_jar *j, const struct cookie_jar_site *site,
                                         const char *text, size_t len, int64_t now_s);
/* Appends the cookies for a request to `site`, as the value of a Cookie field; nothing if there are
 * none. ERR_MEMORY, ERR_TOO_LARGE: `out` is as it was. */
NODISCARD enum err_kind cookie_jar_header(struct cookie_jar *j, const struct cookie_jar_site *site,
                                          int64_t now_s, struct buf *out);
