/* Output at the end of a run: --trace, --report and --stats of the leat command, and the results of
 * the script's pipelines. */
#pragma once

#include "leat.h"

struct see {
    const char *trace, *report, *stats; /* paths; stats "": standard error; NULL: not requested */
    const char *title;
    bool repl;
    struct record *record;
};

/* Reads argv[*i] if it is one of these options, and moves *i past a value. 1: read; 0: another
 * option; -1: its value is missing. */
int cli_outputs_option(struct see *s, int argc, const char *const *argv, int *i);
/* Call it before the script starts. False: it failed and has printed the reason on standard error.
 */
bool cli_outputs_begin(struct see *s, leat_runtime *rt);
/* Call it after the script has ended, with its exit status. Returns the final exit status. */
int cli_outputs_end(struct see *s, leat_runtime *rt, int status);
/* Frees everything if no script was started. */
void cli_outputs_drop(struct see *s);
