/* Reads from a descriptor without ever blocking the loop: pipes, terminals and sockets when epoll
 * says that bytes are there, regular files and the like on libuv's threads. Loop thread only.
 *
 * The descriptor's flags are left alone: O_NONBLOCK would be set for every process that shares the
 * open file, the user's shell among them. */
#pragma once

#include "ground/buf.h"
#include "loop/loop.h"

struct fd_reader;
/* New bytes are in, the end was reached or a read failed. Records and wakes, nothing else; may call
 * fd_reader_stop. */
typedef void (*file_reader_fn)(struct fd_reader *r, void *arg);

struct fd_reader {
    bool at_end;  /* read-only */
    bool reading; /* read-only: between start and stop */
    int error;    /* read-only: a positive errno; 0: none */

    /* private */
    struct buf data;
    size_t taken; /* bytes at the front of data that are gone already */
    struct loop *loop;
    struct mem *mem;
    file_reader_fn fn;
    void *arg;
    int fd, epoll_fd;
    bool pollable, request_busy, closed;
    uv_poll_t poll;
    uv_fs_t request;
    char *chunk; /* for reads on libuv's threads */
};

/* Reads `fd`, which is borrowed. At most max_bytes are ever held; without room for more no read is
 * made. ERR_MEMORY, ERR_IO. */
NODISCARD enum err_kind fd_reader_new(struct fd_reader **out, struct loop *loop, struct mem *mem,
                                      int fd, size_t max_bytes, file_reader_fn fn, void *arg,
                                      struct err *err);
/* Gives it back; `fn` never runs again. Waits for a read that is under way on a thread (turning the
 * loop: not from a callback of it); the rest is freed in later turns. */
void fd_reader_free(struct fd_reader *r);

/* Goes on reading until fd_reader_stop. */
void fd_reader_start(struct fd_reader *r);
/* A read that is under way on a thread is kept for the next start: no byte is lost. */
void fd_reader_stop(struct fd_reader *r);
/* What has been read and not taken; borrowed until the next turn of the loop or start. */
const char *fd_reader_bytes(const struct fd_reader *r, size_t *len);
/* Takes `len` bytes from the front. */
void fd_reader_take(struct fd_reader *r, size_t len);
