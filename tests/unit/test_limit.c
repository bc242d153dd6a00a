/* Scripts that never give way, and those that want all memory: stopped, with the others alive and
 * the runtime as good as before. Under both means: the compiler off, and the watchdog's signal. */
#include "leat.h"

#include "test.h"

#include <stdlib.h>
#include <unistd.h>

static void no_log(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static leat_runtime *runtime(unsigned limit_ms, bool watchdog, size_t memory)
{
    return leat_new(&(struct leat_config){.time_limit_ms = limit_ms,
                                          .jit_watchdog = watchdog,
                                          .memory_limit = memory,
                                          .log = no_log},
                    NULL);
}

static bool starts(leat_runtime *rt, const char *source)
{
    struct leat_error err = {"", ""};
    bool ok = leat_start_string(rt, "=t", source, strlen(source), NULL, &err);
    if (!ok)
        printf("  %s\n", err.message);
    return ok;
}

static void check_runs(leat_runtime *rt, const char *source)
{
    REQUIRE(starts(rt, source));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK_STR(leat_report(rt), "");
}

/* FAULTS of every form: where the hook can yield, and where it has to raise. */
static const char *const loops[] = {
    "while true do end",
    "local x = 0 while true do x = x + 1 end",
    "while true do pcall(function() while true do end end) end",
    "xpcall(function() while true do end end, function() while true do end end)",
    "xpcall(function() error 'x' end, function() while true do end end)",
    "coroutine.wrap(function() while true do end end)()",
    "coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()",
    "local co = coroutine.create(function() while true do pcall(function() while true do end end) "
    "end end)"
    " while true do coroutine.resume(co) end",
    "table.sort({3, 2, 1, 5}, function() while true do end end)",
    "table.sort({3, 2, 1, 5}, function() while true do pcall(function() while true do end end) end "
    "end)",
    "table.sort({3, 2, 1, 5}, function()"
    " xpcall(function() while true do end end, function() while true do end end) end)",
    "table.sort({3, 2, 1, 5}, function() coroutine.wrap(function() while true do end end)() end)",
    "while true do pcall(table.sort, {3, 2, 1}, function() while true do end end) end",
    "('abc'):gsub('.', function() while true do end end)",
    "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
    "for _ in function() while true do end end do end",
    "load(function() while true do end end)",
    "table.foreach({1}, function() while true do end end)",
    "while true do pcall(string.rep, 'x', 1e7) end",
    "leat.finally(function() while true do end end, function() end)",
};

static void check_loop(leat_runtime *rt, const char *loop)
{
    char source[1024];
    snprintf(source, sizeof source,
             "local turns = 0\n"
             "local other = spawn(function() while true do sleep(0) turns = turns + 1 end end)\n"
             "local v, err = spawn(function() %s end):await()\n"
             "assert(v == nil and err, 'it came to an end')\n"
             "assert(err.kind == 'budget' and err.reason == 'time_limit', tostring(err))\n"
             "assert(tostring(err):find('time limit', 1, true), tostring(err))\n"
             "assert(tostring(err):find('t:3', 1, true), tostring(err))\n"
             "local before = turns\n"
             "for _ = 1, 3 do sleep(0) end\n"
             "assert(turns > before)\n"
             "other:cancel()\n",
             loop);
    check_runs(rt, source);
}

static void check_loops(bool watchdog)
{
    leat_runtime *rt = runtime(20, watchdog, 64u << 20);
    REQUIRE(rt != NULL);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        bool failed = test_failed;
        check_loop(rt, loops[i]);
        if (test_failed && !failed)
            printf("  in: %s\n", loops[i]);
    }
    leat_free(rt);
}

TEST(every_endless_loop_ends_at_its_limit_with_the_compiler_off)
{
    check_loops(false);
}

TEST(every_endless_loop_ends_at_its_limit_under_the_watchdog)
{
    check_loops(true);
}

TEST(a_task_that_waits_in_time_is_never_stopped)
{
    leat_runtime *rt = runtime(1000, false, 0);
    REQUIRE(rt != NULL);
    check_runs(rt, "local s = 0 for i = 1, 50 do for j = 1, 1000 do s = s + j end sleep(0) end "
                   "assert(s == 50 * 500500)");
    leat_free(rt);
}

TEST(a_stopped_task_gives_back_what_it_held_and_cancels_its_children)
{
    leat_runtime *rt = runtime(20, false, 0);
    REQUIRE(rt != NULL);
    check_runs(rt, "local sem, ended = semaphore(1), 0\n"
                   "local t = spawn(function()\n"
                   "  spawn(function() leat.finally(function() sleep(1000) end,"
                   " function() ended = ended + 1 end) end)\n"
                   "  sleep(0)\n"
                   "  leat.finally(function() sem:with(function() while true do end end) end,\n"
                   "    function() sleep(0) ended = ended + 1 end)\n"
                   "end)\n"
                   "local v, err = t:await()\n"
                   "assert(v == nil and err.reason == 'time_limit')\n"
                   "assert(ended == 2 and sem.available == 1)");
    leat_free(rt);
}

