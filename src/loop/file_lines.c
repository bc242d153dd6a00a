#include "loop/file_lines.h"

#include "loop/file_op.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)64 << 10)

/* A block of whole lines. The adding thread appends bytes and then publishes `len`. Once `next` is
 * set, `len` is final. */
struct file_chunk {
    _Atomic(struct file_chunk *) next;
    _Atomic size_t len;
    size_t cap;
    char data[];
};

static struct file_chunk *new_chunk(struct mem *mem, size_t least)
{
    size_t cap = MAX(least, CHUNK_BYTES);
    struct file_chunk *c = mem_alloc(mem, sizeof *c + cap);
    if (!c)
        return NULL;
    atomic_init(&c->next, NULL);
    atomic_init(&c->len, 0);
    c->cap = cap;
    return c;
}

struct file_lines *file_lines_new(struct loop *loop, struct mem *mem, int fd, const char *name,
                                  bool durable)
{
    struct file_lines *o = mem_calloc(mem, sizeof *o);
    if (o) {
        o->name = mem_strndup(mem, name, strlen(name));
        o->oldest = new_chunk(mem, 0);
    }
    if (!o || !o->name || !o->oldest) {
        close(fd);
        if (o) {
            mem_free(mem, o->name);
            mem_free(mem, o->oldest);
        }
        mem_free(mem, o);
        return NULL;
    }
    o->loop = loop;
    o->mem = mem;
    o->fd = fd;
    o->durable = durable;
    struct stat st;
    o->regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    o->newest = o->oldest;
    atomic_init(&o->head, o->oldest);
    list_init(&o->node);
    list_init(&o->waiters);
    return o;
}

void file_lines_free(struct file_lines *o)
{
    ASSERT(file_lines_idle(o));
    (void)file_lines_close(o);
    list_unlink(&o->node);
    while (o->oldest) {
        struct file_chunk *next = atomic_load(&o->oldest->next);
        mem_free(o->mem, o->oldest);
        o->oldest = next;
    }
    mem_free(o->mem, o->name);
    mem_free(o->mem, o);
}

bool file_lines_done(const struct file_lines *o)
{
    return atomic_load(&o->written) >= o->added &&
           atomic_load(&o->synced) >= atomic_load(&o->sync_to);
}

bool file_lines_idle(const struct file_lines *o)
{
    return !o->queued;
}

/* ---- the taking side: the thread that has set `working` */

static bool fail(struct file_lines *o, bool syncing, int error)
{
    atomic_store(&o->syncing, syncing);
    atomic_store(&o->error, error);
    return false;
}

/* Writes the unwritten bytes of one chunk. False: there are none, or the write failed. */
static bool write_chunk(struct file_lines *o)
{
    struct file_chunk *c = atomic_load(&o->head);
    struct file_chunk *next = atomic_load(&c->next);
    size_t len = atomic_load(&c->len), kept = 0;
    if (o->taken == len) {
        if (!next)
            return false;
        o->taken = 0;
        atomic_store(&o->head, next);
        return true;
    }
    int error = file_op_write_lines(o->fd, c->data + o->taken, len - o->taken, &kept);
    o->taken += kept;
    atomic_fetch_add(&o->written, kept);
    return error == 0 || fail(o, false, error);
}

static bool sync_disk(struct file_lines *o)
{
    uint64_t written = atomic_load(&o->written);
    int error = file_op_sync(o->fd);
    if (error != 0)
        return fail(o, true, error);
    atomic_store(&o->synced, written);
    return true;
}

static void take_all(struct file_lines *o, bool tell)
{
    bool more = true;
    while (more && atomic_load(&o->error) == 0) {
        more = write_chunk(o);
        if (atomic_load(&o->error) == 0 && atomic_load(&o->sync_to) > atomic_load(&o->synced) &&
            atomic_load(&o->written) > atomic_load(&o->synced))
            more = sync_disk(o);
        if (tell)
            loop_wake(o->loop);
    }
}

static bool any_left(const struct file_lines *o)
{
    return atomic_load(&o->error) == 0 && atomic_load(&o->written) < atomic_load(&o->added);
}

static void on_work(uv_work_t *work)
{
    struct file_lines *o = CONTAINER_OF(work, struct file_lines, work);
    do {
        take_all(o, true);
        atomic_store(&o->working, false);
        /* Lines that were added just before that would otherwise have no writer. */
    } while (any_left(o) && !atomic_exchange(&o->working, true));
}

