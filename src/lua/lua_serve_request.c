/* What scripts see of a request: reading it, and answering it whole or as a stream. */
#include "lua/lua_serve.h"

#include "ground/secret.h"
#include "lua/lua_aux.h"
#include <string.h>
#include <strings.h>

/* ---- reading ---- */

static struct incoming *check_request(lua_State *L)
{
    return *(struct incoming **)aux_check_self(L, REQUEST_META);
}

static int l_request_gc(lua_State *L)
{
    struct incoming **box = lua_touserdata(L, 1);
    if (*box)
        incoming_release(*box);
    *box = NULL;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is not a valid escape stays as it is, as in browsers. */
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

/* Name to value; of a repeated name the first value. */
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

/* The metatable of header tables: a name in other letters is looked up in small ones. */
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

/* Small-letter name to value; repeated fields are joined by ", " (RFC 9110 5.3). */
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

/* The path, whose length is set; it is behind the host where the target is a whole URL, as proxies
 * are sent it (RFC 9112 3.2.2), and "/" where there is none. */
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
static bool push_field(lua_State *L, struct incoming *r, const char *key)
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
    struct incoming *r = check_request(L);
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
    lua_rawset(L, -4); /* made once: a script may compare, and change, what it was given */
    if (strcmp(key, "body") == 0) {
        buf_fini(&r->body);
        buf_init(&r->body, &r->server->rt->mem, 0);
    }
    return 1;
}

/* A handler may keep things of its own with the request. */
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
    struct incoming *r = check_request(L);
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

static int l_bind(lua_State *L)
{
    struct incoming *r = check_request(L);
    struct task *t = luaL_checkudata(L, 2, "leat.task");
    if (t->state != TASK_ENDED)
        incoming_bind(r, t);
    return 0;
}

/* phase(): "waiting" for an answer, "streaming", "done", or "gone" (nobody is there to be
 * answered). */
static int l_phase(lua_State *L)
{
    struct incoming *r = check_request(L);
    bool done = r->state == INCOMING_ANSWERED || (r->state == INCOMING_STREAM && r->finished);
    if (done)
        lua_pushliteral(L, "done");
    else if (!incoming_open(r) || r->gone || r->aborted)
        lua_pushliteral(L, "gone");
    else if (r->state == INCOMING_STREAM)
        lua_pushliteral(L, "streaming");
    else
        lua_pushliteral(L, "waiting");
    return 1;
}

/* ---- answering ---- */

/* Of the response's head, without the script's headers: the status, Date, the length. */
#define ANSWER_HEAD_BYTES ((size_t)512)

/* The server frames the message itself; a handler that passes on another server's headers need not
 * know which of them spoke of that connection alone. */
static bool is_framing(const char *name, const char *value)
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "keep-alive",      "te",
        "trailer",        "upgrade",           "proxy-connection"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return strcasecmp(name, "connection") == 0 && strcasecmp(value, "close") != 0;
}

/* The value is on top of L. */
static enum err_kind add_header(lua_State *L, struct incoming *r, const char *name, size_t name_len,
                                struct err *err)
{
    size_t len;
    char given[AUX_PICTURE_SIZE];
    if (!lua_isstring(L, -1))
        aux_raise(L, "respond: header '%s' must be a string, a number or a list of them, got %s",
                  secret_hidden(name), aux_picture(L, -1, "header", given, sizeof given));
    const char *value = lua_tolstring(L, -1, &len);
    if (!headers_valid_name(name, name_len))
        return err_set(err, ERR_INVALID, "respond: '%.60s' is not a header name",
                       secret_hidden(name));
    if (!headers_valid_value(value, len))
        return err_set(err, ERR_INVALID,
                       "respond: the value of header '%s' holds a line end or a control character",
                       secret_hidden(name));
    if (is_framing(name, value))
        return ERR_NONE;
    r->head_len += name_len + len + 4;
    if (r->head_len + ANSWER_HEAD_BYTES > r->head_room)
        return err_set(err, ERR_TOO_LARGE,
                       "respond: the headers are too large: %zu bytes up to '%s', %zu may be",
                       r->head_len, secret_hidden(name),
                       MAX(r->head_room, ANSWER_HEAD_BYTES) - ANSWER_HEAD_BYTES);
    bool added = r->call ? headers_add(&r->answer, name, name_len, value, len) == ERR_NONE
                         : MHD_add_response_header(r->response, name, value) == MHD_YES;
    if (!added)
        return err_set(err, ERR_INVALID, "respond: header '%s' was refused", secret_hidden(name));
    return ERR_NONE;
}

static enum err_kind add_headers(lua_State *L, struct incoming *r, int index, struct err *err)
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
            lua_pushvalue(L,
                          -1); /* a number becomes a string in place: not in the script's table */
            rc = add_header(L, r, name, len, err);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    return rc;
}

static void drop_response(struct incoming *r)
{
    if (r->response)
        MHD_destroy_response(r->response);
    r->response = NULL;
    headers_clear(&r->answer);
    r->head_len = 0;
    mem_free(&r->server->rt->mem, r->response_body);
    r->response_body = NULL;
}

/* Raises for a second answer. False: nobody is there to be answered. */
static bool may_answer(lua_State *L, struct incoming *r)
{
    if (r->state != INCOMING_WAITING)
        aux_raise(L, "respond: this request has its response already");
    drop_response(r); /* of a call that raised half-way */
    return incoming_open(r) && !r->gone && !r->aborted;
}

