/* leat.native.request: connects tasks and transfers. Its public face is lua/leat/http.lua. A
 * transfer has one owner at a time. rt->draft owns it while options are read into it, or while its
 * result is converted (both may raise; the next user of rt->draft frees what is left there). The
 * engine owns it from its submission to its end event. Then the waiting task owns it in wait.obj,
 * until its take or its cancel. */
#include "lua/lua_request.h"

#include "ground/redact.h"
#include "lua/lua_aux.h"
#include "lua/lua_request_options.h"
#include "lua/lua_response.h"
#include "lua/lua_stream.h"
#include "lua/lua_trace.h"
#include "lua/lua_upload.h"
#include "tasks/task_failure.h"
#include <string.h>
#include <strings.h>

/* wait.number of a task that waits for a transfer; 0 if the wait never began */
enum { IN_ENGINE = 1, ARRIVED = 2 };

static void drop_draft(struct rt *rt)
{
    struct transfer *t = rt->draft;
    rt->draft = NULL;
    if (t)
        lua_response_recycle(rt, t);
}

void lua_request_close(struct rt *rt)
{
    while (!list_empty(&rt->streams))
        stream_close(CONTAINER_OF(rt->streams.next, struct stream, node));
    lua_request_take_events(rt);
    drop_draft(rt);
    struct list *node;
    while ((node = list_pop_front(&rt->spare)))
        transfer_free(CONTAINER_OF(node, struct transfer, event_node));
    rt->spare_count = 0;
}

/* ---- the way down */

static bool cancel_request(struct task *task)
{
    struct transfer *t = task->wait.obj;
    struct rt *rt = CONTAINER_OF(task->sched, struct rt, sched);
    int64_t where = task->wait.number;
    task->wait.number = 0;
    task->wait.obj = NULL;
    if (where == ARRIVED) {
        lua_response_recycle(rt, t);
    } else if (where == IN_ENGINE) {
        t->owner = NULL; /* the transfer's end event frees it */
        engine_cancel(rt->engine, t);
    }
    return true;
}

static void begin_request(struct task *task, void *arg)
{
    struct rt *rt = arg;
    struct transfer *t = rt->draft;
    rt->draft = NULL;
    t->owner = task;
    task->wait.obj = t;
    task->wait.number = IN_ENGINE;
    engine_submit(rt->engine, t);
}

static void describe_request(struct task *task, char *out, size_t size)
{
    const struct transfer *t = task->wait.obj;
    out[0] = '\0';
    if (!t)
        return;
    int n = snprintf(out, size, "%s ", transfer_method(t));
    if (n > 0 && (size_t)n < size)
        redact_url(out + n, size - (size_t)n, t->spec.url, strlen(t->spec.url));
}

static int take_request(lua_State *L, struct task *task);

static const struct wait_ops request_ops = {.name = "request",
                                            .cancel = cancel_request,
                                            .take = take_request,
                                            .describe = describe_request};

/* Stack positions of the arguments of `start`, which makes one request. */
enum arg {
    ARG_SPEC = 1,
    ARG_DEFAULTS,
    ARG_URL,
    ARG_METHOD,
    ARG_BODY,
    ARG_TYPE,
    ARG_AUTH,
    ARG_HANDLE, /* the stream's userdata, if the request becomes a stream; else nil */
    ARG_LENGTH, /* length of a body that is fed to the handle; math.huge: unknown; nil: no such body
                 */
    ARG_JAR,    /* the cookie jar of a client; nil: none */
    ARG_ONCE,   /* true: see transfer_spec.once */
    ARG_FRESH,  /* true: see transfer_spec.fresh */
    ARG_LAST = ARG_FRESH
};

static bool given(lua_State *L, enum arg arg)
{
    return !lua_isnil(L, arg);
}

static enum err_kind add_string(struct request_reader *r, const char *name, enum arg arg,
                                struct err *err)
{
    size_t len;
    const char *value = lua_tolstring(r->L, (int)arg, &len);
    return request_add_header(r, name, value, len, err);
}

