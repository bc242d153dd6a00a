/* The inside of a runtime, for the two that make one: leat_new, and the Lua module for a host's Lua
 * state. */
#pragma once

#include "host/host_function.h"
#include "host/time_limit.h"

/* Ours on a host's loop, beside those of the loop itself. */
struct attached {
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    bool polling; /* the host's loop waits, or runs what it waited for */
};

struct leat_runtime {
    struct rt rt;
    struct targets *targets; /* NULL: everything may be connected to */
    struct leat_config config;
    pthread_t thread;
    struct limit limit;
    _Atomic unsigned interrupts; /* asked for */
    _Atomic unsigned interrupts_handled;
    _Atomic bool blocked; /* a call holds all tasks up, until something comes or an EINTR */
    uint64_t blocked_ns;  /* since when */
    struct timer waits;   /* set where long waits are to be told */
    uint64_t waits_every_ns;
    bool waits_due;
    struct timer grace; /* runs while those that drain may still finish what they began */
    bool grace_over;
    int main_ref; /* the last script's task */
    struct task *main;
    struct task_hook main_hook;
    bool main_ended;
    bool main_is_script; /* and not a call without a callback */
    bool main_asked;     /* the host knows how it ended */
    char main_name[48];
    bool hosted; /* the Lua state is the host's */
    bool module; /* and this is leat.so: main is what leat.run runs */
    bool stuck;
    struct attached attached; /* where the loop is the host's */
    struct buf report;
    char error_text[512]; /* of the last protected call */
    enum err_kind error_kind;
};

/* Opens the floors of a zeroed runtime whose `config` is set. `host`: a thread of the host's Lua
 * state, kept by the caller; NULL: the runtime makes a state of its own and fills it. Leaves
 * nothing open where it fails. */
NODISCARD enum err_kind runtime_open(struct leat_runtime *r, lua_State *host, struct err *err);
/* One round: what is ready, then the loop (a host's only to wait). False: no task lives (and it did
 * not wait). */
bool runtime_turn(struct leat_runtime *r, bool block, uint64_t until_ns);
/* Logs how the last script ended, if that was badly and the host has not asked. */
void runtime_tell_unasked(struct leat_runtime *r);
/* From now on the log says at its lowest level, now and then, which tasks have waited for long. Not
 * on virtual time, which would jump from one time to the next. */
void runtime_watch_waits(struct leat_runtime *r);
void runtime_tell_waits(struct leat_runtime *r);
/* There is something to do at once. */
bool runtime_is_ready(const struct leat_runtime *r);
/* Closes what runtime_open has opened; no task is resumed any more. */
void runtime_close(struct leat_runtime *r);

/* Debug builds abort with words where a host goes on with a runtime that it has freed; in others
 * that is undefined, as with any freed memory. */
#ifdef LEAT_DEBUG
void runtime_bury(const struct leat_runtime *r);
void runtime_unearth(const struct leat_runtime *r);
void runtime_check_alive(const struct leat_runtime *r, const char *call);
#define RUNTIME_CHECK(r) runtime_check_alive(r, __func__)
#else
#define runtime_bury(r) ((void)(r))
#define runtime_unearth(r) ((void)(r))
#define RUNTIME_CHECK(r) ((void)(r))
#endif
