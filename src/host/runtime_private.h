/* The inside of a runtime, for the files of the hosts' floor and for the program. */
#pragma once

#include "host/host_ids.h"
#include "host/runtime_grave.h"
#include "host/time_limit.h"
#include "leat.h"
#include "lua/lua_rt.h"
#include <pthread.h>

/* How many values a call takes and gives at most; bytes of a function's name. */
enum { HOST_ARGUMENTS = 64, HOST_NAME = 64 };

/* A task that the host has started. */
struct started {
    struct list node; /* host->running, then host->ended */
    struct host *host;
    uint64_t id;
    struct task *task;
    int ref; /* keeps the task until its results are handed over */
    struct task_hook hook;
    leat_done done; /* NULL: the host asks by leat_result, or the log says how it ended */
    void *arg;
    char name[48]; /* of the function or the source */
};

struct past {
    uint64_t id;
    enum leat_status status;
};

struct host {
    leat_runtime *r;
    struct rt *rt;
    pthread_t owner;
    pid_t process;
    unsigned inside;     /* callbacks of the host that run */
    bool closing;        /* nothing is started any more */
    struct host_ids ids; /* of what is in `running` */
    struct list running, ended;
    struct past past[64]; /* how the last ones came out, a ring */
    size_t past_next;
    struct leat_mailbox *box;
    struct loop_hook hook;
    const struct given *given; /* in the midst of a call's end */
};

/* Ours on a host's loop, beside those of the loop itself. */
struct attached {
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    bool polling; /* the host's loop waits, or runs what it waited for */
    /* Runs what is ready; whether there is more. */
    bool (*step)(struct leat_runtime *r);
};

struct leat_runtime {
    struct rt rt;
    struct targets *targets; /* NULL: everything may be connected to */
    struct leat_config config;
    pthread_t thread;
    struct time_limit limit;
    _Atomic unsigned interrupts; /* asked for */
    _Atomic unsigned interrupts_handled;
    _Atomic bool blocked; /* a call holds all tasks up, until something comes or an EINTR */
    uint64_t blocked_ns;  /* since when */
    struct timer waits;   /* set where long waits are to be told */
    uint64_t waits_every_ns;
    bool waits_due;
    struct timer grace; /* runs while graceful runs may finish what they began */
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

/* Registry: what a restricted script has for globals; else nil. */
#define RUNTIME_GLOBALS "leat.globals"
/* Registry: what a chunk has for globals in a host's state; else nil. */
#define RUNTIME_CHUNK_GLOBALS "leat.chunk_globals"
/* Registry: what `require "leat"` returns. */
#define RUNTIME_LEAT "leat.table"
