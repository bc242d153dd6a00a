#include "loop/fd_duplicate.h"
#include <fcntl.h>

#ifdef __SANITIZE_THREAD__
/* From ThreadSanitizer's runtime; no header of gcc's declares them. */
void __sanitizer_syscall_pre_impl_close(long fd);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

/* ThreadSanitizer remembers what each thread did with a number until it is closed. It does not see
 * that libuv closes descriptors by system calls of its own, nor that fcntl makes one. It would then
 * report a race between two threads that had the same number one after the other. */
static void forget_past(int fd)
{
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    __sanitizer_syscall_pre_impl_close(fd);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}
#endif

int fd_duplicate(int fd, int least)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, least);
#ifdef __SANITIZE_THREAD__
    if (copy >= 0)
        forget_past(copy);
#endif
    return copy;
}
