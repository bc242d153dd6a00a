#include "lua/lua_serve.h"

#include "lua/lua_aux.h"
#include "lua/lua_serve_request.h"
#include "lua/lua_serve_simulate.h"
#include "server/server_listen.h"
#include <math.h>
#include <string.h>

/* The metatable of a server, a userdata with a pointer to its struct serving. */
#define SERVER_META "leat.server"

/* A server with the tasks around it. */
struct serving {
    struct list node; /* rt->servers; unlinked: stopped */
    struct rt *rt;
    struct server *server; /* NULL: not started */
    bool simulated;
    struct list acceptors; /* tasks, by wait.node */
    struct list idlers;    /* tasks that wait until no request is open, by wait.node */
    struct task *keeper;   /* when this task ends, the server stops; NULL: none */
    struct task_hook keeper_hook;
    uint16_t port;
    char host[64];
    char *url; /* URL of a simulated server; NULL: it is made from host and port */
};

/* ---- what the server reports: it wakes */

static void arrived(struct server *s)
{
    struct serving *v = s->owner;
    if (!list_empty(&v->acceptors))
        task_wake(CONTAINER_OF(v->acceptors.next, struct task, wait.node));
}

static void wake_all(struct list *line)
{
    while (!list_empty(line))
        task_wake(CONTAINER_OF(line->next, struct task, wait.node));
}

static void idle(struct server *s)
{
    struct serving *v = s->owner;
    wake_all(&v->idlers);
}

static const struct server_events events = {.arrived = arrived,
                                            .idle = idle,
                                            .ended = lua_serve_request_ended,
                                            .room = lua_serve_request_room};

/* ---- starting and stopping */

static struct serving *check_server(lua_State *L)
{
    return *(struct serving **)aux_check_self(L, SERVER_META);
}

/* Pushes a server that is not started. */
static struct serving *push_serving(lua_State *L, struct rt *rt)
{
    struct serving **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, SERVER_META);
    lua_setmetatable(L, -2);
    struct serving *v = mem_calloc(&rt->mem, sizeof *v);
    if (!v)
        return NULL;
    v->rt = rt;
    list_init(&v->node);
    list_init(&v->acceptors);
    list_init(&v->idlers);
    list_init(&v->keeper_hook.node);
    *box = v;
    return v;
}

static struct server_config config_of(struct serving *v, size_t max_body)
{
    return (struct server_config){.mem = &v->rt->mem,
                                  .log = &v->rt->log,
                                  .max_body = max_body,
                                  .events = &events,
                                  .owner = v};
}

/* Marks the server as open. */
static int started(struct serving *v)
{
    list_push_back(&v->rt->servers, &v->node);
    if (!v->simulated) /* only tasks of this runtime can call a simulated server */
        v->rt->sched.external++;
    return 1;
}

static void stop(struct serving *v)
{
    if (!v->server || !v->server->open)
        return;
    task_hook_remove(&v->keeper_hook);
    v->keeper = NULL;
    if (v->simulated) {
        lua_serve_simulate_stop(v->server);
    } else {
        server_listen_stop(v->server);
        v->rt->sched.external--;
    }
    wake_all(&v->acceptors);
    wake_all(&v->idlers);
    list_unlink(&v->node);
}

static void free_serving(struct serving **box)
{
    struct serving *v = *box;
    *box = NULL;
    if (!v)
        return;
    stop(v);
    if (v->server)
        server_release(v->server);
    struct mem *mem = &v->rt->mem;
    mem_free(mem, v->url);
    mem_free(mem, v);
}

/* Cleans up: the server on top of L could not be started. */
static int fail_start(lua_State *L, const struct err *err)
{
    free_serving(lua_touserdata(L, -1));
    return aux_fail(L, err);
}

