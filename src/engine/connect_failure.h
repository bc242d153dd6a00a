/* What a connection that was not made is called: for scripts, and in words for people. */
#pragma once

#include "engine/connect_target.h"
#include <curl/curl.h>

struct connect_failure {
    const struct connect_target *to;
    CURL *easy; /* knows the details: its transfer has just ended */
    CURLcode code;
    const char *words; /* libcurl's own */
    int os;            /* errno of a socket that could not be opened; 0: none */
    bool denied;       /* an address was not tried, because the connect rules forbid it */
};

void connect_failure_set(const struct connect_failure *f, struct err *err);
