#include "lua/lua_serve_request.h"

#include "ground/secret.h"
#include "lua/lua_aux.h"
#include "server/server_response.h"
#include <string.h>
#include <strings.h>

/* The metatable of a request, a userdata with a pointer to its struct handling. */
#define REQUEST_META "leat.server_request"

/* A request with the tasks around it. */
struct handling {
    struct server_request *request;
    struct task *writer;   /* waits in `write`; NULL: none */
    struct task *handler;  /* is cancelled when the client goes away; its end ends the request */
    struct task_hook hook; /* called when the handler ends */
};

static struct handling *check_handling(lua_State *L)
{
    return *(struct handling **)aux_check_self(L, REQUEST_META);
}

static struct server_request *check_request(lua_State *L)
{
    return check_handling(L)->request;
}

/* ---- what the server reports: it cancels and wakes */

void lua_serve_request_ended(struct server_request *r, const char *reason)
{
    struct handling *h = r->owner;
    if (h->handler)
        task_cancel(h->handler, reason);
}

void lua_serve_request_room(struct server_request *r)
{
    struct handling *h = r->owner;
    if (h->writer)
        task_wake(h->writer);
}

/* ---- its life */

int lua_serve_request_push_next(lua_State *L, struct server *s)
{
    struct handling **box = lua_newuserdata(L, sizeof(*box));
    *box = NULL;
    luaL_getmetatable(L, REQUEST_META);
    lua_setmetatable(L, -2);
    lua_createtable(L, 0, 4); /* cache of fields that were read, and the script's own fields */
    lua_setfenv(L, -2);
    if (list_empty(&s->line)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    struct handling *h = mem_calloc(s->mem, sizeof *h);
    if (!h)
        luaL_error(L, "not enough memory");
    list_init(&h->hook.node);
    h->request = server_request_take(s, h);
    *box = h;
    return 1;
}

static int l_request_gc(lua_State *L)
{
    struct handling **box = lua_touserdata(L, 1);
    struct handling *h = *box;
    *box = NULL;
    if (!h)
        return 0;
    task_hook_remove(&h->hook);
    server_request_release(h->request);
    mem_free(&rt_of(L)->mem, h);
    return 0;
}

/* Without memory a handler can neither answer nor write to the log why it did not. */
static void handler_ended(struct task_hook *hook, struct task *t)
{
    struct handling *h = CONTAINER_OF(hook, struct handling, hook);
    struct server_request *r = h->request;
    h->handler = NULL;
    if (t->starved && server_request_unanswered(r) && server_request_reachable(r))
        server_log_lost(r->server);
    server_request_abort(r);
}

/* bind(task): from now on, the task is cancelled when the client goes away, and the request ends
 * when the task ends. */
static int l_bind(lua_State *L)
{
    struct handling *h = check_handling(L);
    struct task *t = luaL_checkudata(L, 2, "leat.task");
    if (t->state == TASK_ENDED)
        return 0;
    task_hook_remove(&h->hook);
    h->handler = t;
    h->hook.fn = handler_ended;
    task_hook_add(t, &h->hook);
    const char *reason = server_request_claim(h->request);
    if (reason)
        task_cancel(t, reason);
    return 0;
}

/* ---- reading */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes percent escapes. An invalid escape stays as it is, as in browsers. */
static void push_decoded(lua_State *L, const char *text, size_t len, bool plus_is_space)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%' && i + 2 < len && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
            c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        luaL_addchar(&b, c);
    }
    luaL_pushresult(&b);
}

/* Maps names to values; for a repeated name the first value counts. */
static void push_query(lua_State *L, const char *query)
{
    lua_newtable(L);
    while (query && *query) {
        size_t len = strcspn(query, "&");
        const char *eq = memchr(query, '=', len);
        size_t name_len = eq ? (size_t)(eq - query) : len;
        if (len > 0) {
            push_decoded(L, query, name_len, true);
            lua_pushvalue(L, -1);
            lua_rawget(L, -3); /* query name old */
            if (lua_isnil(L, -1)) {
                lua_pop(L, 1);
                push_decoded(L, eq ? eq + 1 : "", eq ? len - name_len - 1 : 0, true);
                lua_rawset(L, -3);
            } else {
                lua_pop(L, 2);
            }
        }
        query += len + (query[len] == '&');
    }
}

