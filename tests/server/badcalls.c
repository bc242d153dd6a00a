/* LD_PRELOAD shim over system calls on files and pipes, and waits: every third that may be
 * interrupted fails with EINTR, and every other one that reads or writes more than a few bytes does
 * half of it. No signal of a test comes just then, and no disk is as slow. (What does not block, as
 * all sockets here, is not interrupted. Under AddressSanitizer:
 * ASAN_OPTIONS=verify_asan_link_order=0.) */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static bool interrupted(bool may_block)
{
    static atomic_uint calls;
    if (!may_block || ++calls % 3 != 0)
        return false;
    errno = EINTR;
    return true;
}

static bool file_or_pipe(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode));
}

static size_t some(int fd, size_t len)
{
    static atomic_uint calls;
    return len > 64 && file_or_pipe(fd) && ++calls % 2 == 0 ? len / 2 : len;
}

/* The real function; the cast is the one that POSIX asks for. */
#define REAL(type, name, ...)                                                                      \
    type (*real)(__VA_ARGS__);                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t read(int fd, void *to, size_t len)
{
    REAL(ssize_t, "read", int, void *, size_t);
    return interrupted(file_or_pipe(fd)) ? -1 : real(fd, to, some(fd, len));
}

ssize_t write(int fd, const void *from, size_t len)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return interrupted(file_or_pipe(fd)) ? -1 : real(fd, from, some(fd, len));
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    REAL(int, "open", const char *, int, ...);
    return interrupted(true) ? -1 : real(path, flags, mode);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return interrupted(true) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return interrupted(true) ? -1 : real(fd);
}

int ftruncate(int fd, off_t len)
{
    REAL(int, "ftruncate", int, off_t);
    return interrupted(true) ? -1 : real(fd, len);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    REAL(int, "poll", struct pollfd *, nfds_t, int);
    return interrupted(timeout != 0) ? -1 : real(fds, count, timeout);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    REAL(int, "epoll_wait", int, struct epoll_event *, int, int);
    return interrupted(timeout != 0) ? -1 : real(fd, events, max, timeout);
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
    REAL(int, "epoll_pwait", int, struct epoll_event *, int, int, const sigset_t *);
    return interrupted(timeout != 0) ? -1 : real(fd, events, max, timeout, mask);
}
