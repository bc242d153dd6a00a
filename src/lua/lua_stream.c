#include "lua/lua_stream.h"
#include "ground/redact.h"
#include "lua/lua_aux.h"
#include "lua/lua_response.h"
#include <math.h>
#include <string.h>

/* Defaults: the longest line, and the largest event. */
#define PIECE_MAX ((size_t)8 * 1024 * 1024)
/* The maximum size of one read. */
#define READ_MAX ((int64_t)64 * 1024 * 1024)

struct stream *stream_check(lua_State *L, int index)
{
    return luaL_checkudata(L, index, "leat.stream");
}

/* ---- its end */

static void fini_parser(struct stream *s)
{
    if (s->form == STREAM_EVENTS)
        sse_fini(&s->sse);
    else if (s->form == STREAM_LINES)
        lines_fini(&s->lines);
    s->form = STREAM_BYTES;
}

static void disown(struct stream *s)
{
    task_hook_remove(&s->owner_hook);
    s->owner = NULL;
}

void stream_close(struct stream *s)
{
    struct transfer *t = s->t;
    s->closed = true;
    disown(s);
    task_hook_remove(&s->feeding_hook);
    fini_parser(s);
    list_unlink(&s->node);
    s->t = NULL;
    if (t && s->done) {
        lua_response_recycle(s->rt, t);
    } else if (t) {
        t->owner = NULL; /* the transfer's last event frees it */
        engine_cancel(s->rt->engine, t);
    }
    struct task *waiting[] = {s->reader, s->feeder};
    for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
        if (waiting[i])
            task_wake(waiting[i]);
    }
}

struct search {
    struct task *task;
    const void *wanted;
    bool found;
};

/* Finds the stream's response in a result, also in nested tables. Deeper than ten levels it is not
 * searched for. */
static bool holds(lua_State *L, int index, const void *wanted, int depth)
{
    if (!lua_istable(L, index))
        return false;
    if (lua_topointer(L, index) == wanted)
        return true;
    if (depth == 0)
        return false;
    luaL_checkstack(L, 8, "stream");
    lua_pushnil(L);
    for (int n = 0; n < 10000 && lua_next(L, index); n++) {
        if (holds(L, lua_gettop(L), wanted, depth - 1)) {
            lua_pop(L, 2);
            return true;
        }
        lua_pop(L, 1);
    }
    return false;
}

static int search_results(lua_State *L)
{
    struct search *search = lua_touserdata(L, 1);
    struct task *t = search->task;
    int n = lua_gettop(t->co);
    luaL_checkstack(L, n, "stream");
    luaL_checkstack(t->co, n, "stream");
    for (int i = 1; i <= n && !search->found; i++) {
        lua_pushvalue(t->co, i);
        lua_xmove(t->co, L, 1);
        search->found = holds(L, lua_gettop(L), search->wanted, 2);
        lua_pop(L, 1);
    }
    return 0;
}

static void owned_by(struct stream *s, struct task *t);

/* The owner has ended. A stream among its results passes to the parent, which may await them; any
 * other stream is closed. */
static void owner_ended(struct task_hook *hook, struct task *t)
{
    struct stream *s = CONTAINER_OF(hook, struct stream, owner_hook);
    struct search search = {.task = t, .wanted = s->response};
    s->owner = NULL;
    if (t->outcome == OUTCOME_OK && s->response &&
        lua_cpcall(t->sched->L, search_results, &search) != 0)
        lua_pop(t->sched->L, 1);
    if (!search.found)
        stream_close(s);
    else if (t->parent)
        owned_by(s, t->parent);
}

static void owned_by(struct stream *s, struct task *t)
{
    if (s->owner == t)
        return;
    disown(s);
    s->owner = t;
    task_hook_add(t, &s->owner_hook);
}

/* ---- its beginning */

static int l_handle(lua_State *L)
{
    struct rt *rt = rt_of(L);
    struct stream *s = lua_newuserdata(L, sizeof *s); // s
    *s = (struct stream){.rt = rt, .owner_hook = {.fn = owner_ended}};
    list_init(&s->node);
    list_init(&s->owner_hook.node);
    list_init(&s->feeding_hook.node);
    luaL_getmetatable(L, "leat.stream");
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_setfenv(L, -2);
    return 1;
}

