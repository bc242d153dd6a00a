#include "cli/repl.h"

#include "cli/repl_stop.h"
#include "host/runtime_modules.h"
#include "lua/lua_aux.h"
#ifdef LEAT_LIBEDIT
#include "cli/repl_edit.h"
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* An event that the REPL's task waits for. */
struct event {
    struct list node;
    const char *kind;
    unsigned number;
    size_t len;
    char text[];
};

struct repl {
    struct rt *rt;
    struct editor *editor; /* NULL: lines are read without an editor */
    struct loop_hook hook;
    pthread_mutex_t lock;
    struct list events; /* under the lock */
    struct task *waiter;
    atomic_bool open;        /* the prompt is open on a terminal */
    bool reading;            /* the prompt is shown: the editor handles Ctrl-C */
    struct flusher *flusher; /* NULL: none */
    struct stopper stopper;
    unsigned interrupts_handled;
    bool has_modes;
    struct termios modes; /* the terminal's original modes */
};

static const char repl_key;

static struct repl *find(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&repl_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct repl *r = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return r;
}

/* ---- events ---- */

/* Any thread may call it. Out of memory: the event is lost. */
static void post(struct repl *r, const char *kind, const char *text, size_t len, unsigned number)
{
    struct event *ev = mem_alloc(&r->rt->mem, sizeof *ev + len + 1);
    if (!ev)
        return;
    *ev = (struct event){.kind = kind, .number = number, .len = len};
    list_init(&ev->node);
    memcpy(ev->text, text, len);
    ev->text[len] = '\0';
    pthread_mutex_lock(&r->lock);
    list_push_back(&r->events, &ev->node);
    pthread_mutex_unlock(&r->lock);
}

static struct event *take_event(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    struct list *node = list_pop_front(&r->events);
    pthread_mutex_unlock(&r->lock);
    return node ? CONTAINER_OF(node, struct event, node) : NULL;
}

static bool has_event(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    bool any = !list_empty(&r->events);
    pthread_mutex_unlock(&r->lock);
    return any;
}

#ifdef LEAT_LIBEDIT
static void on_editor_event(void *arg, enum editor_event event, const char *text, size_t len,
                            unsigned number)
{
    static const char *const kinds[] = {"line", "eof", "dropped", "interrupt", "complete"};
    struct repl *r = arg;
    post(r, kinds[event], text, len, number);
    loop_wake(&r->rt->loop);
}
#endif

static void handle_interrupts(struct repl *r)
{
    unsigned n = repl_stop_count(&r->stopper);
    if (n == r->interrupts_handled)
        return;
    r->interrupts_handled = n;
    repl_stop_disarm(&r->stopper, r->rt->L);
    if (n == r->stopper.spent)
        return;
#ifdef LEAT_LIBEDIT
    if (r->editor && r->reading && repl_edit_drop(r->editor))
        return;
#endif
    post(r, "interrupt", "", 0, 0);
}

/* Runs on the loop's thread, after a wake. */
static void on_wake(struct loop_hook *hook)
{
    struct repl *r = CONTAINER_OF(hook, struct repl, hook);
    handle_interrupts(r);
    if (r->waiter && has_event(r))
        task_wake(r->waiter);
}

/* ---- the wait for the next event ---- */

static int push_event(lua_State *L, struct repl *r)
{
    struct event *ev = take_event(r);
    if (!ev) {
        lua_pushliteral(L, "nothing");
        return 1;
    }
    if (strcmp(ev->kind, "line") == 0 || strcmp(ev->kind, "eof") == 0 ||
        strcmp(ev->kind, "dropped") == 0)
        r->reading = false;
    lua_pushstring(L, ev->kind);
    lua_pushnumber(L, ev->number);
    int rc = 2;
    if (ev->len < SIZE_MAX && lua_checkstack(L, 2)) {
        lua_pushlstring(L, ev->text, ev->len);
        rc = 3;
    }
    mem_free(&r->rt->mem, ev);
    return rc;
}

static bool cancel_next(struct task *t)
{
    ((struct repl *)t->wait.obj)->waiter = NULL;
    return true;
}

static int take_next(lua_State *L, struct task *t)
{
    struct repl *r = t->wait.obj;
    r->waiter = NULL;
    return push_event(L, r);
}

static const struct wait_ops next_ops = {
    .name = "the prompt", .cancel = cancel_next, .take = take_next};

static void begin_next(struct task *t, void *arg)
{
    ((struct repl *)arg)->waiter = t;
}