TEST(the_main_task_fails_with_the_line_where_it_was)
{
    leat_runtime *rt = runtime(20, false, 0);
    REQUIRE(rt != NULL);
    REQUIRE(starts(rt, "local x\nwhile true do x = 1 end"));
    CHECK_EQ(leat_run(rt), LEAT_FAILED);
    CHECK(strstr(leat_report(rt), "t:2") != NULL);
    check_runs(rt, "sleep(0) assert(true)");
    leat_free(rt);
}

static int steps_until_done(leat_runtime *rt, uint64_t budget_us)
{
    int n = 1;
    while (leat_step(rt, budget_us) != LEAT_DONE && n < 1000000)
        n++;
    return n;
}

/* It computes the same, under the same roof, in many steps; and no other task comes between. */
static const char slices[] =
    "local function work() local s = 0 for i = 1, 3e5 do s = s + i % 7 end return s end\n"
    "local wanted, busy = 899998, false\n"
    "local forms = {\n"
    "  work,\n"
    "  function() local ok, s = pcall(work) assert(ok) return s end,\n"
    "  function() local ok, s = xpcall(work, print) assert(ok) return s end,\n"
    "  function() return coroutine.wrap(work)() end,\n"
    "  function() return coroutine.wrap(function() return coroutine.wrap(work)() end)() end,\n"
    "  function() return setmetatable({}, {__index = work}).x end,\n"
    "  function() return (('x'):gsub('x', work)) + 0 end,\n"
    "  function() local s for v in coroutine.wrap(function()\n"
    "    for _ = 1, 3 do coroutine.yield(work()) end end) do s = v end return s end,\n"
    "}\n"
    "local other = spawn(function() while true do sleep(0) assert(not busy) end end)\n"
    "for i, form in ipairs(forms) do\n"
    "  sleep(0)\n"
    "  busy = true\n"
    "  local s = form()\n"
    "  busy = false\n"
    "  assert(s == wanted, i .. ': ' .. tostring(s))\n"
    "end\n"
    "other:cancel()\n";

TEST(a_step_ends_within_a_task_which_goes_on_where_it_was)
{
    leat_runtime *rt = runtime(60000, false, 0);
    REQUIRE(rt != NULL);
    REQUIRE(starts(rt, slices));
    CHECK(steps_until_done(rt, 200) > 8); /* more than one for each */
    CHECK_EQ(leat_result(rt), LEAT_OK);
    CHECK_STR(leat_report(rt), "");
    leat_free(rt);
}

TEST(under_the_watchdog_too)
{
    leat_runtime *rt = runtime(60000, true, 0);
    REQUIRE(rt != NULL);
    REQUIRE(starts(rt, slices));
    steps_until_done(rt, 1000);
    CHECK_STR(leat_report(rt), "");
    /* By CPU time, so a busy machine makes them more; the profiler alone would make 30 of it, as it
     * does in valgrind, which holds signals back. */
    const char *preloaded = getenv("LD_PRELOAD");
    int least = preloaded && strstr(preloaded, "vgpreload") ? 1 : 60;
    REQUIRE(starts(rt, "local t = os.clock() while os.clock() - t < 0.3 do end"));
    CHECK(steps_until_done(rt, 1000) > least);
    CHECK_STR(leat_report(rt), "");
    leat_free(rt);
}

/* A step of no time ends behind each piece that a task takes of what is there. */
static const char *const readers[] = {
    "local server = leat.simulate('http://s.test', function() return { body = ('data: "
    "x\\n\\n'):rep(1000),\n"
    "    headers = { ['content-type'] = 'text/event-stream' } } end)\n"
    "local n = 0\n"
    "for _ in request { url = 'http://s.test/', stream = true }:events() do n = n + 1 end\n"
    "server:close()\n"
    "assert(n == 1000, n)",
    "local server = leat.simulate('http://s.test', function() return ('line\\n'):rep(1000) end)\n"
    "local res, n = request { url = 'http://s.test/', stream = true }, 0\n"
    "for line in coroutine.wrap(function()\n"
    "    for line in res:lines() do coroutine.yield(line) end end) do n = n + 1 end\n"
    "server:close()\n"
    "assert(n == 1000, n)",
    "local server = leat.simulate('http://s.test', function() return ('x'):rep(1000) end)\n"
    "local res, n = request { url = 'http://s.test/', stream = true }, 0\n"
    "while res:read(1) do n = n + 1 end\n"
    "server:close()\n"
    "assert(n == 1000, n)",
    "local q = leat.queue()\n"
    "for i = 1, 1000 do q:put(i) end\n"
    "for i = 1, 1000 do assert(q:get() == i) end",
    "local n = 0\n"
    "for _ in leat.stdin:lines() do n = n + 1 end\n"
    "assert(n == 1000, n)",
};

