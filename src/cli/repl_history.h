/* The file of the lines that were typed: $XDG_STATE_HOME/leat/history, readable by its owner only.
 * One entry a line, line ends inside one as \n. Used by the editor's thread alone. */
#pragma once

#include "ground/mem.h"

typedef void (*history_fn)(void *arg, const char *entry);

/* Opens the file, making its folders, and hands over the last entries, oldest first. The
 * descriptor, or -1: there is no place for a history, which is no reason to fail. */
int repl_history_open(struct mem *mem, history_fn fn, void *arg);
/* Adds an entry, whole or not at all, beside other processes that do the same. */
void repl_history_append(int fd, struct mem *mem, const char *text, size_t len);
