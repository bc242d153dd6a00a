/* What signals do to the leat program: they ask its runtime to stop, and a thread of its own sees
 * to it that it does. SIGINT, SIGTERM and SIGHUP; and SIGPIPE, where standard output is what broke.
 */
#pragma once

#include "cli/repl.h"
#include "leat.h"

/* Takes the signals. */
void cli_signal_begin(void);
/* There is a runtime to stop, and with `repl` a prompt whose terminal is put back. On the thread
 * that runs it. `hold`: scripts run in it, and what does not give way is to be stopped (not at a
 * prompt, which does that itself). False: no memory. */
bool cli_signal_watch(leat_runtime *rt, struct repl *repl, bool hold);
/* Its run is over, and it is about to be freed: that takes no more than some seconds after a
 * signal. */
void cli_signal_close(void);
/* The signal that has asked it to stop; 0: none. */
int cli_signal_got(void);
