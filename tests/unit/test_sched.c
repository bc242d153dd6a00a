/* The scheduler, groups and the semaphore from C: order, hand-off, cancel, and nothing left. */
#include "ground/mem.h"
#include "tasks/group.h"
#include "tasks/sched.h"
#include "tasks/sema.h"
#include "tasks/task_outcome.h"
#include "tasks/task_wait.h"
#include "test.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

struct rig {
    struct mem mem;
    struct log log;
    struct loop loop;
    struct sched sched;
    lua_State *L;
    char trace[256]; /* what the tasks did, in order */
};

static void quiet(void *arg, enum log_level level, const char *line)
{
    UNUSED(arg);
    UNUSED(level);
    UNUSED(line);
}

static void push_err(lua_State *L, const struct err *err)
{
    lua_newtable(L);
    lua_pushstring(L, err_kind_name(err->kind));
    lua_setfield(L, -2, "kind");
    lua_rawgeti(L, LUA_REGISTRYINDEX, SCHED_KEY_ERR_META);
    lua_setmetatable(L, -2);
}

static int set_up(lua_State *L)
{
    struct rig *r = lua_touserdata(L, 1);
    sched_init(&r->sched, &r->loop, &r->log, L, true);
    r->sched.push_err = push_err;
    return 0;
}

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    struct err e;
    mem_init(&r->mem, 0);
    log_init(&r->log, quiet, NULL, LOG_ERROR);
    REQUIRE(loop_init(&r->loop, &r->mem, NULL, true, &e) == ERR_NONE);
    r->L = lua_newstate(mem_lua_alloc, &r->mem);
    REQUIRE(r->L != NULL);
    luaL_openlibs(r->L);
    REQUIRE(lua_cpcall(r->L, set_up, r) == 0);
}

static void rig_fini(struct rig *r)
{
    CHECK_EQ(r->sched.live, 0);
    CHECK_EQ(r->sched.timers, 0);
    CHECK(list_empty(&r->sched.ready) && list_empty(&r->sched.late));
    CHECK_EQ(lua_gettop(r->L), 0);
    lua_close(r->L);
    loop_fini(&r->loop);
    CHECK_EQ(r->mem.blocks, 0);
    mem_fini(&r->mem);
}

static void run_ready(struct rig *r)
{
    while (sched_run_ready(&r->sched, NEVER_NS)) {
    }
}

/* Everything, timers included. */
static void run_all(struct rig *r)
{
    run_ready(r);
    while (r->sched.live > 0 && !sched_is_stuck(&r->sched)) {
        loop_turn(&r->loop, true);
        run_ready(r);
    }
}

static void note(struct rig *r, const char *word)
{
    strncat(r->trace, word, sizeof r->trace - strlen(r->trace) - 1);
}

static int take_nothing(lua_State *L, struct task *t)
{
    UNUSED(L);
    UNUSED(t);
    return 0;
}

static const struct wait_ops plain_ops = {.name = "test", .take = take_nothing};

/* park(rig [, seconds]): waits to be woken, or for the time. */
static void begin_timer(struct task *t, void *arg)
{
    double *seconds = arg;
    if (*seconds >= 0)
        task_wait_seconds(t, *seconds);
}

static int l_park(lua_State *L)
{
    struct rig *r = lua_touserdata(L, 1);
    double seconds = luaL_optnumber(L, 2, -1);
    return task_park(L, &r->sched, &plain_ops, NULL, begin_timer, &seconds);
}

static int l_take(lua_State *L)
{
    struct rig *r = lua_touserdata(L, 1);
    return task_take(L, &r->sched);
}

static int l_note(lua_State *L)
{
    note(lua_touserdata(L, 1), luaL_checkstring(L, 2));
    return 0;
}

/* Starts `code` as a task with rig, park, take, note and `arg` as its arguments. */
static struct task *start(struct rig *r, struct task *parent, const char *code, const char *arg)
{
    char text[512];
    snprintf(text, sizeof text, "local rig, park, take, note, arg = ...\n%s", code);
    ASSERT(luaL_loadstring(r->L, text) == 0);
    lua_pushlightuserdata(r->L, r);
    lua_pushcfunction(r->L, l_park);
    lua_pushcfunction(r->L, l_take);
    lua_pushcfunction(r->L, l_note);
    lua_pushstring(r->L, arg);
    struct task *t = sched_spawn(r->L, &r->sched, parent, 5);
    lua_pop(r->L, 1);
    return t;
}

