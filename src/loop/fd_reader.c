#include "loop/fd_reader.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)64 << 10)

static void on_chunk(uv_fs_t *request);

/* How many bytes the next read may add. Taken bytes are removed here, once for each read. If each
 * take removed them, taking a chunk line by line would move the rest of the chunk for every line.
 */
static size_t make_room(struct fd_reader *r)
{
    if (r->taken != 0) {
        size_t rest = r->data.len - r->taken;
        memmove(r->data.data, r->data.data + r->taken, rest);
        r->data.len = rest;
        r->taken = 0;
    }
    return MIN(r->data.max_bytes - r->data.len, CHUNK_BYTES);
}

static void free_reader(struct fd_reader *r)
{
    buf_fini(&r->data);
    mem_free(r->mem, r->chunk);
    mem_free(r->mem, r);
}

static void finish(struct fd_reader *r, int error)
{
    r->error = error;
    r->at_end = true;
}

/* Asks libuv's thread pool for the next chunk. */
static void request_chunk(struct fd_reader *r)
{
    size_t len = make_room(r);
    if (r->request_busy || len == 0 || r->at_end)
        return;
    uv_buf_t into = uv_buf_init(r->chunk, (unsigned)len);
    int rc = uv_fs_read(r->loop->uv, &r->request, r->fd, &into, 1, -1, on_chunk);
    if (rc != 0) {
        finish(r, -rc);
        r->fn(r, r->arg);
        return;
    }
    r->request_busy = true;
    r->loop->open_handles++; /* the loop must stay open until the result is in */
    loop_busy_add(r->loop, 1);
}

static void on_chunk(uv_fs_t *request)
{
    struct fd_reader *r = CONTAINER_OF(request, struct fd_reader, request);
    ssize_t n = request->result;
    uv_fs_req_cleanup(request);
    r->request_busy = false;
    r->loop->open_handles--;
    loop_busy_add(r->loop, -1);
    if (r->closed)
        return;
    bool again = n == UV_EINTR; /* libuv repeats other calls after EINTR, but not this one */
    if (n < 0 && !again)
        finish(r, (int)-n);
    else if (n == 0)
        finish(r, 0);
    else if (n > 0 && buf_append(&r->data, r->chunk, (size_t)n) != ERR_NONE)
        finish(r, ENOMEM);
    if (!r->reading)
        return;
    if (!again)
        r->fn(r, r->arg);
    if (r->reading)
        request_chunk(r);
}

/* Reads once what is there. epoll has reported it, but poll must confirm it: another process may
 * have read the same pipe since, and the read would block. */
static void on_readable(uv_poll_t *poll_handle, int status, int events)
{
    struct fd_reader *r = CONTAINER_OF(poll_handle, struct fd_reader, poll);
    UNUSED(events);
    if (!r->reading || r->at_end)
        return;
    struct pollfd ready = {.fd = r->fd, .events = POLLIN};
    if (status == 0 && poll(&ready, 1, 0) == 0)
        return;
    size_t len = make_room(r);
    if (len == 0)
        return;
    if (buf_reserve(&r->data, len) != ERR_NONE) {
        finish(r, ENOMEM);
    } else {
        ssize_t n = read(r->fd, r->data.data + r->data.len, len);
        if (n > 0)
            buf_commit(&r->data, (size_t)n);
        else if (n == 0)
            finish(r, 0);
        else if (errno == EINTR || errno == EAGAIN)
            return;
        else
            finish(r, errno);
    }
    r->fn(r, r->arg);
    if (r->at_end && r->reading)
        fd_reader_stop(r);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct fd_reader *r = CONTAINER_OF(handle, struct fd_reader, poll);
    close(r->epoll_fd);
    r->loop->open_handles--;
    free_reader(r);
}

/* Puts the descriptor into an epoll set of our own, because uv_poll sets O_NONBLOCK on what it
 * watches. 0: it is watched. EPERM: epoll does not accept it (a regular file). Otherwise: an errno.
 */
static int open_poll(struct fd_reader *r)
{
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd < 0)
        return errno;
    struct epoll_event want = {.events = EPOLLIN};
    int error = 0;
    if (epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->fd, &want) != 0)
        error = errno;
    else
        error = -uv_poll_init(r->loop->uv, &r->poll, r->epoll_fd);
    if (error != 0) {
        close(r->epoll_fd);
        r->epoll_fd = -1;
        return error;
    }
    r->loop->open_handles++;
    return 0;
}

enum err_kind fd_reader_new(struct fd_reader **out, struct loop *loop, struct mem *mem, int fd,
                            size_t max_bytes, file_reader_fn fn, void *arg, struct err *err)
{
    struct fd_reader *r = mem_calloc(mem, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_MEMORY, "no memory to read a file");
    r->loop = loop;
    r->mem = mem;
    r->fd = fd;
    r->epoll_fd = -1;
    r->fn = fn;
    r->arg = arg;
    buf_init(&r->data, mem, max_bytes);
    int error = open_poll(r);
    r->pollable = error == 0;
    if (error == EPERM) {
        error = 0;
        r->chunk = mem_alloc(mem, CHUNK_BYTES);
        if (r->chunk == NULL)
            error = ENOMEM;
    }
    if (error != 0) {
        mem_free(mem, r);
        err_set(err, error == ENOMEM ? ERR_MEMORY : ERR_IO, "cannot read descriptor %d: %s", fd,
                strerror(error));
        if (err != NULL)
            err->code = error;
        return error == ENOMEM ? ERR_MEMORY : ERR_IO;
    }
    *out = r;
    return ERR_NONE;
}

void fd_reader_free(struct fd_reader *r)
{
    if (r == NULL || r->closed)
        return;
    if (r->reading)
        fd_reader_stop(r);
    r->closed = true;
    /* libuv's thread writes into our chunk and reports to the loop, so both must exist until the
     * read ends. This is a short wait: a read from a regular file ends soon, and other descriptors
     * go through epoll. */
    if (r->request_busy)
        uv_cancel((uv_req_t *)&r->request);
    while (r->request_busy)
        uv_run(r->loop->uv, UV_RUN_ONCE);
    if (r->pollable)
        uv_close((uv_handle_t *)&r->poll, on_poll_closed);
    else
        free_reader(r);
}

void fd_reader_start(struct fd_reader *r)
{
    if (r->reading || r->at_end)
        return;
    r->reading = true;
    if (!r->pollable) {
        request_chunk(r);
        return;
    }
    int rc = uv_poll_start(&r->poll, UV_READABLE, on_readable);
    ASSERT(rc == 0);
}

void fd_reader_stop(struct fd_reader *r)
{
    r->reading = false;
    if (r->pollable)
        uv_poll_stop(&r->poll);
}

const char *fd_reader_bytes(const struct fd_reader *r, size_t *len)
{
    *len = r->data.len - r->taken;
    return *len == 0 ? "" : r->data.data + r->taken;
}

void fd_reader_take(struct fd_reader *r, size_t len)
{
    ASSERT(len <= r->data.len - r->taken);
    r->taken += len;
}
