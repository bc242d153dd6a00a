#include "engine/exchange.h"

void local_stats(const struct engine *e, struct engine_stats *out)
{
    *out = e->stats;
    out->queued = e->admit.waiting;
    out->active = e->admit.active;
    out->resolving = e->resolver ? resolver_busy(e->resolver) : 0;
    out->in_curl = e->shards.in_curl;
    out->events_waiting = e->event_count;
    out->idle_handles = e->pool_count;
}