static int stream_gc(lua_State *L)
{
    stream_close(lua_touserdata(L, 1));
    return 0;
}

static bool cancel_open(struct task *task)
{
    struct stream *s = task->wait.obj;
    s->opener = NULL;
    stream_close(s);
    return true;
}

static void begin_open(struct task *task, void *arg)
{
    struct stream *s = arg;
    struct rt *rt = s->rt;
    s->t = rt->draft;
    rt->draft = NULL;
    s->t->owner = s;
    s->begun = true;
    s->opener = task;
    task->wait.obj = s;
    list_push_back(&rt->streams, &s->node);
    engine_submit(rt->engine, s->t);
}

/* Pushes nil and an error: that of the script's side of an upload, or else that of the transfer. */
static int push_failed(lua_State *L, struct stream *s, int self)
{
    lua_pushnil(L);
    lua_getfenv(L, self);
    lua_rawgeti(L, -1, 1); // nil env err
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        if (s->failed)
            aux_push_err(L, &s->err);
        else
            lua_response_push_failure(L, s->t);
        /* Pushes the same error table each time. */
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, 1);
    }
    lua_remove(L, -2);
    return 2;
}

static int take_open(lua_State *L, struct task *task)
{
    struct stream *s = task->wait.obj;
    s->opener = NULL;
    task_push_slot(L, task, SLOT_KEEP); // self
    int self = lua_gettop(L);
    lua_pushnil(L);
    task_set_slot(L, task, SLOT_KEEP);
    if (!s->t)
        return aux_failf(L, ERR_CLOSED, "the request was closed while it was made");
    bool failed = s->done && s->t->result.err.kind != ERR_NONE;
    if (failed && !s->head) {
        int n = push_failed(L, s, self);
        stream_close(s);
        return n;
    }
    owned_by(s, task);
    int n = lua_response_push(L, s->t);
    if (!s->t->spec.stream)
        stream_close(s);
    return n;
}

void stream_describe(struct task *task, char *out, size_t size)
{
    const struct stream *s = task->wait.obj;
    out[0] = '\0';
    if (s->t)
        redact_url(out, size, s->t->spec.url, strlen(s->t->spec.url));
}

static const struct wait_ops open_ops = {
    .name = "request", .cancel = cancel_open, .take = take_open, .describe = stream_describe};

int stream_park(lua_State *L, struct rt *rt, int index)
{
    struct stream *s = stream_check(L, index);
    struct task *task = task_current(L, &rt->sched, "request");
    ASSERT(!s->begun && !s->closed);
    lua_pushvalue(L, index);
    task_set_slot(L, task, SLOT_KEEP);
    return task_park(L, &rt->sched, &open_ops, s, begin_open, s);
}

/* bind(handle, response): that table represents the stream in the script. */
static int l_bind(lua_State *L)
{
    stream_check(L, 1)->response = lua_topointer(L, 2);
    return 0;
}

/* ---- news */

void stream_event(struct rt *rt, struct transfer *t, unsigned events)
{
    struct stream *s = t->owner;
    if (!s) {
        if (events & TRANSFER_DONE)
            lua_response_recycle(rt, t);
        return;
    }
    s->head = s->head || (events & TRANSFER_HEAD);
    if (events & TRANSFER_DONE) {
        s->done = true;
        s->complete = s->failed                        ? STREAM_BROKEN_OFF
                      : t->result.err.kind != ERR_NONE ? STREAM_BROKEN_OFF
                      : t->result.complete_unknown     ? STREAM_UNKNOWN
                                                       : STREAM_WHOLE;
    }
    if (s->opener && (s->done || (s->head && t->spec.stream)))
        task_wake(s->opener);
    if (s->reader && (s->done || t->unread.len - t->taken >= MAX(s->asked, (size_t)1)))
        task_wake(s->reader);
    if (s->feeder && (events & (TRANSFER_ROOM | TRANSFER_DONE)))
        task_wake(s->feeder);
}

