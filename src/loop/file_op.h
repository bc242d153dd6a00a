/* One blocking file call made on libuv's threads, so that a slow disk never holds up the loop. Loop
 * thread only. */
#pragma once

#include "loop/loop.h"

enum file_op_kind {
    FILE_OPEN,  /* path, flags, mode: result is the descriptor */
    FILE_READ,  /* fd, len: bytes and result; 0 at the end */
    FILE_WRITE, /* fd, bytes, len: all of them */
    FILE_SYNC,
    FILE_CLOSE,
    FILE_TRUNCATE, /* fd, offset */
    FILE_LOCK,     /* fd: the whole file, for us alone; EWOULDBLOCK if another process has it */
    FILE_SIZE,     /* fd: result */
    FILE_RENAME,   /* path, path2; the folder is synced as well */
    FILE_UNLINK,   /* path */
    FILE_IDENTITY, /* path, len: bytes and result; 0 where it is no regular file, or not there */
};

struct file_op;
/* On the loop's thread. May free the operation. */
typedef void (*file_op_fn)(struct file_op *op);

struct file_op {
    enum file_op_kind kind;
    int fd, flags, mode;
    char *path, *path2, *bytes; /* owned, freed with the operation; `bytes` has room for `len` */
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

/* NULL: no memory. `len` bytes are made room for if it is not 0. */
NODISCARD struct file_op *file_op_new(struct mem *mem, enum file_op_kind kind, size_t len);
void file_op_free(struct file_op *op);
/* `done` is called in a later turn of the loop, in any case. */
void file_op_start(struct file_op *op, struct loop *loop);
/* What went wrong, as ERR_IO: `verb` is a phrase such as "cannot write". */
enum err_kind file_op_error(const struct file_op *op, const char *verb, const char *name,
                            struct err *err);
/* The same from a positive errno. */
enum err_kind file_op_errno(int error, const char *verb, const char *name, struct err *err);

/* These block, and may run on any thread. Writes all of it: 0, or an errno and in *kept how much
 * stays in the file, which is whole lines wherever the rest can be taken back. */
int file_op_write_lines(int fd, const char *bytes, size_t len, size_t *kept);
/* Puts what was written onto the disk: 0 or an errno. */
int file_op_sync(int fd);
