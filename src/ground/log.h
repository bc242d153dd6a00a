/* Where messages for people go. */
#pragma once

#include "ground/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `line` is borrowed, without a newline. May be called on any thread that runs a part of the
 * runtime. */
typedef void (*log_fn)(void *arg, enum log_level level, const char *line);

struct log {
    log_fn fn; /* NULL: standard error */
    void *arg;
    enum log_level min_level;
    bool short_told; /* see log_short_of_files */
    bool is_hosts;   /* so nothing is written to standard error beside it */
    bool line_open;  /* a line that is redrawn stands on the terminal; messages come in its place */
};

void log_init(struct log *log, log_fn fn, void *arg, enum log_level min_level);
void log_write(struct log *log, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Warns, once, that the process may open too few files. `what` comes of it: "a connection could not
 * be opened". */
void log_short_of_files(struct log *log, const char *what, size_t limit);
const char *log_level_name(enum log_level level);
