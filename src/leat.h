/* Leat: concurrent HTTP pipelines written in Lua, as a C library.
 *
 * Threads: a runtime belongs to the thread that created it. Only leat_interrupt, leat_complete and
 * leat_mailbox_release may be called from any thread. Inside a callback, only the functions that
 * are named under "Calling scripts" below may be called. Runtimes share nothing, so a process may
 * have many.
 *
 * Misuse: a call from a wrong thread, from inside a callback, in a forked child, or with NULL for
 * the runtime has no effect, and its result says that it was refused. A call with a runtime that
 * leat_free has freed is undefined behaviour. A debug build of Leat (CMAKE_BUILD_TYPE=Debug) aborts
 * then, and names the call.
 *
 * Errors: a function that takes a `struct leat_error *err` fills it when it fails. `err` may be
 * NULL. */
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

/* Each addition to this header increases it by one. All versions of one soname are compatible:
 * nothing is removed or changed, and leat_config and leat_stats grow only at their ends. A program
 * runs with any libleat that is at least as new as the leat.h it was built with. It also runs with
 * an older libleat, if it uses nothing that is new. */
#define LEAT_API_VERSION 2

/* Why a call failed. The size of this struct never changes. */
struct leat_error {
    char kind[16];     /* "invalid", "io", "memory", ... */
    char message[512]; /* a sentence for a person to read */
};

enum leat_log_level { LEAT_LOG_DEBUG, LEAT_LOG_INFO, LEAT_LOG_WARN, LEAT_LOG_ERROR };

/* What scripts may use of the process that runs them. */
enum leat_sandbox {
    LEAT_SANDBOX_FULL,      /* everything: io, os, ffi, C modules */
    LEAT_SANDBOX_RESTRICTED /* no files, processes, ffi, debug, bytecode */
};

struct uv_loop_s;
struct lua_State;

/* The settings of a runtime. A zeroed struct means all defaults. Strings are borrowed only for the
 * call of leat_new. The runtime keeps the functions with their arguments, `loop` and `lua_state`:
 * these must stay valid until leat_free has returned. */