size_t stream_count_unread(struct rt *rt)
{
    size_t n = 0;
    LIST_FOR(node, &rt->streams)
    {
        const struct stream *s = CONTAINER_OF(node, struct stream, node);
        n += !s->done && s->head && !s->opener && !s->reader && !s->feeder;
    }
    return n;
}

/* ---- reading */

static bool cancel_read(struct task *task)
{
    struct stream *s = task->wait.obj;
    s->reader = NULL; /* the bytes stay where they are */
    return true;
}

static int take_read(lua_State *L, struct task *task);

static const struct wait_ops read_ops = {
    .name = "stream read", .cancel = cancel_read, .take = take_read, .describe = stream_describe};

static void begin_read(struct task *task, void *arg)
{
    struct stream *s = arg;
    s->reader = task;
    task->wait.obj = s;
}

/* The bytes are there, but the step's time is over. */
static void begin_give_way(struct task *task, void *arg)
{
    begin_read(task, arg);
    task_wake(task);
}

/* Half of the window must be large enough for one read, because the engine resumes below half. */
static void set_asked(struct stream *s, size_t asked)
{
    s->asked = asked;
    if (s->t->wanted / 2 < asked) {
        s->t->wanted = asked * 2;
        engine_took(s->rt->engine, s->t, 0);
    }
}

/* The result at the end of the bytes: nil, or nil and an error. `self` is the index of the
 * userdata. */
static int push_end(lua_State *L, struct stream *s, int self)
{
    if (s->t->result.err.kind != ERR_NONE || s->failed)
        return push_failed(L, s, self);
    lua_pushnil(L);
    return 1;
}

static int fail_piece(lua_State *L, struct stream *s, int self, const struct err *err)
{
    s->failed = true;
    s->err = *err;
    s->complete = STREAM_BROKEN_OFF;
    if (!s->done)
        engine_cancel(s->rt->engine, s->t); /* s->t stays valid until the stream is closed */
    return push_failed(L, s, self);
}

static size_t unread(const struct stream *s, const char **bytes)
{
    const struct transfer *t = s->t;
    *bytes = t->unread.data ? t->unread.data + t->taken : "";
    return t->unread.len - t->taken;
}

static void push_event(lua_State *L, const struct sse_event *ev)
{
    lua_createtable(L, 0, 3);
    lua_pushlstring(L, ev->data, ev->data_len);
    lua_setfield(L, -2, "data");
    lua_pushlstring(L, ev->type, ev->type_len);
    lua_setfield(L, -2, "event");
    if (ev->id_len > 0) {
        lua_pushlstring(L, ev->id, ev->id_len);
        lua_setfield(L, -2, "id");
    }
}

/* Pushes values, not a table: Lua builds the table from a template, which is cheaper. nil stands
 * for the usual values: the name "message", no id. The first value is never nil. */
static int push_fields(lua_State *L, const struct sse_event *ev)
{
    lua_pushlstring(L, ev->data, ev->data_len);
    lua_pushnil(L); /* in the place of an error */
    if (ev->type_len == 7 && memcmp(ev->type, "message", 7) == 0)
        lua_pushnil(L);
    else
        lua_pushlstring(L, ev->type, ev->type_len);
    if (ev->id_len == 0)
        return 3;
    lua_pushlstring(L, ev->id, ev->id_len);
    return 4;
}

/* At the end of the stream: an event without its final blank line does not count, but the script
 * can see it. The same goes for lines outside any event. */
static int end_events(lua_State *L, struct stream *s, int self)
{
    struct sse_event ev;
    size_t stray_len;
    lua_getfenv(L, self); // fields
    if (!s->failed && s->t->result.err.kind == ERR_NONE && sse_finish(&s->sse, &ev)) {
        push_event(L, &ev);
        lua_setfield(L, -2, "incomplete");
    }
    const char *stray = sse_stray(&s->sse, &stray_len);
    if (stray != NULL) {
        lua_pushlstring(L, stray, stray_len);
        lua_setfield(L, -2, "stray");
    }
    lua_pop(L, 1);
    return push_end(L, s, self);
}

