/* The line editor: libedit, which blocks, on its own thread. All functions below are called on the
 * loop's thread; only the event callback is not. While a line is edited, standard output and error
 * are a pipe, and the editor draws its bytes above the line. At any other time they are the
 * terminal itself. */
#pragma once

#include "ground/err.h"
#include "ground/mem.h"

struct editor;

enum editor_event {
    EDITOR_LINE,    /* the text of a line, or of several that were pasted */
    EDITOR_EOF,     /* Ctrl-D on an empty line, or the terminal is gone */
    EDITOR_DROPPED, /* repl_edit_drop has ended the edit */
    EDITOR_IDLE,    /* repl_edit_drop came too late: the line is finished */
    EDITOR_COMPLETE /* the text before the cursor; call repl_edit_answer with its number */
};

/* Runs on the editor's thread. The text is valid only during the call. */
typedef void (*editor_fn)(void *arg, enum editor_event event, const char *text, size_t len,
                          unsigned number);

/* Whether standard input and output are a terminal on which lines can be edited. */
bool repl_edit_possible(void);
/* Starts the thread and loads the history. Fails with ERR_MEMORY or ERR_IO. */
NODISCARD enum err_kind repl_edit_new(struct editor **out, struct mem *mem, editor_fn fn, void *arg,
                                      struct err *err);
/* Ends a running edit and the thread, and restores the terminal. */
void repl_edit_free(struct editor *e);

/* Shows the prompt and starts an edit: one LINE, EOF or DROPPED event follows. False: out of
 * memory. */
bool repl_edit_prompt(struct editor *e, const char *prompt);
/* Ends the running edit, if any, and discards the typed text. */
bool repl_edit_drop(struct editor *e);
/* The reply to an EDITOR_COMPLETE: text to insert, and lines to show above the prompt. Both may be
 * "". */
bool repl_edit_answer(struct editor *e, unsigned number, const char *insert, const char *list);
/* Adds an entry to the history; `store`: also to its file. */
bool repl_edit_remember(struct editor *e, const char *text, size_t len, bool store);
/* Reads the terminal's size and draws the line again. Not `resized`: the process was stopped in
 * between. Signal-safe. */
void repl_edit_terminal_changed(struct editor *e, bool resized);