static int fail_gone(lua_State *L)
{
    return aux_failf(L, ERR_CLOSED, "respond: the client went away");
}

static int check_status(lua_State *L, struct incoming *r)
{
    int status = (int)aux_check_integer(L, 2, "respond: the status", 200, 999);
    r->no_body = status == 204 || status == 304 || strcmp(r->method, "HEAD") == 0;
    return status;
}

static int send_response(lua_State *L, struct incoming *r, enum incoming_state state)
{
    struct err err;
    err_clear(&err);
    if (!r->response && !r->call)
        return aux_failf(L, ERR_MEMORY, "respond: not enough memory");
    if (add_headers(L, r, 3, &err) != ERR_NONE) {
        drop_response(r);
        return aux_fail(L, &err);
    }
    incoming_answer(r, state);
    lua_pushboolean(L, 1);
    return 1;
}

/* answer(status, headers, body): the whole response. */
static int l_answer(lua_State *L)
{
    struct incoming *r = check_request(L);
    struct mem *mem = &r->server->rt->mem;
    size_t len = 0;
    lua_settop(L, 4);
    const char *body = lua_isnil(L, 4) ? "" : luaL_checklstring(L, 4, &len);
    if (!may_answer(L, r))
        return fail_gone(L);
    r->status = (unsigned)check_status(L, r);
    if (r->status == 204 || r->status == 304)
        len = 0; /* have none, whatever was given */
    r->response_body = mem_alloc(mem, len + 1);
    if (!r->response_body)
        return aux_failf(L, ERR_MEMORY, "respond: not enough memory");
    memcpy(r->response_body, body, len);
    r->response_len = len;
    if (!r->call)
        r->response =
            MHD_create_response_from_buffer(len, r->response_body, MHD_RESPMEM_PERSISTENT);
    return send_response(L, r, INCOMING_ANSWERED);
}

/* open(status, headers): the head; the body follows by write and finish. */
static int l_open(lua_State *L)
{
    struct incoming *r = check_request(L);
    lua_settop(L, 3);
    if (!may_answer(L, r))
        return fail_gone(L);
    r->status = (unsigned)check_status(L, r);
    if (!r->call)
        r->response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, incoming_reader(), r, NULL);
    return send_response(L, r, INCOMING_STREAM);
}

static void leave_stream(struct task *t)
{
    struct incoming *r = t->wait.obj;
    r->writer = NULL;
}

static bool cancel_write(struct task *t)
{
    leave_stream(t);
    return true;
}

static int take_write(lua_State *L, struct task *t)
{
    struct incoming *r = t->wait.obj;
    leave_stream(t);
    if (!incoming_open(r) || r->gone || r->aborted)
        return fail_gone(L);
    lua_pushboolean(L, 1);
    return 1;
}

static void describe_write(struct task *t, char *out, size_t size)
{
    snprintf(out, size, "%zu bytes unsent", incoming_unsent(t->wait.obj));
}

static const struct wait_ops write_ops = {
    .name = "write", .cancel = cancel_write, .take = take_write, .describe = describe_write};

static void begin_write(struct task *t, void *arg)
{
    struct incoming *r = arg;
    r->writer = t;
    if (r->call)
        r->call->mark = STREAM_LOW_BYTES;
}

/* write(chunk): true at once, or when the client has read enough of what is unsent. */
static int l_write(lua_State *L)
{
    struct incoming *r = check_request(L);
    size_t len;
    char given[AUX_PICTURE_SIZE];
    if (lua_type(L, 2) != LUA_TSTRING)
        aux_raise(L, "write: the chunk must be a string, got %s",
                  aux_picture(L, 2, NULL, given, sizeof given));
    const char *chunk = lua_tolstring(L, 2, &len);
    if (r->state != INCOMING_STREAM || r->finished)
        aux_raise(L, "write: this response is not a stream, or is closed");
    if (r->writer)
        aux_raise(L, "write: another task is writing to this stream");
    bool wait = !r->no_body && incoming_unsent(r) + len > STREAM_HIGH_BYTES;
    if (wait)
        task_check_can_wait(L, &r->server->rt->sched, "write");
    enum err_kind rc = incoming_write(r, chunk, len);
    if (rc == ERR_CLOSED)
        return fail_gone(L);
    if (rc != ERR_NONE)
        return aux_failf(L, rc, "write: a chunk of %zu bytes cannot be kept", len);
    if (!wait || incoming_unsent(r) <= STREAM_HIGH_BYTES) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return task_park(L, &r->server->rt->sched, &write_ops, r, begin_write, r);
}

static int l_finish(lua_State *L)
{
    incoming_finish(check_request(L));
    return 0;
}

static int l_abort(lua_State *L)
{
    incoming_abort(check_request(L));
    return 0;
}

/* ---- opening ---- */

static const luaL_Reg request_methods[] = {{"header_values", l_header_values},
                                           {"bind", l_bind},
                                           {"phase", l_phase},
                                           {"answer", l_answer},
                                           {"open", l_open},
                                           {"write_start", l_write},
                                           {"finish", l_finish},
                                           {"abort", l_abort},
                                           {NULL, NULL}};

void server_open_request(lua_State *L, struct rt *rt)
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