/* next() -> kind, number, text: the kind is "line", "eof", "dropped", "complete", "interrupt", or
 * one given to post. Parks. */
static int l_next(lua_State *L)
{
    struct repl *r = find(L);
    if (has_event(r))
        return push_event(L, r);
    return task_park(L, &r->rt->sched, &next_ops, r, begin_next, r);
}

/* post(kind, number, text): posts an event from one of the REPL's own tasks. */
static int l_post(lua_State *L)
{
    static const char *const kinds[] = {"line", "eof", "done", "ended", NULL};
    struct repl *r = find(L);
    size_t len;
    const char *kind = kinds[luaL_checkoption(L, 1, NULL, kinds)];
    unsigned number = (unsigned)luaL_optnumber(L, 2, 0);
    const char *text = luaL_optlstring(L, 3, "", &len);
    post(r, kind, text, len, number);
    if (r->waiter)
        task_wake(r->waiter);
    return 0;
}

/* ---- output without a line end ---- */

/* Shows output without a line end before the loop waits: a question to the user, or dots of
 * progress. */
struct flusher {
    uv_prepare_t prepare;
    struct rt *rt;
};

static void flush_output(uv_prepare_t *prepare)
{
    UNUSED(prepare);
    fflush(stdout);
}

static void flusher_closed(uv_handle_t *handle)
{
    struct flusher *f = handle->data;
    f->rt->loop.open_handles--;
    mem_free(&f->rt->mem, f);
}

static void flusher_start(struct repl *r)
{
    struct flusher *f = mem_alloc(&r->rt->mem, sizeof *f);
    if (!f)
        return; /* the REPL works without it */
    f->rt = r->rt;
    uv_prepare_init(r->rt->loop.uv, &f->prepare);
    f->prepare.data = f;
    uv_prepare_start(&f->prepare, flush_output);
    uv_unref((uv_handle_t *)&f->prepare);
    r->rt->loop.open_handles++;
    r->flusher = f;
}

/* ---- the rest of the module ---- */

/* open() -> "edit": with a line editor; "plain": on a terminal without one; "pipe": not a terminal.
 */
static int l_open(lua_State *L)
{
    struct repl *r = find(L);
    const char *mode = isatty(STDIN_FILENO) ? "plain" : "pipe";
#ifdef LEAT_LIBEDIT
    if (!r->editor && repl_edit_possible()) {
        struct err err;
        err_clear(&err);
        setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* line-buffered, even while it is a pipe */
        if (repl_edit_new(&r->editor, &r->rt->mem, on_editor_event, r, &err) != ERR_NONE)
            return aux_fail(L, &err);
    }
    mode = r->editor ? "edit" : mode;
#endif
    if (!r->open && strcmp(mode, "pipe") != 0) {
        r->open = true;
        r->rt->sched.external++; /* the user can always wake a task */
        repl_stop_prepare(&r->stopper, L);
        flusher_start(r);
    }
    lua_pushstring(L, mode);
    return 1;
}

static int l_close(lua_State *L)
{
    struct repl *r = find(L);
#ifdef LEAT_LIBEDIT
    if (r->editor)
        repl_edit_free(r->editor);
    r->editor = NULL;
#endif
    if (r->open)
        r->rt->sched.external--;
    r->open = false;
    return 0;
}

static int l_prompt(lua_State *L)
{
    struct repl *r = find(L);
    const char *text = luaL_checkstring(L, 1);
    fflush(stdout);
    bool ok = true;
#ifdef LEAT_LIBEDIT
    if (r->editor)
        ok = repl_edit_prompt(r->editor, text);
#endif
    r->reading = true;
    lua_pushboolean(L, ok);
    UNUSED(text);
    return 1;
}

static int l_answer(lua_State *L)
{
    struct repl *r = find(L);
    unsigned number = (unsigned)luaL_checknumber(L, 1);
    const char *insert = luaL_checkstring(L, 2), *list = luaL_checkstring(L, 3);
#ifdef LEAT_LIBEDIT
    if (r->editor)
        (void)!repl_edit_answer(r->editor, number, insert, list);
#endif
    UNUSED(r);
    UNUSED(number);
    UNUSED(insert);
    UNUSED(list);
    return 0;
}

static int l_remember(lua_State *L)
{
    struct repl *r = find(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    bool store = lua_toboolean(L, 2);
#ifdef LEAT_LIBEDIT
    if (r->editor)
        (void)!repl_edit_remember(r->editor, text, len, store);
#endif
    UNUSED(r);
    UNUSED(text);
    UNUSED(store);
    return 0;
}

static int l_width(lua_State *L)
{
    struct winsize size = {0};
    int cols = 80;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
            cols = size.ws_col;
            break;
        }
    }
    lua_pushinteger(L, cols);
    return 1;
}

