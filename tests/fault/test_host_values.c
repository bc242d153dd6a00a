/* What crosses between a host and its scripts: however large, nested, long or broken it is, it
 * costs what it must, and each side is told what it is. */
#include "host.h"

#include <stdlib.h>

/* ---- how much */

TEST(a_small_table_that_is_a_huge_tree_is_refused_within_the_memory_limit)
{
    leat_runtime *rt = leat_new(&(struct leat_config){.sandbox = LEAT_SANDBOX_RESTRICTED,
                                                      .memory_limit = 8u << 20,
                                                      .log = no_log},
                                NULL);
    REQUIRE(rt != NULL);
    struct leat_error err;
    REQUIRE(leat_register(rt, "host", host_function, NULL, &err));
    CHECK(runs(rt,
               "local tree = { 1 } for _ = 1, 31 do tree = { tree, tree } end\n"
               "local fields = { a = 1 } for _ = 1, 31 do fields = { a = fields, b = fields } end\n"
               "local text, list = ('x'):rep(1e6), {} for i = 1, 9 do list[i] = text end\n"
               "for _, huge in ipairs { tree, fields, list } do\n"
               "    local ok, e = pcall(host, huge)\n"
               "    assert(not ok and tostring(e):find 'more memory', tostring(e))\n"
               "end\n"
               "assert(not pcall(host, text, text, text, text, text, text, text, text, text))\n"
               "assert(host(text, { text, a = { text } }) == 7)"));
    int done = 0;
    const char *source = "local t = { 1 } for _ = 1, 31 do t = { t, t } end return t";
    CHECK(leat_eval(rt, "=x", source, SIZE_MAX, NULL, 0, count_done, &done, &err) > 0);
    leat_run(rt);
    CHECK_EQ(done, 1);
    leat_free(rt);
}

TEST(a_table_of_many_fields_crosses_in_no_time)
{
    leat_runtime *rt = runtime();
    REQUIRE(rt != NULL);
    struct leat_error err;
    REQUIRE(leat_register(rt, "host", host_function, NULL, &err));
    CHECK(runs(rt, "local t = {} for i = 1, 2e5 do t['field' .. i] = i end\n"
                   "local before = os.clock() assert(host(t) == 7)\n"
                   "assert(os.clock() - before < 5)"));
    leat_free(rt);
}

static leat_value *give_a_megabyte(void *arg, const leat_value *const *args, size_t count,
                                   struct leat_error *err)
{
    (void)args;
    (void)count;
    (void)err;
    return leat_string(arg, 1000000);
}

static void complete_at_once(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    (void)args;
    (void)count;
    leat_complete(arg, call, NULL, NULL);
}

TEST(what_has_crossed_takes_no_memory_any_more)
{
    leat_runtime *rt =
        leat_new(&(struct leat_config){.memory_limit = 8u << 20, .log = no_log}, NULL);
    REQUIRE(rt != NULL);
    struct leat_error err;
    char *text = calloc(1, 1000000);
    REQUIRE(text != NULL);
    REQUIRE(leat_register(rt, "host", host_function, NULL, &err));
    REQUIRE(leat_register(rt, "give", give_a_megabyte, text, &err));
    REQUIRE(leat_register_async(rt, "later", complete_at_once, NULL, leat_mailbox_of(rt), &err));
    const char *calls[] = {
        "host(text)",
        "later(text)",
        "give()",
        "pcall(host, text, print)", /* the second cannot cross */
        "pcall(later, text, print)",
    };
    long before = peak_kib();
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        char source[256];
        snprintf(source, sizeof source,
                 "local text = ('x'):rep(1e6) for _ = 1, 300 do %s end collectgarbage()", calls[i]);
        CHECK(runs(rt, source));
    }
    /* There is no room in Lua for what it gives. */
    CHECK(runs(
        rt,
        "local all = {} while pcall(function() all[#all + 1] = ('x'):rep(1e5) .. #all end) do end\n"
        "for _ = 1, 300 do assert(not pcall(give)) end"));
    leat_free(rt);
    free(text);
    if (!SANITIZED)
        CHECK(peak_kib() - before < 100 * 1024L);
}

static leat_value *nested(int depth)
{
    leat_value *v = leat_number(1);
    for (int i = 0; i < depth && v; i++) {
        leat_value *t = leat_table();
        if (i % 2 == 0 ? !leat_append(t, v) : !leat_set(t, "in", v))
            return NULL;
        v = t;
    }
    return v;
}

static leat_value *give_nested(void *arg, const leat_value *const *args, size_t count,
                               struct leat_error *err)
{
    (void)arg;
    (void)err;
    return nested((int)leat_to_number(count > 0 ? args[0] : NULL, 0));
}

