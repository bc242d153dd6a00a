/* Leat: concurrent HTTP pipelines written in Lua, as a C library.
 *
 * A runtime belongs to the thread that created it: every call but leat_interrupt and leat_complete
 * is for that thread, and none but those named below for the inside of a callback. What is called
 * otherwise, in a forked child, or with NULL for a runtime says so and does nothing. A runtime that
 * leat_free has freed is freed memory: what a call with it does is undefined, but a debug build of
 * the library (CMAKE_BUILD_TYPE=Debug) aborts and names the call. Runtimes share nothing, so there
 * may be many. */
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

/* Goes up by one with each addition to this header. A program runs with every libleat of the same
 * soname that is not older than the leat.h it was built with, and with an older one as long as it
 * asks for nothing that is new. Nothing is taken away or changed under one soname; leat_config and
 * leat_stats grow at their ends. */
#define LEAT_API_VERSION 2

/* What went wrong, filled by calls that fail. Of this size for ever. */
struct leat_error {
    char kind[16];     /* "invalid", "io", "memory", ... */
    char message[512]; /* a sentence for a person */
};

enum leat_log_level { LEAT_LOG_DEBUG, LEAT_LOG_INFO, LEAT_LOG_WARN, LEAT_LOG_ERROR };

/* What scripts may use of the process that they run in. */
enum leat_sandbox {
    LEAT_SANDBOX_FULL,      /* everything: io, os, ffi, C modules */
    LEAT_SANDBOX_RESTRICTED /* neither files nor processes, ffi, debug, bytecode: see
                               docs/embedding.md */
};

struct uv_loop_s;
struct lua_State;

/* A zeroed struct asks for the defaults. Strings are borrowed during leat_new; functions, their
 * arguments, `loop` and `lua_state` are kept, and must live until leat_free has returned. */