TEST(tasks_run_in_the_order_in_which_they_became_ready)
{
    struct rig r;
    rig_init(&r);
    static const char code[] = "note(rig, arg) park(rig) take(rig) note(rig, arg)";
    struct task *a = start(&r, NULL, code, "a");
    struct task *b = start(&r, NULL, code, "b");
    start(&r, NULL, "note(rig, arg)", "c");
    run_ready(&r);
    CHECK_STR(r.trace, "abc");
    CHECK(sched_is_stuck(&r.sched));
    task_wake(b);
    task_wake(a);
    task_wake(b); /* harmless: it was woken already */
    CHECK(!sched_is_stuck(&r.sched));
    run_ready(&r);
    CHECK_STR(r.trace, "abcba");
    rig_fini(&r);
}

TEST(timers_wake_in_time_order_and_a_cancel_stops_them)
{
    struct rig r;
    rig_init(&r);
    static const char code[] = "park(rig, tonumber(arg)) take(rig) note(rig, arg)";
    start(&r, NULL, code, "3");
    start(&r, NULL, code, "1");
    struct task *late = start(&r, NULL, code, "9");
    start(&r, NULL, code, "2");
    run_ready(&r);
    CHECK_EQ(r.sched.timers, 4);
    task_cancel(late, NULL);
    CHECK_EQ(r.sched.timers, 3);
    run_all(&r);
    CHECK_STR(r.trace, "123");
    rig_fini(&r);
}

TEST(a_cancel_is_raised_at_every_wait_until_the_task_ends)
{
    struct rig r;
    rig_init(&r);
    struct task *t = start(&r, NULL,
                           "for i = 1, 3 do park(rig)\n"
                           "local ok, e = pcall(take, rig) note(rig, tostring(ok) .. e.kind) end",
                           "");
    run_ready(&r);
    task_cancel(t, "enough");
    task_cancel(t, "twice is once");
    run_ready(&r);
    CHECK_STR(r.trace, "falsecancelledfalsecancelledfalsecancelled");
    rig_fini(&r);
}

TEST(a_task_that_ignores_its_cancel_for_ever_is_given_up)
{
    struct rig r;
    rig_init(&r);
    struct task *t = start(&r, NULL, "while true do park(rig) pcall(take, rig) end", "");
    run_ready(&r);
    task_cancel(t, NULL);
    run_ready(&r);
    rig_fini(&r);
}

TEST(a_cancel_goes_down_the_tree_but_not_below_a_shield)
{
    struct rig r;
    rig_init(&r);
    static const char code[] = "park(rig) take(rig) note(rig, arg)";
    struct task *top = start(&r, NULL, code, "top");
    struct task *child = start(&r, top, code, "child");
    struct task *grandchild = start(&r, child, code, "grandchild");
    struct task *safe = start(&r, top, code, "safe");
    safe->shielded = true;
    run_ready(&r);
    task_cancel(top, NULL);
    CHECK(child->cancel_requested && grandchild->cancel_requested && !safe->cancel_requested);
    run_ready(&r);
    CHECK_EQ(r.sched.live, 2); /* top waits for what is shielded */
    CHECK_EQ(top->state, TASK_JOINING);
    task_wake(safe);
    run_ready(&r);
    CHECK_STR(r.trace, "safe");
    rig_fini(&r);
}

struct end_hook {
    struct task_hook hook;
    int calls;
    enum task_outcome outcome;
};

static void count_end(struct task_hook *hook, struct task *t)
{
    struct end_hook *h = CONTAINER_OF(hook, struct end_hook, hook);
    h->calls++;
    h->outcome = t->outcome;
}

static enum task_outcome outcome_of(struct rig *r, const char *code)
{
    struct end_hook h = {.hook = {.fn = count_end}};
    struct task *t = start(r, NULL, code, "");
    list_init(&h.hook.node);
    task_hook_add(t, &h.hook);
    run_all(r);
    CHECK_EQ(h.calls, 1);
    CHECK(!list_linked(&h.hook.node));
    return h.outcome;
}

