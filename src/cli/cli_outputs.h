/* What is said at the end of a run: --trace, --report and --stats of the leat command, and the
 * outcomes of the script's pipelines. */
#pragma once

#include "leat.h"

struct see {
    const char *trace, *report, *stats; /* paths; stats "" is standard error; NULL: not wanted */
    const char *title;
    bool repl;
    struct record *record;
};

/* Takes argv[*i] if it is one of these options, moving *i over a value. 1: taken; 0: another
 * option; -1: its value is missing. */
int cli_outputs_option(struct see *s, int argc, const char *const *argv, int *i);
/* Before the script starts. False: said why on standard error. */
bool cli_outputs_begin(struct see *s, leat_runtime *rt);
/* After it has ended, with its exit status; the one to end with. */
int cli_outputs_end(struct see *s, leat_runtime *rt, int status);
/* What was begun, where nothing was started. */
void cli_outputs_drop(struct see *s);
