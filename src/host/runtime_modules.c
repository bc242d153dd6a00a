#include "host/runtime_modules.h"

#include "host/lua_sources.h"
#include "host/luajit_faults.h"
#include "host/runtime_block.h"
#include "host/runtime_print.h"
#include "host/runtime_private.h"
#include "lua/lua_aux.h"
#include "lua/lua_file.h"
#include "lua/lua_json.h"
#include "lua/lua_json_span.h"
#include "lua/lua_lines.h"
#include "lua/lua_pattern.h"
#include "lua/lua_request.h"
#include "lua/lua_serve.h"
#include "lua/lua_sync.h"
#include "lua/lua_task.h"
#include "lua/lua_trace.h"
#include "lua/lua_util.h"
#include <curl/curl.h>
#include <lua5.1/lua-cjson.h>
#include <luajit.h>
#include <lualib.h>
#include <openssl/crypto.h>
#include <string.h>
#include <zlib.h>

#ifndef LEAT_VERSION
#define LEAT_VERSION "0.0.0"
#endif

/* From lua-cjson, whose header does not declare it. */
int luaopen_cjson_safe(lua_State *L);

/* Registry key: the globals of leat's own modules; nil: those of the state. */
#define OWN_GLOBALS "leat.own_globals"

typedef int (*open_fn)(lua_State *L, struct rt *rt);

/* A module's opener, kept as a userdata because C does not promise that a function fits a void *.
 */
static int open_core(lua_State *L)
{
    open_fn *open = lua_touserdata(L, lua_upvalueindex(2));
    return (*open)(L, rt_of(L));
}

static void preload_core(lua_State *L, struct rt *rt, const char *name, open_fn open)
{
    lua_pushlightuserdata(L, rt);
    open_fn *box = lua_newuserdata(L, sizeof *box);
    *box = open;
    lua_pushcclosure(L, open_core, 2);
    lua_setfield(L, -2, name);
}

/* The embedded source of a module, or the file of that name in LEAT_LUA_DIR (for developing leat
 * itself). */
static int load_embedded(lua_State *L)
{
    const struct embedded_module *m = lua_touserdata(L, lua_upvalueindex(2));
    const char *dir = rt_of(L)->restricted ? NULL : getenv("LEAT_LUA_DIR");
    int rc;
    if (dir && dir[0]) {
        const char *chunk = m->chunkname + strlen("@");
        const char *path = lua_pushfstring(L, "%s/%s", dir, chunk);
        FILE *f = fopen(path, "rb");
        struct buf text;
        buf_init(&text, &rt_of(L)->mem, 4u << 20);
        char part[4096];
        size_t n;
        enum err_kind rc_buf = f ? ERR_NONE : ERR_IO;
        while (f && rc_buf == ERR_NONE && (n = fread(part, 1, sizeof part, f)) > 0)
            rc_buf = buf_append(&text, part, n);
        if (f)
            fclose(f);
        rc =
            rc_buf == ERR_NONE ? luaL_loadbuffer(L, text.data, text.len, m->chunkname) : LUA_ERRERR;
        buf_fini(&text);
        if (rc == LUA_ERRERR)
            return luaL_error(L, "LEAT_LUA_DIR: cannot read %s", path);
    } else {
        rc = luaL_loadbuffer(L, m->source, m->len, m->chunkname);
    }
    if (rc != 0)
        return lua_error(L);
    lua_getfield(L, LUA_REGISTRYINDEX, OWN_GLOBALS);
    if (lua_istable(L, -1))
        lua_setfenv(L, -2);
    else
        lua_pop(L, 1);
    lua_pushstring(L, m->name);
    lua_call(L, 1, 1);
    return 1;
}

/* ---- globals of leat's own, in a host's state that has hidden what its modules need */

/* Pushes package.loaded or package.preload from the registry: the global `package` may be another
 * table, or missing. */
static void push_registered(lua_State *L, const char *name)
{
    lua_getfield(L, LUA_REGISTRYINDEX, name);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, name);
}

void runtime_push_preload(lua_State *L)
{
    push_registered(L, "_PRELOAD");
}

