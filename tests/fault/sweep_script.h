/* Whole scripts with one allocation after the other made to fail, Leat's and Lua's: whatever that
 * was, the script ends by itself, well or with an error of memory, and well at its second try;
 * nothing stays behind, and the runtime serves the next script. The scripts are in memory/. */
#pragma once

#include "sweep.h"

#include <pthread.h>

/* `...`: the script's source, and a folder. A failing allocation comes once, so what it has broken
 * is mended by a second try: nothing that the first one left may be in its way. `kept` is the
 * script's own, for both; kept.check runs after each. `expect` is an assert that tells of the
 * errors among its arguments, and in them: one of them must be of memory, or the log has told of
 * it. Two faults of LuaJIT 2.1's are kept out. Beneath compiled code its lj_err_mem now and then
 * takes the wrong frame for the raising one and crashes: all runs without the compiler. And its
 * string.sub and string.char leave the top of the stack where an earlier call had it, so that the
 * message of such an error may overwrite a frame: no script here has a sub of a few bytes deep
 * beneath its last call of C. */
static const char frame[] =
    "if jit then jit.off() jit.flush() end\n"
    "local source, scratch = ...\n"
    "kept = {}\n"
    "local function tell(said, v)\n"
    "    said[#said + 1] = tostring(v)\n"
    "    for _, name in ipairs(type(v) == 'table' and { 'err', 'cause', 'cleanup' } or {}) do\n"
    "        if v[name] then tell(said, v[name]) end\n"
    "    end\n"
    "    for _, cause in pairs(type(v) == 'table' and v.causes or {}) do tell(said, cause) end\n"
    "    return said\n"
    "end\n"
    "function expect(what, ...)\n"
    "    if what then return what, ... end\n"
    "    local said = {}\n"
    "    for i = 1, select('#', ...) do tell(said, (select(i, ...))) end\n"
    "    error('expected otherwise: ' .. table.concat(said, ' / '), 2)\n"
    "end\n"
    "local function try()\n"
    "    local task = spawn(function() return assert(load(source, '=script'))(scratch) end)\n"
    "    local ok, done, err = pcall(task.await, task)\n"
    "    while task:status() == 'joining' or task:status() == 'waiting' do sleep(0.001) end\n"
    "    if kept.check and not pcall(kept.check) then kept.check() end\n"
    "    if ok and done == true then return true end\n"
    "    return false, table.concat(tell(tell({}, done), err), ' / ')\n"
    "end\n"
    "local ok, why = try()\n"
    "if not ok then\n"
    "    local again, reason = try()\n"
    "    assert(again, reason)\n"
    "    if not why:find 'memory' then error('it failed for no want of memory: ' .. why) end\n"
    "end\n";

static const char after[] =
    "kept, expect = nil\n"
    "collectgarbage()\n"
    "assert(#leat.tasks() == 1, tostring(leat.tasks()))\n"
    "for _ = 1, 5000 do\n"
    "    if leat.stats().external == 0 then break end\n"
    "    sleep(0.001)\n"
    "end\n"
    "local stats = leat.stats()\n"
    "assert(stats.engine.pending == 0, 'a request is left')\n"
    "assert(stats.external == 0, 'a call is left')\n"
    "if not leat.serve then return end\n" /* in the sandbox */
    "local server = assert(leat.serve { handler = function() return 'ok' end })\n"
    "local got = assert(gather { function() return request(server.url) end })\n"
    "assert(got[1].body == 'ok')\n"
    "server:close()\n";

struct scenario {
    const char *script;
    bool virtual_time; /* no socket, and no waiting */
    unsigned network_threads;
    bool sandbox;
    long more; /* allocations behind the first that fail too */
};

/* ---- what scripts get of the host */

static leat_value *copy_of(const leat_value *v)
{
    size_t len;
    const char *text;
    leat_value *t;
    switch (leat_type_of(v)) {
    case LEAT_BOOLEAN:
        return leat_boolean(leat_to_boolean(v));
    case LEAT_NUMBER:
        return leat_number(leat_to_number(v, 0));
    case LEAT_STRING:
        text = leat_to_string(v, &len);
        return leat_string(text, len);
    case LEAT_TABLE:
        t = leat_table();
        for (size_t i = 0; i < leat_length(v); i++)
            leat_append(t, copy_of(leat_at(v, i)));
        for (size_t i = 0; i < leat_field_count(v); i++)
            leat_set(t, leat_field_name(v, i), copy_of(leat_field(v, leat_field_name(v, i))));
        return t;
    default:
        return NULL;
    }
}

static leat_value *echo(void *arg, const leat_value *const *args, size_t count,
                        struct leat_error *err)
{
    UNUSED(arg);
    UNUSED(err);
    return count > 0 ? copy_of(args[0]) : NULL;
}

static leat_value *fail_as_told(void *arg, const leat_value *const *args, size_t count,
                                struct leat_error *err)
{
    UNUSED(arg);
    snprintf(err->kind, sizeof err->kind, "io");
    snprintf(err->message, sizeof err->message, "%s",
             count > 0 ? leat_to_string(args[0], NULL) : "");
    return NULL;
}

static int abandoned;

static leat_value *count_abandoned(void *arg, const leat_value *const *args, size_t count,
                                   struct leat_error *err)
{
    UNUSED(arg);
    UNUSED(args);
    UNUSED(count);
    UNUSED(err);
    return leat_number(abandoned);
}

