/* The interactive prompt: the module leat.native.repl for its Lua half (lua/leat/repl/repl.lua),
 * and the way in for signals. It lives on the runtime's thread; the line editor has one of its own.
 */
#pragma once

#include "lua/lua_rt.h"

struct repl;

/* Adds the module to the runtime; before a script starts. NULL: no memory, or no line editor's
 * thread could be made. */
NODISCARD struct repl *repl_new(struct rt *rt);
/* Gives the terminal back. The runtime's state must still be there. NULL is allowed. */
void repl_free(struct repl *r);

/* ---- from signal handlers; any thread ---- */

/* Ctrl-C: what is typed is dropped, what runs is cancelled, and what never gives way is stopped.
 * False: nobody types, so that it means what it means to any script. */
bool repl_interrupt(struct repl *r);
/* The window has another size, or (not `resized`) the process goes on after a stop. */
void repl_terminal_changed(struct repl *r, bool resized);
/* Puts the terminal's modes back as they were found, for a process that ends at once. */
void repl_restore_terminal(const struct repl *r);
