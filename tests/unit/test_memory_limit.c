/* Many tasks at the memory limit: each one that wants more fails, the others go on, and what that
 * costs does not depend on how many there are. Counted by full collections, of which each one looks
 * at the whole heap. */
#include "leat.h"

#include "host/runtime_guard.h"
#include "lua/lua_rt.h"
#include "test.h"

#include <stdlib.h>

static void no_log(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static leat_runtime *runtime(size_t limit)
{
    return leat_new(&(struct leat_config){.memory_limit = limit, .log = no_log}, NULL);
}

/* The full collections that the script took. */
static unsigned long long check_runs(leat_runtime *rt, const char *source)
{
    struct leat_error err = {"", ""};
    CHECK(leat_start_string(rt, "=t", source, strlen(source), NULL, &err));
    CHECK_EQ(leat_run(rt), LEAT_OK);
    CHECK_STR(leat_report(rt), "");
    return runtime_inside(rt)->sched.collections;
}

/* All take a part of the memory, until there is no more. */
#define ALL_GROW                                                                                   \
    "local function grow() local rows = {}\n"                                                      \
    "  while true do\n"                                                                            \
    "    rows[#rows + 1] = ('x'):rep(200) .. #rows\n"                                              \
    "    if #rows % 20 == 0 then sleep(0) end\n"                                                   \
    "  end end\n"

TEST(two_thousand_tasks_that_hit_the_limit_all_fail_by_it_with_few_collections)
{
    leat_runtime *rt = runtime(16u << 20);
    REQUIRE(rt != NULL);
    unsigned long long collections =
        check_runs(rt, ALL_GROW "local items = {} for i = 1, 2000 do items[i] = i end\n"
                                "local wrong\n"
                                "local counts = leat.each(items, function()\n"
                                "  local _, err = spawn(grow):await()\n"
                                "  if err.kind ~= 'memory' then wrong = tostring(err) end\n"
                                "  return nil, err\n"
                                "end, { limit = 2000 })\n"
                                "assert(counts.failed == 2000 and not wrong, wrong)\n");
    CHECK(collections < 200); /* of 2,000 tasks and as many that wait for them */
    check_runs(rt, "assert(#('x'):rep(1000) == 1000)");
    leat_free(rt);
}

TEST(tasks_that_catch_the_limit_for_ever_take_no_collection_each)
{
    leat_runtime *rt = runtime(16u << 20);
    REQUIRE(rt != NULL);
    unsigned long long collections = check_runs(
        rt, "local kept, caught, tasks = {}, 0, {}\n"
            "for i = 1, 500 do tasks[i] = spawn(function()\n"
            "  sleep(0)\n"
            "  for _ = 1, 20 do\n"
            "    if not pcall(string.rep, 'x', 4e6) then caught = caught + 1 end\n"
            "    sleep(0)\n"
            "  end end) end\n"
            "pcall(function() for i = 1, 1e6 do kept[i] = ('x'):rep(1000) .. i end end)\n"
            "for i = 1, 500 do tasks[i]:await() end\n"
            "assert(caught > 5000, caught)\n");
    CHECK(collections < 300); /* of some 10,000 refusals */
    leat_free(rt);
}

TEST(a_task_that_ends_by_the_limit_leaves_its_memory_to_the_next)
{
    leat_runtime *rt = runtime(16u << 20);
    REQUIRE(rt != NULL);
    check_runs(rt, "for _ = 1, 50 do\n"
                   "  local _, err = spawn(function()\n"
                   "    local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end\n"
                   "  end):await()\n"
                   "  assert(err.kind == 'memory')\n"
                   "  local half = ('x'):rep(6e6)\n"
                   "  assert(#half == 6e6)\n"
                   "end");
    leat_free(rt);
}

TEST(clean_ups_of_a_thousand_tasks_at_the_limit_all_run)
{
    leat_runtime *rt = runtime(16u << 20);
    REQUIRE(rt != NULL);
    check_runs(rt, ALL_GROW "local sem, cleaned, tasks = semaphore(1000), 0, {}\n"
                            "for i = 1, 1000 do tasks[i] = spawn(function()\n"
                            "  leat.finally(function() sem:with(grow) end,\n"
                            "    function() cleaned = cleaned + 1 end)\n"
                            "end) end\n"
                            "for i = 1, 1000 do\n"
                            "  local _, err = tasks[i]:await()\n"
                            "  assert(err.kind == 'memory', tostring(err))\n"
                            "end\n"
                            "assert(cleaned == 1000, cleaned)\n"
                            "assert(sem.available == 1000, sem.available)\n");
    leat_free(rt);
}

/* Compiled code of LuaJIT 2.1.0-beta3 reads a frame that is gone. */
static const char hot_loops[] = "local function grow(i)\n"
                                "  sleep(0)\n"
                                "  local t = {}\n"
                                "  while true do\n"
                                "    t[#t + 1] = ('x'):rep(1000) .. #t .. i\n"
                                "    if #t % 50 == 0 then sleep(0) end\n"
                                "  end end\n"
                                "local items = {} for i = 1, 100 do items[i] = i end\n"
                                "local counts = leat.each(items, grow, { limit = 100 })\n"
                                "assert(counts.failed == 100)\n"
                                "assert(counts.first_error.kind == 'memory')\n";

TEST(a_hot_loop_that_hits_the_limit_fails_and_the_process_lives)
{
    leat_runtime *rt = runtime(20u << 20);
    REQUIRE(rt != NULL);
    check_runs(rt, hot_loops);
    leat_free(rt);
}

static void *stingy(void *arg, void *block, size_t old_size, size_t new_size)
{
    size_t *used = arg;
    if (new_size > old_size && *used + new_size - old_size > 20u << 20)
        return NULL;
    if (new_size == 0) {
        free(block);
    } else {
        block = realloc(block, new_size);
        if (block == NULL)
            return NULL;
    }
    *used = *used + new_size - old_size;
    return block;
}

TEST(a_hot_loop_that_the_hosts_allocator_refuses_ends_and_the_process_lives)
{
    size_t used = 0;
    leat_runtime *rt =
        leat_new(&(struct leat_config){.alloc = stingy, .alloc_arg = &used, .log = no_log}, NULL);
    REQUIRE(rt != NULL);
    CHECK(leat_start_string(rt, "=t", hot_loops, strlen(hot_loops), NULL, NULL));
    /* Nothing is spared for the main task here: it may fail by that, too. */
    enum leat_status status = leat_run(rt);
    CHECK(status == LEAT_OK ||
          (status == LEAT_FAILED && strstr(leat_report(rt), "memory") != NULL));
    check_runs(rt, "assert(#('x'):rep(1000) == 1000)");
    leat_free(rt);
}

TEST_MAIN