static void never(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    UNUSED(arg);
    UNUSED(call);
    UNUSED(args);
    UNUSED(count);
}

static void abandon(void *arg, uint64_t call)
{
    UNUSED(arg);
    UNUSED(call);
    abandoned++;
}

struct job {
    leat_mailbox *box;
    uint64_t call;
    leat_value *value;
};

static void *complete(void *arg)
{
    struct job *job = arg;
    leat_complete(job->box, job->call, job->value, NULL);
    leat_mailbox_release(job->box);
    free(job);
    return NULL;
}

/* A string comes back at once, what else there is from another thread; nothing is a failure. */
static void later(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    leat_mailbox *box = leat_mailbox_of(*(leat_runtime **)arg);
    if (count == 0) {
        leat_complete(box, call, NULL, &(struct leat_error){"invalid", "nothing to give back"});
    } else if (leat_type_of(args[0]) == LEAT_STRING) {
        leat_complete(box, call, copy_of(args[0]), NULL);
    } else {
        struct job *job = malloc(sizeof *job);
        pthread_t thread;
        if (!job)
            abort();
        *job = (struct job){box, call, copy_of(args[0])};
        leat_mailbox_retain(box);
        if (pthread_create(&thread, NULL, complete, job) != 0)
            abort();
        pthread_detach(thread);
    }
}

static bool register_all(leat_runtime **r, struct leat_error *err)
{
    return leat_register(*r, "host.echo", echo, NULL, err) &&
           leat_register(*r, "host.fail", fail_as_told, NULL, err) &&
           leat_register(*r, "host.abandoned", count_abandoned, NULL, err) &&
           leat_register_async(*r, "host.never", never, abandon, NULL, err) &&
           leat_register_async(*r, "host.later", later, abandon, r, err);
}

/* ---- the runs */

static enum leat_status run(leat_runtime *r, const char *text, const char *const *args,
                            char *report, size_t size)
{
    struct leat_error err = {{0}, {0}};
    if (!leat_start_string(r, "=frame", text, strlen(text), args, &err)) {
        snprintf(report, size, "start: %s: %s", err.kind, err.message);
        return LEAT_FAILED;
    }
    enum leat_status status = leat_run(r);
    snprintf(report, size, "%s", leat_report(r));
    return status;
}

/* The script, and a folder of the test's own for its files. (Not by loadfile: LuaJIT's forgets the
 * file where there is no memory for its name.) */
static char source[8192], folder[64];
static const char *const script_args[] = {source, folder, NULL};

static bool read_script(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/fault/memory/%s.lua", TESTS_FOLDER, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(source, 1, sizeof source - 1, f) : 0;
    source[n] = '\0';
    if (f)
        fclose(f);
    return n > 0;
}

static void empty_folder(void)
{
    DIR *dir = opendir(folder);
    char path[400];
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
}

static long play(const void *scenario, long n)
{
    const struct scenario *s = scenario;
    struct left left = {"", false};
    char report[4096];
    struct leat_error err = {{0}, {0}};
    struct leat_config config = {.log = keep_left,
                                 .log_arg = &left,
                                 .seed = 1,
                                 .virtual_time = s->virtual_time,
                                 .sandbox =
                                     s->sandbox ? LEAT_SANDBOX_RESTRICTED : LEAT_SANDBOX_FULL,
                                 .time_limit_ms = s->sandbox ? 60000 : 0,
                                 .network_threads = s->network_threads};
    leat_runtime *r = leat_new(&config, &err);
    if (!r || !register_all(&r, &err)) {
        complain("no runtime", err.message);
        return n;
    }
    mem_of(r)->fail_more = s->more;
    mem_of(r)->fail_in = n;
    enum leat_status status = run(r, frame, script_args, report, sizeof report);
    long rest = mem_of(r)->fail_more < s->more ? -1 : mem_of(r)->fail_in;
    mem_of(r)->fail_in = -1;
    mem_of(r)->fail_more = 0;
    if (status != LEAT_OK && (rest >= 0 || !strstr(report, "memory") ||
                              (strstr(report, "for no want of") && !left.memory_told)))
        complain("the script", report);
    if (run(r, after, NULL, report, sizeof report) != LEAT_OK)
        complain("the next script", report);
    leat_free(r);
    if (left.line[0])
        complain("it ends", left.line);
    empty_folder();
    return rest;
}

static void sweep_script(const char *name, const struct scenario *s)
{
    snprintf(folder, sizeof folder, "/tmp/leat-memory.XXXXXX");
    REQUIRE(mkdtemp(folder) != NULL);
    REQUIRE(read_script(s->script));
    sweep(name, play, s);
    rmdir(folder);
}

/* The script `file` as the scenario `name`. */
#define SCENARIO(name, file, ...)                                                                  \
    TEST(memory_fails_anywhere_in_##name)                                                          \
    {                                                                                              \
        sweep_script(#name, &(const struct scenario){.script = #file, __VA_ARGS__});               \
    }

#define ON_VIRTUAL_TIME .virtual_time = true
#define ON_SOCKETS .virtual_time = false
#define ON_A_NETWORK_THREAD .network_threads = 1
#define IN_A_ROW .more = 3
