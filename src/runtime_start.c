/* Scripts: from a file or a string to a task. */
#include "leat.h"

#include "lua_aux.h"
#include "runtime_impl.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>

static void set_error(struct leat_error *err, const char *kind, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static void set_error(struct leat_error *err, const char *kind, const char *fmt, ...)
{
    if (!err)
        return;
    snprintf(err->kind, sizeof err->kind, "%s", kind);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
}

struct start {
    struct leat_runtime *r;
    const char *name;
    const char *source;
    size_t len;
    const char *const *args;
    bool compiled;
};

static void main_ended(struct task_hook *hook, struct task *t)
{
    UNUSED(t);
    CONTAINER_OF(hook, struct leat_runtime, main_hook)->main_ended = true;
}

/* Without the mark that tells Lua how to show it. */
static const char *shown_name(const char *name)
{
    return name + (name[0] == '@' || name[0] == '=');
}

static int start(lua_State *L)
{
    struct start *s = lua_touserdata(L, 1);
    struct leat_runtime *r = s->r;
    if (luaL_loadbuffer(L, s->source, s->len, s->name) != 0)
        return lua_error(L);
    s->compiled = true;
    runtime_push_chunk_globals(L);
    lua_pushvalue(L, -1);
    lua_setfenv(L, -3); /* chunk globals */
    int n = 0;
    lua_newtable(L); /* arg */
    lua_pushstring(L, shown_name(s->name));
    lua_rawseti(L, -2, 0);
    for (; s->args && s->args[n]; n++) {
        lua_pushstring(L, s->args[n]);
        lua_rawseti(L, -2, n + 1);
    }
    if (r->hosted)
        lua_pop(L, 1); /* the host may have an `arg` of its own */
    else
        lua_setfield(L, -2, "arg");
    lua_pop(L, 1);
    luaL_checkstack(L, n + 1, "too many arguments");
    for (int i = 0; i < n; i++)
        lua_pushstring(L, s->args[i]);
    if (r->main_ref == LUA_NOREF) { /* before the task is there: from then on nothing may fail */
        lua_pushboolean(L, 0);
        r->main_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    struct task *t = task_spawn(L, &r->rt.sched, NULL, n);
    lua_rawseti(L, LUA_REGISTRYINDEX, r->main_ref);
    task_hook_remove(&r->main_hook);
    r->main = t;
    r->main_ended = r->stuck = r->rt.exit_requested = false;
    r->rt.exit_code = 0;
    r->main_hook.fn = main_ended;
    task_hook_add(t, &r->main_hook);
    return 0;
}

bool leat_start_string(leat_runtime *r, const char *name, const char *source, size_t len,
                       const char *const *args, struct leat_error *err)
{
    const char *why;
    if (!embed_usable(runtime_embed(r), false, &why)) {
        set_error(err, "invalid", "%s", why);
        return false;
    }
    if (!name || !source) {
        set_error(err, "invalid", "a name and a source are needed");
        return false;
    }
    if (len > 0 && source[0] == LUA_SIGNATURE[0]) {
        set_error(err, "invalid", "%s: is bytecode; only text scripts are run", shown_name(name));
        return false;
    }
    /* "#!" on the first line; its end is kept, so that line numbers stay right. */
    if (len > 0 && source[0] == '#') {
        const char *eol = memchr(source, '\n', len);
        size_t skip = eol ? (size_t)(eol - source) : len;
        source += skip;
        len -= skip;
    }
    struct start s = {r, name, source, len, args, false};
    if (runtime_protected_again(r, start, &s)) {
        if (!r->rt.loop.owns_uv)
            loop_wake(&r->rt.loop); /* it may be about to wait */
        return true;
    }
    set_error(err, s.compiled ? err_kind_name(r->error_kind) : "script", "%s", r->error_text);
    return false;
}

bool leat_start_file(leat_runtime *r, const char *path, const char *const *args,
                     struct leat_error *err)
{
    const char *why;
    if (!embed_usable(runtime_embed(r), false, &why) || !path) {
        set_error(err, "invalid", "%s", path ? why : "a path is needed");
        return false;
    }
    struct buf text;
    buf_init(&text, &r->rt.mem, 64u << 20);
    char part[16384];
    size_t n;
    enum err_kind rc = ERR_NONE;
    FILE *f = fopen(path, "rb");
    int code = f ? 0 : errno;
    while (f && rc == ERR_NONE && (n = fread(part, 1, sizeof part, f)) > 0)
        rc = buf_append(&text, part, n);
    if (f && ferror(f))
        code = errno; /* a directory opens, but does not read */
    if (f)
        fclose(f);
    bool ok = false;
    char *name = mem_alloc(&r->rt.mem, strlen(path) + 2);
    if (code) {
        set_error(err, "io", "cannot read script '%s': %s", path, strerror(code));
    } else if (rc != ERR_NONE || !name) {
        set_error(err, "memory", "script '%s' is too large", path);
    } else if (text.len > 0 && memchr(text.data, '\0', text.len)) {
        set_error(err, "invalid", "'%s' is not a Lua script (it is a binary file)", path);
    } else {
        name[0] = '@';
        memcpy(name + 1, path, strlen(path) + 1);
        ok = leat_start_string(r, name, text.data ? text.data : "", text.len, args, err);
    }
    mem_free(&r->rt.mem, name);
    buf_fini(&text);
    return ok;
}