static int end_lines(lua_State *L, struct stream *s, int self)
{
    const char *line;
    size_t len;
    if (!s->failed && s->t->result.err.kind == ERR_NONE && lines_finish(&s->lines, &line, &len)) {
        lua_pushlstring(L, line, len);
        return 1;
    }
    return push_end(L, s, self);
}

/* Takes the next complete event or line: pushes it and returns the number of values; at the end
 * pushes the result of the end. 0: it needs more bytes. */
static int next_piece(lua_State *L, struct stream *s, int self)
{
    const char *bytes;
    struct err err;
    size_t len;
    while (!s->failed && (len = unread(s, &bytes)) > 0) {
        const char *in = bytes, *line = NULL;
        size_t left = len, line_len = 0;
        struct sse_event ev;
        bool got, failed;
        int values = 1;
        if (s->form == STREAM_EVENTS) {
            enum sse_result rc = sse_next(&s->sse, &in, &left, &ev, &err);
            got = rc == SSE_EVENT;
            failed = rc == SSE_FAILED;
        } else {
            enum lines_result rc = lines_next(&s->lines, &in, &left, &line, &line_len, &err);
            got = rc == LINES_LINE;
            failed = rc == LINES_FAILED;
        }
        if (got) {
            s->broken = true; /* if the push raises (no memory), the piece is lost: the stream then
                                 counts as broken */
            if (s->form == STREAM_EVENTS)
                values = push_fields(L, &ev);
            else
                lua_pushlstring(L, line, line_len);
            s->broken = false;
        }
        engine_took(s->rt->engine, s->t, len - left);
        if (failed)
            return fail_piece(L, s, self, &err);
        if (got)
            return values;
    }
    if (!s->done && !s->failed)
        return 0;
    return s->form == STREAM_EVENTS ? end_events(L, s, self) : end_lines(L, s, self);
}

/* Takes `asked` bytes, or the rest at the end; `asked` 0: all available bytes. */
static int next_bytes(lua_State *L, struct stream *s, int self, size_t asked)
{
    const char *bytes;
    size_t len = unread(s, &bytes);
    if (!s->failed && (len >= MAX(asked, (size_t)1) || (s->done && len > 0))) {
        size_t n = asked ? MIN(len, asked) : len;
        lua_pushlstring(L, bytes, n);
        engine_took(s->rt->engine, s->t, n);
        return 1;
    }
    return s->done || s->failed ? push_end(L, s, self) : 0;
}

static int try_read(lua_State *L, struct stream *s, int self, size_t asked)
{
    if (s->broken) {
        s->broken = false;
        struct err err;
        err_set(&err, ERR_MEMORY, "not enough memory for a piece of the stream");
        return fail_piece(L, s, self, &err);
    }
    return s->form == STREAM_BYTES ? next_bytes(L, s, self, asked) : next_piece(L, s, self);
}

static int park_read(lua_State *L, struct stream *s, int self, size_t asked,
                     void (*begin)(struct task *task, void *arg))
{
    struct task *task = task_current(L, &s->rt->sched, "stream");
    task_check_can_wait(L, &s->rt->sched, "stream read");
    set_asked(s, asked);
    lua_pushvalue(L, self);
    task_set_slot(L, task, SLOT_KEEP);
    return task_park(L, &s->rt->sched, &read_ops, s, begin, s);
}

/* If the new bytes do not complete an event, the task parks again, and its await takes again. */
static int take_read(lua_State *L, struct task *task)
{
    struct stream *s = task->wait.obj;
    s->reader = NULL;
    task_push_slot(L, task, SLOT_KEEP); // self
    int self = lua_gettop(L);
    lua_pushnil(L);
    task_set_slot(L, task, SLOT_KEEP);
    if (!s->t)
        return aux_failf(L, ERR_CLOSED, "the stream was closed while it was read");
    int n = try_read(L, s, self, s->asked);
    return n ? n : park_read(L, s, self, s->asked, begin_read);
}

