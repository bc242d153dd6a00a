#include "tasks/sema.h"

void sema_init(struct sema *s, int64_t limit)
{
    s->limit = s->available = limit;
    list_init(&s->line);
}

/* Grants free permits to the waiting tasks, in order. */
static void serve_line(struct sema *s)
{
    while (s->available > 0 && !list_empty(&s->line)) {
        s->available--;
        task_wake(CONTAINER_OF(s->line.next, struct task, wait.node));
    }
}

bool sema_try(struct sema *s)
{
    if (s->available <= 0)
        return false; /* if permits are free, nobody waits: serve_line ran */
    s->available--;
    return true;
}

void sema_join(struct sema *s, struct task *t)
{
    list_push_back(&s->line, &t->wait.node);
}

void sema_leave(struct sema *s, struct task *t)
{
    if (t->wait.woken && !t->wait.timed_out)
        sema_release(s);
    else
        list_unlink(&t->wait.node);
}

bool sema_release(struct sema *s)
{
    if (s->available >= s->limit)
        return false;
    s->available++;
    serve_line(s);
    return true;
}

void sema_resize(struct sema *s, int64_t limit)
{
    s->available += limit - s->limit;
    s->limit = limit;
    serve_line(s);
}

size_t sema_waiting(const struct sema *s)
{
    size_t n = 0;
    LIST_FOR(node, &s->line)
    n++;
    return n;
}