struct leat_config {
    /* The most bytes that Lua and Leat's own buffers may use together; 0: no limit. A task that
     * needs more fails with kind "memory". Clean-ups, and tasks that wait for other tasks, may
     * exceed the limit by one sixteenth of it (at least by 256 KB). LuaJIT up to 2.1.0-beta3
     * crashes if an allocation fails in compiled code. With those versions, this limit and `alloc`
     * turn LuaJIT's compiler off. */
    size_t memory_limit;
    unsigned max_connections; /* requests in flight at once; 0: as many as open files allow */
    unsigned max_per_host;    /* the same for one host and port; 0: no limit per host */
    /* The number of threads, besides the host's, that do the work of the network; at most 16. 0:
     * all of it happens inside leat_step and leat_run. Lua and every callback always run on the
     * host's thread. Each origin belongs to one of the network threads, and max_connections is
     * divided among the threads. Must be 0 with virtual_time. */
    unsigned network_threads;
    bool virtual_time; /* the clock jumps to the next timer; no socket is opened */
    bool env_proxy;    /* use http_proxy and the other proxy variables of the environment */
    /* What scripts may connect to: words such as "public", "10.0.0.0/8", "api.example.com",
     * "*.example.com", "any" (the reference's page on the command line has all). NULL: everything.
     * Every request and every redirect is checked, against the address that is really used. A proxy
     * from the environment looks names up itself, so behind such a proxy a rule for addresses does
     * not allow any name.
     */
    const char *allow_connect;
    enum leat_sandbox sandbox;
    /* For LEAT_SANDBOX_RESTRICTED: the Lua modules that scripts may require, such as "inspect,
     * lib.*". "*": every module that can be found. NULL: only leat. */
    const char *allow_modules;
    /* How long a task may compute between two waits, in milliseconds; 0: no limit. A task that
     * computes longer ends with a failure of kind "budget" and reason "time_limit". Other tasks
     * continue. With this limit, leat_step keeps its budget even in the middle of such a task: the
     * task continues in the next step. There are two exceptions: virtual time, and C functions that
     * cannot be suspended, such as table.sort. A C function (a pattern match, ffi) is never
     * interrupted. LuaJIT's compiler is off then, unless jit_watchdog is set. */
    unsigned time_limit_ms;
    /* Keeps LuaJIT's compiler on under a time limit. Only one runtime of a process at a time can
     * have it. It uses the signal SIGPROF. The time limit may act about 10 ms late. A leat_step
     * still ends in time. */
    bool jit_watchdog;
    uint64_t seed;          /* for the runtime's random numbers; 0: a seed from the system */
    const char *script_dir; /* the folder that require searches first; NULL: none */
    /* Receives each line of the log; NULL: standard error. Called on the runtime's thread. `line`
     * is borrowed for the call. */
    void (*log)(void *log_arg, enum leat_log_level level, const char *line);
    void *log_arg;
    enum leat_log_level min_log_level; /* lines below this level are dropped */
    void *user;                        /* any pointer of the host: see leat_user */
    /* Receives what scripts write to standard output with print, io.write and io.stdout:write, with
     * one call for each of their calls. `text` has `len` bytes, with print's newline at the end,
     * and a NUL after them. It is borrowed for the call. NULL: the process's standard output.
     * Called on the runtime's thread. It is a callback: see "Calling scripts" below. */
    void (*print)(void *print_arg, const char *text, size_t len);
    void *print_arg;
    /* The allocator for all memory of the runtime and of its Lua state; NULL: malloc, realloc and
     * free. memory_limit still applies. The contract is that of lua_Alloc. `block` NULL: allocate a
     * new block. `new_size` 0: free the block; the result is ignored. Otherwise: resize the block,
     * which may move it. `old_size` is the size that was last requested for the block, or 0 for a
     * new block. (It is smaller than that if LuaJIT ran out of memory while it created a closure.)
     * Return NULL for "no memory": `block` must then stay valid. Making a block smaller must
     * not fail. Blocks need the alignment of malloc, and LuaJIT needs them in the lower 47 bits of
     * the address space. The allocator must not call Leat; such a call is refused. It is called on
     * the runtime's thread and, at the same time, on the network threads if there are any. It is
     * not used for values and mailboxes, which belong to no runtime, nor for name look-ups, which
     * may outlive the runtime. libcurl, the TLS library and libuv allocate for the whole process:
     * see curl_global_init_mem and uv_replace_allocator. */
    void *(*alloc)(void *alloc_arg, void *block, size_t old_size, size_t new_size);
    void *alloc_arg;
    /* The host's own libuv loop, which the host runs on the runtime's thread; NULL: the runtime
     * creates a loop. Tasks continue whenever the host runs this loop, with at most some
     * milliseconds of Lua in each turn. Callbacks are called there too. uv_run does not return
     * while a task is alive. leat_run is refused. leat_step runs what is ready but does not run the
     * loop, and may be called inside uv_run. leat_free must not be called inside uv_run: it runs
     * the loop, and with it the host's callbacks, until Leat has no handle on the loop. The host
     * owns the loop and closes it after leat_free. Refused with virtual_time. */
    struct uv_loop_s *loop;
    /* The host's own Lua state; NULL: the runtime creates one. The state must be of the LuaJIT that
     * Leat is linked with, and have the standard libraries. `require "leat"` then works in it. Leat
     * adds entries only to package.preload and package.loaded ("leat", "leat.*"). Scripts see the
     * host's globals, and behind them Leat's own (leat, request, sleep ...). A script may wait in
     * its task, but not inside a coroutine that it creates. os.exit ends the process. The host's
     * own Lua code may use leat too, but it cannot wait. memory_limit counts Leat's own buffers
     * only. `alloc` must stay valid as long as the state. Call leat_free before lua_close.
     * Otherwise, lua_close drops every task and frees the runtime. A state has at most one runtime
     * at a time. Refused with sandbox, allow_modules, script_dir, time_limit_ms, jit_watchdog and
     * print. */
    struct lua_State *lua_state;
};

