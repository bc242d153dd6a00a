/* leat.native.file: files for tasks, read and written off the loop. lua/leat/internal/file.lua
 * completes it.
 */
#include "lua/lua_file.h"

#include "loop/file_op.h"
#include "lua/lua_aux.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define READ_MAX_BYTES ((int64_t)16 * 1024 * 1024)
#define IDENTITY_BYTES 64

/* Shared by the userdata and a running operation. The last of them to release it closes it. */
struct shared_fd {
    struct mem *mem;
    int fd;
    unsigned refs;
    bool busy;
};

struct file {
    struct shared_fd *shared; /* NULL: closed */
};

/* A running operation and the task that waits for it. */
struct call {
    struct rt *rt;
    struct task *task; /* NULL: the task was cancelled, and the operation's end only frees memory */
    struct shared_fd *shared;
    struct file_op *op;
};

static void unref(struct shared_fd *shared)
{
    if (shared == NULL || --shared->refs > 0)
        return;
    if (shared->fd >= 0)
        close(shared->fd);
    mem_free(shared->mem, shared);
}

static void call_free(struct call *c)
{
    unref(c->shared);
    file_op_free(c->op);
    mem_free(&c->rt->mem, c);
}

static void on_done(struct file_op *op)
{
    struct call *c = op->arg;
    c->rt->sched.external--;
    c->rt->file_calls--;
    if (c->shared)
        c->shared->busy = false;
    if (c->task) {
        c->task->wait.number = 1;
        task_wake(c->task);
        return;
    }
    if (op->kind == FILE_OPEN && op->result >= 0)
        close((int)op->result);
    call_free(c);
}

static bool cancel_call(struct task *task)
{
    struct call *c = task->wait.obj;
    if (task->wait.number == 0) {
        c->task = NULL; /* the operation cannot be stopped: its end frees memory */
        return true;
    }
    if (c->op->kind == FILE_OPEN && c->op->result >= 0)
        close((int)c->op->result);
    call_free(c);
    return true;
}

static struct file *check_file(lua_State *L)
{
    return aux_check_self(L, "leat.file");
}

static const char *const verbs[] = {
    [FILE_OPEN] = "cannot open",        [FILE_READ] = "cannot read",
    [FILE_WRITE] = "cannot write",      [FILE_SYNC] = "cannot sync",
    [FILE_CLOSE] = "cannot close",      [FILE_TRUNCATE] = "cannot truncate",
    [FILE_LOCK] = "cannot lock",        [FILE_SIZE] = "cannot get the size of",
    [FILE_RENAME] = "cannot rename to", [FILE_UNLINK] = "cannot remove",
    [FILE_IDENTITY] = "cannot inspect",
};

/* The file's environment table holds its name, for messages. */
static const char *name_of(lua_State *L, const struct call *c, int self)
{
    if (c->op->path)
        return c->op->path2 ? c->op->path2 : c->op->path;
    lua_getfenv(L, self);
    lua_rawgeti(L, -1, 1);
    const char *name = lua_tostring(L, -1);
    return name ? name : "a file";
}

static int push_opened(lua_State *L, struct call *c)
{
    struct file *f = lua_newuserdata(L, sizeof *f); // self
    *f = (struct file){0};
    luaL_getmetatable(L, "leat.file");
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0);
    lua_pushstring(L, strcmp(c->op->path, "-") == 0 ? "standard output" : c->op->path);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    c->shared->fd = (int)c->op->result;
    f->shared = c->shared;
    c->shared = NULL;
    return 1;
}

static int push_result(lua_State *L, struct call *c, int self)
{
    const struct file_op *op = c->op;
    struct err err;
    if (op->error) {
        file_op_error(op, verbs[op->kind], name_of(L, c, self), &err);
        return aux_fail(L, &err);
    }
    switch (op->kind) {
    case FILE_OPEN:
        return push_opened(L, c);
    case FILE_READ:
    case FILE_IDENTITY:
        if (op->result == 0)
            lua_pushnil(L);
        else
            lua_pushlstring(L, op->bytes, (size_t)op->result);
        return 1;
    case FILE_SIZE:
        lua_pushnumber(L, (lua_Number)op->result);
        return 1;
    default:
        lua_pushboolean(L, 1);
        return 1;
    }
}

