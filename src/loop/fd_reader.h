/* Reads from a descriptor and never blocks the loop. Pipes, terminals and sockets are read when
 * epoll reports bytes. Regular files and the like are read on libuv's threads. Loop thread only.
 *
 * The flags of the descriptor are not changed: O_NONBLOCK would also apply to every process that
 * shares the open file, such as the user's shell. */
#pragma once

#include "ground/buf.h"
#include "loop/loop.h"

struct fd_reader;
/* New bytes have arrived, the end was reached, or a read failed. The function may only record this
 * and wake tasks. It may call fd_reader_stop. */
typedef void (*file_reader_fn)(struct fd_reader *r, void *arg);

struct fd_reader {
    bool at_end;  /* read-only */
    bool reading; /* read-only: true between start and stop */
    int error;    /* read-only: a positive errno; 0: none */

    /* private */
    struct buf data;
    size_t taken; /* bytes at the front of data that were already taken */
    struct loop *loop;
    struct mem *mem;
    file_reader_fn fn;
    void *arg;
    int fd, epoll_fd;
    bool pollable, request_busy, closed;
    uv_poll_t poll;
    uv_fs_t request;
    char *chunk; /* the buffer for reads on libuv's threads */
};

/* Creates a reader of `fd`, which is borrowed. It holds at most max_bytes, and does not read while
 * there is no room. ERR_MEMORY, ERR_IO. */
NODISCARD enum err_kind fd_reader_new(struct fd_reader **out, struct loop *loop, struct mem *mem,
                                      int fd, size_t max_bytes, file_reader_fn fn, void *arg,
                                      struct err *err);
/* Frees the reader; `fn` does not run again. If a read runs on a thread, this waits for it and
 * turns the loop, so do not call it from a callback of the loop. Some memory is freed in later
 * turns. */
void fd_reader_free(struct fd_reader *r);

/* Reads until fd_reader_stop. */
void fd_reader_start(struct fd_reader *r);
/* Stops reading. If a read runs on a thread, its bytes are kept for the next start. */
void fd_reader_stop(struct fd_reader *r);
/* The bytes that were read and not taken. Borrowed until the next turn of the loop or the next
 * start. */
const char *fd_reader_bytes(const struct fd_reader *r, size_t *len);
/* Removes `len` bytes from the front. */
void fd_reader_take(struct fd_reader *r, size_t len);