struct leat_config {
    /* Bytes for Lua and our buffers; 0: none. A task that wants more fails with kind "memory".
     * Tasks that wait for others, and clean-ups, may go above it by a sixteenth (at least 256 KB).
     * With this limit, or with `alloc`, LuaJIT's compiler is off where LuaJIT is 2.1.0-beta3 or
     * older: its compiled code crashes when an allocation is refused. */
    size_t memory_limit;
    unsigned max_connections; /* requests on the wire at once; 0: from the open-file limit */
    unsigned max_per_host;    /* of them to one host and port; 0: no limit of its own */
    /* Threads that do the network's work beside the host's: 0, all of it happens within leat_step
     * and leat_run. Lua and every callback stay on the host's thread. Origins are divided among
     * them, and so is max_connections. At most 16; not with virtual_time. */
    unsigned network_threads;
    bool virtual_time; /* the clock jumps from timer to timer; no socket is opened */
    bool env_proxy;    /* honour http_proxy and its kin */
    /* What scripts may connect to: words such as "public", "10.0.0.0/8", "api.example.com",
     * "*.example.com", "any" (see docs/command-line.md). Checked for each request and redirect, on
     * the address that is really used; behind a proxy of the environment, which looks names up
     * itself, rules for addresses let no name pass. NULL: everything. */
    const char *allow_connect;
    enum leat_sandbox sandbox;
    /* Restricted: the Lua modules that scripts may require, such as "inspect, lib.*"; "*": all that
     * are found; NULL: leat alone. */
    const char *allow_modules;
    /* How long a task may compute between two waits, in milliseconds; 0: without end. Past it the
     * task ends as a failure of kind "budget", reason "time_limit"; the others live on. leat_step
     * then also keeps its budget in the midst of a task, which goes on at the next step (under
     * virtual time it does not, nor beneath C functions that cannot be left, such as table.sort).
     * Turns LuaJIT's compiler off, unless jit_watchdog is set. What C functions do (a pattern, ffi)
     * is not interrupted. */
    unsigned time_limit_ms;
    /* The compiler stays on under a time limit: for one runtime of a process at a time. Takes
     * SIGPROF; the limit acts up to some 10 ms late, the end of a leat_step does not. */
    bool jit_watchdog;
    uint64_t seed;          /* of the runtime's random numbers; 0: from the system */
    const char *script_dir; /* where require looks first; NULL: nowhere */
    /* Lines for people; NULL: standard error. Called on the runtime's thread. */
    void (*log)(void *log_arg, enum leat_log_level level, const char *line);
    void *log_arg;
    enum leat_log_level min_log_level; /* what is below is not told; 0: everything is */
    void *user;                        /* for the host: see leat_user */
    /* What scripts write to standard output by print, io.write and io.stdout:write, a call for each
     * of theirs: `len` bytes, print's newline among them, and a NUL behind; borrowed for the call.
     * NULL: the process's standard output. Called on the runtime's thread, as a callback. */
    void (*print)(void *print_arg, const char *text, size_t len);
    void *print_arg;
    /* All memory of the runtime and of its Lua state, still counted and held to memory_limit. As
     * lua_Alloc has it: `block` NULL asks for a new one, `new_size` 0 gives one back (the result is
     * not looked at), else it is moved to its new size; `old_size` is what it was asked for last, 0
     * for a new one (where LuaJIT ran out of memory in the midst of a closure, less). NULL: no
     * memory, and `block` stays; not allowed where a block shrinks. Blocks are aligned as malloc's
     * (and lie in the lower 47 bits, for LuaJIT). What it calls of Leat's is refused. On the
     * runtime's thread; where the runtime has network threads, on those and at the same time too.
     * Not asked for: values and mailboxes, which belong to no runtime; look-ups of names, which may
     * outlive it; what libcurl, TLS, libuv and the HTTP server allocate (theirs is a matter of the
     * process: curl_global_init_mem, uv_replace_allocator). NULL: malloc and its kin. */
    void *(*alloc)(void *alloc_arg, void *block, size_t old_size, size_t new_size);
    void *alloc_arg;
    /* The host's own loop, run on the runtime's thread; NULL: one of the runtime's. The tasks go on
     * by themselves whenever the host runs it, for some milliseconds of Lua in each turn, callbacks
     * come in there too, and uv_run does not end while a task lives. leat_run is refused; leat_step
     * runs what is ready, but not the loop, and may be called inside uv_run; leat_free may not: it
     * runs the loop, the host's callbacks with it, until no handle of Leat's is left on it. The
     * loop stays the host's, who closes it after leat_free. Refused with virtual_time. */
    struct uv_loop_s *loop;
    /* The host's own Lua state, of the LuaJIT that Leat is linked with, with its standard
     * libraries; NULL: one of the runtime's. `require "leat"` works there then, and of what the
     * host has in it only package.preload and package.loaded get entries ("leat", "leat.*").
     * Scripts have the host's globals, and behind them leat's own (leat, request, sleep ...); they
     * wait in their task, not inside coroutines that they make; os.exit ends the process. The
     * host's own Lua may use leat beside, and does not wait. memory_limit holds for our buffers;
     * `alloc` must live as long as the state. Call leat_free before lua_close, or what runs is
     * dropped, and the runtime is no more. One runtime at a time in a state. Refused with sandbox,
     * allow_modules, script_dir, time_limit_ms, jit_watchdog and print. */
    struct lua_State *lua_state;
};

enum leat_status {
    LEAT_OK,        /* the script ended well */
    LEAT_FAILED,    /* it returned nil, err, or raised an error value */
    LEAT_RAISED,    /* it has a bug */
    LEAT_CANCELLED, /* it was interrupted */
    LEAT_EXITED,    /* it called os.exit: see leat_exit_code */
    LEAT_STUCK,     /* every task waited and nothing could wake one */
    LEAT_MISUSE,    /* the call was not allowed: see leat_run */
    LEAT_RUNNING    /* it has not ended yet */
};

enum leat_next {
    LEAT_IDLE,
    LEAT_READY,
    LEAT_DONE,
    LEAT_REFUSED /* from another thread, a callback or a task, or in a forked child: nothing was
                    done */
};