/* require(name), for leat's own modules. */
static int l_require(lua_State *L)
{
    lua_settop(L, 1);
    const char *name = luaL_checkstring(L, 1);
    push_registered(L, "_LOADED"); // name loaded
    lua_getfield(L, 2, name);
    if (lua_toboolean(L, -1))
        return 1;
    runtime_push_preload(L);
    lua_getfield(L, -1, name);
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "module '%s' not found", name);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

static bool is_registered(lua_State *L, const char *field, const char *name)
{
    lua_getglobal(L, "package");
    if (lua_istable(L, -1))
        lua_getfield(L, -1, field);
    push_registered(L, name);
    bool same = lua_rawequal(L, -1, -2) != 0;
    return same; /* the caller pops the pushed values */
}

/* A `require` and a `package` for the globals at the top of the stack. */
static void add_own_require(lua_State *L)
{
    lua_pushcfunction(L, l_require);
    lua_setfield(L, -2, "require");
    lua_newtable(L); // globals package
    push_registered(L, "_LOADED");
    lua_setfield(L, -2, "loaded");
    runtime_push_preload(L);
    lua_setfield(L, -2, "preload");
    lua_setfield(L, -2, "package");
}

/* Makes globals for leat's modules if the host has hidden `require` or `package`, as Minetest does
 * for mods, or if its LuaJIT must not compile `pairs`. */
static void make_own_globals(lua_State *L)
{
    int top = lua_gettop(L);
    lua_getglobal(L, "require");
    bool whole = lua_isfunction(L, -1) && is_registered(L, "loaded", "_LOADED") &&
                 is_registered(L, "preload", "_PRELOAD");
    lua_settop(L, top);
    bool fails = luajit_fails_next(L);
    if (whole && !fails)
        return;
    lua_newtable(L); // globals
    if (!whole)
        add_own_require(L);
    if (fails)
        luajit_avoid_next(L, -1);
    lua_newtable(L); // globals meta
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, OWN_GLOBALS);
}

static int l_exit(lua_State *L)
{
    struct rt *rt = rt_of(L);
    rt->exit_code = (int)(aux_check_integer(L, 1, "os.exit: the status", 0, 255));
    rt->exit_requested = true;
    LIST_FOR(node, &rt->sched.tasks)
    {
        struct task *t = CONTAINER_OF(node, struct task, all);
        if (!t->parent)
            task_cancel(t, "os.exit was called");
    }
    return 0;
}

static int l_random(lua_State *L)
{
    lua_pushnumber(L, rt_random(rt_of(L)));
    return 1;
}

/* sources(): the text of leat's own modules by name. */
static int l_sources(lua_State *L)
{
    lua_newtable(L);
    for (const struct embedded_module *m = embedded_modules; m->name; m++) {
        lua_pushlstring(L, m->source, m->len);
        lua_setfield(L, -2, m->name);
    }
    return 1;
}

static int open_runtime(lua_State *L, struct rt *rt)
{
    static const luaL_Reg fns[] = {{"exit", l_exit}, {"sources", l_sources}, {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, fns);
    lua_pushboolean(L, rt->virtual_time);
    lua_setfield(L, -2, "virtual_time");
    lua_pushnumber(L, (double)(rt_random_u64(rt) >> 11));
    lua_setfield(L, -2, "seed"); /* a seed for math.random */
    runtime_push_print(L, rt);
    lua_setfield(L, -2, "print");
    lua_pushcfunction(L, luaopen_cjson);
    lua_setfield(L, -2, "cjson");
    lua_pushcfunction(L, luaopen_cjson_safe);
    lua_setfield(L, -2, "cjson_safe");
    if (!rt->sched.own_state) { /* math.random belongs to the host, and so does its seed */
        lua_pushlightuserdata(L, rt);
        lua_pushcclosure(L, l_random, 1);
        lua_setfield(L, -2, "random");
    }
    return 1;
}

static int open_version(lua_State *L, struct rt *rt)
{
    UNUSED(rt);
    lua_newtable(L);
    lua_pushliteral(L, LEAT_VERSION);
    lua_setfield(L, -2, "leat");
    lua_pushliteral(L, LUAJIT_VERSION);
    lua_setfield(L, -2, "luajit");
    lua_pushstring(L, uv_version_string());
    lua_setfield(L, -2, "libuv");
    lua_pushstring(L, curl_version_info(CURLVERSION_NOW)->version);
    lua_setfield(L, -2, "libcurl");
    lua_pushstring(L, zlibVersion());
    lua_setfield(L, -2, "zlib");
    lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION_STRING));
    lua_setfield(L, -2, "openssl");
    return 1;
}

