/* LD_PRELOAD shim over what writes files: the n-th call of one kind on one path fails.
 * BADDISK="write 3 ENOSPC": the third write. Kinds: write, half (half of it is written, and the
 * next write fails), sync (fsync and fdatasync), rename (by the new name), close. "3+": that one
 * and all after it. BADDISK_PATH: what the path ends with, or contains behind a "*". When it has
 * failed, the file that BADDISK_TOLD names is made. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The real function; the cast is the one that POSIX asks for. */
#define REAL(type, name, ...)                                                                      \
    type (*real)(__VA_ARGS__);                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, name)

static const struct {
    const char *name;
    int code;
} codes[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}};

static bool is_path(const char *path)
{
    const char *wanted = getenv("BADDISK_PATH");
    if (!wanted)
        return false;
    if (wanted[0] == '*')
        return strstr(path, wanted + 1) != NULL;
    size_t len = strlen(path), n = strlen(wanted);
    return len >= n && strcmp(path + len - n, wanted) == 0;
}

static bool is_file(int fd)
{
    char link[64], path[PATH_MAX];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (n < 0)
        return false;
    path[n] = '\0';
    return is_path(path);
}

/* Whether this call is to fail; errno is set then. */
static bool fails(const char *kind)
{
    static atomic_int calls;
    const char *plan = getenv("BADDISK"), *told = getenv("BADDISK_TOLD");
    char which[16], code[16], plus = 0;
    int n;
    if (!plan || sscanf(plan, "%15s %d%c%15s", which, &n, &plus, code) != 4 ||
        strcmp(which, kind) != 0)
        return false;
    int now = ++calls;
    if (now != n && !(plus == '+' && now > n))
        return false;
    int fd = told ? open(told, O_CREAT | O_WRONLY, 0666) : -1;
    REAL(int, "close", int);
    if (fd >= 0)
        real(fd);
    errno = EIO;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(code, codes[i].name) == 0)
            errno = codes[i].code;
    }
    return true;
}

ssize_t write(int fd, const void *from, size_t len)
{
    static atomic_bool half;
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_file(fd))
        return real(fd, from, len);
    if (atomic_exchange(&half, false)) {
        errno = ENOSPC;
        return -1;
    }
    if (fails("write"))
        return -1;
    if (fails("half") && len > 1) {
        atomic_store(&half, true);
        len /= 2;
    }
    return real(fd, from, len);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return is_file(fd) && fails("sync") ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, "fdatasync", int);
    return is_file(fd) && fails("sync") ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return is_path(to) && fails("rename") ? -1 : real(from, to);
}

int close(int fd)
{
    REAL(int, "close", int);
    bool failed = is_file(fd) && fails("close");
    int error = errno, rc = real(fd);
    if (!failed)
        return rc;
    errno = error;
    return -1;
}
