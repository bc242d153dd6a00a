#include "engine/exchange_limits.h"
#include "engine/exchange_types.h"

static uint64_t at(uint64_t from_ns, uint64_t limit_ms)
{
    if (limit_ms == 0 || limit_ms > (NEVER_NS - from_ns) / NS_PER_MS)
        return NEVER_NS;
    return from_ns + limit_ms * NS_PER_MS;
}

uint64_t exchange_due(const struct exchange *x, enum err_phase *phase, uint64_t *limit_ms)
{
    const struct transfer_limits *l = &x->transfer->spec.limits;
    uint64_t due = NEVER_NS;
    *phase = PHASE_NONE;
    *limit_ms = 0;
    switch (x->state) {
    case EXCHANGE_IDLE:
        return NEVER_NS;
    case EXCHANGE_QUEUED:
        *phase = PHASE_QUEUE;
        *limit_ms = l->queue_ms;
        due = at(x->entered_ns, l->queue_ms);
        break;
    case EXCHANGE_RESOLVING:
    case EXCHANGE_CONNECTING:
        *phase = PHASE_CONNECT;
        *limit_ms = l->connect_ms;
        due = at(x->admitted_ns, l->connect_ms);
        break;
    case EXCHANGE_WAITING:
        *phase = x->uploading ? PHASE_IDLE : PHASE_FIRST_BYTE;
        *limit_ms = x->uploading ? l->idle_ms : l->first_byte_ms;
        if (!x->starved)
            due = at(x->uploading ? x->activity_ns : x->sent_ns, *limit_ms);
        break;
    case EXCHANGE_RECEIVING:
        *phase = PHASE_IDLE;
        *limit_ms = l->idle_ms;
        /* While our side holds things up, the silence is not the peer's. */
        if (!x->paused && !x->starved && x->held.len == 0)
            due = at(x->activity_ns, l->idle_ms);
        break;
    }
    bool head_missing =
        x->state >= EXCHANGE_RESOLVING && !(x->state > EXCHANGE_WAITING && x->head_done);
    uint64_t head = x->started_ns && head_missing ? at(x->started_ns, l->head_ms) : NEVER_NS;
    if (head < due) {
        *phase = x->state < EXCHANGE_WAITING ? PHASE_CONNECT : PHASE_FIRST_BYTE;
        *limit_ms = l->head_ms;
        due = head;
    }
    uint64_t total = x->started_ns ? at(x->started_ns, l->total_ms) : NEVER_NS;
    if (total < due) {
        *phase = PHASE_TOTAL;
        *limit_ms = l->total_ms;
        due = total;
    }
    return due;
}

uint64_t exchange_end_due(const struct exchange *x)
{
    return x->transport && x->transport->end_due ? x->transport->end_due(x) : NEVER_NS;
}

/* One timer carries all limits. It is only ever moved forward: when it fires too early for the
 * limit that holds by then, it is set again, so a byte that arrives costs no more than a time
 * stamp. */
void exchange_rearm(struct exchange *x)
{
    enum err_phase phase;
    uint64_t limit_ms;
    uint64_t due = exchange_due(x, &phase, &limit_ms);
    due = MIN(due, exchange_end_due(x));
    if (due != NEVER_NS && (!x->timer.active || due < x->timer.due_ns))
        loop_timer_start(x->engine->loop, &x->timer, due);
}
