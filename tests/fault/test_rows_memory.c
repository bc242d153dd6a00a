/* Whole scripts with one allocation after the other made to fail, Leat's and Lua's: whatever that
 * was, the script ends by itself, well at its second try or with an error of memory; nothing stays
 * behind, and the runtime serves the next script. The scripts are in memory/. LEAT_FULL=1 fails
 * every allocation; without it, some POINTS of each script. (unit/test_torture sweeps tasks and
 * waits; libcurl's own allocations are left alone: 7.88 divides by zero without memory.) */
#include "../unit/test.h"

#include "leat.h"
#include "lua_rt.h"
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

enum { POINTS = 100, STUCK_AFTER_S = 60, WARM_UP = 1 << 30 };

/* `...`: the script's source, and a folder. A failing allocation comes once, so what it has broken
 * is mended by a second try: nothing that the first one left may be in its way. Without the
 * compiler: LuaJIT 2.1 now and then takes the wrong frame for the raising one where memory runs out
 * beneath compiled code (a crash within its lj_err_mem), and that would be all this shows. */
static const char frame[] =
    "jit.off() jit.flush()\n"
    "local source, scratch = ...\n"
    "local function try()\n"
    "    local task = spawn(function() return assert(load(source, '=script'))(scratch) end)\n"
    "    local ok, done, err = pcall(task.await, task)\n"
    "    while task:status() == 'joining' or task:status() == 'waiting' do sleep(0.001) end\n"
    "    return ok and done == true, done, err\n"
    "end\n"
    "if not try() then\n"
    "    local ok, done, err = try()\n"
    "    assert(ok, tostring(done) .. tostring(err))\n"
    "end\n";

static const char after[] =
    "collectgarbage()\n"
    "assert(#leat.tasks() == 1, tostring(leat.tasks()))\n"
    "for _ = 1, 5000 do\n"
    "    if leat.stats().external == 0 then break end\n"
    "    sleep(0.001)\n"
    "end\n"
    "local stats = leat.stats()\n"
    "assert(stats.engine.pending == 0, 'a request is left')\n"
    "assert(stats.external == 0, 'a call is left')\n"
    "local server = assert(leat.serve { handler = function() return 'ok' end })\n"
    "local got = assert(gather { function() return request(server.url) end })\n"
    "assert(got[1].body == 'ok')\n"
    "server:close()\n";

static const char *const scripts[] = {"service", "streams", "pipeline"};

static struct mem *mem_of(leat_runtime *r)
{
    return &((struct rt *)(void *)r)->mem; /* the runtime's first member */
}

struct lines {
    char left[512]; /* the line that says what was not given back */
};

static void keep_line(void *arg, enum leat_log_level level, const char *line)
{
    struct lines *lines = arg;
    (void)level;
    if (strstr(line, "not given back"))
        snprintf(lines->left, sizeof lines->left, "%s", line);
}

static const char *running;
static volatile long at_allocation;

static void say_where(int sig)
{
    (void)sig;
    char text[128];
    int n =
        snprintf(text, sizeof text, "  %s hangs after allocation %ld\n", running, at_allocation);
    (void)!write(STDOUT_FILENO, text, (size_t)n);
    _exit(1);
}

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

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
    const char *here = __FILE__;
    char path[512];
    snprintf(path, sizeof path, "%.*smemory/%s.lua", (int)(strrchr(here, '/') + 1 - here), here,
             name);
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

static void complain(long n, const char *what, const char *report)
{
    printf("  %s, allocation %ld: %s: %s\n", running, n, what, report);
    test_failed = true;
}

/* Runs the script with the n-th allocation failing. False: it needs fewer than that. */
static bool run_failing_at(long n)
{
    struct lines lines = {""};
    char report[4096];
    struct leat_error err = {{0}, {0}};
    struct leat_config config = {.log = keep_line, .log_arg = &lines, .seed = 1};
    int files = open_files();
    leat_runtime *r = leat_new(&config, &err);
    if (!r) {
        complain(n, "no runtime", err.message);
        return false;
    }
    at_allocation = n;
    alarm(STUCK_AFTER_S);
    mem_of(r)->fail_in = n;
    enum leat_status status = run(r, frame, script_args, report, sizeof report);
    bool reached = mem_of(r)->fail_in < 0;
    mem_of(r)->fail_in = -1;
    if (status != LEAT_OK && (!reached || !strstr(report, "memory")))
        complain(n, "the script", report);
    if (run(r, after, NULL, report, sizeof report) != LEAT_OK)
        complain(n, "the next script", report);
    leat_free(r);
    alarm(0);
    if (lines.left[0])
        complain(n, "it ends", lines.left);
    /* The first run opens what stays open for the whole process. */
    if (n != WARM_UP && files != open_files())
        complain(n, "it ends", "files are open that were not");
    empty_folder();
    return reached;
}

static void sweep(const char *script)
{
    signal(SIGALRM, say_where);
    snprintf(folder, sizeof folder, "/tmp/leat-memory.XXXXXX");
    REQUIRE(mkdtemp(folder) != NULL);
    REQUIRE(read_script(script));
    running = script;
    (void)run_failing_at(WARM_UP);
    long total = 1;
    while (!test_failed && run_failing_at(total)) /* how many there are, roughly */
        total *= 2;
    long step = getenv("LEAT_FULL") ? 1 : total / 2 / POINTS + 1;
    long n = 0;
    while (run_failing_at(n))
        n += step;
    printf("  %s: %ld allocations, each %ld tried\n", script, n, step);
    CHECK(n > 100);
    rmdir(folder);
}

TEST(a_script_whose_memory_fails_at_any_point_ends_and_leaves_nothing_behind)
{
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
        sweep(scripts[i]);
}

TEST_MAIN
