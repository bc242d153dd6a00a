/* The internal state of a runtime, for the files of src/host and for the leat program. */
#pragma once

#include "host/collector.h"
#include "host/host_ids.h"
#include "host/runtime_grave.h"
#include "host/time_limit.h"
#include "leat.h"
#include "lua/lua_rt.h"
#include <pthread.h>

/* Maximum of arguments and of results of a call; maximum length of a function's name. */
enum { HOST_ARGUMENTS = 64, HOST_NAME = 64 };

/* A task that the host has started. */
struct started {
    struct list node; /* host->running, then host->ended */
    struct host *host;
    uint64_t id;
    struct task *task;
    int ref; /* keeps the task alive until its results are delivered */
    struct task_hook hook;
    leat_done done; /* NULL: the host calls leat_result, or the log reports the end */
    void *arg;
    char name[48]; /* name of the function or of the source */
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
    unsigned inside;     /* number of host callbacks that are running */
    bool closing;        /* no new tasks are started */
    struct host_ids ids; /* numbers of the tasks in `running` */
    struct list running, ended;
    struct past past[64]; /* results of the last tasks, a ring buffer */
    size_t past_next;
    struct leat_mailbox *box;
    struct loop_hook hook;
    const struct given *given; /* set while the end of a call is reported */
};

/* Our handles on a host's loop, in addition to those of the loop itself. */
struct attached {
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    bool polling; /* the host's loop waits, or handles the events of its wait */
    /* Runs ready tasks. Returns whether there are more. */
    bool (*step)(struct leat_runtime *r);
};

struct leat_runtime {
    struct rt rt;
    struct connect_rules *connect_rules; /* NULL: connections to all targets are allowed */
    struct leat_config config;
    pthread_t thread;
    struct time_limit limit;
    struct collector collector;
    _Atomic unsigned interrupts; /* number of requested interrupts */
    _Atomic unsigned interrupts_handled;
    _Atomic bool blocked; /* a call blocks all tasks until data arrives or it fails with EINTR */
    uint64_t blocked_ns;  /* start of that call */
    struct timer waits;   /* set if long waits are reported */
    uint64_t waits_every_ns;
    bool waits_due;
    struct timer grace; /* runs while graceful runs may finish started items */
    bool grace_over;
    int main_ref; /* reference to the last script's task */
    struct task *main;
    struct task_hook main_hook;
    bool main_ended;
    bool main_is_script; /* false: it is a call without a callback */
    bool main_asked;     /* the host knows how it ended */
    char main_name[48];
    bool hosted; /* the Lua state belongs to the host */
    bool module; /* this is leat.so: main is the task that leat.run runs */
    bool stuck;
    struct attached attached; /* used if the loop belongs to the host */
    struct buf report;
    char error_text[512]; /* error of the last protected call */
    enum err_kind error_kind;
};

/* Registry key: the globals of a sandboxed script; else nil. */
#define RUNTIME_GLOBALS "leat.globals"
/* Registry key: the globals of a chunk in a host's state; else nil. */
#define RUNTIME_CHUNK_GLOBALS "leat.chunk_globals"
/* Registry key: the value of `require "leat"`. */
#define RUNTIME_LEAT "leat.table"
