/* Standard input for tasks: one task reads at a time, and the others continue to run. */
#include "lua/lua_stdin.h"

#include "loop/fd_reader.h"
#include "lua/lua_aux.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAX_HELD_BYTES (((size_t)256 << 20) + ((size_t)128 << 10))

enum want { WANT_LINE = 'l', WANT_ALL = 'a', WANT_SOME = 'n' };

/* One per runtime, a userdata in the registry under the address of `stdin_key`. */
struct input {
    struct rt *rt;
    struct fd_reader *reader; /* NULL: never read, or closed */
    struct task *task;        /* the task that waits for bytes; NULL: none */
    enum want want;
    size_t max;
    size_t scanned; /* bytes known to hold no line end */
    bool skipping;  /* the rest of a too long line is discarded */
};

static const char stdin_key;

/* Discards the rest of a too long line; true when that is done. */
static bool skip(struct input *in)
{
    size_t len;
    const char *bytes = fd_reader_bytes(in->reader, &len);
    const char *end = memchr(bytes, '\n', len);
    fd_reader_take(in->reader, end ? (size_t)(end - bytes) + 1 : len);
    if (end)
        in->skipping = false;
    return end != NULL;
}

/* Whether the read can be answered with the buffered bytes. */
static bool is_ready(struct input *in)
{
    if (in->skipping && !skip(in))
        return in->reader->at_end;
    if (in->reader->at_end)
        return true;
    size_t len;
    const char *bytes = fd_reader_bytes(in->reader, &len);
    if (in->want == WANT_SOME)
        return len != 0;
    if (len > in->max + 1) /* a CR before the line end does not count */
        return true;
    if (in->want == WANT_ALL)
        return false;
    if (memchr(bytes + in->scanned, '\n', len - in->scanned))
        return true;
    in->scanned = len;
    return false;
}

static void on_bytes(struct fd_reader *r, void *arg)
{
    struct input *in = arg;
    if (in->task == NULL || !is_ready(in))
        return;
    fd_reader_stop(r);
    task_wake(in->task);
}

static int too_large(lua_State *L, const struct input *in)
{
    return aux_failf(L, ERR_TOO_LARGE, "stdin: %s is longer than %zu bytes",
                     in->want == WANT_LINE ? "a line" : "the input", in->max);
}

static int push_line(lua_State *L, struct input *in)
{
    size_t len;
    const char *bytes = fd_reader_bytes(in->reader, &len);
    const char *end = memchr(bytes + in->scanned, '\n', len - in->scanned);
    in->scanned = 0;
    size_t line = end ? (size_t)(end - bytes) : len;
    size_t taken = end ? line + 1 : len;
    if (end && line != 0 && bytes[line - 1] == '\r')
        line--;
    if (line > in->max) {
        in->skipping = end == NULL && !in->reader->at_end;
        fd_reader_take(in->reader, taken);
        return too_large(L, in);
    }
    /* Consumed after the push: if the push raises, the line is not lost. */
    lua_pushlstring(L, bytes, line);
    fd_reader_take(in->reader, taken);
    return 1;
}

/* Pushes the result; call only if is_ready. */
static int push_answer(lua_State *L, struct input *in)
{
    size_t len;
    const char *bytes = fd_reader_bytes(in->reader, &len);
    int error = in->reader->error;
    if (error != 0 && (len == 0 || in->want == WANT_ALL))
        return aux_failf(L, error == ENOMEM ? ERR_MEMORY : ERR_IO, "stdin: %s", strerror(error));
    if (in->want == WANT_ALL && len > in->max)
        return too_large(L, in);
    if (in->want != WANT_ALL && len == 0) {
        lua_pushnil(L);
        return 1;
    }
    if (in->want == WANT_LINE)
        return push_line(L, in);
    if (in->want == WANT_SOME)
        len = MIN(len, in->max);
    lua_pushlstring(L, bytes, len);
    fd_reader_take(in->reader, len);
    in->scanned = 0;
    return 1;
}

static void end_wait(struct input *in)
{
    if (in->reader != NULL)
        fd_reader_stop(in->reader);
    in->task = NULL;
    in->rt->sched.external--;
}

static bool cancel_read(struct task *t)
{
    end_wait(t->wait.obj);
    return true;
}

static int take_read(lua_State *L, struct task *t)
{
    struct input *in = t->wait.obj;
    end_wait(in);
    return push_answer(L, in);
}

static const struct wait_ops read_ops = {
    .name = "stdin:read", .cancel = cancel_read, .take = take_read};

static void begin_read(struct task *t, void *arg)
{
    struct input *in = arg;
    in->task = t;
    in->rt->sched.external++;
    fd_reader_start(in->reader);
}

/* The bytes are there, but the step's time is over. */
static void begin_give_way(struct task *t, void *arg)
{
    begin_read(t, arg);
    task_wake(t);
}

static struct input *find_input(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&stdin_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct input *in = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return in;
}

/* (want, max) -> data, nil at the end, or nil and an error; may park */
static int stdin_read(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct input *in = find_input(L);
    if (in->task != NULL)
        aux_raise(L, "stdin: another task is reading; one task reads at a time");
    in->want = (enum want) * luaL_checkstring(L, 1);
    in->max = (size_t)luaL_checknumber(L, 2);
    if (in->reader == NULL) {
        struct err err;
        err_clear(&err);
        if (fd_reader_new(&in->reader, &rt->loop, &rt->mem, STDIN_FILENO, MAX_HELD_BYTES, on_bytes,
                          in, &err) != ERR_NONE)
            return aux_fail(L, &err);
    }
    bool ready = is_ready(in);
    if (ready && !task_gives_way(L, &rt->sched))
        return push_answer(L, in);
    return task_park(L, &rt->sched, &read_ops, in, ready ? begin_give_way : begin_read, in);
}

static int input_gc(lua_State *L)
{
    struct input *in = lua_touserdata(L, 1);
    fd_reader_free(in->reader);
    in->reader = NULL;
    return 0;
}

void lua_stdin_close(struct rt *rt)
{
    struct input *in = find_input(rt->L);
    if (in == NULL)
        return;
    fd_reader_free(in->reader);
    in->reader = NULL;
}

void lua_stdin_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"stdin_read", stdin_read}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&stdin_key); // core key
    struct input *in = lua_newuserdata(L, sizeof *in);       // core key input
    memset(in, 0, sizeof *in);
    in->rt = rt;
    lua_newtable(L); // core key input metatable
    lua_pushcfunction(L, input_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX); // core
}
