/* Scripts that want all the memory, or never end: what each costs the process, what the others see,
 * and what the runtime is worth afterwards. (unit/test_limit has more forms of each, within one
 * process.) */
#include "host.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Over the cap comes what malloc needs for itself: up to a third where all blocks are small. */
enum { CAP_MB = 64, OVER_MB = 24 };

static const char *const bombs[] = {
    "local t = {} for i = 1, math.huge do t[i] = {} end",
    "local t = {} for i = 1, math.huge do t[i] = i end",
    "local s = 'x' while true do s = s .. s end",
    "return ('x'):rep(1e9)",
    "local t = {} for i = 1, math.huge do t[i] = coroutine.create(function() end) end",
    "local t = {} for i = 1, math.huge do t[i] = function() return i end end",
    "local t = {} for i = 1, math.huge do t[i] = ('k'):rep(1000) .. i end",
    "local t = {} while true do t = {t, t, t, {}} end",
    /* What is Leat's own counts as well. */
    "local q = leat.queue() while true do q:put(('x'):rep(1e5) .. tostring({})) end",
    "local s = 'x' while true do s = assert(json.encode({s, s})) end",
    "return json.decode('[' .. ('[],'):rep(3e6) .. '1]')",
    "return leat.base64.encode(('x'):rep(6e7))",
    "return (('x'):rep(1e6):gsub('x', ('y'):rep(1000)))",
    "return load('return ' .. ('1+'):rep(1e7) .. '1')()",
};

/* In a child: its peak of memory is then that of this bomb alone. */
static int explode(const char *bomb)
{
    leat_runtime *rt =
        leat_new(&(struct leat_config){.memory_limit = (size_t)CAP_MB << 20, .log = no_log}, NULL);
    if (!rt || !runs(rt, "return 1"))
        return 1;
    long before = peak_kib();
    char source[1024];
    snprintf(source, sizeof source,
             "local held = { 'kept' }\n"
             "local other = spawn(function() sleep(0.001) return 'alive' end)\n"
             "local v, err = gather({ function() %s end }, { settle = true })\n"
             "local e = v and v[1].err or err\n"
             "assert(e and e.kind == 'memory', tostring(e))\n"
             "assert(held[1] == 'kept' and other:await() == 'alive')\n",
             bomb);
    if (!runs(rt, source))
        return 2;
    long grown = peak_kib() - before;
    const char *preloaded = getenv("LD_PRELOAD"); /* valgrind's, which keeps what is freed */
    bool under_valgrind = preloaded && strstr(preloaded, "vgpreload");
    if (!SANITIZED && !under_valgrind && grown > (CAP_MB + OVER_MB) * 1024L) {
        printf("  it took %ld KiB\n", grown);
        return 3;
    }
    if (!runs(rt, "local t = {} for i = 1, 1e5 do t[i] = { i } end\n"
                  "assert(#('x'):rep(1e7) == 1e7)"))
        return 4;
    leat_free(rt);
    return 0;
}

TEST(a_memory_bomb_ends_its_task_within_the_cap_and_the_state_is_as_good_as_before)
{
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            alarm(200);
            _exit(explode(bombs[i]));
        }
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            printf("  status %x: %s\n", (unsigned)status, bombs[i]);
            test_fail(__FILE__, __LINE__, "the bomb is harmless");
        }
    }
}

TEST(tasks_without_number_end_the_script_not_the_runtime)
{
    leat_runtime *rt =
        leat_new(&(struct leat_config){.memory_limit = (size_t)CAP_MB << 20, .log = no_log}, NULL);
    REQUIRE(rt != NULL);
    struct leat_error err;
    const char *source = "for i = 1, math.huge do spawn(sleep, 1000) end";
    REQUIRE(leat_start_string(rt, "=t", source, strlen(source), NULL, &err));
    CHECK(leat_run(rt) != LEAT_OK);
    CHECK(strstr(leat_report(rt), "memory") != NULL);
    CHECK(runs(rt, "collectgarbage() assert(#leat.tasks() == 1)\n"
                   "assert(spawn(function() sleep(0) return 5 end):await() == 5)"));
    leat_free(rt);
}

static const char *const loops[] = {
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "xpcall(error, function() while true do end end)",
    "coroutine.wrap(function() while true do end end)()",
    "table.sort({3, 2, 1}, function() while true do end end)",
    "('abc'):gsub('.', function() while true do end end)",
    "('abc'):gsub('.', setmetatable({}, {__index = function() while true do end end}))",
    "return setmetatable({}, {__index = function() while true do end end}).x",
    "setmetatable({}, {__newindex = function() while true do end end}).x = 1",
    "return setmetatable({}, {__call = function() while true do end end})()",
    "return setmetatable({}, {__concat = function() while true do end end}) .. 'x'",
    "return -setmetatable({}, {__unm = function() while true do end end})",
    "local m = {__lt = function() while true do end end} "
    "return setmetatable({}, m) < setmetatable({}, m)",
    "local m = {__eq = function() while true do end end} "
    "return setmetatable({}, m) == setmetatable({}, m)",
    "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    "return ('%s'):format(setmetatable({}, {__tostring = function() while true do end end}))",
    "for _ in function() while true do end end do end",
    "for _ in coroutine.wrap(function() while true do end end) do end",
    "leat.map(function() while true do end end, print)",
    "leat.retry { attempts = 3 }:call(function() while true do end end)",
    "load('while true do end')()",
    "return leat.finally(print, function() while true do end end)",
    "return leat.shield(5, function() while true do end end)",
    "semaphore(1):with(function() while true do end end)",
    /* What works in C: the limit acts between two calls. */
    "local s = ('x'):rep(2e7) while true do s:reverse() end",
    "local list = {} for i = 1, 1e6 do list[i] = i % 7 if i % 1e4 == 0 then sleep(0) end end "
    "while true do table.sort(list) end",
    "local list = {} for i = 1, 1e6 do list[i] = i % 7 if i % 1e4 == 0 then sleep(0) end end "
    "while true do table.sort(list, rawequal) end",
};

TEST(a_loop_without_end_is_stopped_soon_after_its_time_and_the_others_live)
{
    leat_runtime *rt = leat_new(&(struct leat_config){.time_limit_ms = 20, .log = no_log}, NULL);
    REQUIRE(rt != NULL);
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        char source[1024];
        /* The time is the processor's, so that a machine with other work does not count. */
        snprintf(
            source, sizeof source,
            "local turns = 0\n"
            "local other = spawn(function() while true do sleep(0) turns = turns + 1 end end)\n"
            "sleep(0)\n"
            "local before = os.clock()\n"
            "local v, err = spawn(function() %s end):await()\n"
            "local took = os.clock() - before\n"
            "assert(v == nil and err and err.reason == 'time_limit', tostring(err))\n"
            "assert(took < %d, 'it took ' .. took)\n"
            "local seen = turns\n"
            "for _ = 1, 3 do sleep(0) end\n"
            "assert(turns > seen, 'the other task stands still')\n"
            "other:cancel()\n",
            loops[i], SANITIZED ? 5 : 1);
        if (!runs(rt, source)) {
            printf("  in: %s\n", loops[i]);
            test_fail(__FILE__, __LINE__, "the loop ends");
        }
    }
    leat_free(rt);
}

TEST_MAIN