static int open_serve(lua_State *L, struct rt *rt)
{
#ifdef LEAT_SERVE
    return lua_open_serve(L, rt);
#else
    UNUSED(rt);
    return luaL_error(L,
                      "this leat was built without its server (LEAT_SERVE=OFF): it has no serve, "
                      "no simulate and no mock");
#endif
}

static const struct {
    const char *name;
    open_fn open;
} core_modules[] = {{"leat.native.task", lua_open_task},
                    {"leat.native.sync", lua_open_sync},
                    {"leat.native.request", lua_open_request},
                    {"leat.native.json", lua_open_json},
                    {"leat.native.util", lua_open_util},
                    {"leat.native.pattern", lua_open_pattern},
                    {"leat.native.file", lua_open_file},
                    {"leat.native.record", lua_open_trace},
                    {"leat.native.serve", open_serve},
                    {"leat.native.runtime", open_runtime},
                    {"leat.native.lines", lua_open_lines},
                    {"leat.native.version", open_version},
                    {"leat.native.json_span", lua_open_json_span},
                    {"leat.native.block", runtime_open_block}};

/* Fills package.preload; `hosted`: without "leat" itself, which leat.so provides. */
static void preload(lua_State *L, struct rt *rt, bool hosted)
{
    runtime_push_preload(L);
    for (size_t i = 0; i < ARRAY_LEN(core_modules); i++)
        preload_core(L, rt, core_modules[i].name, core_modules[i].open);
    for (const struct embedded_module *m = embedded_modules; m->name; m++) {
        if (hosted && strcmp(m->name, "leat") == 0)
            continue;
        lua_pushlightuserdata(L, rt);
        lua_pushlightuserdata(L, (void *)(uintptr_t)m);
        lua_pushcclosure(L, load_embedded, 2);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 1);
}

void runtime_open_modules(lua_State *L, struct rt *rt, const char *script_dir, bool limited,
                          const char *allow_modules)
{
    lua_gc(L, LUA_GCSTOP, 0); /* all of this stays: a collection would only cost time */
    luaL_openlibs(L);
    if (luajit_fails_next(L))
        luajit_avoid_next(L, LUA_GLOBALSINDEX);
    /* Compiling traces is not worth it here, and a compiled trace would ignore a time limit that is
     * set later. */
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    sched_init(&rt->sched, &rt->loop, &rt->log, L, true);
    preload(L, rt, false);
    lua_settop(L, 0);
    lua_getglobal(L, "require");
    lua_pushvalue(L, -1);
    lua_pushliteral(L, "leat");
    lua_call(L, 1, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    lua_pushliteral(L, "leat.state.setup");
    lua_call(L, 1, 1);
    lua_pushstring(L, script_dir);
    lua_pushboolean(L, limited);
    lua_pushboolean(L, rt->restricted);
    lua_pushstring(L, allow_modules);
    lua_call(L, 4, 1); /* the sandbox's globals */
    lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_GLOBALS);
    lua_gc(L, LUA_GCRESTART, 0);
}

static int push_leat(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    return 1;
}

void runtime_open_hosted(lua_State *L, struct rt *rt, bool module)
{
    sched_init(&rt->sched, &rt->loop, &rt->log, L, false);
    make_own_globals(L);
    preload(L, rt, true);
    const struct embedded_module *m = embedded_modules;
    while (strcmp(m->name, "leat") != 0)
        m++;
    lua_pushlightuserdata(L, rt);
    lua_pushlightuserdata(L, (void *)(uintptr_t)m);
    lua_pushcclosure(L, load_embedded, 2);
    lua_call(L, 0, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    if (module)
        return;
    runtime_push_preload(L);
    lua_pushcfunction(L, push_leat);
    lua_setfield(L, -2, "leat");
    lua_pushcfunction(L, l_require);
    lua_pushliteral(L, "leat.state.host_globals");
    lua_call(L, 1, 1);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    push_leat(L);
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_CHUNK_GLOBALS);
}
