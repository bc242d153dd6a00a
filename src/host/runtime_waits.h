/* With -v: reports tasks that have waited for a long time, and for what. */
#pragma once

struct leat_runtime;

/* From now on the log reports, at its lowest level, which tasks have waited for a long time. Not
 * under virtual time, which jumps from one timer to the next. */
void runtime_watch_waits(struct leat_runtime *r);
void runtime_tell_waits(struct leat_runtime *r);
