/* One blocking file operation, run on libuv's threads, so that a slow disk never blocks the loop.
 * Loop thread only. */
#pragma once

#include "loop/loop.h"

enum file_op_kind {
    FILE_OPEN,  /* in: path, flags, mode; result: the descriptor */
    FILE_READ,  /* in: fd, len; out: bytes; result: their number, 0 at the end */
    FILE_WRITE, /* in: fd, bytes, len; writes all of them */
    FILE_SYNC,
    FILE_CLOSE,
    FILE_TRUNCATE, /* in: fd, offset */
    FILE_LOCK,     /* in: fd; an exclusive lock; EWOULDBLOCK if another process has it */
    FILE_SIZE,     /* in: fd; result: the size */
    FILE_RENAME,   /* in: path, path2; the folder is synced as well */
    FILE_UNLINK,   /* in: path */
    FILE_IDENTITY, /* in: path, len; out: bytes; result: 0 if there is no such regular file */
};

struct file_op;
/* Called on the loop's thread. May free the operation. */
typedef void (*file_op_fn)(struct file_op *op);

struct file_op {
    enum file_op_kind kind;
    int fd, flags, mode;
    char *path, *path2,
        *bytes; /* owned, and freed with the operation; `bytes` has room for `len` */
    size_t len;
    int64_t offset;
    int64_t result;
    int error; /* a positive errno; 0: none */
    file_op_fn done;
    void *arg;

    /* private */
    struct loop *loop;
    struct mem *mem;
    uv_work_t work;
};

/* NULL: no memory. If `len` is not 0, `bytes` gets room for `len` bytes. */
NODISCARD struct file_op *file_op_new(struct mem *mem, enum file_op_kind kind, size_t len);
void file_op_free(struct file_op *op);
/* `done` is always called, in a later turn of the loop. */
void file_op_start(struct file_op *op, struct loop *loop);
/* Sets `err` to the operation's error, as ERR_IO. `verb` is a phrase such as "cannot write". */
enum err_kind file_op_error(const struct file_op *op, const char *verb, const char *name,
                            struct err *err);
/* The same for a positive errno. */
enum err_kind file_op_errno(int error, const char *verb, const char *name, struct err *err);

/* This function and the next one block, and may run on any thread. Writes all bytes. Returns 0, or
 * an errno with the number of bytes that stay in the file in *kept. If the rest can be removed,
 * these are whole lines. */
int file_op_write_lines(int fd, const char *bytes, size_t len, size_t *kept);
/* Syncs what was written to the disk. Returns 0 or an errno. */
int file_op_sync(int fd);