static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* awaited(task): whether another task took its outcome when it ended. */
static int l_awaited(lua_State *L)
{
    struct task *t = luaL_checkudata(L, 1, "leat.task");
    lua_pushboolean(L, t->awaited);
    return 1;
}

/* cancelled(): whether the running task was cancelled. */
static int l_cancelled(lua_State *L)
{
    lua_pushboolean(L, rt_of(L)->sched.running->cancel_requested);
    return 1;
}

/* find(id) -> the task, or nil. */
static int l_find(lua_State *L)
{
    double id = luaL_checknumber(L, 1);
    LIST_FOR(node, &rt_of(L)->sched.tasks)
    {
        struct task *t = CONTAINER_OF(node, struct task, all);
        if ((double)t->id == id) {
            task_push(L, t);
            return 1;
        }
    }
    return 0;
}

/* noted(value): the traceback that task.note stored for the value in the running task, or nil. */
static int l_noted(lua_State *L)
{
    struct task *t = rt_of(L)->sched.running;
    task_push_slot(L, t, SLOT_BUG_VALUE);
    if (!lua_rawequal(L, 1, -1))
        return 0;
    task_push_slot(L, t, SLOT_BUG_TRACE);
    return lua_isstring(L, -1);
}

static const luaL_Reg functions[] = {
    {"open", l_open},         {"close", l_close},   {"next_start", l_next},
    {"post", l_post},         {"prompt", l_prompt}, {"answer", l_answer},
    {"remember", l_remember}, {"width", l_width},   {"isatty", l_isatty},
    {"awaited", l_awaited},   {"find", l_find},     {"cancelled", l_cancelled},
    {"noted", l_noted},       {NULL, NULL}};

static int open_module(lua_State *L)
{
    lua_newtable(L);
    rt_setfuncs(L, find(L)->rt, functions);
    return 1;
}

static int add_module(lua_State *L)
{
    struct repl *r = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&repl_key);
    lua_pushlightuserdata(L, r);
    lua_rawset(L, LUA_REGISTRYINDEX);
    runtime_push_preload(L);
    lua_pushcfunction(L, open_module);
    lua_setfield(L, -2, "leat.native.repl");
    repl_stop_init(&r->stopper, r->rt);
    return 0;
}

struct repl *repl_new(struct rt *rt)
{
    struct repl *r = mem_calloc(&rt->mem, sizeof *r);
    if (!r)
        return NULL;
    r->rt = rt;
    pthread_mutex_init(&r->lock, NULL);
    list_init(&r->events);
    r->has_modes = tcgetattr(STDIN_FILENO, &r->modes) == 0;
    if (lua_cpcall(rt->L, add_module, r) != 0) {
        lua_pop(rt->L, 1);
        pthread_mutex_destroy(&r->lock);
        mem_free(&rt->mem, r);
        return NULL;
    }
    loop_hook_add(&rt->loop, &r->hook, on_wake);
    return r;
}

void repl_free(struct repl *r)
{
    if (!r)
        return;
    struct rt *rt = r->rt;
#ifdef LEAT_LIBEDIT
    if (r->editor)
        repl_edit_free(r->editor);
#endif
    if (r->open)
        rt->sched.external--;
    repl_stop_fini(&r->stopper, rt->L);
    if (r->flusher)
        uv_close((uv_handle_t *)&r->flusher->prepare, flusher_closed);
    loop_hook_remove(&r->hook);
    struct event *ev;
    while ((ev = take_event(r)) != NULL)
        mem_free(&rt->mem, ev);
    pthread_mutex_destroy(&r->lock);
    mem_free(&rt->mem, r);
}

bool repl_interrupt(struct repl *r)
{
    if (!atomic_load(&r->open))
        return false;
    repl_stop_interrupt(&r->stopper);
    loop_wake(&r->rt->loop);
    return true;
}

void repl_terminal_changed(struct repl *r, bool resized)
{
#ifdef LEAT_LIBEDIT
    if (r->editor)
        repl_edit_terminal_changed(r->editor, resized);
#endif
    UNUSED(r);
    UNUSED(resized);
}

void repl_restore_terminal(const struct repl *r)
{
    if (r->has_modes)
        tcsetattr(STDIN_FILENO, TCSANOW, &r->modes);
}
