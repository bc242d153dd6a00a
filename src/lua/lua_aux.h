/* Words for bindings: failures as values, wrong use as raises that name the argument. */
#pragma once

#include "ground/err.h"
#include "lua/lua_rt.h"

/* Pushes the error table of `err` (metatable "leat.error"). */
void aux_push_err(lua_State *L, const struct err *err);
/* Pushes the text of the value on top. Its __tostring is called if `ask`; where there is none, or
 * it fails, the text is the type. */
void aux_push_text(lua_State *L, bool ask);
/* Pushes nil and the error table; returns 2. */
int aux_fail(lua_State *L, const struct err *err);
/* The same from a kind and a sentence. */
int aux_failf(lua_State *L, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* True if the value at `index` is an error table of ours. */
bool aux_is_err(lua_State *L, int index);

/* The runtime, for what needs its loop or engine and may be called outside of tasks: raises where
 * it is closed, as a host's Lua may hold on to it. */
struct rt *aux_open_rt(lua_State *L, const char *who);

/* Raises a string that begins with the script's own file:line (the first frame outside leat's). For
 * wrong use: name the function, the argument, what was given and what is accepted. */
NORETURN void aux_raise(lua_State *L, const char *fmt, ...);
/* Pushes "file:line" of the first frame outside leat's, or "?" ; at most 127 bytes, NUL-terminated.
 */
void aux_where(lua_State *L, char *out, size_t size);

/* A number of seconds at `index`: raises unless it is a number, not negative, not NaN. Infinity and
 * anything over 10 years come back as INFINITY. `what`: "sleep: seconds". */
double aux_check_seconds(lua_State *L, int index, const char *what);
/* The same, nil or absent gives `absent`. */
double aux_opt_seconds(lua_State *L, int index, const char *what, double absent);
/* An integer within [min, max]; raises otherwise, naming `what`. */
int64_t aux_check_integer(lua_State *L, int index, const char *what, int64_t min, int64_t max);
/* The length of the list at `index`; raises where a part of it would be left out: behind a hole, or
 * under a name. `what` begins the message. */
size_t aux_check_list(lua_State *L, int index, const char *what);
/* Raises unless the value at `index` can be called. `what` begins the message. */
void aux_check_callable(lua_State *L, int index, const char *what);
/* Raises for an option that `who` does not have: its name is at `key`. `names`: those that there
 * are, with a space between. The text is that of lua/leat/internal/check.lua. */
NORETURN void aux_raise_unknown(lua_State *L, const char *who, int key, const char *names);
/* The userdata at index 1, of the class "leat.<noun>"; raises if a method was called on anything
 * else (mostly with a point for the colon). */
void *aux_check_self(lua_State *L, const char *tname);
/* A short picture of the value at `index` for messages: `'text'` (cut), `12`, `nil`, `a table`,
 * `a response`. What may hold a secret is not shown: neither text nor number where `name` (of the
 * argument, or the sentence that names it; NULL: none) says so, nor any text that looks like one.
 */
const char *aux_picture(lua_State *L, int index, const char *name, char *out, size_t size);
enum { AUX_PICTURE_SIZE = 96 }; /* of an `out` that holds every picture */

/* The sentinel that a parked C function returns when its task runs again (see
 * lua/leat/internal/await.lua: await). Pushes it. */
void aux_push_parked(lua_State *L);

/* What semaphore, queue and event share. */

/* What a `begin` needs: the object and the wait's timeout. */
struct aux_wait {
    void *obj;
    double timeout_s; /* infinity: none */
};

/* An optional timeout at `index`; infinity if absent. Raises for what is not one. */
double aux_opt_timeout(lua_State *L, int index, const char *what);
/* Pushes nil and a timeout error for a wait of `t` that timed out; returns 2. */
int aux_fail_timeout(lua_State *L, struct task *t, const char *what);
/* What makes a class. */
struct aux_class {
    const char *tname; /* luaL_checkudata's */
    const char
        *name; /* where the methods are left in the module table, for the Lua side to complete */
    const luaL_Reg *methods;
    lua_CFunction index; /* asked before the methods; may be NULL */
    lua_CFunction gc;    /* may be NULL */
    lua_CFunction tostring;
};

/* Makes the class's metatable; the module table is on top of L. */
void aux_open_class(lua_State *L, struct rt *rt, const struct aux_class *c);
