#include "tasks/group.h"

#include "tasks/sched.h"

static void owner_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    CONTAINER_OF(hook, struct group, owner_hook)->head.owner = NULL;
}

static void member_ended(struct group_head *head, struct task *t)
{
    struct group *g = CONTAINER_OF(head, struct group, head);
    list_unlink(&t->group_node);
    list_push_back(&g->finished, &t->group_node);
    g->running_count--;
    group_pass_on(g);
    if (g->on_end)
        g->on_end(g->on_end_arg);
}

void group_init(struct group *g, struct task *owner)
{
    *g = (struct group){.head = {.owner = owner, .ended = member_ended},
                        .sched = owner->sched,
                        .owner_hook = {.fn = owner_ended}};
    list_init(&g->running);
    list_init(&g->finished);
    list_init(&g->waiters);
    task_hook_add(owner, &g->owner_hook);
}

void group_fini(struct group *g)
{
    LIST_FOR(node, &g->running)
    {
        struct task *t = CONTAINER_OF(node, struct task, group_node);
        t->group = NULL;
        list_unlink(node);
    }
    struct task *t;
    while ((t = group_take(g))) {
        /* If nobody took a bug, the parent must still report it. */
        if (t->outcome != OUTCOME_BUG || !list_linked(&t->sibling))
            sched_observe(t);
    }
    task_hook_remove(&g->owner_hook);
}

void group_add(struct group *g, struct task *t)
{
    t->group = &g->head;
    t->member = true;
    list_push_back(&g->running, &t->group_node);
    g->running_count++;
    if (g->closing)
        task_cancel(t, "its group was cancelled before it started");
}

bool group_adopt(struct group *g, struct task *t)
{
    if (t->state == TASK_ENDED || t->group)
        return false;
    for (struct task *up = g->head.owner; up && up != t; up = up->parent) {
        if (up != t->parent)
            continue;
        g->adopted = g->adopted || up != g->head.owner;
        group_add(g, t);
        return true;
    }
    return false;
}

void group_pass_on(struct group *g)
{
    bool all = g->running_count == 0; /* nothing more will arrive for the other waiters */
    LIST_FOR(node, &g->waiters)
    {
        struct task *w = CONTAINER_OF(node, struct task, wait.node);
        /* A cancelled waiter must wait until all its children have ended. */
        if (!all && w->cancel_requested)
            continue;
        task_wake(w);
        if (!all)
            return;
    }
}

struct task *group_take(struct group *g)
{
    struct list *node = list_pop_front(&g->finished);
    if (!node)
        return NULL;
    struct task *t = CONTAINER_OF(node, struct task, group_node);
    t->group = NULL;
    return t;
}

void group_cancel(struct group *g, const char *reason)
{
    g->closing = true;
    LIST_FOR(node, &g->running)
    task_cancel(CONTAINER_OF(node, struct task, group_node), reason);
}
