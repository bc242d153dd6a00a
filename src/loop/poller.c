#include "loop/poller.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct poller {
    uv_poll_t poll;
    struct loop *loop;
    struct mem *mem;
    struct list again; /* poller_fd: report them once more */
    struct timer again_timer;
    int epoll_fd;
    struct epoll_event events[256];
    int next, count; /* of `events`: which are still to be handed out */
};

static void on_again(struct timer *t);

/* A descriptor that was dropped must not be found by an event that was read before. */
static void forget_events(struct poller *p, const struct poller_fd *f)
{
    for (int i = p->next; i < p->count; i++) {
        if (p->events[i].data.ptr == f)
            p->events[i].data.ptr = NULL;
    }
}

static int set_registered(struct poller_fd *f, uint32_t events)
{
    if (f->registered == events && f->in_set == (events != 0))
        return 0;
    int op = events == 0 ? EPOLL_CTL_DEL : f->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    struct epoll_event ev = {.events = events, .data.ptr = f};
    int rc = epoll_ctl(f->poller->epoll_fd, op, f->fd, &ev);
    f->in_set = events != 0 && rc == 0;
    f->registered = f->in_set ? events : 0;
    return rc;
}

static void hand_out(const struct epoll_event *ev)
{
    struct poller_fd *f = ev->data.ptr;
    if (!f)
        return;
    uint32_t events = ev->events & (f->wanted | EPOLLERR | EPOLLHUP);
    if (events)
        f->fn(f, events);
}

/* Events that an earlier turn had no time for come first, so that no descriptor is left out for
 * ever. An event that no longer holds does no harm: its owner finds nothing to read. */
static void dispatch(struct poller *p)
{
    for (bool asked = false;;) {
        if (p->next == p->count) {
            if (asked)
                return;
            asked = true;
            p->next = 0;
            int n = epoll_wait(p->epoll_fd, p->events, (int)ARRAY_LEN(p->events), 0);
            p->count = MAX(n, 0);
            if (p->count == 0)
                return;
        }
        uint64_t began = p->loop->until_ns != NEVER_NS ? uv_hrtime() : 0;
        hand_out(&p->events[p->next++]);
        if (loop_cut(p->loop, began))
            return;
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    UNUSED(status); /* nothing helps against an error of the set; time limits end the waits */
    UNUSED(events);
    dispatch(CONTAINER_OF(handle, struct poller, poll));
}

static void on_closed(uv_handle_t *handle)
{
    struct poller *p = CONTAINER_OF((uv_poll_t *)handle, struct poller, poll);
    close(p->epoll_fd);
    p->loop->open_handles--;
    mem_free(p->mem, p);
}

enum err_kind poller_new(struct poller **out, struct loop *loop, struct mem *mem, struct err *err)
{
    struct poller *p = mem_calloc(mem, sizeof *p);
    if (!p)
        return err_set(err, ERR_MEMORY, "no memory to watch connections");
    p->loop = loop;
    p->mem = mem;
    list_init(&p->again);
    timer_init(&p->again_timer, on_again);
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0) {
        mem_free(mem, p);
        return err_set(err, ERR_IO, "epoll_create1: %s", strerror(errno));
    }
    int code = uv_poll_init(loop->uv, &p->poll, p->epoll_fd);
    if (code < 0) {
        close(p->epoll_fd);
        mem_free(mem, p);
        return err_set(err, ERR_IO, "uv_poll_init: %s", uv_strerror(code));
    }
    loop->open_handles++;
    uv_unref((uv_handle_t *)&p->poll);
    code = uv_poll_start(&p->poll, UV_READABLE, on_poll);
    if (code < 0) {
        poller_free(p);
        return err_set(err, ERR_IO, "uv_poll_start: %s", uv_strerror(code));
    }
    *out = p;
    return ERR_NONE;
}

void poller_free(struct poller *p)
{
    if (!p)
        return;
    loop_timer_stop(p->loop, &p->again_timer);
    uv_poll_stop(&p->poll);
    uv_close((uv_handle_t *)&p->poll, on_closed);
}

enum err_kind poller_add(struct poller *p, struct poller_fd *f, int fd, uint32_t events,
                         poller_fn fn, struct err *err)
{
    *f = (struct poller_fd){.poller = p, .fd = fd, .fn = fn, .wanted = events};
    list_init(&f->again);
    if (set_registered(f, events) == 0)
        return ERR_NONE;
    int code = errno;
    f->poller = NULL;
    enum err_kind kind = code == ENOMEM ? ERR_MEMORY : ERR_IO;
    err_set(err, kind, "cannot watch a connection: %s", strerror(code));
    if (err)
        err->code = code;
    return kind;
}

void poller_watch(struct poller_fd *f, uint32_t events)
{
    if (!f->poller)
        return;
    f->wanted = events;
    if (events == 0)
        forget_events(f->poller, f);
    if (!(events & EPOLLIN))
        list_unlink(&f->again);
    /* It cannot fail for a descriptor that is open, except for want of memory in the kernel. The
     * owner's limits then end the wait. */
    set_registered(f, events);
}

void poller_again(struct poller_fd *f)
{
    struct poller *p = f->poller;
    if (!p || !(f->wanted & EPOLLIN) || list_linked(&f->again))
        return;
    list_push_back(&p->again, &f->again);
    if (!p->again_timer.active)
        loop_timer_start(p->loop, &p->again_timer, loop_now_ns(p->loop));
}

/* Only those that were in the list when it began: each may ask for another turn. */
static void on_again(struct timer *t)
{
    struct poller *p = CONTAINER_OF(t, struct poller, again_timer);
    struct list now;
    list_init(&now);
    list_append_all(&now, &p->again);
    bool cut = false;
    while (!cut && !list_empty(&now)) {
        struct poller_fd *f = CONTAINER_OF(list_pop_front(&now), struct poller_fd, again);
        uint64_t began = p->loop->until_ns != NEVER_NS ? uv_hrtime() : 0;
        f->fn(f, EPOLLIN);
        cut = loop_cut(p->loop, began);
    }
    /* The next turn begins with what there was no time for. */
    list_append_all(&now, &p->again);
    list_append_all(&p->again, &now);
    if (!list_empty(&p->again) && !p->again_timer.active)
        loop_timer_start(p->loop, &p->again_timer, loop_now_ns(p->loop));
}

void poller_drop(struct poller_fd *f)
{
    if (!f->poller)
        return;
    list_unlink(&f->again);
    forget_events(f->poller, f);
    set_registered(f, 0);
    f->poller = NULL;
}