static enum err_kind listen_at(struct serving *v, const char *host, uint16_t port, size_t max_body,
                               double timeout_s, struct err *err)
{
    struct rt *rt = v->rt;
    struct server_listen how = {.server = config_of(v, max_body),
                                .loop = &rt->loop,
                                .host = host,
                                .port = port,
                                .timeout_s = timeout_s,
                                .raise_file_limit = rt->sched.own_state};
    enum err_kind rc;
    v->simulated = rt->virtual_time;
    v->port = port;
    snprintf(v->host, sizeof v->host, "%s", host);
    if (v->simulated) {
        rc = lua_serve_simulate_listen(&v->server, rt, host, &v->port, &v->url, &how.server, err);
    } else {
        rc = server_listen_start(&v->server, &how, err);
        if (rc == ERR_NONE)
            v->port = server_listen_port(v->server);
    }
    return rc;
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
    struct serving *v = push_serving(L, rt);
    if (!v)
        return aux_failf(L, ERR_MEMORY, "serve: not enough memory");
    if (listen_at(v, host, (uint16_t)port, (size_t)max_body, timeout_s, &err) != ERR_NONE)
        return fail_start(L, &err);
    return started(v);
}

/* simulate(url, max_body) */
static int l_simulate(lua_State *L)
{
    struct rt *rt = aux_open_rt(L, "simulate");
    size_t len;
    const char *url = luaL_checklstring(L, 1, &len);
    int64_t max_body = aux_check_integer(L, 2, "simulate: max_body", 0, INT64_C(1) << 40);
    struct err err;
    err_clear(&err);
    struct serving *v = push_serving(L, rt);
    if (v)
        v->url = mem_strndup(&rt->mem, url, len);
    if (!v || !v->url)
        return aux_failf(L, ERR_MEMORY, "simulate: not enough memory");
    struct server_config config = config_of(v, (size_t)max_body);
    v->simulated = true;
    if (lua_serve_simulate_start(&v->server, rt, url, &config, &err) != ERR_NONE)
        return fail_start(L, &err);
    return started(v);
}

static int l_server_gc(lua_State *L)
{
    free_serving(lua_touserdata(L, 1));
    return 0;
}

static int l_server_close(lua_State *L)
{
    stop(check_server(L));
    return 0;
}

static void keeper_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    stop(CONTAINER_OF(hook, struct serving, keeper_hook));
}

/* keep(task): stops the server when the task ends, for whatever reason. Without it, a server whose
 * task fails at once or never starts would never be stopped. */
static int l_server_keep(lua_State *L)
{
    struct serving *v = check_server(L);
    struct task *t = luaL_checkudata(L, 2, "leat.task");
    if (t->state == TASK_ENDED) {
        stop(v);
    } else if (v->server->open) {
        task_hook_remove(&v->keeper_hook);
        v->keeper = t;
        v->keeper_hook.fn = keeper_ended;
        task_hook_add(t, &v->keeper_hook);
    }
    return 0;
}

bool lua_serve_end_idle(struct rt *rt)
{
    bool any = false;
    LIST_FOR(node, &rt->servers)
    {
        struct serving *v = CONTAINER_OF(node, struct serving, node);
        if (v->simulated && v->keeper && v->keeper->parent &&
            v->keeper->parent->state == TASK_JOINING) {
            stop(v);
            any = true;
        }
    }
    return any;
}

void lua_serve_close_all(struct rt *rt)
{
    while (!list_empty(&rt->servers))
        stop(CONTAINER_OF(rt->servers.next, struct serving, node));
}

/* quiesce(): refuses new connections; further requests on open ones get 503. */
static int l_server_quiesce(lua_State *L)
{
    struct serving *v = check_server(L);
    if (!v->simulated)
        server_listen_quiesce(v->server);
    else
        v->server->quiet = true;
    return 0;
}

/* ---- what is known of a server */

static void set_count(lua_State *L, const char *name, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, name);
}

