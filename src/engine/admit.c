#include "engine/admit.h"

void admit_init(struct admit *a, size_t max_total)
{
    *a = (struct admit){.max_total = max_total};
}

void admit_host_init(struct admit_host *h)
{
    list_init(&h->waiting);
    h->active = 0;
    timer_init(&h->rank, NULL);
}

void admit_ticket_init(struct admit_ticket *t)
{
    *t = (struct admit_ticket){0};
    list_init(&t->node);
}

/* The heap of deadlines serves as a heap of sequence numbers: the host whose first ticket is the
 * oldest comes first. With one host every step is O(1). */
static void rank_host(struct admit *a, struct admit_host *h)
{
    struct admit_ticket *first = NULL;
    if (!list_empty(&h->waiting))
        first = CONTAINER_OF(h->waiting.next, struct admit_ticket, node);
    bool ready = first && (first->host_limit == 0 || h->active < first->host_limit);
    if (h->rank.active) {
        if (ready && h->rank.due_ns == first->seq)
            return;
        timer_heap_remove(&a->ready, &h->rank);
    }
    if (ready)
        timer_heap_insert(&a->ready, &h->rank, first->seq);
}

void admit_enter(struct admit *a, struct admit_ticket *t, struct admit_host *h, size_t host_limit)
{
    ASSERT(!t->held && !list_linked(&t->node));
    t->host = h;
    t->host_limit = host_limit;
    t->seq = a->next_seq++;
    list_push_back(&h->waiting, &t->node);
    a->waiting++;
    rank_host(a, h);
}

struct admit_ticket *admit_next(struct admit *a)
{
    if (a->active >= a->max_total)
        return NULL;
    struct timer *rank = timer_heap_first(&a->ready);
    if (!rank)
        return NULL;
    struct admit_host *h = CONTAINER_OF(rank, struct admit_host, rank);
    struct list *node = list_pop_front(&h->waiting);
    ASSERT(node);
    struct admit_ticket *t = CONTAINER_OF(node, struct admit_ticket, node);
    t->held = true;
    a->waiting--;
    a->active++;
    h->active++;
    rank_host(a, h);
    return t;
}

void admit_leave(struct admit *a, struct admit_ticket *t)
{
    if (list_linked(&t->node)) {
        list_unlink(&t->node);
        a->waiting--;
    } else if (t->held) {
        t->held = false;
        ASSERT(a->active > 0 && t->host->active > 0);
        a->active--;
        t->host->active--;
    } else {
        return;
    }
    rank_host(a, t->host);
    t->host = NULL;
}
