/* What scripts see of a server: listening, taking requests, closing. The public face is
 * lua/leat/serve.lua. */
#include "lua/lua_serve.h"

#include "lua/lua_aux.h"
#include <math.h>
#include <string.h>

#define SERVER_META "leat.server"

/* ---- servers ---- */

static struct server *check_server(lua_State *L)
{
    return *(struct server **)aux_check_self(L, SERVER_META);
}

/* listen(host, port, max_body, timeout) */
static int l_listen(lua_State *L)
{
    struct rt *rt = aux_open_rt(L, "serve");
    const char *host = luaL_checkstring(L, 1);
    int64_t port = aux_check_integer(L, 2, "serve: the port", 0, 65535);
    int64_t max_body = aux_check_integer(L, 3, "serve: max_body", 0, INT64_C(1) << 40);
    double timeout_s = aux_check_seconds(L, 4, "serve: the timeout");
    struct err err;
    err_clear(&err);
    struct server **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    if (server_start(box, rt, host, (uint16_t)port, (size_t)max_body, timeout_s, &err) != ERR_NONE)
        return aux_fail(L, &err);
    luaL_getmetatable(L, SERVER_META);
    lua_setmetatable(L, -2);
    return 1;
}

/* simulate(url, max_body) */
static int l_simulate(lua_State *L)
{
    struct rt *rt = aux_open_rt(L, "simulate");
    const char *url = luaL_checkstring(L, 1);
    int64_t max_body = aux_check_integer(L, 2, "simulate: max_body", 0, INT64_C(1) << 40);
    struct err err;
    err_clear(&err);
    struct server **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    if (server_simulate(box, rt, url, (size_t)max_body, &err) != ERR_NONE)
        return aux_fail(L, &err);
    luaL_getmetatable(L, SERVER_META);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_server_gc(lua_State *L)
{
    struct server *s = *(struct server **)lua_touserdata(L, 1);
    server_stop(s);
    server_release(s);
    return 0;
}

static int l_server_close(lua_State *L)
{
    server_stop(check_server(L));
    return 0;
}

/* keep(task): without it nobody would stop a server whose task fails at once, or never begins. */
static int l_server_keep(lua_State *L)
{
    struct server *s = check_server(L);
    struct task *t = luaL_checkudata(L, 2, "leat.task");
    if (t->state == TASK_ENDED)
        server_stop(s);
    else
        server_keep(s, t);
    return 0;
}

static int l_server_quiesce(lua_State *L)
{
    server_quiesce(check_server(L));
    return 0;
}

static void set_count(lua_State *L, const char *name, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

static int l_server_gauges(lua_State *L)
{
    struct server *s = check_server(L);
    lua_createtable(L, 0, 6);
    set_count(L, "connections", (double)s->connections);
    set_count(L, "waiting", (double)s->waiting);
    set_count(L, "active", (double)s->active);
    set_count(L, "accepted", (double)s->accepted);
    set_count(L, "requests", (double)s->received);
    set_count(L, "gone", (double)s->gone);
    return 1;
}

static int l_server_index(lua_State *L)
{
    struct server *s = check_server(L);
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "url") == 0 && s->url) {
        lua_pushstring(L, s->url);
    } else if (key && strcmp(key, "port") == 0) {
        lua_pushinteger(L, s->port);
    } else if (key && strcmp(key, "host") == 0) {
        lua_pushstring(L, s->host);
    } else if (key && strcmp(key, "url") == 0) {
        lua_pushfstring(L, strchr(s->host, ':') ? "http://[%s]:%d" : "http://%s:%d", s->host,
                        (int)s->port);
    } else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(2));
    }
    return 1;
}

static int push_request(lua_State *L, struct server *s)
{
    struct incoming **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, REQUEST_META);
    lua_setmetatable(L, -2);
    lua_createtable(L, 0, 4); /* what was asked for already, and the script's own fields */
    lua_setfenv(L, -2);
    *box = server_take(s);
    if (!*box) { /* another task was quicker, or its client has gone */
        lua_pop(L, 1);
        lua_pushboolean(L, 0);
    }
    return 1;
}