enum leat_status {
    LEAT_OK,        /* it succeeded */
    LEAT_FAILED,    /* it returned nil, err, or raised an error value */
    LEAT_RAISED,    /* it raised a Lua error: it has a bug */
    LEAT_CANCELLED, /* it was cancelled or interrupted */
    LEAT_EXITED,    /* it called os.exit: see leat_exit_code */
    LEAT_STUCK,     /* every task waited, and nothing could wake any of them */
    LEAT_MISUSE,    /* the call was not allowed; it did nothing */
    LEAT_RUNNING    /* it has not ended yet */
};

enum leat_next {
    LEAT_IDLE,   /* every task waits */
    LEAT_READY,  /* there is more to do now */
    LEAT_DONE,   /* every task has ended */
    LEAT_REFUSED /* the call was not allowed; it did nothing */
};

/* The version of Leat, such as "0.1.0". A static string. Any thread. */
LEAT_API const char *leat_version(void);
/* The pointer that the host set as config.user. */
LEAT_API void *leat_user(leat_runtime *rt);

/* Creates a runtime. It has its own loop and Lua state, unless the config names the host's.
 * `config` NULL: all defaults. `size` is sizeof(struct leat_config) in the caller's leat.h. The
 * caller owns the result and frees it with leat_free, on the same thread. NULL: see *err: kind
 * "invalid" (a setting is wrong or not possible), "memory", or "io" (no file descriptors left). */
LEAT_API leat_runtime *leat_new_sized(const struct leat_config *config, size_t size,
                                      struct leat_error *err);
/* leat_new_sized for C and C++. Other languages call leat_new_sized. */
static inline leat_runtime *leat_new(const struct leat_config *config, struct leat_error *err)
{
    return leat_new_sized(config, sizeof(struct leat_config), err);
}

/* Ends and frees a runtime. It cancels all tasks, and lets their clean-ups run: each for at most
 * its grace period, all together for at most ten seconds. Before it frees everything, it writes to
 * the log which pipelines had no success, and where a script did not check responses that were not
 * ok. `rt` may be NULL. Does nothing when it is called from another thread, from a callback, in a
 * forked child, or while the host's loop polls (this last case writes a line to the log). It must
 * not be called from other code that uv_run calls, such as a timer's callback: Leat cannot detect
 * that, and uv_run must not be nested. */
LEAT_API void leat_free(leat_runtime *rt);

/* Loads a script from a file and starts it as a task. The script runs inside leat_run and
 * leat_step. `args` (ended by NULL; may be NULL) are borrowed for the call; the script finds them
 * in `...` and in the global `arg`. Bytecode is refused. False: see *err: kind "io" (the file
 * cannot be read), "invalid" (not a text script), or "script" (a syntax error). */
LEAT_API bool leat_start_file(leat_runtime *rt, const char *path, const char *const *args,
                              struct leat_error *err);
/* The same for `len` bytes of source, which are borrowed for the call. Messages use `name` for the
 * script; a name "=x" is shown as x. */
LEAT_API bool leat_start_string(leat_runtime *rt, const char *name, const char *source, size_t len,
                                const char *const *args, struct leat_error *err);

/* Runs until every task has ended; blocks meanwhile. Returns what leat_result returns. LEAT_MISUSE:
 * the call came from another thread, a callback, a task or a forked child, or the loop is the
 * host's. */
LEAT_API enum leat_status leat_run(leat_runtime *rt);
/* Runs Lua and the network for about `budget_us` microseconds. It never blocks. LEAT_READY: there
 * is more to do now. LEAT_IDLE: all tasks wait. LEAT_DONE: all tasks have ended. LEAT_REFUSED: the
 * call came from another thread, a callback, a task or a forked child. A single resume of a task,
 * or a single event of a connection, may exceed the budget. A resume ends at the latest where the
 * task reads from a stream, a queue or the standard input, even if there is something to read. An
 * event reads a bounded number of bytes, however many requests share the connection. */
