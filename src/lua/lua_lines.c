/* leat.native.lines: the C functions behind the writers of lua/leat/internal/lines.lua. */
#include "lua/lua_lines.h"

#include "loop/file_lines.h"
#include "loop/file_op.h"
#include "lua/lua_aux.h"
#include "lua/lua_file.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define WRITER_TNAME "leat.lines"
/* When more bytes than this wait for the disk, a task that adds a line waits too. */
#define MOST_WAITING ((uint64_t)1 << 20)
/* How long the end of the process may wait for data that is still to be written. */
#define RESCUE_NS (2 * NS_PER_S)

/* All writers of a runtime. */
struct lua_lines {
    struct loop_hook hook;
    struct list outs;
    struct rt *rt;
};

struct writer {
    struct file_lines *out; /* NULL: closed, or the runtime is */
    bool failed;            /* it was closed with lines that could not be written */
};

static struct writer *check_writer(lua_State *L)
{
    return aux_check_self(L, WRITER_TNAME);
}

static struct file_lines *open_out(lua_State *L)
{
    struct file_lines *o = check_writer(L)->out;
    if (!o)
        aux_raise(L, "the writer is closed");
    return o;
}

/* ---- failures */

static enum err_kind failure_of(const struct file_lines *o, struct err *err)
{
    return file_op_errno(atomic_load(&o->error),
                         atomic_load(&o->syncing) ? "cannot sync" : "cannot write", o->name, err);
}

static int fail_with(lua_State *L, struct file_lines *o)
{
    struct err err;
    failure_of(o, &err);
    o->reported |= o->durable;
    return aux_fail(L, &err);
}

static int no_memory(lua_State *L)
{
    return aux_failf(L, ERR_MEMORY, "not enough memory for a line");
}

/* The writer accepted those lines, and the script may never have checked whether they were written.
 */
static void report_loss(struct rt *rt, struct file_lines *o)
{
    struct err err;
    if (atomic_load(&o->error) == 0 || o->reported)
        return;
    o->reported = true;
    rt->lost++;
    failure_of(o, &err);
    uint64_t bytes = o->added - atomic_load(&o->written);
    /* If the reader of standard output closes it, it wants no more. The program then ends as if by
     * SIGPIPE, and the lost bytes are not an error. */
    bool enough = atomic_load(&o->error) == EPIPE && strcmp(o->name, "standard output") == 0;
    enum log_level level = enough ? LOG_DEBUG : LOG_ERROR;
    if (bytes > 0)
        log_write(&rt->log, level, "%s; the last %llu bytes of it are lost", err.message,
                  (unsigned long long)bytes);
    else
        log_write(&rt->log, level, "%s", err.message);
}

/* ---- waiting */

enum until { UNTIL_WRITTEN, UNTIL_SYNCED, UNTIL_IDLE };

static bool is_over(const struct file_lines *o, enum until until, uint64_t bytes)
{
    if (until == UNTIL_IDLE)
        return file_lines_idle(o);
    return atomic_load(&o->error) != 0 ||
           atomic_load(until == UNTIL_SYNCED ? &o->synced : &o->written) >= bytes;
}

/* wait.number holds what the task waits for. */
static bool task_is_over(const struct file_lines *o, const struct task *t)
{
    return is_over(o, (enum until)(t->wait.number & 3), (uint64_t)t->wait.number >> 2);
}

static void wake_waiters(struct file_lines *o)
{
    LIST_FOR(node, &o->waiters)
    {
        struct task *t = CONTAINER_OF(node, struct task, wait.node);
        if (task_is_over(o, t))
            task_wake(t);
    }
}

static void on_progress(struct loop_hook *hook)
{
    struct lua_lines *all = CONTAINER_OF(hook, struct lua_lines, hook);
    LIST_FOR(node, &all->outs)
    {
        struct file_lines *o = CONTAINER_OF(node, struct file_lines, node);
        wake_waiters(o);
        if (!o->owner && file_lines_idle(o) &&
            (file_lines_done(o) || atomic_load(&o->error) != 0)) {
            report_loss(all->rt, o);
            file_lines_free(o);
        }
    }
}

static bool cancel_wait(struct task *t)
{
    t->sched->external--;
    return true;
}