static int read_as(lua_State *L, enum stream_form form, size_t asked)
{
    struct stream *s = stream_check(L, 1);
    struct task *task = task_current(L, &s->rt->sched, "stream");
    if (!s->t)
        aux_raise(L, "stream: it is closed (by close(), or because the task that read it last has "
                     "ended)");
    if (s->form != form)
        aux_raise(L,
                  "stream: it is read by %s() already; what those have taken in is not there "
                  "for another kind of reading",
                  s->form == STREAM_EVENTS ? "events" : "lines");
    if (s->reader && s->reader != task)
        aux_raise(L, "stream: task %d is reading it; two tasks cannot read one stream",
                  (int)s->reader->id);
    owned_by(s, task);
    if (task_gives_way(L, &s->rt->sched))
        return park_read(L, s, 1, asked, begin_give_way);
    int n = try_read(L, s, 1, asked);
    return n ? n : park_read(L, s, 1, asked, begin_read);
}

/* read(handle, n|nil) */
static int l_read(lua_State *L)
{
    size_t asked = 0;
    if (!lua_isnoneornil(L, 2))
        asked = (size_t)aux_check_integer(L, 2, "read: the number of bytes", 1, READ_MAX);
    return read_as(L, STREAM_BYTES, asked);
}

static int l_next(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    return read_as(L, s->form == STREAM_BYTES ? STREAM_EVENTS : s->form, 0);
}

/* form(handle, "lines"|"events", max_bytes|nil): sets how the stream is read from now on. */
static int l_form(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    enum stream_form form =
        strcmp(luaL_checkstring(L, 2), "lines") == 0 ? STREAM_LINES : STREAM_EVENTS;
    size_t max = PIECE_MAX;
    if (!lua_isnoneornil(L, 3))
        max = (size_t)aux_check_integer(
            L, 3, form == STREAM_LINES ? "lines: max_bytes" : "events: max_bytes", 1,
            INT64_C(1) << 30);
    if (!s->t)
        aux_raise(L, "stream: it is closed (by close(), or because the task that read it last has "
                     "ended)");
    if (s->form == form)
        return 0;
    if (s->form != STREAM_BYTES)
        aux_raise(L, "stream: it is read by %s() already",
                  s->form == STREAM_EVENTS ? "events" : "lines");
    if (form == STREAM_EVENTS)
        sse_init(&s->sse, &s->rt->mem, max);
    else
        lines_init(&s->lines, &s->rt->mem, max);
    s->form = form;
    return 0;
}

static int l_close(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    if (s->opener)
        return 0; /* the wait itself is cancelled elsewhere */
    stream_close(s);
    return 0;
}

/* state(handle): complete (nil while the stream is open), rows of the trailers, packed timing (both
 * nil once closed), the incomplete event, and the lines outside any event. */
static int l_state(lua_State *L)
{
    struct stream *s = stream_check(L, 1);
    if (s->closed && s->complete == STREAM_GOING)
        s->complete = STREAM_BROKEN_OFF;
    if (s->complete == STREAM_GOING)
        lua_pushnil(L);
    else if (s->complete == STREAM_UNKNOWN)
        lua_pushliteral(L, "unknown");
    else
        lua_pushboolean(L, s->complete == STREAM_WHOLE && !s->failed);
    if (s->t && s->done) {
        const struct transfer_result *r = &s->t->result;
        lua_pushlstring(L, r->trailers.count ? r->trailers.text.data : "", r->trailers.text.len);
        lua_pushlstring(L, (const char *)&r->timing, sizeof r->timing);
    } else {
        lua_pushnil(L);
        lua_pushnil(L);
    }
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "incomplete"); // ... fields incomplete
    lua_getfield(L, -2, "stray");      // ... fields incomplete stray
    lua_remove(L, -3);
    return 5;
}

void stream_register(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"handle", l_handle}, {"bind", l_bind}, {"read", l_read},
                                         {"next", l_next},     {"form", l_form}, {"close", l_close},
                                         {"state", l_state},   {NULL, NULL}};
    rt_newmetatable(L, rt, "leat.stream", NULL, stream_gc);
    lua_pop(L, 1);
    rt_setfuncs(L, rt, functions);
}