LEAT_API enum leat_next leat_step(leat_runtime *rt, uint64_t budget_us);
/* How the script that was started last has ended; LEAT_RUNNING: it has not. If no script was
 * started: how the last leat_call or leat_eval without a callback has ended, or LEAT_OK if there
 * was none. LEAT_MISUSE: the call came from another thread or a forked child. A script or call
 * without a callback may fail or have a bug. If the host then calls none of leat_run, leat_result
 * and leat_report, Leat writes the failure to the log. */
LEAT_API enum leat_status leat_result(leat_runtime *rt);

/* Why the script that leat_result speaks of failed, as text with tracebacks; "" if it succeeded.
 * After a call that was refused (see leat_step): what was wrong with that call. The runtime owns
 * the text, which is valid until the next call. */
LEAT_API const char *leat_report(leat_runtime *rt);
/* The status that a script gave to os.exit since the last script was started, or 0. -1: the call
 * came from another thread or a forked child. */
LEAT_API int leat_exit_code(leat_runtime *rt);

/* Asks all scripts to stop, as Ctrl-C does. May be called from any thread and from a signal
 * handler. The first call sets leat.stopping and cancels the scripts. While a pipeline or a
 * function with a journal runs, that cancel comes ten seconds later. The second call cancels
 * everything again. */
LEAT_API void leat_interrupt(leat_runtime *rt);

/* For a host with a poll loop of its own: a file descriptor that is readable when leat_step has
 * something to do. The runtime owns it. Also call leat_step when leat_timeout_ms has passed. -1:
 * `rt` is NULL. */
LEAT_API int leat_backend_fd(leat_runtime *rt);
/* The milliseconds until leat_step has something to do at the latest; 0: now; -1: no limit, or the
 * call came from another thread or a forked child. */
LEAT_API int leat_timeout_ms(leat_runtime *rt);

/* ---- Values: the data that hosts and scripts exchange, without Lua's own API.
 *
 * A value is a tree of nodes from malloc. It belongs to no runtime and to no thread, but only one
 * thread at a time may use it. NULL means nil everywhere. A function that creates a value returns
 * NULL if there is no memory. */
typedef struct leat_value leat_value;
enum leat_type { LEAT_NIL, LEAT_BOOLEAN, LEAT_NUMBER, LEAT_STRING, LEAT_TABLE };

/* Each creates a new value. The caller owns it: see leat_value_free. NULL: no memory. */
LEAT_API leat_value *leat_boolean(bool value);
/* See leat_boolean. */
LEAT_API leat_value *leat_number(double value);
/* See leat_boolean. Copies `len` bytes of `text`; with SIZE_MAX, all up to the NUL. */
LEAT_API leat_value *leat_string(const char *text, size_t len);
/* See leat_boolean. The new table is empty. */
LEAT_API leat_value *leat_table(void);
/* Adds an item at the end of the table's list. The table owns `item` from then on. False: nothing
 * was added, because `table` is no table, `item` is NULL, or there is no memory; `item` is freed
 * then. Also false if `item` already belongs to a table, or if a table would contain itself. In
 * these two cases, `item` is not freed and stays as it was. */
LEAT_API bool leat_append(leat_value *table, leat_value *item);
/* Sets a field of the table, and replaces (and frees) the field's old value. Otherwise as
 * leat_append. */
LEAT_API bool leat_set(leat_value *table, const char *field, leat_value *item);
/* Frees a value and everything in it. NULL is allowed. Does nothing for an item of a table: the
 * table frees it. */
LEAT_API void leat_value_free(leat_value *value);

/* The type of a value. NULL is LEAT_NIL. */
LEAT_API enum leat_type leat_type_of(const leat_value *value);
/* False for nil and false, true for everything else, as in a condition in Lua. */
LEAT_API bool leat_to_boolean(const leat_value *value);
/* The number, or `otherwise` if the value is not a number. */
LEAT_API double leat_to_number(const leat_value *value, double otherwise);
/* The bytes of a string, with a NUL after them; NULL if the value is not a string. The value owns
 * them. `*len` is set to their number, without the NUL; `len` may be NULL. */
