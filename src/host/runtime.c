/* The runtime behind leat.h: connects the parts of leat and runs the loop. */
#include "host/runtime.h"

#include "host/host_call.h"
#include "host/host_function.h"
#include "host/luajit_faults.h"
#include "host/runtime_attach.h"
#include "host/runtime_guard.h"
#include "host/runtime_modules.h"
#include "host/runtime_report.h"
#include "host/runtime_seat.h"
#include "host/runtime_waits.h"
#include "lua/lua_aux.h"
#include "lua/lua_file.h"
#include "lua/lua_lines.h"
#include "lua/lua_request.h"
#include "lua/lua_serve.h"
#include "lua/lua_serve_simulate.h"
#include "lua/lua_slot_deadlock.h"
#include "lua/lua_stdin.h"
#include "lua/lua_stream.h"
#include <luajit.h>
#include <string.h>
#include <sys/random.h>

/* Seconds that a pipeline, a batch or a journalled map has to finish started items after an
 * interrupt. */
#define DRAIN_GRACE_S 10
/* Seconds before leat_free ends shields and clean-ups, whatever grace they asked for. */
#define CLOSE_GRACE_S 5

/* How long Lua may run in one turn of the host's loop: before the loop waits, and after. */
#define ATTACHED_RUN_US 2000

static void on_grace_over(struct timer *t)
{
    struct leat_runtime *r = CONTAINER_OF(t, struct leat_runtime, grace);
    r->grace_over = true;
    loop_wake(&r->rt.loop);
}

static void forward_log(void *arg, enum log_level level, const char *line)
{
    struct leat_runtime *r = arg;
    struct host *e = r->rt.host;
    if (e)
        e->inside++;
    r->config.log(r->config.log_arg, (enum leat_log_level)level, line);
    if (e)
        e->inside--;
}

/* Calls the host's allocator. That happens at any point, so calls into the runtime from the
 * allocator are refused. */
static void *host_alloc(void *arg, void *block, size_t old_size, size_t new_size)
{
    struct leat_runtime *r = arg;
    if (!pthread_equal(r->thread, pthread_self())) /* called on a network thread */
        return r->config.alloc(r->config.alloc_arg, block, old_size, new_size);
    bool before = r->rt.in_alloc;
    r->rt.in_alloc = true;
    void *moved = r->config.alloc(r->config.alloc_arg, block, old_size, new_size);
    r->rt.in_alloc = before;
    return moved;
}

static int panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "leat: unprotected Lua error: %s\n", text ? text : "?");
    return 0;
}

static bool transfers_pending(void *arg)
{
    struct rt *rt = arg;
    size_t pending = engine_pending(rt->engine);
    return pending > 0 && pending > stream_count_unread(rt);
}

static int refuse_compiler(lua_State *L)
{
    return luaL_error(L, "jit.on: this LuaJIT's compiled code does not survive a memory limit");
}

static void start_compiler(lua_State *L, const struct leat_config *config)
{
    bool refusing = config->memory_limit > 0 || config->alloc;
    if (refusing && luajit_fails_refusals(L)) {
        lua_getglobal(L, "jit");
        lua_pushcfunction(L, refuse_compiler);
        lua_setfield(L, -2, "on");
        lua_pop(L, 1);
    } else if (config->time_limit_ms == 0 || config->jit_watchdog) {
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    }
}

static int set_up(lua_State *L)
{
    struct leat_runtime *r = lua_touserdata(L, 1);
    if (r->hosted)
        runtime_open_hosted(L, &r->rt, r->module);
    else
        runtime_open_modules(L, &r->rt, r->config.script_dir, r->config.time_limit_ms > 0,
                             r->config.allow_modules);
    r->rt.sched.busy = transfers_pending;
    r->rt.sched.busy_arg = &r->rt;
    if (r->config.time_limit_ms > 0)
        time_limit_open(L, &r->limit, &r->rt, r->config.time_limit_ms * NS_PER_MS,
                        r->config.jit_watchdog);
    if (!r->hosted)
        start_compiler(L, &r->config);
    return 0;
}

static uint64_t system_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = uv_hrtime();
    return seed;
}

/* The allocator of luaL_newstate never refuses. Ours counts, and the memory limit applies from here
 * on. */
static lua_State *new_state(struct rt *rt)
{
    if (!mem_open_reserve(&rt->mem))
        return NULL;
    lua_State *L = lua_newstate(mem_lua_alloc, &rt->mem);
    if (L && !mem_reserve_untouched(&rt->mem)) {
        lua_close(L);
        L = NULL;
    }
    mem_close_reserve(&rt->mem);
    if (L)
        lua_atpanic(L, panic);
    return L;
}

