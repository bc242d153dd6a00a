#include "engine/connect_sockets.h"

#include "loop/fd_duplicate.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct one {
    struct list node;
    struct connect_sockets *all;
    struct poller_fd watched;
    uint32_t events; /* that libcurl waits for */
    int number;      /* libcurl's own, which may be closed by now */
    int fd;          /* the duplicate */
};

void connect_sockets_init(struct connect_sockets *s, struct poller *poller, struct mem *mem,
                          struct log *log, connect_ready_fn ready)
{
    *s = (struct connect_sockets){.poller = poller, .mem = mem, .log = log, .ready = ready};
    list_init(&s->all);
}

static void on_ready(struct poller_fd *f, uint32_t events)
{
    struct one *o = CONTAINER_OF(f, struct one, watched);
    int bits = 0;
    if (events & EPOLLIN)
        bits |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        bits |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        bits |= CURL_CSELECT_ERR;
    o->all->ready(o->all, o->number, bits);
}

static void forget(struct one *o)
{
    poller_drop(&o->watched);
    list_unlink(&o->node);
    mem_free(o->all->mem, o);
}

static void drop(struct one *o)
{
    int fd = o->fd;
    forget(o);
    close(fd);
}

void connect_sockets_fini(struct connect_sockets *s)
{
    LIST_FOR(node, &s->all)
    {
        drop(CONTAINER_OF(node, struct one, node));
    }
}

static struct one *find(struct connect_sockets *s, int number)
{
    LIST_FOR(node, &s->all)
    {
        struct one *o = CONTAINER_OF(node, struct one, node);
        if (o->number == number)
            return o;
    }
    return NULL;
}

static void note(struct connect_sockets *s, int code)
{
    s->error = code;
    if (code == EMFILE || code == ENFILE)
        log_short_of_files(s->log, "a connection could not be opened", loop_file_limit());
}

static struct one *add(struct connect_sockets *s, int number)
{
    struct one *o = mem_calloc(s->mem, sizeof *o);
    int fd = o ? fd_duplicate(number, 0) : -1;
    if (fd < 0) {
        note(s, o ? errno : ENOMEM);
        mem_free(s->mem, o);
        return NULL;
    }
    *o = (struct one){.all = s, .number = number, .fd = fd};
    list_push_back(&s->all, &o->node);
    return o;
}

static bool watch(struct one *o, uint32_t events)
{
    struct connect_sockets *s = o->all;
    struct err err;
    o->events = events;
    if (o->watched.poller) {
        poller_watch(&o->watched, events);
        return true;
    }
    if (events == 0 ||
        poller_add(s->poller, &o->watched, o->fd, events, on_ready, &err) == ERR_NONE)
        return true;
    s->error = err.code;
    return false;
}

curl_socket_t connect_sockets_open(struct connect_sockets *s, const struct curl_sockaddr *address)
{
    int number = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (number < 0) {
        note(s, errno);
        return CURL_SOCKET_BAD;
    }
    /* libcurl has closed this number, and believes that it is watched still. */
    struct one *before = find(s, number);
    uint32_t events = before ? before->events : 0;
    if (before)
        drop(before);
    struct one *o = add(s, number);
    if (o && watch(o, events))
        return number;
    if (o)
        drop(o);
    close(number);
    return CURL_SOCKET_BAD;
}

bool connect_sockets_watch(struct connect_sockets *s, int number, int what)
{
    struct one *o = find(s, number);
    if (what == CURL_POLL_REMOVE)
        return !o || watch(o, 0);
    if (!o) /* libcurl has made it for itself: it waits for a look-up */
        o = add(s, number);
    uint32_t in = what & CURL_POLL_IN ? EPOLLIN : 0, out = what & CURL_POLL_OUT ? EPOLLOUT : 0;
    return o && watch(o, in | out);
}

void connect_sockets_tidy(struct connect_sockets *s)
{
    LIST_FOR(node, &s->all)
    {
        struct one *o = CONTAINER_OF(node, struct one, node);
        if (o->events == 0)
            drop(o);
    }
}

static struct one *find_connected(struct connect_sockets *s)
{
    LIST_FOR(node, &s->all)
    {
        struct one *o = CONTAINER_OF(node, struct one, node);
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        if (getpeername(o->fd, (struct sockaddr *)&peer, &len) == 0)
            return o;
    }
    return NULL;
}

int connect_sockets_take(struct connect_sockets *s, curl_socket_t number)
{
    struct one *o = number == CURL_SOCKET_BAD ? find_connected(s) : find(s, number);
    if (!o && number != CURL_SOCKET_BAD)
        o = add(s, number);
    if (!o)
        return -1;
    int fd = o->fd;
    forget(o);
    return fd;
}