/* Precedence: first what the Lua side made of the options, then the options, then the client's. */
static enum err_kind fill(struct request_reader *r, struct err *err)
{
    lua_State *L = r->L;
    struct transfer_spec *spec = &r->t->spec;
    enum err_kind rc = request_set_string(r, ARG_URL, "the URL", &spec->url, err);
    if (rc == ERR_NONE && given(L, ARG_SPEC))
        rc = request_read(r, ARG_SPEC, err);
    if (rc == ERR_NONE && given(L, ARG_METHOD))
        rc = request_set_method(r, ARG_METHOD, err);
    if (rc == ERR_NONE && given(L, ARG_BODY))
        rc = request_set_body(r, ARG_BODY, err);
    if (rc == ERR_NONE && given(L, ARG_AUTH))
        rc = add_string(r, "Authorization", ARG_AUTH, err);
    if (rc == ERR_NONE && given(L, ARG_DEFAULTS))
        rc = request_apply(r, luaL_checkudata(L, ARG_DEFAULTS, "leat.prepared"), err);
    if (rc == ERR_NONE && given(L, ARG_TYPE))
        rc = add_string(r, "Content-Type", ARG_TYPE, err);
    if (rc == ERR_NONE && given(L, ARG_LENGTH)) {
        double len = lua_tonumber(L, ARG_LENGTH);
        spec->upload = true;
        spec->body_len = len < 0x1p62 ? (size_t)len : TRANSFER_LENGTH_UNKNOWN;
    }
    if (rc == ERR_NONE && (spec->body || spec->upload) && !spec->method)
        rc = request_set_post(r, err);
    if (rc != ERR_NONE)
        return rc;
    request_set_defaults(r);
    return transfer_prepare(r->t, err);
}

static int fail_memory(lua_State *L)
{
    return aux_failf(L, ERR_MEMORY, "not enough memory for the request");
}

/* start(spec|nil, defaults|nil, url, method|nil, body|nil, content_type|nil, authorization|nil,
 * handle|nil, length|nil, jar|nil, once|nil, fresh|nil) */
static int l_start(lua_State *L)
{
    struct rt *rt = rt_of(L);
    /* This comes first, because the draft belongs to a caller that may wait. A finalizer that runs
     * while another request is made may not wait, so it never touches the draft. */
    task_check_can_wait(L, &rt->sched, "request");
    lua_settop(L, ARG_LAST);
    drop_draft(rt);
    struct transfer *t = rt->draft = lua_response_fresh(rt);
    if (!t)
        return fail_memory(L);
    if (given(L, ARG_JAR))
        t->spec.jar =
            cookie_jar_ref(*(struct cookie_jar **)luaL_checkudata(L, ARG_JAR, "leat.jar"));
    t->spec.once = lua_toboolean(L, ARG_ONCE);
    t->spec.fresh = lua_toboolean(L, ARG_FRESH);
    struct request_reader r = {.L = L, .t = t, .who = "request"};
    struct err err;
    if (fill(&r, &err) != ERR_NONE) {
        drop_draft(rt);
        int n = aux_fail(L, &err);
        task_note_failure(L, &rt->sched, "request");
        return n;
    }
    if (given(L, ARG_HANDLE))
        return stream_park(L, rt, ARG_HANDLE);
    return task_park(L, &rt->sched, &request_ops, NULL, begin_request, rt);
}

static int prepared_gc(lua_State *L)
{
    struct prepared *p = lua_touserdata(L, 1);
    transfer_free(p->t);
    p->t = NULL;
    return 0;
}

static int jar_gc(lua_State *L)
{
    struct cookie_jar **j = lua_touserdata(L, 1);
    cookie_jar_unref(*j);
    *j = NULL;
    return 0;
}

/* jar(): a new cookie jar for a client. */
static int l_jar(lua_State *L)
{
    struct rt *rt = aux_open_rt(L, "client");
    struct cookie_jar **j = lua_newuserdata(L, sizeof *j);
    *j = NULL;
    luaL_getmetatable(L, "leat.jar");
    lua_setmetatable(L, -2);
    *j = cookie_jar_new(&rt->mem);
    return *j ? 1 : fail_memory(L);
}

/* prepare(options, url, authorization|nil): a client's options, prepared for its requests; or nil
 * and the error. Does not use the draft: a finalizer that makes a client would take the draft from
 * the request that is being made. */
