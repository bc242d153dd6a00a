/* Terminal output of the editor's thread besides libedit: output above the edited line, and the
 * escape sequences around an edit. */
#pragma once

#include <histedit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Call these before and after el_gets. begin puts the prompt at the start of a row, and makes the
 * terminal mark pastes. `given_up`: the line stays visible with this text after it; NULL: the line
 * was accepted. */
void repl_screen_begin(EditLine *el, FILE *out);
void repl_screen_end(EditLine *el, FILE *out, const char *prompt, const char *given_up);
/* Writes the text at the line's place, and draws the line again below it. */
void repl_screen_above(EditLine *el, FILE *out, const char *prompt, const char *text, size_t len);
/* Draws the line again, after the window's size has changed or another process used the terminal.
 */
void repl_screen_changed(EditLine *el, FILE *out, const char *prompt, bool resized);