static const char finish_key; /* of finish_call in the registry */

static int finish_call(lua_State *L)
{
    struct call *c = lua_touserdata(L, 1);
    return push_result(L, c, 2);
}

static int take_call(lua_State *L, struct task *task)
{
    struct call *c = task->wait.obj;
    task_push_slot(L, task, SLOT_KEEP); // self
    int self = lua_gettop(L);
    lua_pushnil(L);
    task_set_slot(L, task, SLOT_KEEP);
    /* Code here may raise (memory), and the call must not be lost. So the function is created in
     * advance. */
    lua_pushlightuserdata(L, (void *)(uintptr_t)&finish_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, c);
    lua_pushvalue(L, self);
    int rc = lua_pcall(L, 2, LUA_MULTRET, 0);
    if (rc != 0 && c->op->kind == FILE_OPEN && c->shared)
        c->shared->fd = (int)c->op->result; /* is closed together with `shared` */
    call_free(c);
    if (rc != 0)
        return lua_error(L);
    return lua_gettop(L) - self;
}

static void describe_call(struct task *task, char *out, size_t size)
{
    const struct call *c = task->wait.obj;
    const char *verb = verbs[c->op->kind] + strlen("cannot ");
    snprintf(out, size, "%s %.100s", verb, c->op->path ? c->op->path : "a file");
}

static const struct wait_ops call_ops = {
    .name = "file", .cancel = cancel_call, .take = take_call, .describe = describe_call};

static void begin_call(struct task *task, void *arg)
{
    struct call *c = arg;
    c->task = task;
    c->rt->sched.external++;
    c->rt->file_calls++;
    if (c->shared)
        c->shared->busy = true;
    file_op_start(c->op, &c->rt->loop);
}

/* If the task is cancelled already, the wait never begins. A userdata owns the call until then, so
 * the call cannot leak. */
struct held_call {
    struct call *call;
};

static int held_gc(lua_State *L)
{
    struct held_call *h = lua_touserdata(L, 1);
    if (h->call && !h->call->task)
        call_free(h->call);
    h->call = NULL;
    return 0;
}

static void begin_held(struct task *task, void *arg)
{
    struct held_call *h = arg;
    struct call *c = h->call;
    h->call = NULL;
    task->wait.obj = c;
    begin_call(task, c);
}

static struct held_call *new_call(lua_State *L, enum file_op_kind kind, size_t len)
{
    struct rt *rt = rt_of(L);
    task_check_can_wait(L, &rt->sched, "file");
    struct held_call *h = lua_newuserdata(L, sizeof *h);
    h->call = NULL;
    luaL_getmetatable(L, "leat.file_call");
    lua_setmetatable(L, -2);
    struct call *c = mem_calloc(&rt->mem, sizeof *c);
    if (c)
        c->op = file_op_new(&rt->mem, kind, len);
    if (!c || !c->op) {
        mem_free(&rt->mem, c);
        return NULL;
    }
    c->rt = rt;
    c->op->arg = c;
    c->op->done = on_done;
    h->call = c;
    /* LuaJIT keeps a table for light userdata and may allocate for a new one. take_call pushes this
     * pointer again and must not raise, so it is pushed once here. */
    lua_pushlightuserdata(L, c);
    lua_pop(L, 1);
    return h;
}

static int no_memory(lua_State *L)
{
    return aux_failf(L, ERR_MEMORY, "not enough memory for a file");
}

/* `self`: index of the file, or 0. The held call is on top of the stack. */
static int park(lua_State *L, struct held_call *h, int self)
{
    struct rt *rt = rt_of(L);
    struct task *task = task_current(L, &rt->sched, "file");
    if (self)
        lua_pushvalue(L, self);
    else
        lua_pushnil(L);
    task_set_slot(L, task, SLOT_KEEP);
    return task_park(L, &rt->sched, &call_ops, NULL, begin_held, h);
}

