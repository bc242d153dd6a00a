#include "ground/log.h"

#include <stdarg.h>
#include <string.h>

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(struct log *log, log_fn fn, void *arg, enum log_level min_level)
{
    *log = (struct log){.fn = fn, .arg = arg, .min_level = min_level};
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < ARRAY_LEN(level_names) ? level_names[level] : "error";
}

void log_write(struct log *log, enum log_level level, const char *fmt, ...)
{
    if (level < log->min_level)
        return;
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int wrote = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (wrote < 0)
        return;
    size_t len = MIN((size_t)wrote, sizeof(line) - 1);
    if ((size_t)wrote > len)
        memcpy(line + len - 3, "...", 3);
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    line[len] = '\0';
    if (log->line_open)
        fputs("\r\033[K", stderr);
    if (log->fn != NULL)
        log->fn(log->arg, level, line);
    else
        fprintf(stderr, "leat: %s: %s\n", log_level_name(level), line);
}

void log_short_of_files(struct log *log, const char *what, size_t limit)
{
    if (log->short_told)
        return;
    log->short_told = true;
    log_write(log, LOG_WARN,
              "%s: this process may have at most %zu files and connections open (raise the limit "
              "with ulimit -n, start fewer at once, or close some)",
              what, limit);
}
