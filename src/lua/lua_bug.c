/* For reports of bugs: the traceback, and the failure that the script ignored. Also frees memory
 * after an out-of-memory error. */
#include "lua/lua_bug.h"

#include "lua/lua_aux.h"
#include "tasks/task_failure.h"

/* note(value [, coroutine]): a message handler for xpcall; returns the value. */
static int l_note(lua_State *L)
{
    lua_State *of = lua_isthread(L, 2) ? lua_tothread(L, 2) : L;
    struct sched *s = &rt_of(L)->sched;
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TSTRING && s->running)
        task_push_cause(L, s, s->running->id, lua_tostring(L, 1));
    task_note_trace(L, s, of);
    return 1;
}

/* failed(err, what): notes a failure that is about to be returned to the script. */
static int l_failed(lua_State *L)
{
    const char *what = luaL_checkstring(L, 2);
    lua_pushvalue(L, 1);
    if (task_is_err(L, -1))
        task_note_failure(L, &rt_of(L)->sched, what);
    return 0;
}

/* make_room(): frees memory after the running task ran out of it. The task then continues. */
static int l_make_room(lua_State *L)
{
    sched_make_room(&rt_of(L)->sched, L);
    return 0;
}

void lua_bug_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {
        {"note", l_note}, {"failed", l_failed}, {"make_room", l_make_room}, {NULL, NULL}};
    rt_setfuncs(L, rt, functions);
}