/* The library's version, such as "0.1.0". */
LEAT_API const char *leat_version(void);
/* The pointer given as config.user. */
LEAT_API void *leat_user(leat_runtime *rt);

/* Creates a runtime, with its own loop and Lua state unless the config has the host's; a config of
 * NULL: the defaults. NULL: see *err (which may be NULL): "invalid" (something in the config cannot
 * be had), "memory", "io" (no descriptors). `size` is that of the caller's leat_config. */
LEAT_API leat_runtime *leat_new_sized(const struct leat_config *config, size_t size,
                                      struct leat_error *err);
/* What C and C++ call; other languages call leat_new_sized. */
static inline leat_runtime *leat_new(const struct leat_config *config, struct leat_error *err)
{
    return leat_new_sized(config, sizeof(struct leat_config), err);
}

/* Aborts what runs, lets clean-ups run for at most their grace, ten seconds in all, and frees
 * everything. Before that, the log says which pipelines had no success, and where in a script
 * responses that are not ok went unlooked at. NULL is allowed. Does nothing from another thread,
 * from a callback, in a forked child, and (with a line in the log) from what the host's loop calls
 * as it polls. From a timer's callback and the like on that loop it cannot be told, and is not
 * allowed: uv_run is not made to be called by what it calls. */
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

/* Runs until every task has ended; then as leat_result. LEAT_MISUSE: as leat_step, or the loop is
 * the host's. */
LEAT_API enum leat_status leat_run(leat_runtime *rt);
/* Runs Lua and network for about `budget_us` microseconds without blocking. A single resume, or
 * event of a connection, is not cut short; as the latter's cost grows with the requests on an
 * HTTP/2 connection, these get at most 20 from the first step on. LEAT_READY: there is more to do
 * now; LEAT_IDLE: everything waits; LEAT_DONE: all has ended; LEAT_REFUSED: a misuse. */
LEAT_API enum leat_next leat_step(leat_runtime *rt, uint64_t budget_us);
/* How the last script started came out: LEAT_RUNNING until it has ended. Where no script was
 * started, it is the last leat_call or leat_eval without a callback, and LEAT_OK if there was none.
 * A script or call without a callback that fails or has a bug, and that nobody asks about by
 * leat_run, leat_result or leat_report, is written to the log. LEAT_MISUSE: asked from another
 * thread, or in a forked child. */
LEAT_API enum leat_status leat_result(leat_runtime *rt);

/* The story of that end, with tracebacks: "" if it ended well. Valid until the next call. For a
 * misuse as for leat_step: what was wrong with it. */
LEAT_API const char *leat_report(leat_runtime *rt);
/* The status that was given to os.exit since the last script started, or 0; -1: a misuse as for
 * leat_result. */
LEAT_API int leat_exit_code(leat_runtime *rt);

/* Asks to stop, as Ctrl-C does: the first call sets leat.stopping and cancels the scripts (where a
 * pipeline or something with a journal runs, ten seconds later), the second cancels everything
 * again. From any thread, and from a signal handler. */
LEAT_API void leat_interrupt(leat_runtime *rt);

/* For a host that polls by itself: a descriptor that is readable when leat_step has something to
 * do, and the milliseconds until it has at the latest (-1: no limit, 0: now). */
LEAT_API int leat_backend_fd(leat_runtime *rt);
/* See leat_backend_fd. -1, too, for a misuse as for leat_result. */
LEAT_API int leat_timeout_ms(leat_runtime *rt);

/* ---- values: what crosses between a host and its scripts, without Lua's own API.
 *
 * A tree of malloc'ed nodes that belongs to no runtime and no thread; one thread at a time. NULL is
 * nil everywhere, also as the result of a maker that found no memory. */
typedef struct leat_value leat_value;
enum leat_type { LEAT_NIL, LEAT_BOOLEAN, LEAT_NUMBER, LEAT_STRING, LEAT_TABLE };

