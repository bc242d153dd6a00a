/* The line editor: libedit, blocking, on a thread of its own. Everything below but the events is
 * called on the loop's thread. While a line is edited, standard output and error are a pipe whose
 * bytes the editor draws above the line; at any other time they are the terminal itself. */
#pragma once

#include "ground/err.h"
#include "ground/mem.h"

struct editor;

enum editor_event {
    EDITOR_LINE,    /* the text of a line, or of several that were pasted */
    EDITOR_EOF,     /* Ctrl-D on an empty line, or the terminal is gone */
    EDITOR_DROPPED, /* repl_edit_drop did its work */
    EDITOR_IDLE,    /* repl_edit_drop came too late: the line has been taken */
    EDITOR_COMPLETE /* the text before the cursor; repl_edit_answer with its number is awaited */
};

/* Runs on the editor's thread; the text is borrowed. */
typedef void (*editor_fn)(void *arg, enum editor_event event, const char *text, size_t len,
                          unsigned number);

/* Whether the terminal on standard input and output can be edited on. */
bool repl_edit_possible(void);
/* Starts the thread and loads the history. ERR_MEMORY, ERR_IO. */
NODISCARD enum err_kind repl_edit_new(struct editor **out, struct mem *mem, editor_fn fn, void *arg,
                                      struct err *err);
/* Ends an edit that is under way, and the thread; the terminal is as it was before. */
void repl_edit_free(struct editor *e);

/* Shows the prompt and begins to edit: one LINE, EOF or DROPPED will come. False: no memory. */
bool repl_edit_prompt(struct editor *e, const char *prompt);
/* Ends the edit that is under way, if any, with what is typed thrown away. */
bool repl_edit_drop(struct editor *e);
/* The reply to an EDITOR_COMPLETE: text to insert, and lines to show above the prompt; both may be
 * "". */
bool repl_edit_answer(struct editor *e, unsigned number, const char *insert, const char *list);
/* Adds to the history; `store`: to the file of it as well. */
bool repl_edit_remember(struct editor *e, const char *text, size_t len, bool store);
/* Asks the terminal for its size and draws the line again; where not `resized`, the process was
 * stopped in between. Signal-safe. */
void repl_edit_terminal_changed(struct editor *e, bool resized);
