/* Host functions, calls of script functions, and the values that cross: the inside of that part of
 * leat.h. */
#pragma once

#include "host/host_ids.h"
#include "leat.h"
#include "lua/lua_rt.h"

#include <pthread.h>

/* How many values a call takes and gives at most; bytes of a function's name. */
enum { EMBED_ARGUMENTS = 64, EMBED_NAME = 64 };

/* A task that the host has started. */
struct started {
    struct list node; /* embed->running, then embed->ended */
    struct embed *embed;
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

struct embed {
    leat_runtime *r;
    struct rt *rt;
    pthread_t owner;
    pid_t process;
    unsigned inside; /* callbacks of the host that run */
    bool closing;    /* nothing is started any more */
    struct ids ids;  /* of what is in `running` */
    struct list running, ended;
    struct past past[64]; /* how the last ones came out, a ring */
    size_t past_next;
    struct leat_mailbox *box;
    struct loop_hook hook;
    const struct given *given; /* in the midst of a call's end */
};

void embed_error(struct leat_error *err, const char *kind, const char *message);
/* A word, or two with a dot between them. */
bool embed_good_name(const char *name);
/* NULL: no memory. */
struct embed *embed_new(leat_runtime *r, struct rt *rt);
/* All tasks have ended and the Lua state is closed. NULL is allowed. */
void embed_free(struct embed *e);
/* Tells hosts about what has ended; outside of Lua and of uv's callbacks. */
void embed_deliver(struct embed *e);
/* A record for a task that is about to be spawned; NULL: no memory. `name` as the source's. */
struct started *embed_started_new(struct embed *e, const char *name, leat_done done, void *arg);
/* Makes its reference, which raises, before the spawn; and takes the task, whose userdata it pops,
 * which does not. */
void embed_started_prepare(lua_State *L, struct started *s);
void embed_started_begin(lua_State *L, struct started *s, struct task *t);
/* There was no spawn. */
void embed_started_drop(struct started *s);
/* Whether the runtime may be used here: on its thread, in its process, not from a callback or a
 * task (unless `inside`). `e` NULL: it is closed. */
bool embed_usable(const struct embed *e, bool inside, const char **why);
/* Something waits for embed_deliver. */
bool embed_pending(const struct embed *e);

/* Pushes a value; may raise (memory, nested too deep). */
void embed_push(lua_State *L, const leat_value *value);
/* The values of one call on their way to the host: how many bytes they may still take, and why one
 * cannot cross. */
struct taking {
    size_t left;
    const char *why;
    char path[128]; /* where in the value it stands, such as ".choices[1].fn" */
    char text[192];
};
/* Makes room on the stack; may raise (memory). */
struct taking embed_taking(lua_State *L, const struct rt *rt);
/* Takes the value at a positive index. False: it cannot cross, see embed_why. Raises nothing. */
bool embed_take(lua_State *L, int index, struct taking *c, leat_value **out);
/* Where and why one cannot cross; valid as long as `c`. */
const char *embed_why(struct taking *c);

/* runtime.c */
struct embed *runtime_embed(leat_runtime *r);
bool runtime_protected(leat_runtime *r, lua_CFunction fn, void *arg);
/* The task on top of the stack is the one that leat_result is about. Prepared beforehand, as this
 * may raise. */
void runtime_prepare_main(lua_State *L, leat_runtime *r);
void runtime_set_main(lua_State *L, leat_runtime *r, struct started *s, bool script);
/* A script has been started: calls do not stand for it any more. */
bool runtime_has_script(const leat_runtime *r);
/* A task without a callback has ended: where that was badly, and leat_result is not about it, the
 * log says so. */
void runtime_ended_unasked(leat_runtime *r, struct started *s);
/* Once more where memory ran out: for an `fn` that has changed nothing where it raised. */
bool runtime_protected_again(leat_runtime *r, lua_CFunction fn, void *arg);
/* What runtime_protected ran into; *kind is changed if that was a lack of memory. */
const char *runtime_error_text(leat_runtime *r, const char **kind);
/* Where the names that the host uses are looked up and set; what chunks have for globals. */
void runtime_push_globals(lua_State *L);
void runtime_push_chunk_globals(lua_State *L);
