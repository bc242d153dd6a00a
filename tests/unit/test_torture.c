/* The whole library with one allocation after the other made to fail: whatever that was, the run
 * ends by itself, leaves nothing behind, and the runtime serves the next script. LEAT_FULL=1 tries
 * every allocation; without it, some two hundred spread over the run. */
#include "test.h"

#include "leat.h"
#include "lua/lua_rt.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

enum { POINTS = 200, STUCK_AFTER_S = 200 };

/* `...`: a port where nobody listens. Whatever fails here may end the script, or be caught by it.
 * Without the compiler: where compiled code is refused memory, LuaJIT before 2023 reads a frame
 * that is none (lj_err_mem), and crashes. */
static const char script[] =
    "jit.off() jit.flush()\n"
    "local url = 'http://127.0.0.1:' .. ... .. '/?key=secret'\n"
    "local sem = semaphore(2)\n"
    "local function ask(i)\n"
    "    return sem:with(function()\n"
    "        local res, err = request{url = url, json = {n = i, list = {1, 2, {}}}, timeout = 5}\n"
    "        return json.encode{i = i, kind = err.kind, text = tostring(err)}\n"
    "    end)\n"
    "end\n"
    "local function work()\n"
    "    local queue, event, cleaned = leat.queue(1), leat.event(), 0\n"
    "    spawn(function()\n"
    "        for i = 1, 3 do assert(queue:put({i}, 5)) end\n"
    "        queue:close()\n"
    "    end)\n"
    "    local consumer = spawn(function()\n"
    "        local sum = 0\n"
    "        for item in queue:iter() do sum = sum + item[1] end\n"
    "        event:set()\n"
    "        return sum\n"
    "    end)\n"
    "    local texts = assert(gather({function() return ask(1) end, function() return ask(2) end,\n"
    "        function() return ask(3) end}))\n"
    "    for i = 1, 3 do assert(assert(json.decode(texts[i])).kind == 'connect') end\n"
    "    local settled = leat.map({1, 2}, function() return nil, leat.error{kind = 'io', message = "
    "'no'} "
    "end,\n"
    "        {settle = true})\n"
    "    assert(not settled[1].ok)\n"
    "    local none, late = wait_for(0.001, leat.finally, function() sleep(60) end, function()\n"
    "        sleep(0)\n"
    "        cleaned = cleaned + 1\n"
    "    end)\n"
    "    assert(late.kind == 'timeout' and cleaned == 1)\n"
    "    local generate = coroutine.wrap(function() for i = 1, 2 do sleep(0) coroutine.yield(i) "
    "end end)\n"
    "    assert(generate() == 1 and generate() == 2)\n"
    "    assert(event:wait(5) and consumer:await() == 6)\n"
    "    assert(not pcall(function() return spawn(error, 'a bug'):await() end))\n"
    "    return true\n"
    "end\n"
    "local function try()\n"
    "    local task = spawn(work)\n"
    "    local ok, done, err = pcall(task.await, task)\n"
    "    while task:status() == 'joining' or task:status() == 'waiting' do sleep(0.001) end\n"
    "    assert(sem.available == 2, 'a permit is lost')\n"
    "    return ok and done == true, done, err\n"
    "end\n"
    "if not try() then\n" /* it comes once: what is not lost serves the second time */
    "    local ok, done, err = try()\n"
    "    assert(ok, tostring(done) .. tostring(err))\n"
    "end\n";

/* The same runtime once more, with all the memory it wants. */
static const char after[] =
    "collectgarbage()\n"
    "assert(#leat.tasks() == 1, tostring(leat.tasks()))\n"
    "assert(leat.stats().engine.pending == 0)\n"
    "assert(leat.stats().external == 0)\n"
    "local sem = semaphore(1)\n"
    "local got = assert(gather({function() return sem:with(function() return 1 end) end,\n"
    "    function() sleep(0) return json.decode('[2]')[1] end}))\n"
    "assert(got[1] == 1 and got[2] == 2)\n"
    "local res, err = request('http://127.0.0.1:' .. ... .. '/')\n"
    "assert(not res and err.kind == 'connect', tostring(err))\n";

static char port_text[16];

/* It stays bound, so that nobody else gets it, and nobody listens there. */
static void find_closed_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        abort();
    snprintf(port_text, sizeof port_text, "%d", ntohs(a.sin_port));
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

