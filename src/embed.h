/* Host functions, calls of script functions, and the values that cross: the inside of that part of
 * leat.h. */
#pragma once

#include "leat.h"
#include "lua_rt.h"

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
    leat_done done;
    void *arg;
};

struct embed {
    leat_runtime *r;
    struct rt *rt;
    pthread_t owner;
    pid_t process;
    unsigned inside; /* callbacks of the host that run */
    bool closing;    /* nothing is started any more */
    uint64_t next_id;
    struct list running, ended;
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
};
/* Makes room on the stack; may raise (memory). */
struct taking embed_taking(lua_State *L, const struct rt *rt);
/* Takes the value at a positive index. False: it cannot cross, and c->why says why. Raises nothing.
 */
bool embed_take(lua_State *L, int index, struct taking *c, leat_value **out);

/* runtime.c */
struct embed *runtime_embed(leat_runtime *r);
bool runtime_protected(leat_runtime *r, lua_CFunction fn, void *arg);
/* Once more where memory ran out: for an `fn` that has changed nothing where it raised. */
bool runtime_protected_again(leat_runtime *r, lua_CFunction fn, void *arg);
/* What runtime_protected ran into; *kind is changed if that was a lack of memory. */
const char *runtime_error_text(leat_runtime *r, const char **kind);
/* Where the names that the host uses are looked up and set; what chunks have for globals. */
void runtime_push_globals(lua_State *L);
void runtime_push_chunk_globals(lua_State *L);