static bool copy_path(lua_State *L, struct rt *rt, int index, char **out)
{
    size_t len;
    const char *path = luaL_checklstring(L, index, &len);
    *out = mem_strndup(&rt->mem, path, strlen(path));
    return *out != NULL;
}

static bool bad_path(lua_State *L, int index)
{
    size_t len;
    const char *path = luaL_checklstring(L, index, &len);
    return len == 0 || strlen(path) != len;
}

/* open(path, how): "r" reads; "w" creates or empties; "x" fails if the file exists; "a" appends;
 * "a+" appends and reads. */
static int l_open(lua_State *L)
{
    struct rt *rt = rt_of(L);
    const char *how = luaL_checkstring(L, 2);
    if (bad_path(L, 1))
        return aux_failf(L, ERR_INVALID, "file: the path is empty or holds a NUL byte");
    struct held_call *h = new_call(L, FILE_OPEN, 0);
    if (!h || !copy_path(L, rt, 1, &h->call->op->path))
        return no_memory(L);
    struct shared_fd *shared = mem_alloc(&rt->mem, sizeof *shared);
    if (!shared)
        return no_memory(L);
    *shared = (struct shared_fd){.mem = &rt->mem, .fd = -1, .refs = 1};
    h->call->shared = shared;
    h->call->op->mode = strchr(how, 'p') ? 0600 : 0666;
    switch (how[0]) {
    case 'r':
        h->call->op->flags = O_RDONLY;
        break;
    case 'w':
        h->call->op->flags = O_WRONLY | O_CREAT | O_TRUNC;
        break;
    case 'x':
        h->call->op->flags = O_WRONLY | O_CREAT | O_EXCL;
        break;
    default:
        h->call->op->flags = O_CREAT | O_APPEND | (how[1] == '+' ? O_RDWR : O_WRONLY);
        break;
    }
    return park(L, h, 0);
}

/* NULL: out of memory. */
static struct held_call *start_on(lua_State *L, enum file_op_kind kind, size_t len)
{
    struct file *f = check_file(L);
    if (!f->shared)
        aux_raise(L, "file: it is closed");
    if (f->shared->busy)
        aux_raise(L, "file: another task is using it");
    struct held_call *h = new_call(L, kind, len);
    if (!h)
        return NULL;
    h->call->op->fd = f->shared->fd;
    h->call->shared = f->shared;
    f->shared->refs++;
    return h;
}

static int run_on(lua_State *L, enum file_op_kind kind)
{
    struct held_call *h = start_on(L, kind, 0);
    return h ? park(L, h, 1) : no_memory(L);
}

static int l_read(lua_State *L)
{
    size_t len = (size_t)aux_check_integer(L, 2, "read: the number of bytes", 1, READ_MAX_BYTES);
    struct held_call *h = start_on(L, FILE_READ, len);
    return h ? park(L, h, 1) : no_memory(L);
}

static int l_write(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct held_call *h = start_on(L, FILE_WRITE, len);
    if (!h)
        return no_memory(L);
    if (len > 0)
        memcpy(h->call->op->bytes, text, len);
    return park(L, h, 1);
}

static int l_sync(lua_State *L)
{
    return run_on(L, FILE_SYNC);
}

static int l_lock(lua_State *L)
{
    return run_on(L, FILE_LOCK);
}

static int l_size(lua_State *L)
{
    return run_on(L, FILE_SIZE);
}

static int l_truncate(lua_State *L)
{
    int64_t offset = aux_check_integer(L, 2, "truncate: the length", 0, INT64_C(1) << 53);
    struct held_call *h = start_on(L, FILE_TRUNCATE, 0);
    if (!h)
        return no_memory(L);
    h->call->op->offset = offset;
    return park(L, h, 1);
}

/* Runs on this thread: written data has already reached the kernel. Callers that need it on the
 * disk have called sync. */