LEAT_API const char *leat_to_string(const leat_value *value, size_t *len);
/* The number of items in the table's list; 0 if it is not a table. */
LEAT_API size_t leat_length(const leat_value *table);
/* The item at an index, which starts at 0. The table owns it. NULL: there is none. */
LEAT_API const leat_value *leat_at(const leat_value *table, size_t index);
/* The value of a field. The table owns it. NULL: there is no such field. */
LEAT_API const leat_value *leat_field(const leat_value *table, const char *field);
/* The number of fields that a table has. 0 if it is not a table. */
LEAT_API size_t leat_field_count(const leat_value *table);
/* The name of the field at an index, which starts at 0. The table owns it. NULL: the index is past
 * the last field. */
LEAT_API const char *leat_field_name(const leat_value *table, size_t index);

/* ---- Calling scripts: calls from the host into Lua, and from Lua into the host.
 *
 * Callbacks run on the runtime's thread, inside leat_step, leat_run, leat_free or the host's
 * uv_run. A callback may call: the functions for values, leat_complete, leat_interrupt, leat_call,
 * leat_eval, leat_cancel, and the functions that only return information, except leat_report.
 *
 * Values that cross may be nested 32 levels deep. What a script passes must not be larger than
 * memory_limit. Functions, userdata and coroutines cannot cross. json.null becomes a value of type
 * LEAT_NIL, and so does a missing result in what gather, map and pipelines return. If a script
 * marked a table with json.object, its whole-number keys become field names. */

/* Called once, when a started call has ended. It succeeded: `results` holds its `count` results (at
 * most 64), and `err` is NULL. It failed: *err says why; the kind is "raised" for a bug. Both are
 * borrowed for the callback. */
typedef void (*leat_done)(void *arg, uint64_t id, enum leat_status status,
                          const leat_value *const *results, size_t count,
                          const struct leat_error *err);

/* Starts a task that calls the global function `name` ("greet", or "npc.greet"). The arguments are
 * copied. `done` may be NULL. Returns the task's id. 0: see *err: kind "memory", or "invalid"
 * (there is no such function, the call is refused as in leat_step, or leat_free is running). */
LEAT_API uint64_t leat_call(leat_runtime *rt, const char *name, const leat_value *const *args,
                            size_t count, leat_done done, void *arg, struct leat_error *err);
/* The same for `len` bytes of Lua source, which finds the arguments in `...`. If the source has a
 * syntax error, the result is 0 and the kind in *err is "script". Failures at run time are reported
 * to `done`. */
LEAT_API uint64_t leat_eval(leat_runtime *rt, const char *name, const char *source, size_t len,
                            const leat_value *const *args, size_t count, leat_done done, void *arg,
                            struct leat_error *err);
/* A script to start: either a file, or source with a name. The size of this struct never changes.
 */
struct leat_script {
    const char *path; /* the file; NULL: use the source */
    const char *name; /* the name in messages: see leat_start_string */
    const char *source;
    size_t len;              /* of the source, in bytes; SIZE_MAX: up to the NUL */
    const char *const *args; /* see leat_start_file */
};
/* Starts a script as leat_start_file and leat_start_string do. When the script has ended, `done`
 * (may be NULL) receives the status and the values that the script returned. `script` is borrowed
 * for the call. Returns the script's id. 0: see *err, with the kinds of leat_start_file. */
LEAT_API uint64_t leat_start_script(leat_runtime *rt, const struct leat_script *script,
                                    leat_done done, void *arg, struct leat_error *err);
/* How the script or call with this id has ended. LEAT_RUNNING: it has not ended, or its callback
 * has not been called yet. LEAT_MISUSE: the id is unknown, 64 others have ended since, or the call
 * came from another thread or a forked child. */