static int l_prepare(lua_State *L)
{
    struct rt *rt = aux_open_rt(L, "client");
    lua_settop(L, 3);
    struct prepared *p = lua_newuserdata(L, sizeof *p);
    *p = (struct prepared){0};
    luaL_getmetatable(L, "leat.prepared");
    lua_setmetatable(L, -2);
    struct transfer *t = p->t = lua_response_fresh(rt);
    if (!t)
        return fail_memory(L);
    struct request_reader r = {.L = L, .t = t, .who = "client", .client = true};
    struct err err;
    enum err_kind rc = ERR_NONE;
    if (!lua_isnil(L, 3))
        rc = request_add_header(&r, "Authorization", lua_tostring(L, 3), lua_objlen(L, 3), &err);
    if (rc == ERR_NONE)
        rc = request_read(&r, 1, &err);
    if (rc == ERR_NONE)
        rc = request_set_string(&r, 2, "base_url", &t->spec.url, &err);
    if (rc == ERR_NONE)
        rc = transfer_prepare(t, &err);
    if (rc != ERR_NONE)
        return aux_fail(L, &err);
    p->seen = r.seen;
    p->plain_timeout = r.plain_timeout;
    return 1;
}

/* ---- the way up */

void lua_request_take_events(struct rt *rt)
{
    struct transfer *t;
    unsigned events;
    while ((t = engine_next_event(rt->engine, &events)) != NULL) {
        if (rt->record && (events & TRANSFER_DONE))
            trace_note_request(rt->record, t);
        if (t->spec.stream || t->spec.upload) {
            stream_event(rt, t, events);
            continue;
        }
        struct task *task = t->owner;
        if (!task) {
            lua_response_recycle(rt, t);
            continue;
        }
        t->owner = NULL;
        task->wait.number = ARRIVED;
        task_wake(task);
    }
}

static int take_request(lua_State *L, struct task *task)
{
    struct rt *rt = CONTAINER_OF(task->sched, struct rt, sched);
    drop_draft(rt);
    struct transfer *t = rt->draft = task->wait.obj;
    task->wait.obj = NULL;
    task->wait.number = 0;
    int n = 2;
    if (t->result.err.kind == ERR_NONE) {
        n = lua_response_push(L, t);
    } else {
        lua_pushnil(L);
        lua_response_push_failure(L, t);
    }
    drop_draft(rt);
    return n;
}

/* options(client): the names of the options of request{...}, or of client{...}. */
static int l_options(lua_State *L)
{
    request_push_names(L, lua_toboolean(L, 1));
    return 1;
}

static void set_seconds(lua_State *L, const char *field, double seconds)
{
    if (seconds < 0)
        return;
    lua_pushnumber(L, seconds);
    lua_setfield(L, -2, field);
}

/* timing(packed): makes the timing table of a response from its packed struct transfer_timing. */
static int l_timing(lua_State *L)
{
    size_t len;
    const char *packed = luaL_checklstring(L, 1, &len);
    struct transfer_timing timing;
    luaL_argcheck(L, len == sizeof timing, 1, "not a timing");
    memcpy(&timing, packed, sizeof timing);
    lua_createtable(L, 0, 6);
    set_seconds(L, "queued", timing.queued);
    set_seconds(L, "dns", timing.dns);
    set_seconds(L, "connect", timing.connect);
    set_seconds(L, "tls", timing.tls);
    set_seconds(L, "first_byte", timing.first_byte);
    set_seconds(L, "total", timing.total);
    return 1;
}

/* header(rows, name): the value of one header, without a table of all; nil if there is none. `rows`
 * is what push_rows of lua_response.c has made. */
static int l_header(lua_State *L)
{
    size_t len, name_len;
    const char *at = luaL_checklstring(L, 1, &len), *end = at + len;
    const char *name = luaL_checklstring(L, 2, &name_len);
    lua_settop(L, 2);
    while (at < end) {
        size_t row_len = strlen(at); /* Lua's strings end with a NUL */
        const char *value = at + row_len + 1;
        if (value >= end)
            break;
        if (row_len == name_len && strcasecmp(at, name) == 0) {
            if (lua_gettop(L) > 2)
                lua_pushliteral(L, ", ");
            lua_pushstring(L, value);
            lua_concat(L, lua_gettop(L) - 2); // rows name value
        }
        at = value + strlen(value) + 1;
    }
    return lua_gettop(L) - 2;
}

int lua_open_request(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {
        {"start", l_start},   {"prepare", l_prepare}, {"jar", l_jar}, {"timing", l_timing},
        {"header", l_header}, {"options", l_options}, {NULL, NULL}};
    ASSERT(request_options_sorted());
    rt_newmetatable(L, rt, "leat.prepared", NULL, prepared_gc);
    lua_pop(L, 1);
    rt_newmetatable(L, rt, "leat.jar", NULL, jar_gc);
    lua_pop(L, 1);
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    stream_register(L, rt);
    lua_upload_register(L, rt);
    return 1;
}