static bool cancel_accept(struct task *t)
{
    struct server *s = t->wait.obj;
    list_unlink(&t->wait.node);
    if (t->wait.woken && !list_empty(&s->pending) && !list_empty(&s->acceptors))
        task_wake(CONTAINER_OF(s->acceptors.next, struct task, wait.node));
    return true;
}

static int take_accept(lua_State *L, struct task *t)
{
    struct server *s = t->wait.obj;
    return server_open(s) ? push_request(L, s) : 0;
}

/* drop(): the next request in line is lost, for want of memory; whether there was one. */
static int l_server_drop(lua_State *L)
{
    lua_pushboolean(L, server_drop(check_server(L)));
    return 1;
}

static void describe_server(struct task *t, char *out, size_t size)
{
    struct server *s = t->wait.obj;
    snprintf(out, size, "port %u, %zu open requests", s->port, s->active);
}

static const struct wait_ops accept_ops = {
    .name = "serve", .cancel = cancel_accept, .take = take_accept, .describe = describe_server};

static void begin_accept(struct task *t, void *arg)
{
    list_push_back(&((struct server *)arg)->acceptors, &t->wait.node);
}

/* accept(): the next request, which must be bound before the one after it is asked for; nil when
 * the server is closed; false: ask again. */
static int l_server_accept(lua_State *L)
{
    struct server *s = check_server(L);
    server_lose_taken(s);
    if (!server_open(s)) {
        lua_pushnil(L);
        return 1;
    }
    if (!list_empty(&s->pending) && !s->rt->sched.running->cancel_requested)
        return push_request(L, s);
    return task_park(L, &s->rt->sched, &accept_ops, s, begin_accept, s);
}

static bool cancel_idle(struct task *t)
{
    list_unlink(&t->wait.node);
    return true;
}

static int take_idle(lua_State *L, struct task *t)
{
    lua_pushboolean(L, ((struct server *)t->wait.obj)->active == 0);
    return 1;
}

static const struct wait_ops idle_ops = {
    .name = "server:close", .cancel = cancel_idle, .take = take_idle, .describe = describe_server};

struct idle_wait {
    struct server *server;
    uint64_t due_ns;
};

static void begin_idle(struct task *t, void *arg)
{
    struct idle_wait *w = arg;
    list_push_back(&w->server->idlers, &t->wait.node);
    task_wait_timer(t, w->due_ns);
}

/* idle(seconds): waits until every request has its whole response; whether that came true. */
static int l_server_idle(lua_State *L)
{
    struct server *s = check_server(L);
    double seconds = aux_check_seconds(L, 2, "close: the grace");
    if (!server_open(s) || s->active == 0 || seconds == 0) {
        lua_pushboolean(L, !server_open(s) || s->active == 0);
        return 1;
    }
    struct idle_wait w = {s, isinf(seconds) ? NEVER_NS : loop_deadline_ns(&s->rt->loop, seconds)};
    return task_park(L, &s->rt->sched, &idle_ops, s, begin_idle, &w);
}

/* ---- opening ---- */

static const luaL_Reg functions[] = {{"listen", l_listen}, {"simulate", l_simulate}, {NULL, NULL}};

static const luaL_Reg server_methods[] = {
    {"accept_start", l_server_accept}, {"drop", l_server_drop},
    {"idle_start", l_server_idle},     {"quiesce", l_server_quiesce},
    {"close", l_server_close},         {"keep", l_server_keep},
    {"gauges", l_server_gauges},       {NULL, NULL}};

int lua_open_serve(lua_State *L, struct rt *rt)
{
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);

    rt_newmetatable(L, rt, SERVER_META, server_methods, l_server_gc); /* M mt */
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -3, "server_methods");
    lua_pushlightuserdata(L, rt);
    lua_getfield(L, -2, "__index");
    lua_pushcclosure(L, l_server_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);

    server_open_request(L, rt);
    return 1;
}