static struct mem *mem_of(leat_runtime *r)
{
    return &((struct rt *)(void *)r)->mem; /* the runtime's first member */
}

static enum leat_status run(leat_runtime *r, const char *text, char *report, size_t size)
{
    struct leat_error err = {{0}, {0}};
    const char *args[] = {port_text, NULL};
    report[0] = '\0';
    if (!leat_start_string(r, "=script", text, strlen(text), args, &err)) {
        snprintf(report, size, "start: %s: %s", err.kind, err.message);
        return LEAT_FAILED;
    }
    enum leat_status status = leat_run(r);
    snprintf(report, size, "%s", leat_report(r));
    return status;
}

static volatile long at_allocation;

static void say_where(int sig)
{
    (void)sig;
    char text[64];
    int n = snprintf(text, sizeof text, "  it hangs after allocation %ld\n", at_allocation);
    (void)!write(STDOUT_FILENO, text, (size_t)n);
    _exit(1);
}

/* Runs the script with the n-th allocation failing. False: it needs fewer than that. */
static bool run_failing_at(long n)
{
    struct lines lines = {""};
    char report[4096];
    struct leat_error err = {{0}, {0}};
    struct leat_config config = {.log = keep_line, .log_arg = &lines, .seed = 1};
    leat_runtime *r = leat_new(&config, &err);
    if (!r) {
        CHECK_STR(err.message, "");
        return false;
    }
    at_allocation = n;
    alarm(STUCK_AFTER_S);
    mem_of(r)->fail_in = n;
    enum leat_status status = run(r, script, report, sizeof report);
    bool reached = mem_of(r)->fail_in < 0;
    mem_of(r)->fail_in = -1;
    if (status == LEAT_STUCK || (status != LEAT_OK && (!reached || !strstr(report, "memory")))) {
        printf("  allocation %ld: status %d: %s\n", n, (int)status, report);
        test_fail(__FILE__, __LINE__, "the script ends");
    }
    status = run(r, after, report, sizeof report);
    if (status != LEAT_OK) {
        printf("  after allocation %ld: status %d: %s\n", n, (int)status, report);
        test_fail(__FILE__, __LINE__, "the runtime serves the next script");
    }
    leat_free(r);
    alarm(0);
    if (lines.left[0]) {
        printf("  allocation %ld: %s\n", n, lines.left);
        test_fail(__FILE__, __LINE__, "everything is given back");
    }
    return reached;
}

static bool full(void)
{
    return getenv("LEAT_FULL") != NULL;
}

TEST(no_failing_allocation_hangs_leaks_or_breaks_a_script)
{
    signal(SIGALRM, say_where);
    find_closed_port();
    long total = 1;
    while (run_failing_at(total)) /* how many there are, roughly */
        total *= 2;
    long step = full() ? 1 : total / 2 / POINTS + 1;
    long n = 0;
    while (run_failing_at(n))
        n += step;
    printf("  %ld allocations, each %ld tried\n", n, step);
    CHECK(n > 1000);
}

TEST(a_runtime_that_does_not_fit_its_limit_says_so)
{
    size_t limit = 1000, step = full() ? 97 : 9973;
    for (;; limit += step) {
        struct leat_error err = {{0}, {0}};
        struct leat_config config = {.memory_limit = limit};
        leat_runtime *r = leat_new(&config, &err);
        if (r) {
            leat_free(r);
            break;
        }
        CHECK_STR(err.kind, "memory");
        CHECK(err.message[0] != '\0');
    }
    CHECK(limit > 100000 && limit < 8u << 20);
}

TEST(a_script_that_does_not_fit_its_limit_ends)
{
    find_closed_port();
    size_t step = full() ? 1009 : 25013;
    char report[4096];
    bool done = false;
    for (size_t limit = 300000; !done && limit < 16u << 20; limit += step) {
        struct lines lines = {""};
        struct leat_error err;
        struct leat_config config = {
            .memory_limit = limit, .log = keep_line, .log_arg = &lines, .seed = 1};
        leat_runtime *r = leat_new(&config, &err);
        if (!r)
            continue;
        alarm(STUCK_AFTER_S);
        enum leat_status status = run(r, script, report, sizeof report);
        done = status == LEAT_OK;
        if (status == LEAT_STUCK)
            CHECK_STR(report, "");
        leat_free(r);
        alarm(0);
        CHECK_STR(lines.left, "");
    }
    CHECK(done);
}

TEST_MAIN
