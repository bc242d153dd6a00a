/* Leat: concurrent HTTP pipelines written in Lua, as a C library.
 *
 * A runtime belongs to the thread that created it: every call but leat_interrupt is for that
 * thread. Runtimes share nothing, so there may be many. No call is allowed from inside another. */
#ifndef LEAT_H
#define LEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LEAT_API __attribute__((visibility("default")))

typedef struct leat_runtime leat_runtime;

/* What went wrong, filled by calls that fail. */
struct leat_error {
    char kind[16];     /* "invalid", "io", "memory", ... */
    char message[512]; /* a sentence for a person */
};

enum leat_log_level { LEAT_LOG_DEBUG, LEAT_LOG_INFO, LEAT_LOG_WARN, LEAT_LOG_ERROR };

/* What scripts may use of the process that they run in. */
enum leat_sandbox {
    LEAT_SANDBOX_FULL,      /* everything: io, os, ffi, C modules */
    LEAT_SANDBOX_RESTRICTED /* neither files nor processes, ffi, debug, bytecode: see README.md */
};

/* A zeroed struct asks for the defaults. Strings and pointers are borrowed during leat_new, but for
 * log_arg, which is kept. */
struct leat_config {
    size_t memory_limit;      /* bytes for Lua and our buffers; 0: none */
    unsigned max_connections; /* requests on the wire at once; 0: from the open-file limit */
    unsigned max_per_host;    /* of them to one host and port; 0: no limit of its own */
    bool virtual_time;        /* the clock jumps from timer to timer; sockets are refused */
    bool env_proxy;           /* honour http_proxy and its kin */
    /* What scripts may connect to: words such as "public", "10.0.0.0/8", "api.example.com",
     * "*.example.com", "any" (see README.md). Checked for each request and redirect, on the address
     * that is really used. NULL: everything. */
    const char *allow_connect;
    enum leat_sandbox sandbox;
    /* Restricted: the Lua modules that scripts may require, such as "inspect, lib.*"; "*": all that
     * are found; NULL: leat alone. */
    const char *allow_modules;
    /* How long a task may compute between two waits, in milliseconds; 0: without end. Past it the
     * task ends as a failure of kind "budget", reason "time_limit"; the others live on. leat_step
     * then also keeps its budget in the midst of a task, which goes on at the next step (under
     * virtual time it does not). Turns LuaJIT's compiler off, unless jit_watchdog is set. What C
     * functions do (a pattern, a sort's own work, ffi) is not interrupted. */
    unsigned time_limit_ms;
    /* The compiler stays on under a time limit: for one runtime of a process at a time. Takes
     * SIGPROF, and acts up to some 10 ms late. */
    bool jit_watchdog;
    uint64_t seed;          /* of the runtime's random numbers; 0: from the system */
    const char *script_dir; /* where require looks first; NULL: nowhere */
    /* Lines for people; NULL: standard error. Called on the runtime's thread. */
    void (*log)(void *log_arg, enum leat_log_level level, const char *line);
    void *log_arg;
    enum leat_log_level min_log_level;
};

enum leat_status {
    LEAT_OK,        /* the script ended well */
    LEAT_FAILED,    /* it returned nil, err, or raised an error value */
    LEAT_RAISED,    /* it has a bug */
    LEAT_CANCELLED, /* it was interrupted */
    LEAT_EXITED,    /* it called os.exit: see leat_exit_code */
    LEAT_STUCK      /* every task waited and nothing could wake one */
};

enum leat_next { LEAT_IDLE, LEAT_READY, LEAT_DONE };

/* The library's version, such as "0.1.0". */
LEAT_API const char *leat_version(void);

/* Creates a runtime with its own loop and Lua state. NULL: see *err (which may be NULL). */
LEAT_API leat_runtime *leat_new(const struct leat_config *config, struct leat_error *err);

/* Aborts what runs, lets clean-ups run for at most their grace, and frees everything. NULL is
 * allowed. */
LEAT_API void leat_free(leat_runtime *rt);

/* Loads a script and starts it as a task; it runs inside leat_run and leat_step. `args` (ended by
 * NULL, may be NULL) become `...` and the global `arg`. Bytecode is refused. False: see *err: kind
 * "io" (cannot be read), "invalid" (not a text script), "script" (a syntax error). */
LEAT_API bool leat_start_file(leat_runtime *rt, const char *path, const char *const *args,
                              struct leat_error *err);
/* The same for `len` bytes of source; `name` is what messages call it ("=name" is shown as it is).
 */
LEAT_API bool leat_start_string(leat_runtime *rt, const char *name, const char *source, size_t len,
                                const char *const *args, struct leat_error *err);

/* Runs until every task has ended; how the last script started came out. */
LEAT_API enum leat_status leat_run(leat_runtime *rt);
/* Runs Lua and network for about `budget_us` microseconds without blocking (a single resume is not
 * cut short). LEAT_READY: there is more to do now; LEAT_IDLE: everything waits; LEAT_DONE: all has
 * ended. */
LEAT_API enum leat_next leat_step(leat_runtime *rt, uint64_t budget_us);
/* How the last script started came out; meaningful once it has ended. */
LEAT_API enum leat_status leat_result(leat_runtime *rt);

/* The story of the last script's end, with tracebacks: "" if it ended well. Valid until the next
 * call. */
LEAT_API const char *leat_report(leat_runtime *rt);
/* The status given to os.exit. */
LEAT_API int leat_exit_code(leat_runtime *rt);

/* Asks to stop, as Ctrl-C does: the first call sets leat.stopping and cancels the scripts, the
 * second cancels everything again. From any thread, and from a signal handler. */
LEAT_API void leat_interrupt(leat_runtime *rt);

#ifdef __cplusplus
}
#endif
#endif