static int l_close(lua_State *L)
{
    struct file *f = check_file(L);
    struct shared_fd *shared = f->shared;
    struct err err = {.kind = ERR_NONE};
    f->shared = NULL;
    if (shared && shared->refs == 1 && shared->fd >= 0) {
        int fd = shared->fd;
        shared->fd = -1;
        if (close(fd) != 0 && errno != EINTR) {
            int error = errno;
            lua_getfenv(L, 1);
            lua_rawgeti(L, -1, 1); // env name
            file_op_errno(error, verbs[FILE_CLOSE], lua_tostring(L, -1), &err);
        }
    }
    unref(shared);
    if (err.kind != ERR_NONE)
        return aux_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_rename(lua_State *L)
{
    struct rt *rt = rt_of(L);
    if (bad_path(L, 1) || bad_path(L, 2))
        return aux_failf(L, ERR_INVALID, "file: a path is empty or holds a NUL byte");
    struct held_call *h = new_call(L, FILE_RENAME, 0);
    if (!h || !copy_path(L, rt, 1, &h->call->op->path) || !copy_path(L, rt, 2, &h->call->op->path2))
        return no_memory(L);
    return park(L, h, 0);
}

static int run_on_path(lua_State *L, enum file_op_kind kind, size_t len)
{
    struct rt *rt = rt_of(L);
    if (bad_path(L, 1))
        return aux_failf(L, ERR_INVALID, "file: the path is empty or holds a NUL byte");
    struct held_call *h = new_call(L, kind, len);
    if (!h || !copy_path(L, rt, 1, &h->call->op->path))
        return no_memory(L);
    return park(L, h, 0);
}

static int l_unlink(lua_State *L)
{
    return run_on_path(L, FILE_UNLINK, 0);
}

static int l_identity(lua_State *L)
{
    return run_on_path(L, FILE_IDENTITY, IDENTITY_BYTES);
}

/* unlink_now(path): removes the file at once, for clean-ups that cannot wait. */
static int l_unlink_now(lua_State *L)
{
    lua_pushboolean(L, unlink(luaL_checkstring(L, 1)) == 0);
    return 1;
}

int lua_file_take(lua_State *L, int index, const char **name)
{
    struct file *f = lua_touserdata(L, index);
    struct shared_fd *shared = f->shared;
    if (!shared || shared->busy)
        aux_raise(L, "file: it is closed, or another task is using it");
    lua_getfenv(L, index);
    lua_rawgeti(L, -1, 1); // env name
    *name = lua_tostring(L, -1);
    int fd = shared->fd;
    shared->fd = -1;
    unref(shared);
    f->shared = NULL;
    return fd;
}

static int file_gc(lua_State *L)
{
    struct file *f = lua_touserdata(L, 1);
    unref(f->shared);
    f->shared = NULL;
    return 0;
}

void lua_file_close(struct rt *rt)
{
    while (rt->file_calls > 0) /* a disk always answers; until then threads write into our memory */
        uv_run(rt->loop.uv, UV_RUN_ONCE);
}

int lua_open_file(lua_State *L, struct rt *rt)
{
    static const luaL_Reg methods[] = {
        {"read", l_read}, {"write", l_write},       {"sync", l_sync},   {"lock", l_lock},
        {"size", l_size}, {"truncate", l_truncate}, {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"open", l_open},         {"rename", l_rename},
                                         {"unlink", l_unlink},     {"unlink_now", l_unlink_now},
                                         {"identity", l_identity}, {NULL, NULL}};
    rt_newmetatable(L, rt, "leat.file_call", NULL, held_gc);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&finish_key);
    lua_pushcfunction(L, finish_call);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    lua_newtable(L);
    rt_setfuncs(L, rt, methods);
    lua_setfield(L, -2, "raw");
    rt_newmetatable(L, rt, "leat.file", NULL, file_gc);
    lua_getfield(L, -1, "__index"); // module metatable File
    lua_setfield(L, -3, "File");
    lua_pop(L, 1);
    return 1;
}