static bool thousand_lines_on_stdin(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    for (int i = 0; i < 1000; i++) {
        if (write(ends[1], "line\n", 5) != 5)
            return false;
    }
    close(ends[1]);
    bool moved = dup2(ends[0], 0) == 0;
    close(ends[0]);
    return moved;
}

TEST(reads_that_need_no_wait_give_way_to_the_end_of_a_step)
{
    REQUIRE(thousand_lines_on_stdin());
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        leat_runtime *rt = runtime(0, false, 0);
        REQUIRE(rt != NULL);
        REQUIRE(starts(rt, readers[i]));
        CHECK(steps_until_done(rt, 0) > 1000);
        CHECK_STR(leat_report(rt), "");
        leat_free(rt);
    }
}

TEST(the_limit_counts_the_slices_together)
{
    leat_runtime *rt = runtime(30, false, 0);
    REQUIRE(rt != NULL);
    REQUIRE(starts(rt, "while true do end"));
    CHECK(steps_until_done(rt, 1000) > 2);
    CHECK_EQ(leat_result(rt), LEAT_FAILED);
    CHECK(strstr(leat_report(rt), "time limit") != NULL);
    leat_free(rt);
}

TEST(closing_does_not_wait_for_a_loop)
{
    leat_runtime *rt = runtime(3600 * 1000, false, 0);
    REQUIRE(rt != NULL);
    REQUIRE(starts(rt, "while true do end"));
    CHECK_EQ(leat_step(rt, 1000), LEAT_READY);
    leat_free(rt); /* or the harness's own limit ends it */
}

TEST(the_watchdog_is_for_one_runtime_at_a_time)
{
    struct leat_error err = {"", ""};
    leat_runtime *first = runtime(1000, true, 0);
    REQUIRE(first != NULL);
    CHECK(leat_new(&(struct leat_config){.time_limit_ms = 1000, .jit_watchdog = true}, &err) ==
          NULL);
    CHECK(strstr(err.message, "jit_watchdog") != NULL);
    leat_runtime *plain = runtime(1000, false, 0);
    CHECK(plain != NULL);
    leat_free(plain);
    leat_free(first);
    first = runtime(20, true, 0);
    REQUIRE(first != NULL);
    check_loop(first, "while true do end");
    leat_free(first);
}

TEST(a_script_cannot_take_its_limit_off)
{
    leat_runtime *rt = runtime(20, false, 0);
    REQUIRE(rt != NULL);
    check_runs(rt,
               "assert(not pcall(jit.on)) assert(not pcall(debug.sethook))\n"
               "assert(not pcall(require, 'jit.profile')) assert(not pcall(require, 'jit.opt'))\n"
               "local ok, proxy = pcall(newproxy, true)\n"
               "if ok then getmetatable(proxy).__gc = function() while true do end end end\n"
               "proxy = nil collectgarbage() assert(not ok)");
    leat_free(rt);
}

static const char *const bombs[] = {
    "local t = {} for i = 1, math.huge do t[i] = {} end",
    "local t = {} for i = 1, math.huge do t[i] = i end",
    "local s = 'x' while true do s = s .. s end",
    "return ('x'):rep(1e9)",
    "local t = {} for i = 1, 1e7 do t[i] = coroutine.create(function() end) end",
    "local t = {} for i = 1, math.huge do t[i] = function() return i end end",
    "local t = {} for i = 1, math.huge do t[i] = ('k'):rep(1000) .. i end return table.concat(t)",
    "local t = {} while true do t = {t, t, t, {}} end",
};

static void check_bomb(leat_runtime *rt, const char *bomb)
{
    char source[512];
    snprintf(source, sizeof source,
             "local v, err = gather({ function() %s end }, { settle = true })\n"
             "local e = v and v[1].err or err\n"
             "assert(e and e.kind == 'memory', tostring(e))\n",
             bomb);
    check_runs(rt, source);
    check_runs(rt, "local t = {} for i = 1, 1000 do t[i] = {} end sleep(0)");
}

TEST(memory_bombs_end_as_errors_of_memory)
{
    leat_runtime *rt = runtime(0, false, 64u << 20);
    REQUIRE(rt != NULL);
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        bool failed = test_failed;
        check_bomb(rt, bombs[i]);
        if (test_failed && !failed)
            printf("  in: %s\n", bombs[i]);
    }
    leat_free(rt);
}

TEST(a_loop_that_catches_the_lack_of_memory_ends_as_well)
{
    leat_runtime *rt = runtime(50, false, 64u << 20);
    REQUIRE(rt != NULL);
    check_loop(rt, "local t = {} while true do pcall(function()"
                   " for _ = 1, math.huge do t[#t + 1] = {} end end) end");
    leat_free(rt);
}

TEST_MAIN
