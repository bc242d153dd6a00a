/* Recognises a flood: a peer that sends frame after frame of the kinds that carry nothing (PING,
 * SETTINGS, resets of streams that are over, empty DATA, ...). Each costs a token. Tokens come back
 * with time and with useful work, so a busy or an old connection never runs out of them. */
#pragma once

#include "ground/base.h"

struct http2_guard {
    uint32_t tokens;
    uint64_t refilled_ns;
};

enum {
    HTTP2_GUARD_FIRST = 1000,
    HTTP2_GUARD_MOST = 10000,
    HTTP2_GUARD_PER_S = 100,
    /* A server may answer a request with 1xx, PINGs and window updates. */
    HTTP2_GUARD_REQUEST = 64,
    /* A server that reads an upload in small pieces may send two window updates for each. */
    HTTP2_GUARD_SENT_DATA = 1000,
};

void http2_guard_init(struct http2_guard *g, uint64_t now_ns);
void http2_guard_earn(struct http2_guard *g, uint32_t tokens);
/* True: a token was taken. False: there is none; http2_guard_refill and try again. The clock is
 * thus read only when the tokens are used up. */
static inline bool http2_guard_spend(struct http2_guard *g)
{
    if (g->tokens == 0)
        return false;
    g->tokens--;
    return true;
}
void http2_guard_refill(struct http2_guard *g, uint64_t now_ns);
