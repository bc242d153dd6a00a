#include "engine/curl_sockets.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct slot {
    void *owner;
    uint32_t generation; /* tells an event of an earlier descriptor with this number */
    uint8_t registered;  /* CURL_POLL_IN | CURL_POLL_OUT in the set; 0: not in it */
    uint8_t wanted;      /* the same, of what libcurl asked for; 0: parked */
    bool spoke;          /* it is in `spoken` */
    bool ours;           /* opened through sockets_open: it may stay registered while parked */
};

struct spoken {
    int fd, local_port, remote_port;
};

struct sockets {
    uv_poll_t poll;
    struct loop *loop;
    struct mem *mem;
    struct log *log;
    sockets_ready_fn ready;
    int epoll_fd;
    struct slot *slots; /* by descriptor */
    size_t slot_count;
    struct spoken *spoken; /* on which something came while they were parked */
    size_t spoken_count, spoken_cap;
    struct epoll_event events[256];
    int next, count; /* of `events`: which are still to be handed out */
};

static struct slot *slot_at(struct sockets *s, int fd)
{
    return fd >= 0 && (size_t)fd < s->slot_count ? &s->slots[fd] : NULL;
}

static bool grow(struct sockets *s, int fd)
{
    if (fd < 0)
        return false;
    if ((size_t)fd < s->slot_count)
        return true;
    size_t count = MAX(s->slot_count * 2, (size_t)64);
    while (count <= (size_t)fd)
        count *= 2;
    struct slot *slots = mem_realloc(s->mem, s->slots, count * sizeof *slots);
    if (!slots)
        return false;
    memset(slots + s->slot_count, 0, (count - s->slot_count) * sizeof *slots);
    s->slots = slots;
    s->slot_count = count;
    return true;
}

/* Registers `fd` for exactly `bits`. */
static void set_registered(struct sockets *s, int fd, uint8_t bits)
{
    struct slot *slot = slot_at(s, fd);
    if (slot->registered == bits)
        return;
    int op = bits == 0 ? EPOLL_CTL_DEL : slot->registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    struct epoll_event ev = {0};
    if (bits & CURL_POLL_IN)
        ev.events |= EPOLLIN;
    if (bits & CURL_POLL_OUT)
        ev.events |= EPOLLOUT;
    ev.data.u64 = (uint64_t)slot->generation << 32 | (uint32_t)fd;
    slot->registered = bits;
    if (epoll_ctl(s->epoll_fd, op, fd, &ev) == 0 || bits == 0)
        return;
    /* libcurl closes the socket of an attempt to connect that is given up without calling us,
     * and only then says that it need not be watched; the set has forgotten it by itself. */
    if (slot->wanted == 0) {
        slot->registered = 0;
        return;
    }
    /* The transfer will end by its limits: telling libcurl from here is not allowed. */
    slot->registered = 0;
    log_write(s->log, LOG_WARN, "cannot watch a socket: %s", strerror(errno));
}

static int port_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)address)->sin_port)
           : address->ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)address)->sin6_port)
               : 0;
}

/* An end alone is found by libcurl itself. */
static void note_spoken(struct sockets *s, int fd, struct slot *slot)
{
    char byte;
    struct sockaddr_storage own, peer;
    socklen_t own_len = sizeof own, peer_len = sizeof peer;
    if (slot->spoke || recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0 ||
        getsockname(fd, (struct sockaddr *)&own, &own_len) != 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0)
        return;
    if (s->spoken_count == s->spoken_cap) {
        size_t cap = s->spoken_cap ? s->spoken_cap * 2 : 8;
        struct spoken *more = mem_realloc(s->mem, s->spoken, cap * sizeof *more);
        if (!more)
            return;
        s->spoken = more;
        s->spoken_cap = cap;
    }
    s->spoken[s->spoken_count++] = (struct spoken){fd, port_of(&own), port_of(&peer)};
    slot->spoke = true;
}

static void forget_spoken(struct sockets *s, int fd, struct slot *slot)
{
    for (size_t i = 0; slot->spoke && i < s->spoken_count; i++) {
        if (s->spoken[i].fd == fd) {
            s->spoken[i] = s->spoken[--s->spoken_count];
            break;
        }
    }
    slot->spoke = false;
}

bool sockets_spoke(const struct sockets *s, int local_port, int remote_port)
{
    for (size_t i = 0; i < s->spoken_count; i++) {
        if (s->spoken[i].local_port == local_port && s->spoken[i].remote_port == remote_port)
            return true;
    }
    return false;
}

