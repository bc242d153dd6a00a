/* Errors for bindings: failures are returned as values; wrong use raises an error that names the
 * argument. */
#pragma once

#include "ground/err.h"
#include "lua/lua_rt.h"

/* Pushes the error table of `err` (metatable "leat.error"). */
void aux_push_err(lua_State *L, const struct err *err);
/* Pushes the text of the value on top. Calls its __tostring if `ask`. Without a __tostring, or if
 * it fails, the text is the type. */
void aux_push_text(lua_State *L, bool ask);
/* Pushes nil and the error table; returns 2. */
int aux_fail(lua_State *L, const struct err *err);
/* The same, from a kind and a message. */
int aux_failf(lua_State *L, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* True if the value at `index` is an error table of ours. */
bool aux_is_err(lua_State *L, int index);

/* The runtime, for functions that need its loop or engine and may be called outside of tasks.
 * Raises if the runtime is closed: a host's Lua code may still hold such a function. */
struct rt *aux_open_rt(lua_State *L, const char *who);

/* Raises a string that begins with the script's own file:line (the first frame outside leat's). For
 * wrong use: name the function, the argument, the value given and the values accepted. */
NORETURN void aux_raise(lua_State *L, const char *fmt, ...);
/* Pushes "file:line" of the first frame outside leat's, or "?" ; at most 127 bytes, NUL-terminated.
 */
void aux_where(lua_State *L, char *out, size_t size);

/* A number of seconds at `index`: raises unless it is a number, not negative, not NaN. Infinity and
 * anything over 10 years come back as INFINITY. `what`: "sleep: seconds". */
double aux_check_seconds(lua_State *L, int index, const char *what);
/* The same, nil or absent gives `absent`. */
double aux_opt_seconds(lua_State *L, int index, const char *what, double absent);
/* An integer within [min, max]; raises otherwise. `what` names it in the message. */
int64_t aux_check_integer(lua_State *L, int index, const char *what, int64_t min, int64_t max);
/* The length of the list at `index`. Raises if the table has elements behind a hole, or string
 * keys: they would be lost. `what` begins the message. */
size_t aux_check_list(lua_State *L, int index, const char *what);
/* Raises unless the value at `index` can be called. `what` begins the message. */
void aux_check_callable(lua_State *L, int index, const char *what);
/* Raises "unknown option". The option's name is at `key`. `names`: the valid names, separated by
 * spaces. The text is the same as that of lua/leat/internal/check.lua. */
NORETURN void aux_raise_unknown(lua_State *L, const char *who, int key, const char *names);
/* The userdata at index 1, of the class "leat.<noun>". Raises if it is anything else: mostly
 * because a method was called with a dot instead of a colon. */
void *aux_check_self(lua_State *L, const char *tname);
/* A short description of the value at `index` for messages: `'text'` (cut), `12`, `nil`, `a table`,
 * `a response`. Possible secrets are hidden: texts and numbers if `name` sounds secret, and every
 * text that looks like a secret. `name`: the argument's name or a sentence with it; NULL: none. */
const char *aux_picture(lua_State *L, int index, const char *name, char *out, size_t size);
enum { AUX_PICTURE_SIZE = 96 }; /* size of an `out` that is large enough for every picture */

/* Pushes the sentinel that a parked C function returns when its task runs again (see await in
 * lua/leat/internal/await.lua). */
void aux_push_parked(lua_State *L);

/* Shared by semaphore, queue and event. */

/* The argument of a `begin`: the object and the wait's timeout. */
struct aux_wait {
    void *obj;
    double timeout_s; /* infinity: none */
};

/* An optional timeout at `index`; infinity if absent. Raises if it is not a valid timeout. */
double aux_opt_timeout(lua_State *L, int index, const char *what);
/* Pushes nil and a timeout error for a wait of `t` that timed out; returns 2. */
int aux_fail_timeout(lua_State *L, struct task *t, const char *what);
/* The description of a class. */
struct aux_class {
    const char *tname; /* the name for luaL_checkudata */
    const char *name;  /* the field of the module table that gets the methods, for the Lua side to
                          complete */
    const luaL_Reg *methods;
    lua_CFunction index; /* called before the methods are looked up; may be NULL */
    lua_CFunction gc;    /* may be NULL */
    lua_CFunction tostring;
};

/* Makes the class's metatable; the module table is on top of L. */
void aux_open_class(lua_State *L, struct rt *rt, const struct aux_class *c);
