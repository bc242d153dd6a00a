/* What the editor's thread writes on the terminal beside libedit: output above the line that is
 * edited, and the marks around an edit. */
#pragma once

#include <histedit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Before and after el_gets: a prompt at the start of a row, pastes marked by the terminal.
 * `given_up`: the line stays to be seen with this behind it; NULL: it was taken. */
void repl_screen_begin(EditLine *el, FILE *out);
void repl_screen_end(EditLine *el, FILE *out, const char *prompt, const char *given_up);
/* Writes the text where the line stands, and the line again below it. */
void repl_screen_above(EditLine *el, FILE *out, const char *prompt, const char *text, size_t len);
/* Draws the line again: the window's size is another one, or the terminal was someone else's. */
void repl_screen_changed(EditLine *el, FILE *out, const char *prompt, bool resized);
