#include "engine/exchange_report.h"
#include "engine/exchange_limits.h"
#include "engine/exchange_types.h"

double exchange_seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / (double)NS_PER_S : 0.0;
}

void exchange_note_timing(struct exchange *x)
{
    struct transfer_timing *timing = &x->transfer->result.timing;
    *timing = (struct transfer_timing){-1, -1, -1, -1, -1, -1};
    if (x->started_ns == 0)
        return;
    timing->queued = exchange_seconds(0, x->queued_ns);
    if (x->resolved_ns)
        timing->dns = exchange_seconds(x->started_ns, x->resolved_ns);
    if (x->first_byte_ns)
        timing->first_byte = exchange_seconds(x->started_ns, x->first_byte_ns);
    if (x->connected_ns)
        timing->connect = exchange_seconds(x->started_ns, x->connected_ns);
    if (x->secured_ns)
        timing->tls = exchange_seconds(x->started_ns, x->secured_ns);
}

void exchange_tell(struct exchange *x, unsigned events)
{
    struct transfer *t = x->transfer;
    t->events |= events;
    if (list_linked(&t->event_node))
        return;
    list_push_back(&x->engine->events, &t->event_node);
    x->engine->event_count++;
}

void exchange_sending(struct exchange *x)
{
    struct engine *e = x->engine;
    x->hop_attempts++;
    x->transfer->result.wire_attempts++;
    e->stats.wire_attempts++;
    x->sent_ns = x->activity_ns = loop_now_ns(e->loop);
    x->state = EXCHANGE_WAITING;
    /* The limit that holds now may be shorter than the one the timer was set for. */
    exchange_rearm(x);
}