/* Whether there is work to do at once. */
static bool is_ready(const struct leat_runtime *r)
{
    const struct sched *s = &r->rt.sched;
    return !list_empty(&s->ready) || !list_empty(&s->late) || host_call_pending(r->rt.host) ||
           r->interrupts_handled < r->interrupts || (!r->hosted && sched_is_stuck(s));
}

static bool step_attached(struct leat_runtime *r)
{
    (void)leat_step(r, ATTACHED_RUN_US);
    return is_ready(r);
}

enum err_kind runtime_open(struct leat_runtime *r, lua_State *host, struct err *e)
{
    r->main_ref = LUA_NOREF;
    r->hosted = host != NULL;
    struct rt *rt = &r->rt;
    mem_init(&rt->mem, 0);
    r->thread = pthread_self();
    if (r->config.alloc)
        mem_set_host(&rt->mem, host_alloc, r);
    log_init(&rt->log, r->config.log ? forward_log : NULL, r,
             (enum log_level)r->config.min_log_level);
    rt->log.is_hosts = r->config.log != NULL;
    list_init(&rt->servers);
    list_init(&rt->streams);
    list_init(&rt->spare);
    list_init(&r->main_hook.node);
    buf_init(&r->report, &rt->mem, 1u << 16);
    rt_seed(rt, r->config.seed ? r->config.seed : system_seed());
    rt->virtual_time = r->config.virtual_time;
    rt->restricted = r->config.sandbox == LEAT_SANDBOX_RESTRICTED;
    rt->repeatable = r->config.seed != 0 || rt->virtual_time;
    timer_init(&r->grace, on_grace_over);
    timer_init(&r->waits, NULL);
    if (loop_init(&rt->loop, &rt->mem, r->config.loop, r->config.virtual_time, e) != ERR_NONE)
        goto fail_runtime;
    if (r->config.allow_connect &&
        connect_rules_new(&r->connect_rules, &rt->mem, r->config.allow_connect, e) != ERR_NONE)
        goto fail_loop;
    struct engine_config ec = {.rules = r->connect_rules,
                               .max_total = r->config.max_connections,
                               .max_per_host = r->config.max_per_host,
                               .threads = r->config.network_threads,
                               .use_env_proxy = r->config.env_proxy,
                               .keep_file_limit = r->hosted};
    if (engine_new(&rt->engine, &rt->loop, &rt->mem, &rt->log, &ec, e) != ERR_NONE)
        goto fail_loop;
    rt->L = host ? host : new_state(rt);
    if (!rt->L) {
        err_set(e, ERR_MEMORY, "not enough memory for a Lua state");
        goto fail_engine;
    }
    mem_set_limit(&rt->mem, r->config.memory_limit);
    /* By default, a collection starts when memory has doubled: the limit would be reached first. */
    if (r->config.memory_limit && !r->hosted)
        lua_gc(rt->L, LUA_GCSETPAUSE, 130);
    else if (!r->hosted)
        collector_begin(&r->collector, rt->L);
    if (!runtime_protected(r, set_up, r)) {
        err_set(e, r->error_kind, "%s", r->error_text);
        goto fail_state;
    }
    rt->host = host_function_open(r, rt);
    if (!rt->host) {
        err_set(e, ERR_MEMORY, "not enough memory for a runtime");
        goto fail_state;
    }
    if (!rt->loop.owns_uv)
        runtime_attach(r, step_attached);
    rt->sched.outside = r->hosted;
    r->config.script_dir = r->config.allow_connect = r->config.allow_modules = NULL;
    return ERR_NONE;

fail_state:
    time_limit_close(&r->limit, rt->L);
    if (!r->hosted)
        lua_close(rt->L);
fail_engine:
    engine_free(rt->engine);
    rt->engine = NULL;
fail_loop:
    connect_rules_free(r->connect_rules);
    loop_fini(&rt->loop);
fail_runtime:
    buf_fini(&r->report);
    mem_fini(&rt->mem);
    rt->closed = true;
    return e->kind;
}

/* ---- turning the crank ---- */

static void cancel_roots(struct rt *rt, const char *reason)
{
    LIST_FOR(node, &rt->sched.tasks)
    {
        struct task *t = CONTAINER_OF(node, struct task, all);
        if (!t->parent)
            task_cancel(t, reason);
    }
}

static int set_stopping(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    lua_getfield(L, -1, "stopping");
    lua_getfield(L, -1, "set");
    lua_insert(L, -2);
    lua_call(L, 1, 0);
    return 0;
}

