/* A deadlock of request slots: a request waits for a slot, but streams that nobody reads hold all
 * of them, and the owners of these streams wait for that request or for one like it. */
#include "lua/lua_slot_deadlock.h"

#include "lua/lua_aux.h"
#include "lua/lua_stream.h"

/* Whether the stream's owner waits for the end of `waiting`. */
static bool owner_waits(const struct stream *s, const struct task *waiting, struct engine *engine)
{
    const struct task *owner = s->owner;
    if (!owner || owner == waiting)
        return true;
    if (owner->state != TASK_PARKED && owner->state != TASK_JOINING)
        return false;
    /* The owner waits for another request in the same queue. */
    if (owner->wait.obj && owner->wait.ops && owner->state == TASK_PARKED) {
        for (struct transfer *t = engine_next_queued(engine, NULL); t;
             t = engine_next_queued(engine, t)) {
            const struct stream *opened = t->spec.stream || t->spec.upload ? t->owner : NULL;
            if (t == owner->wait.obj || (opened && opened->opener == owner))
                return true;
        }
    }
    bool joins = owner->state == TASK_JOINING || (owner->wait.ops && owner->wait.ops->joins);
    for (const struct task *up = waiting->parent; joins && up; up = up->parent) {
        if (up == owner)
            return true;
    }
    return false;
}

static struct task *task_of(const struct transfer *t)
{
    if (!t->spec.stream && !t->spec.upload)
        return t->owner;
    const struct stream *s = t->owner;
    return s ? s->opener : NULL;
}

static bool is_unread(const struct stream *s)
{
    return !s->done && s->head && !s->opener && !s->reader && !s->feeder;
}

/* A queued request that can never start; NULL: none. */
static struct transfer *find_blocked(struct rt *rt)
{
    size_t unread = stream_count_unread(rt);
    struct engine_stats stats;
    if (unread == 0)
        return NULL;
    engine_hold(rt->engine);
    struct transfer *blocked = NULL;
    engine_stats(rt->engine, &stats);
    if (stats.queued == 0)
        goto out;
    bool nothing_else = stats.active == unread && rt->sched.timers == 0 && rt->sched.external == 0;
    for (struct transfer *t = engine_next_queued(rt->engine, NULL); t;
         t = engine_next_queued(rt->engine, t)) {
        const struct task *waiting = task_of(t);
        size_t holders = 0;
        LIST_FOR(node, &rt->streams)
        {
            const struct stream *s = CONTAINER_OF(node, struct stream, node);
            holders += waiting && is_unread(s) && engine_in_the_way(rt->engine, s->t, t) &&
                       (nothing_else || owner_waits(s, waiting, rt->engine));
        }
        if (holders > 0 && holders >= engine_count_in_the_way(rt->engine, t)) {
            blocked = t;
            break;
        }
    }
out:
    engine_release(rt->engine);
    return blocked;
}

/* Called protected: a finalizer may raise, and we cannot fix a host's finalizers. */
static int collect(lua_State *L)
{
    lua_gc(L, LUA_GCCOLLECT, 0); /* a stream that nobody references may hold a slot */
    lua_gc(L, LUA_GCCOLLECT, 0); /* frees what the finalizers of the first collection released */
    rt_run_deferred(L, lua_touserdata(L, 1));
    return 0;
}

void slot_deadlock_break(struct rt *rt)
{
    if (list_empty(&rt->streams) || !find_blocked(rt))
        return;
    if (lua_cpcall(rt->L, collect, rt) != 0)
        lua_pop(rt->L, 1);
    struct transfer *t = find_blocked(rt);
    if (!t)
        return;
    struct err err;
    err_set(&err, ERR_RATE_LIMITED,
            "no free slot for another request: unread streams hold all slots, and the tasks that "
            "own them wait (read or close a stream first, or raise the limit)");
    err_reason(&err, "streams_hold_all_slots");
    engine_fail(rt->engine, t, &err);
}