static void push_lower(lua_State *L, const char *s, size_t len)
{
    char small[64];
    luaL_Buffer b;
    if (len <= sizeof small) {
        for (size_t i = 0; i < len; i++)
            small[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
        lua_pushlstring(L, small, len);
        return;
    }
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < len; i++)
        luaL_addchar(&b, (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]));
    luaL_pushresult(&b);
}

/* The metatable of header tables: any name is looked up in lower case. */
static int l_headers_index(lua_State *L)
{
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    const char *name = lua_tolstring(L, 2, &len);
    push_lower(L, name, len);
    lua_rawget(L, 1);
    return 1;
}

/* Maps lower-case names to values; repeated fields are joined by ", " (RFC 9110 5.3). */
static void push_headers(lua_State *L, const struct headers *h)
{
    lua_createtable(L, 0, (int)h->count);
    for (size_t i = 0; i < h->count; i++) {
        push_lower(L, headers_name(h, i), h->rows[i].name_len);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3); /* t name old */
        bool again = !lua_isnil(L, -1);
        if (again)
            lua_pushliteral(L, ", ");
        else
            lua_pop(L, 1);
        lua_pushlstring(L, headers_value(h, i), h->rows[i].value_len);
        if (again)
            lua_concat(L, 3);
        lua_rawset(L, -3);
    }
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_setmetatable(L, -2);
}

/* Returns the path and sets its length. If the target is a whole URL, as sent to proxies (RFC 9112
 * 3.2.2), the path starts after the host, and is "/" if there is none. */
static const char *path_of(const char *target, size_t *len)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;
    const char *path = scheme ? target + scheme + strcspn(target + scheme, "/?") : target;
    *len = strcspn(path, "?");
    if (*len > 0)
        return path;
    *len = 1;
    return "/";
}

/* Pushes a field of the request, or nothing. */
static bool push_field(lua_State *L, struct server_request *r, const char *key)
{
    const char *query = strchr(r->target, '?');
    size_t path_len;
    const char *path = path_of(r->target, &path_len);
    if (strcmp(key, "method") == 0)
        lua_pushstring(L, r->method);
    else if (strcmp(key, "path") == 0)
        push_decoded(L, path, path_len, false);
    else if (strcmp(key, "target") == 0)
        lua_pushstring(L, r->target);
    else if (strcmp(key, "query") == 0)
        push_query(L, query ? query + 1 : NULL);
    else if (strcmp(key, "query_string") == 0)
        lua_pushstring(L, query ? query + 1 : "");
    else if (strcmp(key, "headers") == 0)
        push_headers(L, &r->headers);
    else if (strcmp(key, "body") == 0)
        lua_pushlstring(L, r->body.data ? r->body.data : "", r->body.len);
    else if (strcmp(key, "remote") == 0)
        lua_pushstring(L, r->address);
    else if (strcmp(key, "version") == 0)
        lua_pushstring(L, r->version);
    else
        return false;
    return true;
}

static int l_request_index(lua_State *L)
{
    struct server_request *r = check_request(L);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(2)); /* methods */
    if (!lua_isnil(L, -1))
        return 1;
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1) || lua_type(L, 2) != LUA_TSTRING)
        return 1;
    const char *key = lua_tostring(L, 2);
    lua_pop(L, 1); /* env */
    if (!push_field(L, r, key)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4); /* created once, because a script may compare or change the value it got */
    if (strcmp(key, "body") == 0) {
        buf_fini(&r->body);
        buf_init(&r->body, r->server->mem, 0);
    }
    return 1;
}

/* A handler may store its own fields in the request. */
static int l_request_newindex(lua_State *L)
{
    check_request(L);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    return 0;
}