/* A new value, the caller's; NULL: no memory. */
LEAT_API leat_value *leat_boolean(bool value);
/* As leat_boolean. */
LEAT_API leat_value *leat_number(double value);
/* A copy of `len` bytes; SIZE_MAX: up to the NUL. */
LEAT_API leat_value *leat_string(const char *text, size_t len);
/* An empty table, the caller's. */
LEAT_API leat_value *leat_table(void);
/* Adds to the list, or sets the field, of a table. `item` belongs to the table from then on, and is
 * freed where this fails: no table, no memory, no item. An item that belongs to a table already is
 * refused and stays there, and so is a table that would be in itself. */
LEAT_API bool leat_append(leat_value *table, leat_value *item);
/* As leat_append; a field that is there is replaced. */
LEAT_API bool leat_set(leat_value *table, const char *field, leat_value *item);
/* With all that is in it. Does nothing for an item of a table, which goes with that. */
LEAT_API void leat_value_free(leat_value *value);

/* LEAT_NIL for NULL. */
LEAT_API enum leat_type leat_type_of(const leat_value *value);
/* As Lua has it: true for all but nil and false. */
LEAT_API bool leat_to_boolean(const leat_value *value);
/* `otherwise` if it is no number. */
LEAT_API double leat_to_number(const leat_value *value, double otherwise);
/* NULL if it is no string; ends with a NUL behind its `*len` bytes (`len` may be NULL). */
LEAT_API const char *leat_to_string(const leat_value *value, size_t *len);
/* How many items its list part has; 0 if it is no table. */
LEAT_API size_t leat_length(const leat_value *table);
/* The item at an index from 0 on, the table's own; NULL: there is none. */
LEAT_API const leat_value *leat_at(const leat_value *table, size_t index);
/* The value of a field, the table's own; NULL: there is none. */
LEAT_API const leat_value *leat_field(const leat_value *table, const char *field);
/* How many fields it has, and the name of each, from 0 on; NULL behind the last. */
LEAT_API size_t leat_field_count(const leat_value *table);
/* See leat_field_count. */
LEAT_API const char *leat_field_name(const leat_value *table, size_t index);

/* ---- calling scripts, and being called by them. Callbacks run on the runtime's thread, inside
 * leat_step, leat_run or leat_free, or the host's uv_run; from them only values, leat_complete,
 * leat_interrupt, leat_call, leat_eval and leat_cancel may be used, and what only tells something,
 * leat_report excepted. What crosses may be nested 32 deep, and what a script hands over be no
 * larger than memory_limit; functions, userdata and coroutines cannot cross. Whole numbers as keys
 * of what json.object has marked cross as field names; json.null, and a result that is missing in
 * what gather, map and pipelines return, as a value of type LEAT_NIL. */

/* A started call has ended: its results (64 at most), or what went wrong in *err (NULL where it did
 * well; of kind "raised" for a bug). Both are borrowed for the callback. */
typedef void (*leat_done)(void *arg, uint64_t id, enum leat_status status,
                          const leat_value *const *results, size_t count,
                          const struct leat_error *err);

/* Starts a task that calls the global function `name` ("greet", or "npc.greet") with copies of the
 * arguments. `done` may be NULL. The task's id, or 0: see *err ("invalid": there is no such
 * function, a misuse as for leat_step, or leat_free is at work; "memory"). */
LEAT_API uint64_t leat_call(leat_runtime *rt, const char *name, const leat_value *const *args,
                            size_t count, leat_done done, void *arg, struct leat_error *err);
/* The same for a piece of source, whose `...` are the arguments. Its own failures are told by
 * `done`, a syntax error by *err (kind "script"). */
LEAT_API uint64_t leat_eval(leat_runtime *rt, const char *name, const char *source, size_t len,
                            const leat_value *const *args, size_t count, leat_done done, void *arg,
                            struct leat_error *err);
/* A script to start: a file, or a named piece of source. Of this size for ever. */
struct leat_script {
    const char *path; /* NULL: there is a source */
    const char *name; /* what messages call the source: see leat_start_string */
    const char *source;
    size_t len;              /* of the source in bytes; SIZE_MAX: up to the NUL */
    const char *const *args; /* see leat_start_file */
};
/* As leat_start_file and leat_start_string, which are this without `done`: tells `done`, which may
 * be NULL, how the script ended, and the values that it returned. The script's id, or 0: see *err.
 */