LEAT_API enum leat_status leat_status_of(leat_runtime *rt, uint64_t id);
/* Cancels what leat_start_script, leat_call or leat_eval started. It ends as LEAT_CANCELLED, unless
 * it was ending already. False: the task does not exist any more. */
LEAT_API bool leat_cancel(leat_runtime *rt, uint64_t id);

/* A function of the host that scripts can call. The arguments are borrowed for the call. It returns
 * its result, which Leat then owns, or NULL for nil. To fail, it sets err->kind to one of Leat's
 * kinds: the script then gets nil, err. */
typedef leat_value *(*leat_function)(void *arg, const leat_value *const *args, size_t count,
                                     struct leat_error *err);
/* Makes `fn` the global function `name`, or a field of a global table ("game.spawn"); the table is
 * created if necessary. Call it before or between scripts. `fn` and `arg` must stay valid until
 * leat_free has returned. False: see *err. */
LEAT_API bool leat_register(leat_runtime *rt, const char *name, leat_function fn, void *arg,
                            struct leat_error *err);

/* Starts work for a script that called an asynchronous function of the host. The script waits;
 * other tasks continue. `call` is the number of this call: pass it to leat_complete, from any
 * thread, when the work is done. The arguments are borrowed for the callback. */
typedef void (*leat_start)(void *arg, uint64_t call, const leat_value *const *args, size_t count);
/* Tells the host that nobody waits for this call any more: the script was cancelled, ran into a
 * timeout, or its runtime ends. Called at most once, and never after leat_complete. */
typedef void (*leat_abandon)(void *arg, uint64_t call);
/* As leat_register, for a function that takes time: `start` begins a call, leat_complete ends it.
 * `cancel` may be NULL. */
LEAT_API bool leat_register_async(leat_runtime *rt, const char *name, leat_start start,
                                  leat_abandon cancel, void *arg, struct leat_error *err);

/* The place where other threads deliver results: see leat_complete. A mailbox lives as long as its
 * runtime, and longer while someone retains it. If a thread may outlive the runtime, retain the
 * mailbox for it first, on the runtime's thread. */
typedef struct leat_mailbox leat_mailbox;
/* The mailbox of the runtime. It is borrowed: retain it if it must outlive the runtime. */
LEAT_API leat_mailbox *leat_mailbox_of(leat_runtime *rt);
/* Keeps the mailbox alive until leat_mailbox_release. Call it on the runtime's thread, or on any
 * thread while the mailbox is already retained. */
LEAT_API void leat_mailbox_retain(leat_mailbox *box);
/* Ends one leat_mailbox_retain. Any thread. NULL is allowed. */
LEAT_API void leat_mailbox_release(leat_mailbox *box);
/* Ends a call with a result, or with an error if `err` is not NULL and names a kind. Any thread.
 * Leat takes `result` over in every case. `err` is borrowed. False: nobody waits for this call,
 * because it was cancelled or completed before, or the runtime has ended. */
LEAT_API bool leat_complete(leat_mailbox *box, uint64_t call, leat_value *result,
                            const struct leat_error *err);

struct leat_stats {
    size_t tasks;           /* that are alive */
    size_t queued, active;  /* requests that wait to start; requests in flight */
    size_t lua_bytes;       /* of the Lua heap; 0 if the Lua state is the host's */
    size_t bytes, peak;     /* of the Lua heap and Leat's buffers; the most so far */
    uint64_t requests_done; /* since the runtime was created */
};
/* Writes the current figures to *out. It is cheap enough for every frame: figures from a network
 * thread are those of the thread's last turn. `size` is sizeof(struct leat_stats) in the caller's
 * leat.h. Figures that this version of Leat does not know are 0. All are 0 if the call came from
 * another thread or a forked child. */
LEAT_API void leat_get_stats_sized(leat_runtime *rt, struct leat_stats *out, size_t size);
/* leat_get_stats_sized for C and C++. */
static inline void leat_get_stats(leat_runtime *rt, struct leat_stats *out)
{
    leat_get_stats_sized(rt, out, sizeof(struct leat_stats));
}

#ifdef __cplusplus
}
#endif
#endif