/* ---- the adding side */

static void start(struct file_lines *o);

static void on_done(uv_work_t *work, int status)
{
    struct file_lines *o = CONTAINER_OF(work, struct file_lines, work);
    UNUSED(status); /* never cancelled */
    o->queued = false;
    loop_busy_add(o->loop, -1);
    start(o);
    loop_wake(o->loop); /* runs the owner's hook, even if there was nothing to write */
}

static void start(struct file_lines *o)
{
    if (o->queued || file_lines_done(o) || atomic_load(&o->error) != 0 || o->fd < 0)
        return;
    o->queued = true;
    atomic_store(&o->working, true);
    loop_busy_add(o->loop, 1);
    int rc = uv_queue_work(o->loop->uv, &o->work, on_work, on_done);
    ASSERT(rc == 0); /* it fails only without a callback */
}

/* True if a write would not block. */
static bool has_room(const struct file_lines *o)
{
    struct pollfd room = {.fd = o->fd, .events = POLLOUT};
    return o->regular || (o->added - atomic_load(&o->written) <= PIPE_BUF &&
                          poll(&room, 1, 0) == 1 && !(room.revents & (POLLERR | POLLHUP)));
}

/* The pool's thread has finished, and only a turn of the loop would start it again. That may take
 * long while a script computes. The last write was quick, so the loop's thread does the next one
 * itself. */
static void catch_up(struct file_lines *o)
{
    if (o->durable || !o->queued || atomic_load(&o->working) || !has_room(o) ||
        atomic_exchange(&o->working, true))
        return;
    atomic_store(&o->working_here, true);
    take_all(o, false);
    atomic_store(&o->working_here, false);
    atomic_store(&o->working, false);
}

static void free_taken(struct file_lines *o)
{
    struct file_chunk *head = atomic_load(&o->head);
    while (o->oldest != head) {
        struct file_chunk *next = atomic_load(&o->oldest->next);
        mem_free(o->mem, o->oldest);
        o->oldest = next;
    }
}

enum err_kind file_lines_add(struct file_lines *o, const char *text, size_t len)
{
    struct file_chunk *c = o->newest;
    size_t at = atomic_load(&c->len);
    free_taken(o);
    if (len >= c->cap - at) {
        struct file_chunk *fresh = new_chunk(o->mem, len + 1);
        if (!fresh)
            return ERR_MEMORY;
        o->newest = fresh;
        at = 0;
    }
    memcpy(o->newest->data + at, text, len);
    o->newest->data[at + len] = '\n';
    atomic_store(&o->newest->len, at + len + 1);
    if (o->newest != c)
        atomic_store(&c->next, o->newest);
    atomic_fetch_add(&o->added, len + 1);
    if (o->durable)
        atomic_store(&o->sync_to, o->added);
    start(o);
    catch_up(o);
    return ERR_NONE;
}

void file_lines_sync(struct file_lines *o)
{
    atomic_store(&o->sync_to, o->added);
    start(o);
}

void file_lines_retry(struct file_lines *o)
{
    ASSERT(file_lines_idle(o));
    atomic_store(&o->error, 0);
    start(o);
}

void file_lines_rest(const struct file_lines *o, file_lines_piece_fn fn, void *arg)
{
    size_t from = o->taken;
    for (struct file_chunk *c = atomic_load(&o->head); c; c = atomic_load(&c->next)) {
        if (!fn(arg, c->data + from, atomic_load(&c->len) - from))
            return;
        from = 0;
    }
}

int file_lines_close(struct file_lines *o)
{
    int fd = o->fd;
    o->fd = -1;
    return fd < 0 || close(fd) == 0 || errno == EINTR ? 0 : errno;
}

void file_lines_rescue(struct file_lines *o, uint64_t until_ns)
{
    if (atomic_load(&o->working_here)) /* the signal interrupted this thread while it wrote: all
                                          lines but the last are written */
        return;
    while (atomic_exchange(&o->working, true)) {
        struct timespec now, pause = {.tv_nsec = 1000000};
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec >= until_ns)
            return;
        nanosleep(&pause, NULL);
    }
    if (o->fd >= 0)
        take_all(o, false);
}