TEST(a_value_of_the_hosts_that_is_nested_without_end_is_refused_and_freed)
{
    leat_runtime *rt = runtime();
    REQUIRE(rt != NULL);
    struct leat_error err = {"", ""};
    REQUIRE(leat_register(rt, "give", give_nested, NULL, &err));
    CHECK(runs(rt, "for depth = 1, 32 do assert(type(give(depth)) == 'table') end\n"
                   "for _, depth in ipairs { 33, 34, 1e6 } do\n"
                   "    local ok, e = pcall(give, depth)\n"
                   "    assert(not ok and tostring(e):find '32 deep', tostring(e))\n"
                   "end"));
    leat_value *deep = nested(1000000);
    REQUIRE(deep != NULL);
    const leat_value *args[] = {deep};
    CHECK_EQ(leat_eval(rt, "=x", "return 1", SIZE_MAX, args, 1, NULL, NULL, &err), 0);
    CHECK_STR(err.kind, "invalid");
    CHECK(strstr(err.message, "32 deep"));
    leat_value_free(deep);
    leat_value *self = leat_table();
    CHECK(!leat_append(self, self) && !leat_set(self, "self", self));
    CHECK(leat_append(self, leat_number(1)) && leat_length(self) == 1);
    leat_value_free(self);
    leat_free(rt);
}

/* What strncpy makes of texts that are too long. */
static void fill(struct leat_error *err)
{
    memset(err->kind, 'k', sizeof err->kind);
    memset(err->message, 'm', sizeof err->message);
}

static leat_value *fail_at_length(void *arg, const leat_value *const *args, size_t count,
                                  struct leat_error *err)
{
    (void)arg;
    (void)args;
    (void)count;
    fill(err);
    return NULL;
}

static void complete_at_length(void *arg, uint64_t call, const leat_value *const *args,
                               size_t count)
{
    (void)args;
    (void)count;
    struct leat_error err;
    fill(&err);
    leat_complete(arg, call, NULL, &err);
}

TEST(the_texts_of_a_hosts_error_need_no_end)
{
    leat_runtime *rt = runtime();
    REQUIRE(rt != NULL);
    struct leat_error err;
    REQUIRE(leat_register(rt, "now", fail_at_length, NULL, &err));
    REQUIRE(leat_register_async(rt, "later", complete_at_length, NULL, leat_mailbox_of(rt), &err));
    CHECK(runs(rt, "for _, f in ipairs { now, later } do\n"
                   "    local v, e = f()\n"
                   "    assert(v == nil and e.kind == 'script' and e.message:find '^mmm+$')\n"
                   "end"));
    leat_free(rt);
}

struct told_end {
    int calls;
    enum leat_status status;
    struct leat_error err;
    size_t count;
};

static void keep_end(void *arg, uint64_t id, enum leat_status status,
                     const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct told_end *t = arg;
    (void)id;
    (void)results;
    t->calls++;
    t->status = status;
    t->count = count;
    if (err)
        t->err = *err;
}

TEST(a_host_learns_of_a_bug_whatever_was_raised)
{
    leat_runtime *rt = leat_new(&(struct leat_config){.log = no_log, .time_limit_ms = 50}, NULL);
    REQUIRE(rt != NULL);
    static const char *const raised[] = {
        "setmetatable({}, { __tostring = function() error 'y' end })",
        "setmetatable({}, { __tostring = function() return {} end })",
        "setmetatable({}, { __tostring = function() while true do end end })",
    };
    struct leat_error err;
    for (size_t i = 0; i < sizeof raised / sizeof raised[0]; i++) {
        char source[256];
        struct told_end end = {.calls = 0};
        snprintf(source, sizeof source, "error(%s)", raised[i]);
        CHECK(leat_eval(rt, "=x", source, SIZE_MAX, NULL, 0, keep_end, &end, &err) > 0);
        leat_run(rt);
        CHECK_EQ(end.calls, 1);
        CHECK_EQ(end.status, LEAT_RAISED);
        CHECK_STR(end.err.kind, "raised");
        CHECK_STR(end.err.message, "an error value whose __tostring fails");
    }
    leat_free(rt);
}

TEST(a_host_gets_all_results_or_an_error)
{
    leat_runtime *rt = runtime();
    REQUIRE(rt != NULL);
    struct told_end all = {.calls = 0}, more = {.calls = 0};
    struct leat_error err;
    CHECK(leat_eval(rt, "=x", "local t = {} for i = 1, 64 do t[i] = i end return unpack(t)",
                    SIZE_MAX, NULL, 0, keep_end, &all, &err) > 0);
    CHECK(leat_eval(rt, "=x", "local t = {} for i = 1, 65 do t[i] = i end return unpack(t)",
                    SIZE_MAX, NULL, 0, keep_end, &more, &err) > 0);
    leat_run(rt);
    CHECK(all.status == LEAT_OK && all.count == 64);
    CHECK(more.status == LEAT_FAILED && strstr(more.err.message, "more than 64 results"));
    leat_free(rt);
}

TEST_MAIN