TEST(the_end_of_a_task_is_reported_once_with_its_outcome)
{
    struct rig r;
    rig_init(&r);
    CHECK_EQ(outcome_of(&r, "return 1"), OUTCOME_OK);
    CHECK_EQ(outcome_of(&r, "return nil"), OUTCOME_OK);
    CHECK_EQ(outcome_of(&r, "return false, 'x'"), OUTCOME_OK);
    CHECK_EQ(outcome_of(&r, "return nil, 'x'"), OUTCOME_FAILED);
    CHECK_EQ(outcome_of(&r, "error('x')"), OUTCOME_BUG);
    CHECK_EQ(outcome_of(&r, "error(nil)"), OUTCOME_BUG);
    rig_fini(&r);
}

static bool cancel_sema(struct task *t)
{
    sema_leave(t->wait.obj, t);
    return true;
}

static const struct wait_ops sema_ops = {
    .name = "acquire", .cancel = cancel_sema, .take = take_nothing};

static void begin_sema(struct task *t, void *arg)
{
    sema_join(arg, t);
}

static struct sema *test_sema(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int l_acquire(lua_State *L)
{
    struct rig *r = lua_touserdata(L, 1);
    struct sema *s = test_sema(L);
    return task_park(L, &r->sched, &sema_ops, s, begin_sema, s);
}

TEST(a_permit_handed_to_a_cancelled_waiter_goes_to_the_next_in_line)
{
    struct rig r;
    rig_init(&r);
    struct sema s;
    sema_init(&s, 1);
    CHECK(sema_try(&s));
    CHECK(!sema_try(&s));
    lua_pushlightuserdata(r.L, &s);
    lua_pushcclosure(r.L, l_acquire, 1);
    lua_setglobal(r.L, "acquire");
    static const char code[] = "acquire(rig) take(rig) note(rig, arg)";
    struct task *a = start(&r, NULL, code, "a");
    start(&r, NULL, code, "b");
    struct task *c = start(&r, NULL, code, "c");
    run_ready(&r);
    CHECK_EQ(sema_waiting(&s), 3);
    CHECK(sema_release(&s));
    CHECK_EQ(sema_waiting(&s), 2); /* a has it, and has not run */
    CHECK_EQ(s.available, 0);
    task_cancel(a, NULL);
    CHECK_EQ(sema_waiting(&s), 1);
    task_cancel(c, NULL);
    CHECK_EQ(sema_waiting(&s), 0);
    run_ready(&r);
    CHECK_STR(r.trace, "b");
    CHECK(sema_release(&s));
    CHECK(!sema_release(&s)); /* one too many */
    CHECK_EQ(s.available, 1);
    sema_resize(&s, 3);
    CHECK_EQ(s.available, 3);
    sema_resize(&s, 0);
    CHECK(!sema_try(&s));
    rig_fini(&r);
}

TEST(a_group_gives_its_tasks_in_the_order_in_which_they_ended)
{
    struct rig r;
    rig_init(&r);
    struct task *owner = start(&r, NULL, "park(rig) take(rig)", "");
    struct group g;
    group_init(&g, owner);
    static const char code[] = "park(rig, tonumber(arg)) take(rig)";
    static const char *const times[] = {"3", "1", "2"};
    struct task *tasks[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] = start(&r, owner, code, times[i]);
        group_add(&g, tasks[i]);
    }
    CHECK_EQ(g.running_count, 3);
    CHECK(group_take(&g) == NULL);
    run_ready(&r);
    for (int turns = 0; g.running_count > 0 && turns < 100; turns++) {
        loop_turn(&r.loop, true);
        run_ready(&r);
    }
    static const int order[] = {1, 2, 0};
    for (int i = 0; i < 3; i++) {
        struct task *t = group_take(&g);
        CHECK(t == tasks[order[i]]);
        if (t)
            sched_observe(t);
    }
    CHECK(group_take(&g) == NULL);
    CHECK(g.head.owner == owner);
    task_wake(owner);
    run_ready(&r);
    CHECK(g.head.owner == NULL);
    group_fini(&g);
    rig_fini(&r);
}

enum { CHAIN = 50000 };

TEST(a_chain_of_thousands_of_tasks_is_cancelled_and_ends_without_a_deep_stack)
{
    struct rig r;
    rig_init(&r);
    static const char code[] = "park(rig) take(rig)";
    struct task *top = start(&r, NULL, code, "");
    struct task *t = top;
    for (int i = 0; i < CHAIN; i++)
        t = start(&r, t, code, "");
    run_ready(&r);
    task_cancel(top, NULL);
    run_ready(&r);
    rig_fini(&r);
}

TEST_MAIN
