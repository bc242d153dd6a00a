#include "loop/file_op.h"

#include "ground/redact.h"
#include "loop/fd_duplicate.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_op *file_op_new(struct mem *mem, enum file_op_kind kind, size_t len)
{
    struct file_op *op = mem_calloc(mem, sizeof *op);
    if (!op)
        return NULL;
    op->kind = kind;
    op->mem = mem;
    op->len = len;
    if (len > 0 && !(op->bytes = mem_alloc(mem, len))) {
        mem_free(mem, op);
        return NULL;
    }
    return op;
}

void file_op_free(struct file_op *op)
{
    mem_free(op->mem, op->path);
    mem_free(op->mem, op->path2);
    mem_free(op->mem, op->bytes);
    mem_free(op->mem, op);
}

/* A write had no room for all of its bytes: removes those after the last whole line, if they are
 * the end of a file. Half a line is worse than none. Returns how many bytes stay in the file. */
static size_t take_back(int fd, const char *bytes, size_t done)
{
    struct stat st;
    const char *eol = memrchr(bytes, '\n', done);
    size_t whole = eol ? (size_t)(eol + 1 - bytes) : 0, half = done - whole;
    off_t end = lseek(fd, 0, SEEK_CUR);
    if (half == 0 || end < (off_t)half || fstat(fd, &st) != 0 || st.st_size != end ||
        ftruncate(fd, end - (off_t)half) != 0)
        return done;
    (void)!lseek(fd, end - (off_t)half, SEEK_SET);
    return whole;
}

int file_op_write_lines(int fd, const char *bytes, size_t len, size_t *kept)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, bytes + done, len - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) { /* another process made the pipe non-blocking */
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            (void)!poll(&room, 1, -1);
        } else if (errno != EINTR) {
            int error = errno;
            *kept = take_back(fd, bytes, done);
            return error;
        }
    }
    *kept = len;
    return 0;
}

int file_op_sync(int fd)
{
    int rc;
    do
        rc = fdatasync(fd);
    while (rc != 0 && errno == EINTR);
    /* Pipes and devices cannot be synced, and need no sync. */
    return rc == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

static int64_t write_all(int fd, const char *bytes, size_t len)
{
    size_t kept;
    errno = file_op_write_lines(fd, bytes, len, &kept);
    return errno ? -1 : (int64_t)len;
}

/* A rename survives a power cut only if the folder that contains the name is synced too. */
static int sync_folder(const char *path)
{
    char folder[4096] = ".";
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (slash && len == 0)
        len = 1;
    if (len >= sizeof folder)
        return 0;
    if (len > 0) {
        memcpy(folder, path, len);
        folder[len] = '\0';
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* the folder may allow renames, but not reading */
    int rc;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    int error = errno;
    close(fd);
    return rc == 0 || error == EINVAL || error == EROFS ? 0 : error;
}

static int64_t rename_synced(const struct file_op *op)
{
    if (rename(op->path, op->path2) != 0)
        return -1;
    int error = sync_folder(op->path2);
    errno = error;
    return error ? -1 : 0;
}

/* A folder can be opened but not read, so report the error now. */
static int open_file(const struct file_op *op)
{
    struct stat st;
    int fd = open(op->path, op->flags | O_CLOEXEC, op->mode);
    if (fd < 0 || (op->flags & O_ACCMODE) != O_RDONLY || fstat(fd, &st) != 0 ||
        !S_ISDIR(st.st_mode))
        return fd;
    close(fd);
    errno = EISDIR;
    return -1;
}

static int64_t identity_of(const struct file_op *op)
{
    struct stat st;
    if (stat(op->path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    return snprintf(op->bytes, op->len, "%llx:%llx", (unsigned long long)st.st_dev,
                    (unsigned long long)st.st_ino);
}

static int64_t size_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (int64_t)st.st_size : -1;
}

static int64_t run(struct file_op *op)
{
    switch (op->kind) {
    case FILE_OPEN:
        /* Opening /dev/stdout by its path would give it an offset of its own. */
        if (strcmp(op->path, "-") == 0 && (op->flags & O_ACCMODE) == O_WRONLY)
            return fd_duplicate(STDOUT_FILENO, STDERR_FILENO + 1);
        return open_file(op);
    case FILE_READ:
        return read(op->fd, op->bytes, op->len);
    case FILE_WRITE:
        return write_all(op->fd, op->bytes, op->len);
    case FILE_SYNC:
        errno = file_op_sync(op->fd);
        return errno ? -1 : 0;
    case FILE_CLOSE:
        return close(op->fd) == 0 || errno == EINTR ? 0 : -1;
    case FILE_TRUNCATE:
        return ftruncate(op->fd, op->offset);
    case FILE_LOCK:
        return flock(op->fd, LOCK_EX | LOCK_NB);
    case FILE_SIZE:
        return size_of(op->fd);
    case FILE_RENAME:
        return rename_synced(op);
    case FILE_UNLINK:
        return unlink(op->path);
    case FILE_IDENTITY:
        return identity_of(op);
    }
    return -1;
}

static void on_work(uv_work_t *work)
{
    struct file_op *op = CONTAINER_OF(work, struct file_op, work);
    /* A host may install signal handlers without SA_RESTART, and any thread may receive the
     * signals. Operations that must not be repeated as a whole (a rename) handle EINTR themselves.
     */
    do {
        errno = 0;
        op->result = run(op);
    } while (op->result < 0 && errno == EINTR);
    op->error = op->result < 0 ? errno : 0;
}

static void on_done(uv_work_t *work, int status)
{
    struct file_op *op = CONTAINER_OF(work, struct file_op, work);
    if (status != 0) {
        op->result = -1;
        op->error = -status;
    }
    loop_busy_add(op->loop, -1);
    loop_wake(op->loop); /* a blocking turn must return, so that tasks run */
    op->done(op);
}

void file_op_start(struct file_op *op, struct loop *loop)
{
    op->loop = loop;
    loop_busy_add(loop, 1);
    int rc = uv_queue_work(loop->uv, &op->work, on_work, on_done);
    ASSERT(rc == 0); /* it fails only without a callback */
}

enum err_kind file_op_errno(int error, const char *verb, const char *name, struct err *err)
{
    char detail[128];
    const char *why = strerror_r(error, detail, sizeof detail);
    char shown[151];
    redact_path(shown, sizeof shown, name);
    err_set(err, error == ENOMEM ? ERR_MEMORY : ERR_IO, "%s %s: %s", verb, shown, why);
    err->code = error;
    if (error == ENOENT)
        err_reason(err, "not_found");
    else if (error == ENOSPC || error == EDQUOT)
        err_reason(err, "disk_full");
    else if (error == EMFILE || error == ENFILE)
        err_reason(err, "too_many_files");
    return err->kind;
}

enum err_kind file_op_error(const struct file_op *op, const char *verb, const char *name,
                            struct err *err)
{
    file_op_errno(op->error, verb, name, err);
    if (op->error == EWOULDBLOCK && op->kind == FILE_LOCK)
        err_reason(err, "locked");
    return err->kind;
}
