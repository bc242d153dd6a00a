/* The log: where messages for people go. */
#pragma once

#include "ground/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `line` is borrowed and has no newline at its end. Called on any thread that runs a part of the
 * runtime. */
typedef void (*log_fn)(void *arg, enum log_level level, const char *line);

struct log {
    log_fn fn; /* NULL: standard error */
    void *arg;
    enum log_level min_level;
    bool short_told; /* see log_short_of_files */
    bool is_hosts;   /* the lines go to the host; nothing else is written to standard error */
    bool line_open;  /* the terminal shows a progress line, which a message must overwrite */
};

void log_init(struct log *log, log_fn fn, void *arg, enum log_level min_level);
void log_write(struct log *log, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Warns, once, that the limit of open files is too low. `what` is the consequence: "a connection
 * could not be opened". */
void log_short_of_files(struct log *log, const char *what, size_t limit);
const char *log_level_name(enum log_level level);