static int l_header_values(lua_State *L)
{
    struct server_request *r = check_request(L);
    const char *name = luaL_checkstring(L, 2);
    size_t from = 0, len;
    const char *value;
    lua_newtable(L);
    for (int n = 1; (value = headers_get(&r->headers, name, &from, &len)) != NULL; n++) {
        lua_pushlstring(L, value, len);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* phase(): "waiting" for an answer, "streaming", "done", or "gone" (the client went away). */
static int l_phase(lua_State *L)
{
    struct server_request *r = check_request(L);
    bool done =
        r->state == SERVER_REQUEST_ANSWERED || (r->state == SERVER_REQUEST_STREAM && r->finished);
    if (done)
        lua_pushliteral(L, "done");
    else if (!server_request_reachable(r))
        lua_pushliteral(L, "gone");
    else if (r->state == SERVER_REQUEST_STREAM)
        lua_pushliteral(L, "streaming");
    else
        lua_pushliteral(L, "waiting");
    return 1;
}

/* ---- answering */

/* The header's value is on top of L. */
static enum err_kind add_header(lua_State *L, struct server_request *r, const char *name,
                                size_t name_len, struct err *err)
{
    size_t len;
    char given[AUX_PICTURE_SIZE];
    if (!lua_isstring(L, -1))
        aux_raise(L, "respond: header '%s' must be a string, a number or a list of them, got %s",
                  secret_hidden(name), aux_picture(L, -1, "header", given, sizeof given));
    const char *value = lua_tolstring(L, -1, &len);
    return server_response_header(r, name, name_len, value, len, err);
}

static enum err_kind add_headers(lua_State *L, struct server_request *r, int index, struct err *err)
{
    char given[AUX_PICTURE_SIZE];
    if (lua_isnoneornil(L, index))
        return ERR_NONE;
    if (!lua_istable(L, index))
        aux_raise(L, "respond: headers must be a table, got %s",
                  aux_picture(L, index, "headers", given, sizeof given));
    enum err_kind rc = ERR_NONE;
    lua_pushnil(L);
    while (rc == ERR_NONE && lua_next(L, index)) { /* name value */
        size_t len;
        if (lua_type(L, -2) != LUA_TSTRING)
            aux_raise(L, "respond: the name of a header must be a string, got %s",
                      aux_picture(L, -2, NULL, given, sizeof given));
        const char *name = lua_tolstring(L, -2, &len);
        if (lua_istable(L, -1)) {
            char what[128];
            snprintf(what, sizeof what, "respond: header '%.80s'", secret_hidden(name));
            size_t n = aux_check_list(L, lua_gettop(L), what);
            for (size_t i = 1; rc == ERR_NONE && i <= n; i++) {
                lua_rawgeti(L, -1, (int)i);
                rc = add_header(L, r, name, len, err);
                lua_pop(L, 1);
            }
        } else {
            lua_pushvalue(L, -1); /* converts a copy: the script's table keeps its number */
            rc = add_header(L, r, name, len, err);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    return rc;
}

static int fail_gone(lua_State *L)
{
    return aux_failf(L, ERR_CLOSED, "respond: the client went away");
}

/* Begins a response with the status at 2. Raises if the request has a response already. False: the
 * client went away. */
static bool begin_response(lua_State *L, struct server_request *r)
{
    if (r->state != SERVER_REQUEST_WAITING)
        aux_raise(L, "respond: this request has its response already");
    if (!server_request_reachable(r))
        return false;
    int64_t status = aux_check_integer(L, 2, "respond: the status", 200, 999);
    server_response_begin(r, (unsigned)status);
    return true;
}

static int send_response(lua_State *L, struct server_request *r, bool stream)
{
    struct err err;
    err_clear(&err);
    if (add_headers(L, r, 3, &err) != ERR_NONE || server_response_send(r, stream, &err) != ERR_NONE)
        return aux_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* answer(status, headers, body): sends the whole response. */
static int l_answer(lua_State *L)
{
    struct server_request *r = check_request(L);
    size_t len = 0;
    lua_settop(L, 4);
    const char *body = lua_isnil(L, 4) ? "" : luaL_checklstring(L, 4, &len);
    if (!begin_response(L, r))
        return fail_gone(L);
    if (server_response_body(r, body, len) != ERR_NONE)
        return aux_failf(L, ERR_MEMORY, "respond: not enough memory");
    return send_response(L, r, false);
}

/* open(status, headers): sends the head; write and finish send the body. */
static int l_open(lua_State *L)
{
    struct server_request *r = check_request(L);
    lua_settop(L, 3);
    return begin_response(L, r) ? send_response(L, r, true) : fail_gone(L);
}

static bool cancel_write(struct task *t)
{
    ((struct handling *)t->wait.obj)->writer = NULL;
    return true;
}

static int take_write(lua_State *L, struct task *t)
{
    struct handling *h = t->wait.obj;
    h->writer = NULL;
    if (!server_request_reachable(h->request))
        return fail_gone(L);
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_write(struct task *t, char *out, size_t size)
{
    struct handling *h = t->wait.obj;
    snprintf(out, size, "%zu bytes unsent", server_request_unsent(h->request));
}

static const struct wait_ops write_ops = {
    .name = "write", .cancel = cancel_write, .take = take_write, .describe = describe_write};

static void begin_write(struct task *t, void *arg)
{
    ((struct handling *)arg)->writer = t;
}

/* write(chunk): returns true at once if little data is unsent; else waits until the client has read
 * enough. */
static int l_write(lua_State *L)
{
    struct handling *h = check_handling(L);
    struct server_request *r = h->request;
    struct sched *sched = &rt_of(L)->sched;
    size_t len;
    char given[AUX_PICTURE_SIZE];
    if (lua_type(L, 2) != LUA_TSTRING)
        aux_raise(L, "write: the chunk must be a string, got %s",
                  aux_picture(L, 2, NULL, given, sizeof given));
    const char *chunk = lua_tolstring(L, 2, &len);
    if (r->state != SERVER_REQUEST_STREAM || r->finished)
        aux_raise(L, "write: this response is not a stream, or is closed");
    if (h->writer)
        aux_raise(L, "write: another task is writing to this stream");
    bool wait = !r->no_body && server_request_unsent(r) + len > SERVER_STREAM_HIGH_BYTES;
    if (wait)
        task_check_can_wait(L, sched, "write");
    enum err_kind rc = server_request_write(r, chunk, len);
    if (rc == ERR_CLOSED)
        return fail_gone(L);
    if (rc != ERR_NONE)
        return aux_failf(L, rc, "write: a chunk of %zu bytes cannot be buffered", len);
    if (!wait || server_request_unsent(r) <= SERVER_STREAM_HIGH_BYTES) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return task_park(L, sched, &write_ops, h, begin_write, h);
}

static int l_finish(lua_State *L)
{
    server_request_finish(check_request(L));
    return 0;
}

static int l_abort(lua_State *L)
{
    server_request_abort(check_request(L));
    return 0;
}

/* ---- opening */

static const luaL_Reg request_methods[] = {{"header_values", l_header_values},
                                           {"bind", l_bind},
                                           {"phase", l_phase},
                                           {"answer", l_answer},
                                           {"open", l_open},
                                           {"write_start", l_write},
                                           {"finish", l_finish},
                                           {"abort", l_abort},
                                           {NULL, NULL}};

void lua_serve_request_open(lua_State *L, struct rt *rt)
{
    rt_newmetatable(L, rt, REQUEST_META, request_methods, l_request_gc); /* M mt */
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "request_methods"); /* M mt methods: for the Lua side to complete */
    lua_pushlightuserdata(L, rt);
    lua_insert(L, -2); /* M mt rt methods */
    lua_newtable(L);   /* the metatable of header tables */
    lua_pushcfunction(L, l_headers_index);
    lua_setfield(L, -2, "__index");
    lua_pushcclosure(L, l_request_index, 3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_request_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pop(L, 1);
}
