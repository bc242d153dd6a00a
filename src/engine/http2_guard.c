#include "engine/http2_guard.h"

void http2_guard_init(struct http2_guard *g, uint64_t now_ns)
{
    *g = (struct http2_guard){.tokens = HTTP2_GUARD_FIRST, .refilled_ns = now_ns};
}

void http2_guard_earn(struct http2_guard *g, uint32_t tokens)
{
    uint32_t room = HTTP2_GUARD_MOST - g->tokens;
    g->tokens += MIN(tokens, room);
}

void http2_guard_refill(struct http2_guard *g, uint64_t now_ns)
{
    uint64_t step_ns = NS_PER_S / HTTP2_GUARD_PER_S;
    if (now_ns <= g->refilled_ns)
        return;
    uint64_t steps = (now_ns - g->refilled_ns) / step_ns;
    /* The part of a step that has passed counts next time. */
    g->refilled_ns += steps * step_ns;
    http2_guard_earn(g, (uint32_t)MIN(steps, (uint64_t)HTTP2_GUARD_FIRST));
}