static int l_server_gauges(lua_State *L)
{
    const struct server *s = check_server(L)->server;
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
    struct serving *v = check_server(L);
    const char *key = lua_tostring(L, 2);
    if (key && strcmp(key, "url") == 0 && v->url) {
        lua_pushstring(L, v->url);
    } else if (key && strcmp(key, "port") == 0) {
        lua_pushinteger(L, v->port);
    } else if (key && strcmp(key, "host") == 0) {
        lua_pushstring(L, v->host);
    } else if (key && strcmp(key, "url") == 0) {
        lua_pushfstring(L, strchr(v->host, ':') ? "http://[%s]:%d" : "http://%s:%d", v->host,
                        (int)v->port);
    } else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(2));
    }
    return 1;
}

/* ---- taking requests */

static bool cancel_accept(struct task *t)
{
    struct serving *v = t->wait.obj;
    list_unlink(&t->wait.node);
    if (t->wait.woken && !list_empty(&v->server->line) && !list_empty(&v->acceptors))
        task_wake(CONTAINER_OF(v->acceptors.next, struct task, wait.node));
    return true;
}

static int take_accept(lua_State *L, struct task *t)
{
    struct serving *v = t->wait.obj;
    return v->server->open ? lua_serve_request_push_next(L, v->server) : 0;
}

/* drop(): drops the next queued request, when memory is short. Returns whether there was one. */
static int l_server_drop(lua_State *L)
{
    lua_pushboolean(L, server_request_drop(check_server(L)->server));
    return 1;
}

static void describe_server(struct task *t, char *out, size_t size)
{
    struct serving *v = t->wait.obj;
    snprintf(out, size, "port %u, %zu open requests", v->port, v->server->active);
}

static const struct wait_ops accept_ops = {
    .name = "serve", .cancel = cancel_accept, .take = take_accept, .describe = describe_server};

static void begin_accept(struct task *t, void *arg)
{
    list_push_back(&((struct serving *)arg)->acceptors, &t->wait.node);
}

/* accept(): the next request. It must be bound before the next accept(). nil: the server is closed;
 * false: ask again. */
static int l_server_accept(lua_State *L)
{
    struct serving *v = check_server(L);
    server_request_lose_taken(v->server);
    if (!v->server->open) {
        lua_pushnil(L);
        return 1;
    }
    if (!list_empty(&v->server->line) && !v->rt->sched.running->cancel_requested)
        return lua_serve_request_push_next(L, v->server);
    return task_park(L, &v->rt->sched, &accept_ops, v, begin_accept, v);
}

static bool cancel_idle(struct task *t)
{
    list_unlink(&t->wait.node);
    return true;
}

static int take_idle(lua_State *L, struct task *t)
{
    struct serving *v = t->wait.obj;
    lua_pushboolean(L, v->server->active == 0);
    return 1;
}

static const struct wait_ops idle_ops = {
    .name = "server:close", .cancel = cancel_idle, .take = take_idle, .describe = describe_server};

struct idle_wait {
    struct serving *serving;
    uint64_t due_ns;
};

static void begin_idle(struct task *t, void *arg)
{
    struct idle_wait *w = arg;
    list_push_back(&w->serving->idlers, &t->wait.node);
    task_wait_timer(t, w->due_ns);
}

/* idle(seconds): waits until every request has its complete response. Returns whether that happened
 * in time. */
static int l_server_idle(lua_State *L)
{
    struct serving *v = check_server(L);
    double seconds = aux_check_seconds(L, 2, "close: the grace");
    bool none_open = !v->server->open || v->server->active == 0;
    if (none_open || seconds == 0) {
        lua_pushboolean(L, none_open);
        return 1;
    }
    struct idle_wait w = {v, isinf(seconds) ? NEVER_NS : loop_deadline_ns(&v->rt->loop, seconds)};
    return task_park(L, &v->rt->sched, &idle_ops, v, begin_idle, &w);
}

/* ---- opening */

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

    lua_serve_request_open(L, rt);
    return 1;
}
