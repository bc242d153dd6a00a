/* Starts scripts: turns a file or a string into a task. */
#include "ground/redact.h"
#include "host/host_call.h"
#include "host/runtime_guard.h"
#include "host/runtime_report.h"
#include "lua/lua_aux.h"
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
    struct started *s;
    const char *name;
    const char *source;
    size_t len;
    const char *const *args;
    bool compiled;
};

/* The chunk name without the leading mark ('@' or '=') that tells Lua how to show it. */
static const char *shown_name(const char *name)
{
    return name + (name[0] == '@' || name[0] == '=');
}

static int look_at_source(lua_State *L)
{
    const struct start *s = lua_touserdata(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "leat.internal.lazy_require");
    lua_pushliteral(L, "leat.state.source_check");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "look");
    lua_pushlstring(L, s->source, s->len);
    lua_pushstring(L, shown_name(s->name));
    lua_call(L, 2, 0);
    return 0;
}

static int start(lua_State *L)
{
    struct start *s = lua_touserdata(L, 1);
    struct leat_runtime *r = s->r;
    if (luaL_loadbuffer(L, s->source, s->len, s->name) != 0)
        return lua_error(L);
    s->compiled = true;
    /* This can only lead to a warning. A lack of memory is ignored: it will show later. */
    if (memmem(s->source, s->len, "stopping", strlen("stopping")) &&
        lua_cpcall(L, look_at_source, s) != 0)
        lua_pop(L, 1);
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
        lua_pop(L, 1); /* the host may have its own `arg` */
    else
        lua_setfield(L, -2, "arg");
    lua_pop(L, 1);
    luaL_checkstack(L, n + 1, "too many arguments");
    for (int i = 0; i < n; i++)
        lua_pushstring(L, s->args[i]);
    host_call_prepare(L, s->s); /* after the spawn nothing may fail */
    runtime_prepare_main(L, r);
    struct task *t = sched_spawn(L, &r->rt.sched, NULL, n); // task
    lua_pushvalue(L, -1);
    host_call_begin(L, s->s, t);
    runtime_set_main(L, r, s->s, true);
    return 0;
}

/* Logs the end of the previous script now, unless the host has asked: soon it cannot be asked for.
 */
static bool start_script(struct start *s, leat_done done, void *arg, uint64_t *id)
{
    struct leat_runtime *r = s->r;
    runtime_tell_unasked(r);
    s->s = host_call_new(runtime_host(r), s->name, done, arg);
    if (!s->s) {
        r->error_kind = ERR_MEMORY;
        snprintf(r->error_text, sizeof r->error_text, "not enough memory for a task");
        return false;
    }
    if (!runtime_protected_again(r, start, s)) {
        host_call_drop(s->s);
        return false;
    }
    if (!r->rt.loop.owns_uv)
        loop_wake(&r->rt.loop); /* the loop may be about to wait */
    *id = s->s->id;
    return true;
}

/* 0: see *err. */
static uint64_t start_source(leat_runtime *r, const char *name, const char *source, size_t len,
                             const struct leat_script *script, leat_done done, void *arg,
                             struct leat_error *err)
{
    if (len > 0 && source[0] == LUA_SIGNATURE[0]) {
        set_error(err, "invalid", "%s: is bytecode; only text scripts are run", shown_name(name));
        return 0;
    }
    /* Skips "#!" on the first line, but keeps the line end, so that line numbers stay right. */
    if (len > 0 && source[0] == '#') {
        const char *eol = memchr(source, '\n', len);
        size_t skip = eol ? (size_t)(eol - source) : len;
        source += skip;
        len -= skip;
    }
    struct start s = {r, NULL, name, source, len, script->args, false};
    uint64_t id = 0;
    if (!start_script(&s, done, arg, &id))
        set_error(err, s.compiled ? err_kind_name(r->error_kind) : "script", "%s", r->error_text);
    return id;
}

static uint64_t start_file(leat_runtime *r, const struct leat_script *script, leat_done done,
                           void *arg, struct leat_error *err)
{
    const char *path = script->path;
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
        code = errno; /* a directory can be opened, but not read */
    if (f)
        fclose(f);
    uint64_t id = 0;
    char *name = mem_alloc(&r->rt.mem, strlen(path) + 2);
    char shown[200];
    redact_path(shown, sizeof shown, path);
    if (code) {
        set_error(err, "io", "cannot read script '%s': %s", shown, strerror(code));
    } else if (rc != ERR_NONE || !name) {
        set_error(err, "memory", "script '%s' is too large", shown);
    } else if (text.len > 0 && memchr(text.data, '\0', text.len)) {
        set_error(err, "invalid", "'%s' is not a Lua script (it is a binary file)", shown);
    } else {
        name[0] = '@';
        memcpy(name + 1, path, strlen(path) + 1);
        id = start_source(r, name, text.data ? text.data : "", text.len, script, done, arg, err);
    }
    mem_free(&r->rt.mem, name);
    buf_fini(&text);
    return id;
}

uint64_t leat_start_script(leat_runtime *r, const struct leat_script *script, leat_done done,
                           void *arg, struct leat_error *err)
{
    RUNTIME_CHECK(r);
    const char *why;
    struct host *e = runtime_host(r);
    if (!runtime_usable(e, false, &why))
        set_error(err, "invalid", "%s", why);
    else if (e->closing)
        set_error(err, "invalid", "the runtime is being closed");
    else if (script && script->path)
        return start_file(r, script, done, arg, err);
    else if (!script || !script->name || !script->source)
        set_error(err, "invalid", "a path, or a name and a source, are required");
    else
        return start_source(r, script->name, script->source,
                            script->len == SIZE_MAX ? strlen(script->source) : script->len, script,
                            done, arg, err);
    return 0;
}

bool leat_start_string(leat_runtime *r, const char *name, const char *source, size_t len,
                       const char *const *args, struct leat_error *err)
{
    RUNTIME_CHECK(r);
    const struct leat_script script = {.name = name, .source = source, .len = len, .args = args};
    return leat_start_script(r, &script, NULL, NULL, err) != 0;
}

bool leat_start_file(leat_runtime *r, const char *path, const char *const *args,
                     struct leat_error *err)
{
    RUNTIME_CHECK(r);
    if (!path) {
        set_error(err, "invalid", "a path is required");
        return false;
    }
    const struct leat_script script = {.path = path, .args = args};
    return leat_start_script(r, &script, NULL, NULL, err) != 0;
}