static void handle_interrupts(struct leat_runtime *r)
{
    while (r->interrupts_handled < r->interrupts) {
        if (r->interrupts_handled++ == 0) {
            runtime_protected(r, set_stopping, NULL);
            if (r->rt.graceful_runs > 0) {
                log_write(&r->rt.log, LOG_INFO,
                          "stopping: what is under way has %d s to end; a second interrupt "
                          "cancels it",
                          (int)DRAIN_GRACE_S);
                loop_timer_start(&r->rt.loop, &r->grace,
                                 loop_deadline_ns(&r->rt.loop, DRAIN_GRACE_S));
                continue;
            }
        }
        cancel_roots(&r->rt, "interrupted");
    }
    if (r->grace_over) {
        r->grace_over = false;
        cancel_roots(&r->rt, "interrupted");
    }
}

static int list_tasks(lua_State *L)
{
    struct leat_runtime *r = lua_touserdata(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_LEAT);
    lua_getfield(L, -1, "tasks");
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "_stuck");
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    (void)!buf_append_str(&r->report, lua_tostring(L, -1));
    return 0;
}

/* A shield must not delay a cancel for ever: cancels shielded tasks when nothing can wake them, or
 * at the close. */
static void cancel_shielded(struct rt *rt, const char *reason)
{
    LIST_FOR(node, &rt->sched.tasks)
    {
        struct task *t = CONTAINER_OF(node, struct task, all);
        if (t->shielded)
            task_cancel(t, reason);
    }
}

/* Never hangs silently: the run ends with a list of the waiting tasks and what they wait for. */
static void give_up_stuck(struct leat_runtime *r)
{
#ifdef LEAT_SERVE
    if (lua_serve_end_idle(&r->rt))
        return;
#endif
    if (r->stuck) {
        cancel_shielded(&r->rt, "nothing could ever wake it");
        return;
    }
    r->stuck = true;
    buf_clear(&r->report);
    if (buf_append_str(&r->report, "stuck: every task waits, and nothing can wake one:\n") ==
        ERR_NONE)
        runtime_protected(r, list_tasks, r);
    if (!r->module)
        cancel_roots(&r->rt, "nothing could ever wake it");
    else /* ends a leat.run; other tasks may wait for the host */
        task_cancel(r->main, "nothing could ever wake it");
}

static void take_events(struct rt *rt)
{
#ifdef LEAT_SERVE
    lua_serve_simulate_take_calls(rt);
#endif
    lua_request_take_events(rt);
}

static int run_deferred(lua_State *L)
{
    rt_run_deferred(L, lua_touserdata(L, 1));
    return 0;
}

bool runtime_turn(struct leat_runtime *r, bool block, uint64_t until_ns)
{
    struct rt *rt = &r->rt;
    if (rt->deferred > 0)
        runtime_protected(r, run_deferred, rt);
    handle_interrupts(r);
    collector_pace(&r->collector, rt->L);
    if (r->waits_due)
        runtime_tell_waits(r);
    take_events(rt);
    sched_run_ready(&rt->sched, until_ns);
    take_events(rt);
    host_call_deliver(rt->host);
    if (rt->sched.live == 0)
        return false;
    bool ready = !list_empty(&rt->sched.ready) || !list_empty(&rt->sched.late);
    if (!ready)
        slot_deadlock_break(rt);
    /* A host that calls leat_step may still wake a task. */
    if (!ready && (!r->hosted || block) && sched_is_stuck(&rt->sched)) {
        give_up_stuck(r);
        ready = true;
    }
    if (r->interrupts_handled < r->interrupts)
        ready = true;
    if (block || rt->loop.owns_uv)
        loop_turn(&rt->loop, block && !ready);
    return true;
}

/* Whether turns may begin; if so, marks the runtime as inside. */
static bool go_in(struct leat_runtime *r)
{
    const char *why;
    if (!runtime_usable(runtime_host(r), false, &why) ||
        (r->hosted && !r->module && runtime_in_finalizer(r->rt.L)))
        return false;
    r->rt.sched.outside = false;
    return true;
}

static void go_out(struct leat_runtime *r)
{
    r->rt.sched.outside = r->hosted;
}

enum leat_status leat_run(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    if (!r || !r->rt.loop.owns_uv || !go_in(r))
        return LEAT_MISUSE;
    time_limit_step(&r->limit, NEVER_NS);
    while (runtime_turn(r, true, NEVER_NS)) {
    }
    lua_lines_settle(&r->rt);
    go_out(r);
    return leat_result(r);
}

