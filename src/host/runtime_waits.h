/* With -v: what has waited for long, and for whom. */
#pragma once

struct leat_runtime;

/* From now on the log says at its lowest level, now and then, which tasks have waited for long. Not
 * on virtual time, which would jump from one time to the next. */
void runtime_watch_waits(struct leat_runtime *r);
void runtime_tell_waits(struct leat_runtime *r);
