#include "loop/timer.h"

/* Links: `child` is the first child and `next` the sibling to the right. `prev` is the sibling to
 * the left or, for a first child, the parent. The root has neither `next` nor `prev`. Due timers
 * are moved to a plain list, linked by `next` and `prev`. */

void timer_init(struct timer *t, timer_fn fn)
{
    *t = (struct timer){.fn = fn};
}

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

/* Joins two roots; either may be NULL. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (before(b, a)) {
        struct timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* Makes one tree of a row of siblings: joins pairs from the left, then joins the results from the
 * right. Both passes are loops, as a row may be as long as the heap. */
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = NULL;
    while (first != NULL) {
        struct timer *a = first;
        struct timer *b = a->next;
        first = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        struct timer *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    struct timer *root = NULL;
    while (pairs != NULL) {
        struct timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = meld(root, pair);
    }
    return root;
}

static struct timer *pop_root(struct timer_heap *h)
{
    struct timer *t = h->root;
    h->root = meld_siblings(t->child);
    t->child = NULL;
    return t;
}

void timer_heap_insert(struct timer_heap *h, struct timer *t, uint64_t due_ns)
{
    ASSERT(!t->active);
    t->child = t->next = t->prev = NULL;
    t->due_ns = due_ns;
    t->seq = h->next_seq++;
    t->active = true;
    t->is_due = false;
    h->root = meld(h->root, t);
    h->count++;
}

static void unlink_due(struct timer_heap *h, struct timer *t)
{
    if (t->prev != NULL)
        t->prev->next = t->next;
    else
        h->due_first = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    else
        h->due_last = t->prev;
}

static void unlink_from_tree(struct timer_heap *h, struct timer *t)
{
    if (t->prev->child == t)
        t->prev->child = t->next;
    else
        t->prev->next = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    h->root = meld(h->root, meld_siblings(t->child));
}

void timer_heap_remove(struct timer_heap *h, struct timer *t)
{
    if (!t->active)
        return;
    if (t->is_due)
        unlink_due(h, t);
    else if (t == h->root)
        pop_root(h);
    else
        unlink_from_tree(h, t);
    t->child = t->next = t->prev = NULL;
    t->active = t->is_due = false;
    h->count--;
}

struct timer *timer_heap_first(const struct timer_heap *h)
{
    return h->root;
}

void timer_heap_take_due(struct timer_heap *h, uint64_t now_ns)
{
    while (h->root != NULL && h->root->due_ns <= now_ns) {
        struct timer *t = pop_root(h);
        t->is_due = true;
        t->next = NULL;
        t->prev = h->due_last;
        if (h->due_last != NULL)
            h->due_last->next = t;
        else
            h->due_first = t;
        h->due_last = t;
    }
}

struct timer *timer_heap_next_due(struct timer_heap *h)
{
    struct timer *t = h->due_first;
    if (t != NULL)
        timer_heap_remove(h, t);
    return t;
}
