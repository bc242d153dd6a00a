/* The interactive prompt: the module leat.native.repl for its Lua half (lua/leat/repl/repl.lua),
 * and functions for signal handlers. It runs on the runtime's thread; the line editor has its own
 * thread. */
#pragma once

#include "lua/lua_rt.h"

struct repl;

/* Adds the module to the runtime. Call it before a script starts. NULL: out of memory, or the line
 * editor's thread could not be created. */
NODISCARD struct repl *repl_new(struct rt *rt);
/* Restores the terminal. The runtime's state must still exist. NULL is allowed. */
void repl_free(struct repl *r);

/* ---- from signal handlers; any thread ---- */

/* Ctrl-C: discards the typed text, cancels the running task, and stops code that never waits.
 * False: no prompt is open, so Ctrl-C must be handled as in any script. */
bool repl_interrupt(struct repl *r);
/* The window's size has changed, or (not `resized`) the process continues after a stop. */
void repl_terminal_changed(struct repl *r, bool resized);
/* Restores the terminal's original modes, for a process that ends at once. */
void repl_restore_terminal(const struct repl *r);