enum leat_next leat_step(leat_runtime *r, uint64_t budget_us)
{
    RUNTIME_CHECK(r);
    if (!go_in(r))
        return LEAT_REFUSED;
    struct rt *rt = &r->rt;
    uint64_t now = loop_now_ns(&rt->loop);
    uint64_t until = budget_us < (NEVER_NS - now) / 1000 ? now + budget_us * 1000 : NEVER_NS;
    enum leat_next next = LEAT_READY;
    if (!rt->virtual_time)
        loop_until(&rt->loop, until);
    do {
        /* Lua gets half of the time that one event leaves: the engine must then send what Lua has
         * started. */
        uint64_t left = until - now, event = MIN(rt->loop.event_ns, left);
        uint64_t lua_until = until == NEVER_NS ? NEVER_NS : now + (left - event) / 2;
        time_limit_step(&r->limit, lua_until);
        if (!runtime_turn(r, false, lua_until)) {
            next = LEAT_DONE;
            break;
        }
        take_events(rt);
        if (rt->loop.cut)
            break;
        if (list_empty(&rt->sched.ready) && list_empty(&rt->sched.late)) {
            next = LEAT_IDLE;
            break;
        }
        now = loop_now_ns(&rt->loop);
    } while (now < until && loop_has_time(&rt->loop));
    loop_until(&rt->loop, NEVER_NS);
    time_limit_step(&r->limit, NEVER_NS);
    go_out(r);
    return next;
}

void leat_interrupt(leat_runtime *r)
{
    if (!r)
        return;
    r->interrupts++;
    loop_wake(&r->rt.loop);
}

int leat_backend_fd(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    return r ? uv_backend_fd(r->rt.loop.uv) : -1;
}

int leat_timeout_ms(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    const char *why;
    if (!runtime_usable(runtime_host(r), true, &why))
        return -1;
    if (is_ready(r))
        return 0;
    return r->rt.sched.live == 0 ? -1 : loop_timeout_ms(&r->rt.loop);
}

void runtime_close(struct leat_runtime *r)
{
    struct rt *rt = &r->rt;
    if (!rt->loop.owns_uv)
        runtime_detach(r);
#ifdef LEAT_SERVE
    lua_serve_close_all(rt);
#endif
    lua_stdin_close(rt);
    lua_file_close(rt);
    lua_lines_close(rt);
    engine_close(rt->engine);
    lua_request_close(rt);
    time_limit_close(&r->limit, rt->L);
    if (r->hosted)
        sched_drop_kept(rt->L, r->main_ref);
    else
        lua_close(rt->L);
    host_function_close(rt->host);
    rt->host = NULL;
    engine_free(rt->engine);
    rt->engine = NULL;
    connect_rules_free(r->connect_rules);
    loop_timer_stop(&rt->loop, &r->waits);
    loop_timer_stop(&rt->loop, &r->grace);
    loop_fini(&rt->loop);
    buf_fini(&r->report);
    if (!r->hosted && rt->mem.blocks != 0)
        log_write(&rt->log, LOG_WARN, "%zu blocks of memory were not given back",
                  (size_t)rt->mem.blocks);
    mem_fini(&rt->mem);
    rt->closed = true;
}

/* Frees the memory of a closed runtime that leat_new has made. */
static void dispose(struct leat_runtime *r)
{
    struct mem boot;
    mem_init(&boot, 0);
    mem_set_host(&boot, r->config.alloc, r->config.alloc_arg);
    mem_free(&boot, r);
}

void leat_free(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    if (!go_in(r))
        return;
    struct rt *rt = &r->rt;
    if (r->attached.polling) {
        log_write(&rt->log, LOG_ERROR,
                  "leat_free: called inside uv_run; nothing was done: call it "
                  "when uv_run has returned (uv_stop ends it)");
        go_out(r);
        return;
    }
    rt->host->closing = true;
    cancel_roots(rt, "the runtime is closing");
    time_limit_step(&r->limit, NEVER_NS);
    time_limit_hurry(&r->limit);
    uint64_t patient_until_ns = loop_deadline_ns(&rt->loop, CLOSE_GRACE_S);
    loop_timer_start(&rt->loop, &r->grace, patient_until_ns);
    /* Tasks that ignore their cancel are abandoned after some time, so this loop ends. */
    while (rt->sched.live > 0) {
        cancel_roots(rt, "the runtime is closing");
        rt->sched.closing = loop_now_ns(&rt->loop) >= patient_until_ns;
        if (rt->sched.closing)
            cancel_shielded(rt, "the runtime is closing");
        runtime_turn(r, true, NEVER_NS);
    }
    if (rt->deferred > 0)
        runtime_protected(r, run_deferred, rt);
    runtime_tell_unasked(r);
    if (!r->hosted) /* a hosted state may be closing */
        runtime_conclude(rt);
    runtime_close(r);
    runtime_bury(r);
    if (r->hosted) {
        rt->log.min_level = LOG_ERROR + 1; /* the host's log function may be gone by then */
        runtime_leave_state(rt->L);
    } else {
        dispose(r);
    }
}
