/* Signals of the leat program: they ask its runtime to stop, and a separate thread makes sure that
 * it stops. SIGINT, SIGTERM and SIGHUP; also SIGPIPE if standard output is broken. */
#pragma once

#include "cli/repl.h"
#include "leat.h"

/* Installs the signal handlers. */
void cli_signal_begin(void);
/* From now on signals stop this runtime. Call it on the runtime's thread. `repl`: the prompt whose
 * terminal must be restored. `hold`: scripts run in the runtime, and a task that never waits must
 * be stopped (the prompt does that itself). False: out of memory. */
bool cli_signal_watch(leat_runtime *rt, struct repl *repl, bool hold);
/* The run is over, and the runtime will be freed. After a signal, that takes at most some seconds.
 */
void cli_signal_close(void);
/* The first signal that asked the program to stop; 0: none. */
int cli_signal_got(void);