static void hand_out(struct sockets *s, const struct epoll_event *ev)
{
    int fd = (int)(uint32_t)ev->data.u64;
    struct slot *slot = slot_at(s, fd);
    if (!slot || slot->generation != (uint32_t)(ev->data.u64 >> 32))
        return;
    if (slot->wanted == 0) {
        set_registered(s, fd, 0);
        note_spoken(s, fd, slot);
        return;
    }
    int bits = 0;
    if (ev->events & EPOLLIN)
        bits |= CURL_CSELECT_IN;
    if (ev->events & EPOLLOUT)
        bits |= CURL_CSELECT_OUT;
    if (ev->events & (EPOLLERR | EPOLLHUP))
        bits |= CURL_CSELECT_ERR;
    s->ready(slot->owner, fd, bits);
}

/* What a turn that was out of time has left comes first, or the same sockets would always win. An
 * event that no longer holds does no harm: libcurl then finds nothing to read. */
static void dispatch(struct sockets *s)
{
    for (bool asked = false;;) {
        if (s->next == s->count) {
            if (asked)
                return;
            asked = true;
            s->next = 0;
            int n = epoll_wait(s->epoll_fd, s->events, (int)ARRAY_LEN(s->events), 0);
            s->count = MAX(n, 0);
            if (s->count == 0)
                return;
        }
        uint64_t began = s->loop->until_ns != NEVER_NS ? uv_hrtime() : 0;
        hand_out(s, &s->events[s->next++]);
        if (loop_cut(s->loop, began))
            return;
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    UNUSED(events);
    struct sockets *s = CONTAINER_OF(handle, struct sockets, poll);
    if (status < 0)
        log_write(s->log, LOG_ERROR, "watching sockets failed: %s", uv_strerror(status));
    dispatch(s);
}

static void on_closed(uv_handle_t *handle)
{
    struct sockets *s = CONTAINER_OF((uv_poll_t *)handle, struct sockets, poll);
    close(s->epoll_fd);
    s->loop->open_handles--;
    mem_free(s->mem, s->slots);
    mem_free(s->mem, s->spoken);
    mem_free(s->mem, s);
}

enum err_kind sockets_new(struct sockets **out, struct loop *loop, struct mem *mem, struct log *log,
                          sockets_ready_fn ready, struct err *err)
{
    struct sockets *s = mem_calloc(mem, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    s->loop = loop;
    s->mem = mem;
    s->log = log;
    s->ready = ready;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0) {
        mem_free(mem, s);
        return err_set(err, ERR_IO, "epoll_create1: %s", strerror(errno));
    }
    int code = uv_poll_init(loop->uv, &s->poll, s->epoll_fd);
    if (code < 0) {
        close(s->epoll_fd);
        mem_free(mem, s);
        return err_set(err, ERR_IO, "uv_poll_init: %s", uv_strerror(code));
    }
    loop->open_handles++;
    uv_unref((uv_handle_t *)&s->poll);
    code = uv_poll_start(&s->poll, UV_READABLE, on_poll);
    if (code < 0) {
        sockets_free(s);
        return err_set(err, ERR_IO, "uv_poll_start: %s", uv_strerror(code));
    }
    *out = s;
    return ERR_NONE;
}

void sockets_free(struct sockets *s)
{
    uv_poll_stop(&s->poll);
    uv_close((uv_handle_t *)&s->poll, on_closed);
}

bool sockets_open(struct sockets *s, int fd)
{
    if (!grow(s, fd))
        return false;
    struct slot *slot = slot_at(s, fd);
    *slot = (struct slot){.generation = slot->generation + 1, .ours = true};
    return true;
}

void sockets_watch(struct sockets *s, int fd, void *owner, int what)
{
    if (!grow(s, fd)) {
        log_write(s->log, LOG_WARN, "cannot watch a socket: no memory");
        return;
    }
    struct slot *slot = slot_at(s, fd);
    if (what == CURL_POLL_REMOVE) {
        slot->wanted = 0;
        /* A descriptor that libcurl made for itself is closed without a word to us. */
        if (!slot->ours)
            set_registered(s, fd, 0);
        else if (slot->registered & CURL_POLL_OUT)
            set_registered(s, fd, CURL_POLL_IN);
        return;
    }
    forget_spoken(s, fd, slot);
    slot->owner = owner;
    slot->wanted = (uint8_t)what;
    set_registered(s, fd, (uint8_t)what);
}

void sockets_close(struct sockets *s, int fd)
{
    struct slot *slot = slot_at(s, fd);
    if (slot && slot->ours) {
        /* Said although close() does it too: a forked child may hold a copy of the descriptor, and
         * the set would go on reporting it. */
        set_registered(s, fd, 0);
        forget_spoken(s, fd, slot);
        *slot = (struct slot){.generation = slot->generation + 1};
    }
    close(fd);
}