LEAT_API uint64_t leat_start_script(leat_runtime *rt, const struct leat_script *script,
                                    leat_done done, void *arg, struct leat_error *err);
/* How what has this id came out: LEAT_RUNNING until its callback would have been called.
 * LEAT_MISUSE: there is nothing with this id, 64 others have ended after it, or as leat_result. */
LEAT_API enum leat_status leat_status_of(leat_runtime *rt, uint64_t id);
/* Asks what leat_start_script, leat_call or leat_eval started to stop; it ends as LEAT_CANCELLED
 * unless it was ending. False: there is no such task any more. */
LEAT_API bool leat_cancel(leat_runtime *rt, uint64_t id);

/* A function of the host for scripts. Returns its result, which Leat frees, or NULL for nil; where
 * it sets err->kind (one of Leat's kinds) the script gets nil, err. */
typedef leat_value *(*leat_function)(void *arg, const leat_value *const *args, size_t count,
                                     struct leat_error *err);
/* Makes it the global `name`, or a field of a global table ("game.spawn"), which is made if it is
 * not there. Before or between scripts. */
LEAT_API bool leat_register(leat_runtime *rt, const char *name, leat_function fn, void *arg,
                            struct leat_error *err);

/* One that takes its time: the script waits, the others go on. `start` begins the work, with a
 * number for it; leat_complete ends it, from any thread. `cancel` (may be NULL) tells that nobody
 * waits any more (a cancel, a timeout, the end of the runtime): once, and not after leat_complete.
 */
typedef void (*leat_start)(void *arg, uint64_t call, const leat_value *const *args, size_t count);
/* See leat_start. */
typedef void (*leat_abandon)(void *arg, uint64_t call);
/* As leat_register. */
LEAT_API bool leat_register_async(leat_runtime *rt, const char *name, leat_start start,
                                  leat_abandon cancel, void *arg, struct leat_error *err);

/* Where completions are handed in. It lives as long as the runtime, and as long as someone has
 * retained it: a thread that may outlive the runtime retains it first, on the runtime's thread. */
typedef struct leat_mailbox leat_mailbox;
/* The runtime's own; borrowed, as long as nobody has retained it. */
LEAT_API leat_mailbox *leat_mailbox_of(leat_runtime *rt);
/* On the runtime's thread, or where one is retained already. */
LEAT_API void leat_mailbox_retain(leat_mailbox *box);
/* Once for each retain, from any thread. NULL is allowed. */
LEAT_API void leat_mailbox_release(leat_mailbox *box);
/* Ends a call: with a result (taken over in every case), or with an error (borrowed; its kind and
 * message). From any thread. False: nobody waits for it: it was cancelled or completed before, or
 * the runtime is gone. */
LEAT_API bool leat_complete(leat_mailbox *box, uint64_t call, leat_value *result,
                            const struct leat_error *err);

struct leat_stats {
    size_t tasks;           /* alive */
    size_t queued, active;  /* requests that wait for a place; that have one */
    size_t lua_bytes;       /* of the Lua heap; 0 where the state is the host's */
    size_t bytes, peak;     /* of the Lua heap and our own buffers */
    uint64_t requests_done; /* so far */
};
/* The figures as they stand; of network threads as their last turns left them, so that a host may
 * ask each frame. `size` is that of the caller's leat_stats: what this library does not know is 0,
 * and for a misuse as for leat_result everything. */
LEAT_API void leat_get_stats_sized(leat_runtime *rt, struct leat_stats *out, size_t size);
/* What C and C++ call. */
static inline void leat_get_stats(leat_runtime *rt, struct leat_stats *out)
{
    leat_get_stats_sized(rt, out, sizeof(struct leat_stats));
}

#ifdef __cplusplus
}
#endif
#endif
