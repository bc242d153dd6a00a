/* Uploads: a task feeds the body of a request piece by piece. */
#include "lua/lua_upload.h"

#include "lua/lua_aux.h"
#include "lua/lua_stream.h"

static bool cancel_feed(struct task *task)
{
    struct stream *s = task->wait.obj;
    s->feeder = NULL;
    return true;
}

static int push_going(lua_State *L, const struct stream *s)
{
    lua_pushboolean(L, s->t && !s->done);
    return 1;
}

static int take_feed(lua_State *L, struct task *task)
{
    struct stream *s = task->wait.obj;
    s->feeder = NULL;
    return push_going(L, s);
}

static const struct wait_ops feed_ops = {
    .name = "upload", .cancel = cancel_feed, .take = take_feed, .describe = stream_describe};

static void begin_feed(struct task *task, void *arg)
{
    struct stream *s = arg;
    s->feeder = task;
    task->wait.obj = s;
}

/* feed(handle, text): returns true when there is room for more, false when no more data is wanted.
 */
static int l_feed(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (!s->t || s->done)
        return push_going(L, s);
    enum err_kind kind = engine_feed(s->rt->engine, s->t, text, len);
    if (kind != ERR_NONE)
        return aux_failf(L, kind,
                         kind == ERR_MEMORY ? "not enough memory for the body"
                                            : "one piece of the body is too large");
    if (!s->t || s->done || engine_unsent(s->rt->engine, s->t) < TRANSFER_WINDOW)
        return push_going(L, s);
    lua_pushvalue(L, 1);
    task_set_slot(L, task_current(L, &s->rt->sched, "upload"), SLOT_KEEP);
    return task_park(L, &s->rt->sched, &feed_ops, s, begin_feed, s);
}

static int l_feed_end(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    s->fed = true;
    if (s->t && !s->done)
        engine_feed_end(s->rt->engine, s->t);
    return 0;
}

/* Without this, the server would wait for the rest of the body. */
static void feeding_ended(struct task_hook *hook, struct task *t)
{
    struct stream *s = CONTAINER_OF(hook, struct stream, feeding_hook);
    if (!s->t || s->done || s->fed)
        return;
    s->failed = true;
    if (t->stopped)
        err_set(&s->err, ERR_BUDGET, "time limit: the body's function computed for too long");
    else if (t->abandoned)
        err_set(&s->err, ERR_INTERNAL, "the body's function did not end when it was cancelled");
    else
        err_set(&s->err, ERR_MEMORY, "not enough memory to send the body");
    engine_cancel(s->rt->engine, s->t);
}

/* fed_by(handle, task): if the task ends without feed_end or give_up (its time or memory ran out),
 * the request fails. */
static int l_fed_by(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    struct task *t = luaL_checkudata(L, 2, "leat.task");
    s->feeding_hook.fn = feeding_ended;
    task_hook_add(t, &s->feeding_hook);
    return 0;
}

/* give_up(handle, err): the script's side of the upload failed, so the request fails with the same
 * error. */
static int l_give_up(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    s->fed = true;
    if (s->t && !s->done)
        engine_cancel(s->rt->engine, s->t);
    return 0;
}

void lua_upload_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"feed", l_feed},
                                         {"feed_end", l_feed_end},
                                         {"give_up", l_give_up},
                                         {"fed_by", l_fed_by},
                                         {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
}