static int take_wait(lua_State *L, struct task *t)
{
    const struct writer *w = t->wait.obj;
    t->sched->external--;
    if ((t->wait.number & 3) != UNTIL_IDLE) {
        if (w->out && atomic_load(&w->out->error) != 0)
            return fail_with(L, w->out);
        if (w->failed) /* another task closed the writer meanwhile, and got the error */
            return aux_failf(L, ERR_IO, "the writer was closed, and could not write its lines");
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_wait(struct task *t, char *out, size_t size)
{
    const struct writer *w = t->wait.obj;
    snprintf(out, size, "write %.100s", w->out ? w->out->name : "a file");
}

static const struct wait_ops wait_ops = {
    .name = "file", .cancel = cancel_wait, .take = take_wait, .describe = describe_wait};

static void begin_wait(struct task *t, void *arg)
{
    struct file_lines *o = ((struct writer *)t->wait.obj)->out;
    t->wait.number = (int64_t)(o->added << 2 | *(enum until *)arg);
    t->sched->external++;
    list_push_back(&o->waiters, &t->wait.node);
    if (task_is_over(o, t)) /* the writing thread has finished already */
        task_wake(t);
}

/* The writer is argument 1. */
static int wait_for(lua_State *L, enum until until)
{
    struct rt *rt = rt_of(L);
    struct writer *w = check_writer(L);
    struct file_lines *o = open_out(L);
    if (until != UNTIL_IDLE && atomic_load(&o->error) != 0)
        return fail_with(L, o);
    if (is_over(o, until, o->added)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct task *t = task_current(L, &rt->sched, "file");
    lua_pushvalue(L, 1);
    task_set_slot(L, t, SLOT_KEEP);
    return task_park(L, &rt->sched, &wait_ops, w, begin_wait, &until);
}

/* ---- the writer */

/* new(file, durable, again): takes over the file. durable: a line counts as written when it is on
 * the disk. again: a line whose write failed may still be written at the end. */
static int l_new(lua_State *L)
{
    struct rt *rt = rt_of(L);
    luaL_checkudata(L, 1, "leat.file");
    bool durable = lua_toboolean(L, 2) != 0, again = lua_toboolean(L, 3) != 0;
    lua_settop(L, 3);
    struct writer *w = lua_newuserdata(L, sizeof *w);
    *w = (struct writer){NULL, false};
    luaL_getmetatable(L, WRITER_TNAME);
    lua_setmetatable(L, -2);
    const char *name;
    int fd = lua_file_take(L, 1, &name);
    w->out = file_lines_new(&rt->loop, &rt->mem, fd, name ? name : "a file", durable);
    if (!w->out)
        return no_memory(L);
    w->out->again = again;
    w->out->owner = w;
    list_push_back(&rt->lines->outs, &w->out->node);
    lua_settop(L, 4);
    return 1;
}

/* add(text): true; false if the caller must call wait(); or nil, err. After a failure, a writer
 * that may try again still keeps the line. */
static int l_add(lua_State *L)
{
    struct file_lines *o = open_out(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (o->durable) /* the line can still be refused here */
        task_check_can_wait(L, &rt_of(L)->sched, "write");
    bool failed = atomic_load(&o->error) != 0;
    if ((!failed || o->again) && file_lines_add(o, text, len) != ERR_NONE)
        return no_memory(L);
    if (failed)
        return fail_with(L, o);
    lua_pushboolean(L, !o->durable && o->added - atomic_load(&o->written) < MOST_WAITING);
    return 1;
}

/* wait(): waits until all added lines count as written. */
static int l_wait(lua_State *L)
{
    return wait_for(L, open_out(L)->durable ? UNTIL_SYNCED : UNTIL_WRITTEN);
}

/* sync(): waits until all added lines are on the disk. */
static int l_sync(lua_State *L)
{
    struct file_lines *o = open_out(L);
    if (atomic_load(&o->error) == 0)
        file_lines_sync(o);
    return wait_for(L, UNTIL_SYNCED);
}

/* idle(): waits until no thread works on the writer. */
static int l_idle(lua_State *L)
{
    return wait_for(L, UNTIL_IDLE);
}

static bool can_retry(const struct file_lines *o)
{
    return atomic_load(&o->error) != 0 && file_lines_idle(o) &&
           (o->again || (!o->durable && !atomic_load(&o->syncing)));
}

/* retry(): tries again to write what failed. Returns whether there is anything to write. */
static int l_retry(lua_State *L)
{
    struct file_lines *o = open_out(L);
    bool any = can_retry(o);
    if (any)
        file_lines_retry(o);
    lua_pushboolean(L, any);
    return 1;
}

static bool push_piece(void *arg, const char *text, size_t len)
{
    luaL_addlstring(arg, text, len);
    return true;
}

/* rest(): the text that could not be written. */
static int l_rest(lua_State *L)
{
    struct file_lines *o = open_out(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    if (file_lines_idle(o))
        file_lines_rest(o, push_piece, &b);
    luaL_pushresult(&b);
    return 1;
}

/* shut(): closes the file and returns true; "busy" while a thread works on it; or nil, err. */
static int l_shut(lua_State *L)
{
    struct file_lines *o = open_out(L);
    struct err err;
    if (!file_lines_idle(o)) {
        lua_pushliteral(L, "busy");
        return 1;
    }
    struct writer *w = check_writer(L);
    w->out = NULL;
    w->failed = atomic_load(&o->error) != 0;
    wake_waiters(o);
    report_loss(rt_of(L), o);
    int error = file_lines_close(o);
    if (error != 0)
        file_op_errno(error, "cannot close", o->name, &err);
    file_lines_free(o);
    if (error != 0)
        return aux_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* Lines that were added are still written. */
static int writer_gc(lua_State *L)
{
    struct writer *w = lua_touserdata(L, 1);
    struct rt *rt = rt_of(L);
    if (w->out && !rt->closed && rt->lines) {
        w->out->owner = NULL;
        loop_wake(&rt->loop); /* the work may have finished already */
    }
    w->out = NULL;
    return 0;
}

/* ---- the end */

static bool any_at_work(const struct lua_lines *all)
{
    LIST_FOR(node, &all->outs)
    {
        if (!file_lines_idle(CONTAINER_OF(node, struct file_lines, node)))
            return true;
    }
    return false;
}

void lua_lines_settle(struct rt *rt)
{
    struct lua_lines *all = rt->lines;
    if (!all)
        return;
    while (any_at_work(all))
        uv_run(rt->loop.uv, UV_RUN_ONCE);
    LIST_FOR(node, &all->outs)
    {
        struct file_lines *o = CONTAINER_OF(node, struct file_lines, node);
        if (can_retry(o))
            file_lines_retry(o);
    }
    while (any_at_work(all))
        uv_run(rt->loop.uv, UV_RUN_ONCE);
    LIST_FOR(node, &all->outs)
    report_loss(rt, CONTAINER_OF(node, struct file_lines, node));
}

void lua_lines_close(struct rt *rt)
{
    struct lua_lines *all = rt->lines;
    if (!all)
        return;
    lua_lines_settle(rt);
    LIST_FOR(node, &all->outs)
    {
        struct file_lines *o = CONTAINER_OF(node, struct file_lines, node);
        if (o->owner) /* a host's Lua code may still hold it */
            ((struct writer *)o->owner)->out = NULL;
        file_lines_free(o);
    }
    loop_hook_remove(&all->hook);
    mem_free(&rt->mem, all);
    rt->lines = NULL;
}

void lua_lines_rescue(struct rt *rt)
{
    struct timespec now;
    struct lua_lines *all = rt->lines;
    if (!all)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t until = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec + RESCUE_NS;
    LIST_FOR(node, &all->outs)
    file_lines_rescue(CONTAINER_OF(node, struct file_lines, node), until);
}

int lua_open_lines(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"new", l_new},   {"add", l_add},   {"wait", l_wait},
                                         {"sync", l_sync}, {"idle", l_idle}, {"retry", l_retry},
                                         {"rest", l_rest}, {"shut", l_shut}, {NULL, NULL}};
    if (!rt->lines) {
        struct lua_lines *all = mem_calloc(&rt->mem, sizeof *all);
        if (!all)
            return luaL_error(L, "not enough memory");
        all->rt = rt;
        list_init(&all->outs);
        loop_hook_add(&rt->loop, &all->hook, on_progress);
        rt->lines = all;
    }
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    rt_newmetatable(L, rt, WRITER_TNAME, NULL, writer_gc);
    lua_pop(L, 1);
    return 1;
}
