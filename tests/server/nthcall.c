/* LD_PRELOAD shim: the n-th system call of one kind fails, whatever it is about.
 *
 *   NTHCALL="write 17"         the 17th write of the program fails, with an errno that fits
 *   NTHCALL="open 3 EIO"       with this errno; "open 3+": the third and all after it
 *   NTHCALL="none 0"           nothing fails, the calls are only counted
 *   NTHCALL_TOLD=FILE          gets a line "KIND CALLS" (eight digits) for each kind, then a line
 *                              about the call that failed; it is right after a crash, too
 *
 * Kinds: open (also fopen), write (files and terminals), sync, rename, close (also fclose; the file
 * is closed, as Linux does), socket, connect, accept, getaddrinfo, send and recv (what moves bytes
 * on sockets, whatever the call is named), read (files).
 *
 * Calls count from the first line of main() on: the shim stands before __libc_start_main and wraps
 * the main function. What the dynamic linker and the C library do inside themselves never comes by.
 * Descriptors that no disk and no network can break (epoll, eventfd, and the pipes that are not
 * standard input or output) are neither counted nor failed: libuv ends the process, by design,
 * where its own wake-ups fail. Under AddressSanitizer: ASAN_OPTIONS=verify_asan_link_order=0. */
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The real function; the cast is the one that POSIX asks for. */
#define REAL(type, name, ...)                                                                      \
    type (*real)(__VA_ARGS__);                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, name)

enum kind {
    OPEN,
    WRITE,
    SYNC,
    RENAME,
    CLOSE,
    SOCKET,
    CONNECT,
    ACCEPT,
    GETADDRINFO,
    SEND,
    RECV,
    READ,
    KINDS
};

static const struct {
    const char *name;
    int error; /* where the plan names none */
} kinds[KINDS] = {
    [OPEN] = {"open", EMFILE},
    [WRITE] = {"write", ENOSPC},
    [SYNC] = {"sync", EIO},
    [RENAME] = {"rename", EIO},
    [CLOSE] = {"close", EIO},
    [SOCKET] = {"socket", EMFILE},
    [CONNECT] = {"connect", ECONNREFUSED},
    [ACCEPT] = {"accept", EMFILE},
    [GETADDRINFO] = {"getaddrinfo", EAI_AGAIN},
    [SEND] = {"send", ECONNRESET},
    [RECV] = {"recv", ECONNRESET},
    [READ] = {"read", EIO},
};

static const struct {
    const char *name;
    int code;
} errors[] = {{"EIO", EIO},
              {"ENOSPC", ENOSPC},
              {"EMFILE", EMFILE},
              {"ENFILE", ENFILE},
              {"EACCES", EACCES},
              {"ENOENT", ENOENT},
              {"ENOMEM", ENOMEM},
              {"ENOBUFS", ENOBUFS},
              {"EINTR", EINTR},
              {"EAGAIN", EAGAIN},
              {"EPIPE", EPIPE},
              {"ECONNREFUSED", ECONNREFUSED},
              {"ECONNABORTED", ECONNABORTED},
              {"EADDRNOTAVAIL", EADDRNOTAVAIL},
              {"ENETUNREACH", ENETUNREACH},
              {"ETIMEDOUT", ETIMEDOUT},
              {"EAI_FAIL", EAI_FAIL},
              {"EAI_NONAME", EAI_NONAME},
              {"EAI_MEMORY", EAI_MEMORY}};

static struct {
    bool armed;
    enum kind kind;
    unsigned at;
    bool after; /* all after it as well */
    int error;
    atomic_uint calls[KINDS];
    char *told; /* a line of LINE bytes for each kind, and one more; NULL: not wanted */
} plan;

enum { LINE = 32, DIGITS_AT = 16, TOLD = 1024 };

