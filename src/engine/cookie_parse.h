/* Reads a Set-Cookie field as RFC 6265 (5.2) says, with what browsers have added since
 * (rfc6265bis). Pure: no allocation, no clock. Where the cookie may go is decided in cookies.c. */
#pragma once

#include "ground/base.h"

enum {
    COOKIE_PAIR_MAX = 4096,      /* bytes of name and value together */
    COOKIE_ATTRIBUTE_MAX = 1024, /* bytes of an attribute's value */
};

/* The time of a cookie that lasts as long as the jar. */
#define COOKIE_NO_END INT64_MAX

/* Borrowed from the text that was read. */
struct cookie_part {
    const char *at;
    size_t len;
};

struct cookie_set {
    struct cookie_part name, value;
    struct cookie_part domain; /* without the leading dot; empty: not given */
    struct cookie_part path;   /* empty: not given, or one that does not begin with '/' */
    bool secure;
    int64_t end_s; /* when it ends, in seconds since 1970; in the past: it is to be removed */
};

/* Reads the value of a Set-Cookie field. False: it is to be ignored as a whole. `now_s`: seconds
 * since 1970. */
bool cookie_parse(struct cookie_set *out, const char *text, size_t len, int64_t now_s);

/* Reads the many forms of dates that servers send (RFC 6265 5.1.1). False: it is no date. */
bool cookie_parse_date(const char *text, size_t len, int64_t *seconds);
