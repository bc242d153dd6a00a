#include "cli/repl_history.h"

#include "ground/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES ((size_t)8 << 20)
#define MAX_ENTRIES 5000
#define KEPT_ENTRIES 2500 /* entries that are kept when the file has more than MAX_ENTRIES */

/* Writes the file's path to `out` and creates its folders. */
static bool make_path(char *out, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (state && state[0] == '/')
        n = snprintf(out, size, "%s/leat/history", state);
    else if (home && home[0] == '/')
        n = snprintf(out, size, "%s/.local/state/leat/history", home);
    else
        return false;
    if (n < 0 || (size_t)n >= size)
        return false;
    for (char *p = out + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        bool made = mkdir(out, 0700) == 0 || errno == EEXIST;
        *p = '/';
        if (!made)
            return false;
    }
    return true;
}

static bool read_all(int fd, struct buf *text)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    /* Reads only the end of a too large file. The first line is then incomplete, which does no
     * harm. */
    off_t skip = (size_t)st.st_size > MAX_FILE_BYTES ? st.st_size - (off_t)MAX_FILE_BYTES : 0;
    if (lseek(fd, skip, SEEK_SET) < 0)
        return false;
    for (;;) {
        if (text->len == MAX_FILE_BYTES)
            return true;
        size_t part = MIN((size_t)65536, MAX_FILE_BYTES - text->len);
        if (buf_reserve(text, part) != ERR_NONE)
            return false;
        ssize_t n = read(fd, text->data + text->len, part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        buf_commit(text, (size_t)n);
    }
}

/* Replaces the file by one with its last entries. Returns the new descriptor, or the old one on
 * failure. */
static int shorten(int fd, const char *path, const char *text, size_t len)
{
    char temporary[4200];
    int n = snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary)
        return fd;
    int fresh = open(temporary, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fresh < 0)
        return fd;
    if (write(fresh, text, len) != (ssize_t)len || rename(temporary, path) != 0) {
        unlink(temporary);
        close(fresh);
        return fd;
    }
    close(fd);
    return fresh;
}

static void unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (*s == '\\' && (s[1] == 'n' || s[1] == '\\'))
            *out++ = *++s == 'n' ? '\n' : '\\';
        else
            *out++ = *s;
    }
    *out = '\0';
}

static size_t count_lines(const struct buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += text->data[i] == '\n';
    return n;
}

int repl_history_open(struct mem *mem, history_fn fn, void *arg)
{
    char path[4096];
    if (!make_path(path, sizeof path))
        return -1;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return -1;
    struct buf text;
    buf_init(&text, mem, MAX_FILE_BYTES + 1);
    if (fchmod(fd, 0600) != 0 || !read_all(fd, &text)) {
        buf_fini(&text);
        close(fd);
        return -1;
    }
    size_t lines = count_lines(&text), skip = lines > MAX_ENTRIES ? lines - KEPT_ENTRIES : 0;
    char *at = text.data, *end = text.data + text.len;
    for (; skip > 0; skip--)
        at = (char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    if (lines > MAX_ENTRIES)
        fd = shorten(fd, path, at, (size_t)(end - at));
    for (char *eol; at && (eol = memchr(at, '\n', (size_t)(end - at))) != NULL; at = eol + 1) {
        *eol = '\0';
        unescape(at);
        if (*at)
            fn(arg, at);
    }
    buf_fini(&text);
    return fd;
}

void repl_history_append(int fd, struct mem *mem, const char *text, size_t len)
{
    if (fd < 0)
        return;
    struct buf line;
    buf_init(&line, mem, MAX_FILE_BYTES);
    enum err_kind rc = ERR_NONE;
    for (size_t i = 0; i < len && rc == ERR_NONE; i++) {
        if (text[i] == '\n')
            rc = buf_append(&line, "\\n", 2);
        else if (text[i] == '\\')
            rc = buf_append(&line, "\\\\", 2);
        else
            rc = buf_append(&line, &text[i], 1);
    }
    if (rc == ERR_NONE && buf_append(&line, "\n", 1) == ERR_NONE)
        (void)!write(fd, line.data, line.len);
    buf_fini(&line);
}