static void read_plan(void)
{
    const char *text = getenv("NTHCALL"), *path = getenv("NTHCALL_TOLD");
    char kind[16] = "", plus[2] = "", error[16] = "";
    if (!text || (sscanf(text, "%15s %u%1[+] %15s", kind, &plan.at, plus, error) < 3 &&
                  sscanf(text, "%15s %u %15s", kind, &plan.at, error) < 2))
        return;
    plan.armed = true;
    plan.kind = KINDS;
    plan.after = plus[0] != '\0';
    for (enum kind k = 0; k < KINDS; k++) {
        if (strcmp(kinds[k].name, kind) == 0) {
            plan.kind = k;
            plan.error = kinds[k].error;
        }
    }
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (strcmp(errors[i].name, error) == 0)
            plan.error = errors[i].code;
    }
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0666) : -1;
    if (fd < 0)
        return;
    if (ftruncate(fd, TOLD) == 0) {
        void *map = mmap(NULL, TOLD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        plan.told = map == MAP_FAILED ? NULL : map;
    }
    syscall(SYS_close, fd);
    if (!plan.told)
        return;
    memset(plan.told, '\n', TOLD);
    for (size_t k = 0; k < KINDS; k++) {
        memset(plan.told + k * LINE, ' ', DIGITS_AT);
        memcpy(plan.told + k * LINE, kinds[k].name, strlen(kinds[k].name));
    }
}

/* Eight digits in one word: of two threads, the one with the smaller number must not be the last.
 */
static void tell(enum kind kind, unsigned calls)
{
    char digits[16];
    uint64_t now, before;
    if (!plan.told)
        return;
    snprintf(digits, sizeof digits, "%08u", calls);
    memcpy(&now, digits, sizeof now);
    _Atomic uint64_t *place = (void *)(plan.told + (size_t)kind * LINE + DIGITS_AT);
    before = atomic_load(place);
    while (be64toh(before) < be64toh(now) && !atomic_compare_exchange_weak(place, &before, now)) {
    }
}

/* The path behind a descriptor; errno stays. */
static const char *path_of(int fd, char out[static PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
    return out;
}

/* Whether this call is to fail. `path`: what it is about; NULL: see `fd`. */
static bool fails(enum kind kind, int fd, const char *path)
{
    char name[PATH_MAX];
    if (!plan.armed)
        return false;
    unsigned now = ++plan.calls[kind];
    tell(kind, now);
    if (kind != plan.kind || now < plan.at || (now > plan.at && !plan.after))
        return false;
    if (plan.told)
        snprintf(plan.told + (size_t)KINDS * LINE, TOLD - (size_t)KINDS * LINE,
                 "failed: %s %u, %.500s\n", kinds[kind].name, now,
                 path      ? path
                 : fd >= 0 ? path_of(fd, name)
                           : "");
    errno = kind == WRITE && fd >= 0 && fd <= 2 ? EIO : plan.error;
    return true;
}

enum sort { FILE_SORT, SOCKET_SORT, OWN_SORT };

/* What a descriptor is; errno stays. */
static enum sort sort_of(int fd)
{
    struct stat st;
    int saved = errno;
    int rc = fstat(fd, &st);
    errno = saved;
    if (rc != 0 || (st.st_mode & S_IFMT) == 0 || (S_ISFIFO(st.st_mode) && fd > 2))
        return OWN_SORT;
    return S_ISSOCK(st.st_mode) ? SOCKET_SORT : FILE_SORT;
}

static bool fails_fd(enum kind file, enum kind sock, int fd)
{
    if (!plan.armed)
        return false;
    enum sort sort = sort_of(fd);
    return sort != OWN_SORT && fails(sort == SOCKET_SORT ? sock : file, fd, NULL);
}

/* ---- where counting begins */

static int (*real_main)(int, char **, char **);

static int counted_main(int argc, char **argv, char **env)
{
    read_plan();
    return real_main(argc, argv, env);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack)
{
    REAL(int, "__libc_start_main", int (*)(int, char **, char **), int, char **, void (*)(void),
         void (*)(void), void (*)(void), void *);
    real_main = main;
    return real(counted_main, argc, argv, init, fini, rtld_fini, stack);
}

/* ---- files */

#define OPEN_LIKE(name)                                                                            \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                      \
        va_end(ap);                                                                                \
        REAL(int, #name, const char *, int, ...);                                                  \
        return fails(OPEN, -1, path) ? -1 : real(path, flags, mode);                               \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)

#define OPENAT_LIKE(name)                                                                          \
    int name(int dir, const char *path, int flags, ...)                                            \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                      \
        va_end(ap);                                                                                \
        REAL(int, #name, int, const char *, int, ...);                                             \
        return fails(OPEN, -1, path) ? -1 : real(dir, path, flags, mode);                          \
    }
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)

