/* What a host may bring with leat_config: one of another version, a print sink, an allocator. */
#include "test.h"
#include <leat.h>
#include <stddef.h>
#include <stdlib.h>

struct text {
    char bytes[4096];
    size_t len;
    unsigned calls;
    leat_runtime *rt;
    enum leat_next stepped;
};

static void keep(void *arg, const char *text, size_t len)
{
    struct text *t = arg;
    CHECK(text[len] == '\0');
    if (len < sizeof t->bytes - t->len) {
        memcpy(t->bytes + t->len, text, len);
        t->len += len;
    }
    t->calls++;
    if (t->rt) {
        t->stepped = leat_step(t->rt, 100);
        leat_free(t->rt);
    }
}

static void no_log(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static enum leat_status run(leat_runtime *rt, const char *source)
{
    struct leat_error err = {"", ""};
    if (!leat_start_string(rt, "=test", source, strlen(source), NULL, &err)) {
        printf("  %s\n", err.message);
        return LEAT_MISUSE;
    }
    return leat_run(rt);
}

static void keep_line(void *arg, enum leat_log_level level, const char *line)
{
    if (level == LEAT_LOG_INFO)
        keep(arg, line, strlen(line));
}

TEST(the_progress_of_a_pipeline_goes_to_the_hosts_log)
{
    struct text text = {.rt = NULL};
    struct leat_config config = {
        .log = keep_line, .log_arg = &text, .min_log_level = LEAT_LOG_INFO};
    leat_runtime *rt = leat_new(&config, NULL);
    REQUIRE(rt);
    CHECK_EQ(run(rt, "leat.pipeline { progress = true }:run({ 1, 2 }, function(i) return i end)"),
             LEAT_OK);
    leat_free(rt);
    CHECK_EQ(strncmp(text.bytes, "2/2  ", 5), 0);
    CHECK(!strpbrk(text.bytes, "\r\n\33"));
}

/* ---- versions */

/* The struct as of the first version. */
enum { FIRST = offsetof(struct leat_config, user) + sizeof(void *) };

TEST(a_program_of_an_older_header_gets_the_defaults_of_what_is_new)
{
    unsigned char bytes[sizeof(struct leat_config)];
    memset(bytes, 0xff, sizeof bytes); /* whatever stands behind it */
    memset(bytes, 0, FIRST);
    int mine = 0, *user = &mine;
    memcpy(bytes + offsetof(struct leat_config, user), &user, sizeof user);
    struct leat_error err;
    leat_runtime *rt = leat_new_sized((const struct leat_config *)(void *)bytes, FIRST, &err);
    REQUIRE(rt);
    CHECK(leat_user(rt) == &mine);
    CHECK_EQ(run(rt, "assert(1 + 1 == 2)"), LEAT_OK);
    struct leat_stats stats[2];
    memset(stats, 0x55, sizeof stats);
    leat_get_stats_sized(rt, stats, offsetof(struct leat_stats, peak));
    CHECK(stats[0].lua_bytes > 0);
    CHECK_EQ(stats[0].requests_done, 0x5555555555555555);
    leat_free(rt);
}

TEST(a_program_of_a_newer_header_runs_unless_it_uses_what_is_new)
{
    struct {
        struct leat_config config;
        void *new_field;
    } newer;
    memset(&newer, 0, sizeof newer);
    struct leat_error err = {"", ""};
    leat_runtime *rt = leat_new_sized(&newer.config, sizeof newer, &err);
    REQUIRE(rt);
    struct leat_stats stats[2];
    memset(stats, 0x55, sizeof stats);
    leat_get_stats_sized(rt, stats, sizeof stats);
    CHECK(stats[0].lua_bytes > 0);
    CHECK_EQ(stats[1].tasks, 0);
    leat_free(rt);
    newer.new_field = &newer;
    CHECK(!leat_new_sized(&newer.config, sizeof newer, &err));
    CHECK_STR(err.kind, "invalid");
    CHECK(strstr(err.message, "newer leat.h") && strstr(err.message, "build it with this one's"));
    CHECK(!leat_new_sized(&newer.config, sizeof newer, NULL));
}

TEST(an_invalid_size_and_an_invalid_sandbox_are_refused)
{
    struct leat_config config;
    memset(&config, 0, sizeof config);
    static const size_t sizes[] = {0, 8, FIRST - 1, 5000, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct leat_error err = {"", ""};
        CHECK(!leat_new_sized(&config, sizes[i], &err));
        CHECK_STR(err.kind, "invalid");
        CHECK(strstr(err.message, "sizeof(struct leat_config)"));
    }
    struct leat_error err = {"", ""};
    config.sandbox = (enum leat_sandbox)7;
    CHECK(!leat_new(&config, &err));
    CHECK(strstr(err.message, "sandbox"));
}

/* ---- the print sink */

TEST(print_and_io_write_go_to_the_sink_in_their_order)
{
    struct text out = {.len = 0};
    leat_runtime *rt = leat_new(&(struct leat_config){.print = keep, .print_arg = &out}, NULL);
    REQUIRE(rt);
    CHECK_EQ(run(rt, "print('a', 1, nil, true, nil)\n"
                     "io.write('b', 2.5, '\\n')\n"
                     "assert(io.stdout:write('c\\0d\\n'))\n"
                     "print() io.write()\n"
                     "print(setmetatable({}, { __tostring = function() return 'own' end }))\n"
                     "spawn(print, 'task')\n"),
             LEAT_OK);
    static const char expected[] = "a\t1\tnil\ttrue\tnil\nb2.5\nc\0d\n\nown\ntask\n";
    CHECK_EQ(out.len, sizeof expected - 1);
    CHECK(memcmp(out.bytes, expected, sizeof expected - 1) == 0);
    CHECK_EQ(out.calls, 7);
    leat_free(rt);
}

TEST(the_sink_gets_nothing_that_is_for_another_file_and_misuse_raises)
{
    struct text out = {.len = 0};
    leat_runtime *rt = leat_new(&(struct leat_config){.print = keep, .print_arg = &out}, NULL);
    REQUIRE(rt);
    CHECK_EQ(run(rt, "local name = os.tmpname()\n"
                     "local f = assert(io.open(name, 'w'))\n"
                     "f:write('one ') io.output(f) io.write('two ') f:write('three') f:close()\n"
                     "io.output(io.stdout) io.write('back')\n"
                     "assert(io.open(name):read('*a') == 'one two three') os.remove(name)\n"
                     "local ok, why = pcall(io.write, 'x', {})\n"
                     "assert(not ok and why:find(\"bad argument #2 to 'write'\"), why)\n"
                     "assert(not pcall(io.stdout.write, 'no file', 'x'))\n"
                     "function tostring() return nil end\n"
                     "assert(select(2, pcall(print, 1)):find 'must return a string')\n"),
             LEAT_OK);
    CHECK_STR(leat_report(rt), "");
    CHECK_STR(out.bytes, "back");
    leat_free(rt);
}

TEST(a_sandboxed_script_prints_to_the_sink_and_the_sink_is_a_callback)
{
    struct text out = {.len = 0};
    leat_runtime *rt = leat_new(&(struct leat_config){.print = keep,
                                                      .print_arg = &out,
                                                      .sandbox = LEAT_SANDBOX_RESTRICTED,
                                                      .time_limit_ms = 60000},
                                NULL);
    REQUIRE(rt);
    out.rt = rt;
    CHECK_EQ(run(rt, "print('boxed')"), LEAT_OK);
    CHECK_STR(out.bytes, "boxed\n");
    CHECK_EQ(out.stepped, LEAT_REFUSED);
    CHECK_EQ(run(rt, "print('still there')"), LEAT_OK);
    out.rt = NULL;
    leat_free(rt);
}

/* ---- the allocator */

struct heap {
    size_t live, bytes, peak;
    unsigned calls, wrong;
    long fail_at; /* from this call on nothing is given, for `fails` calls; negative: never */
    unsigned fails;
    bool refused;
};

/* Stands before each block, so that the old size can be checked. */
union head {
    size_t size;
    max_align_t align;
};

static void *heap_alloc(void *arg, void *block, size_t old_size, size_t new_size)
{
    struct heap *h = arg;
    union head *old = block ? (union head *)block - 1 : NULL;
    size_t size = old ? old->size : 0;
    /* A closure that memory ended in the midst of is given back as one without upvalues. */
    bool closure = h->refused && new_size == 0 && old_size == 40 && size > 40;
    if (old_size != size && !closure)
        h->wrong++;
    if (new_size == 0) {
        if (old) {
            h->live--;
            h->bytes -= old->size;
        }
        free(old);
        return NULL;
    }
    long call = (long)h->calls++;
    if (new_size > old_size && h->fail_at >= 0 && call >= h->fail_at &&
        call < h->fail_at + (long)h->fails) {
        h->refused = true;
        return NULL;
    }
    union head *moved = malloc(sizeof *moved + new_size); /* always elsewhere */
    if (!moved)
        return NULL;
    memset(moved + 1, 0x5a, new_size);
    moved->size = new_size;
    if (old) {
        memcpy(moved + 1, old + 1, old->size < new_size ? old->size : new_size);
        h->bytes -= old->size;
        free(old);
    } else {
        h->live++;
    }
    h->bytes += new_size;
    if (h->bytes > h->peak)
        h->peak = h->bytes;
    return moved + 1;
}

static const char work[] = "local t = {}\n"
                           "for i = 1, 2000 do t[i] = ('x'):rep(i % 300) .. i end\n"
                           "assert(json.decode(json.encode(t))[2000] == t[2000])\n"
                           "leat.map(t, function(s) sleep(0) return #s end)\n"
                           "t = nil collectgarbage() collectgarbage()\n";

TEST(all_memory_comes_from_the_hosts_allocator_and_goes_back)
{
    struct heap heap = {.fail_at = -1};
    leat_runtime *rt = leat_new(
        &(struct leat_config){.alloc = heap_alloc, .alloc_arg = &heap, .virtual_time = true}, NULL);
    REQUIRE(rt);
    CHECK_EQ(run(rt, work), LEAT_OK);
    CHECK_STR(leat_report(rt), "");
    struct leat_stats stats;
    leat_get_stats(rt, &stats);
    CHECK(stats.peak > 500000);
    CHECK(heap.bytes >= stats.bytes && heap.peak >= stats.peak);
    CHECK(heap.bytes < stats.bytes + 65536); /* the runtime's own struct is not counted */
    leat_free(rt);
    CHECK_EQ(heap.live, 0);
    CHECK_EQ(heap.bytes, 0);
    CHECK_EQ(heap.wrong, 0);
}

TEST(the_cap_holds_with_the_hosts_allocator)
{
    struct heap heap = {.fail_at = -1};
    leat_runtime *rt = leat_new(
        &(struct leat_config){
            .alloc = heap_alloc, .alloc_arg = &heap, .memory_limit = 8u << 20, .log = no_log},
        NULL);
    REQUIRE(rt);
    CHECK_EQ(run(rt, "local s = 'x' while true do s = s .. s end"), LEAT_FAILED);
    CHECK(strstr(leat_report(rt), "not enough memory"));
    CHECK(heap.peak < 9u << 20);
    CHECK_EQ(run(rt, work), LEAT_OK);
    leat_free(rt);
    CHECK_EQ(heap.live, 0);
    CHECK_EQ(heap.wrong, 0);
}

static const char little[] = "local t = {}\n"
                             "for i = 1, 20 do t[i] = ('x'):rep(i) .. i end\n"
                             "for i = 1, 31 do t = { t, of = i } end\n"
                             "spawn(function() sleep(1) return json.encode(t) end):await()\n"
                             "if give then give(t) give('x', print) end\n"
                             "if later then spawn(later, t):await() end\n";

static leat_value *make_value(void)
{
    leat_value *v = leat_table();
    leat_append(v, leat_string("in a list", SIZE_MAX));
    leat_set(v, "field", leat_string("in a field", SIZE_MAX));
    return v;
}

static leat_value *give(void *arg, const leat_value *const *args, size_t count,
                        struct leat_error *err)
{
    (void)arg;
    (void)args;
    if (count == 0)
        snprintf(err->kind, sizeof err->kind, "invalid");
    return make_value();
}

static void later(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    (void)args;
    (void)count;
    leat_complete(arg, call, make_value(), NULL);
}

/* One refusal alone (a pcall may catch it), and no memory from then on. */
static void sweep(unsigned fails, long step)
{
    struct heap heap;
    long n = 0;
    for (bool through = false; !through; n += step) {
        heap = (struct heap){.fail_at = n, .fails = fails};
        struct leat_error err = {"", ""};
        leat_runtime *rt = leat_new(&(struct leat_config){.alloc = heap_alloc,
                                                          .alloc_arg = &heap,
                                                          .virtual_time = true,
                                                          .seed = 1,
                                                          .log = no_log},
                                    &err);
        if (rt) {
            leat_register(rt, "give", give, NULL, &err);
            leat_register_async(rt, "later", later, NULL, leat_mailbox_of(rt), &err);
        }
        if (!rt)
            CHECK_STR(err.kind, "memory");
        else if (leat_start_string(rt, "=little", little, sizeof little - 1, NULL, &err))
            leat_run(rt);
        leat_free(rt);
        if (heap.live != 0 || heap.wrong != 0)
            printf("  at %ld: %zu blocks, %u wrong sizes\n", n, heap.live, heap.wrong);
        CHECK_EQ(heap.live, 0);
        CHECK_EQ(heap.wrong, 0);
        through = heap.calls <= (unsigned)n;
    }
    CHECK(n > 1000);
}

/* ThreadSanitizer sees nothing of memory, and a runtime takes it long. */
#ifdef __SANITIZE_THREAD__
enum { STEP = 40 };
#else
enum { STEP = 1 };
#endif

TEST(wherever_the_hosts_memory_fails_once_nothing_is_lost)
{
    sweep(1, STEP);
}

TEST(wherever_the_hosts_memory_ends_nothing_is_lost)
{
    sweep(1u << 30, 7 * STEP);
}

TEST_MAIN
