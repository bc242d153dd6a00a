/* The history file of typed lines: $XDG_STATE_HOME/leat/history, readable only by its owner. One
 * entry per line; line ends inside an entry are written as \n. Only the editor's thread uses it. */
#pragma once

#include "ground/mem.h"

typedef void (*history_fn)(void *arg, const char *entry);

/* Opens the file, creates its folders, and passes on the last entries, oldest first. Returns the
 * descriptor, or -1: there is no place for a history, and the prompt works without one. */
int repl_history_open(struct mem *mem, history_fn fn, void *arg);
/* Adds an entry completely or not at all, even if other processes add entries at the same time. */
void repl_history_append(int fd, struct mem *mem, const char *text, size_t len);