#define FOPEN_LIKE(name)                                                                           \
    FILE *name(const char *path, const char *mode)                                                 \
    {                                                                                              \
        REAL(FILE *, #name, const char *, const char *);                                           \
        return fails(OPEN, -1, path) ? NULL : real(path, mode);                                    \
    }
FOPEN_LIKE(fopen)
FOPEN_LIKE(fopen64)

int fclose(FILE *f)
{
    REAL(int, "fclose", FILE *);
    bool failed = fails_fd(CLOSE, CLOSE, fileno(f));
    int error = errno, rc = real(f);
    if (!failed)
        return rc;
    errno = error;
    return EOF;
}

int fflush(FILE *f)
{
    REAL(int, "fflush", FILE *);
    return f && fails_fd(WRITE, SEND, fileno(f)) ? EOF : real(f);
}

int close(int fd)
{
    REAL(int, "close", int);
    bool failed = fails_fd(CLOSE, CLOSE, fd);
    int error = errno, rc = real(fd);
    if (!failed)
        return rc;
    errno = error;
    return -1;
}

#define SYNC_LIKE(name)                                                                            \
    int name(int fd)                                                                               \
    {                                                                                              \
        REAL(int, #name, int);                                                                     \
        return fails(SYNC, fd, NULL) ? -1 : real(fd);                                              \
    }
SYNC_LIKE(fsync)
SYNC_LIKE(fdatasync)

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails(RENAME, -1, to) ? -1 : real(from, to);
}

/* ---- bytes */

#define MOVES(type, name, file, sock, params, args)                                                \
    type name params                                                                               \
    {                                                                                              \
        type(*real) params;                                                                        \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                                 \
        return fails_fd(file, sock, fd) ? -1 : real args;                                          \
    }
MOVES(ssize_t, write, WRITE, SEND, (int fd, const void *from, size_t len), (fd, from, len))
MOVES(ssize_t, writev, WRITE, SEND, (int fd, const struct iovec *v, int n), (fd, v, n))
MOVES(ssize_t, pwrite, WRITE, SEND, (int fd, const void *b, size_t len, off_t at), (fd, b, len, at))
MOVES(ssize_t, pwrite64, WRITE, SEND, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at))
MOVES(ssize_t, pwritev, WRITE, SEND, (int fd, const struct iovec *v, int n, off_t at),
      (fd, v, n, at))
MOVES(ssize_t, pwritev64, WRITE, SEND, (int fd, const struct iovec *v, int n, off64_t at),
      (fd, v, n, at))
MOVES(ssize_t, send, WRITE, SEND, (int fd, const void *b, size_t n, int flags), (fd, b, n, flags))
MOVES(ssize_t, sendmsg, WRITE, SEND, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
MOVES(ssize_t, read, READ, RECV, (int fd, void *to, size_t len), (fd, to, len))
MOVES(ssize_t, readv, READ, RECV, (int fd, const struct iovec *v, int n), (fd, v, n))
MOVES(ssize_t, pread, READ, RECV, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
MOVES(ssize_t, pread64, READ, RECV, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
MOVES(ssize_t, preadv, READ, RECV, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
MOVES(ssize_t, preadv64, READ, RECV, (int fd, const struct iovec *v, int n, off64_t at),
      (fd, v, n, at))
MOVES(ssize_t, recv, READ, RECV, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
MOVES(ssize_t, recvmsg, READ, RECV, (int fd, struct msghdr *m, int flags), (fd, m, flags))

/* ---- sockets */

int socket(int domain, int type, int protocol)
{
    REAL(int, "socket", int, int, int);
    return fails(SOCKET, -1, "") ? -1 : real(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
    REAL(int, "connect", int, const struct sockaddr *, socklen_t);
    return fails(CONNECT, fd, NULL) ? -1 : real(fd, to, len);
}

int accept(int fd, struct sockaddr *from, socklen_t *len)
{
    REAL(int, "accept", int, struct sockaddr *, socklen_t *);
    return fails(ACCEPT, fd, NULL) ? -1 : real(fd, from, len);
}

int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
    REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    return fails(ACCEPT, fd, NULL) ? -1 : real(fd, from, len, flags);
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **out)
{
    REAL(int, "getaddrinfo", const char *, const char *, const struct addrinfo *,
         struct addrinfo **);
    return fails(GETADDRINFO, -1, host) ? plan.error : real(host, port, hints, out);
}
