/* With -v: reports tasks that have waited for a long time, and for what. */
#include "host/runtime_waits.h"

#include "host/runtime_guard.h"

/* The first report comes after 5 s; the interval then doubles each time. */
#define FIRST_NS (5 * NS_PER_S)
/* Reports tasks that have waited at least this long: slightly less than the interval, because the
 * script starts after the timer was set. */
#define LONG_S 4
#define LAST_NS (300 * NS_PER_S)

static void on_due(struct timer *t)
{
    struct leat_runtime *r = CONTAINER_OF(t, struct leat_runtime, waits);
    r->waits_due = true; /* reported during the turn, where Lua may run */
}

static void set_timer(struct leat_runtime *r)
{
    struct loop *l = &r->rt.loop;
    loop_timer_start(l, &r->waits, loop_now_ns(l) + r->waits_every_ns);
}

static int tell(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    lua_getfield(L, -1, "tasks");
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "_tell_waits");
    lua_insert(L, -2);
    lua_pushnumber(L, LONG_S);
    lua_call(L, 2, 0);
    return 0;
}

void runtime_watch_waits(struct leat_runtime *r)
{
    timer_init(&r->waits, on_due);
    r->waits_every_ns = FIRST_NS;
    set_timer(r);
}

void runtime_tell_waits(struct leat_runtime *r)
{
    r->waits_due = false;
    (void)runtime_protected(r, tell, NULL); /* out of memory: no messages */
    r->waits_every_ns = MIN(2 * r->waits_every_ns, LAST_NS);
    set_timer(r);
}
