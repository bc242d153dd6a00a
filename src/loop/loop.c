#include "loop/loop.h"

#include "loop/fd_duplicate.h"
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <unistd.h>

/* libuv closes all closing handles in one round of its loop. A few more rounds do no harm. */
#define CLOSE_ROUNDS_MAX 16

static void fire_due(struct loop *l)
{
    timer_heap_take_due(&l->timers, loop_now_ns(l));
    for (struct timer *t; (t = timer_heap_next_due(&l->timers)) != NULL;) {
        t->fn(t);
        if (l->timers.due_first != NULL && !loop_has_time(l)) {
            l->cut = true;
            return;
        }
    }
}

/* The earliest deadline; NEVER_NS: there is none. */
static uint64_t next_due_ns(const struct loop *l)
{
    if (l->timers.due_first !=
        NULL) /* there are due timers that have not fired, because the turn had no time left */
        return 0;
    const struct timer *first = timer_heap_first(&l->timers);
    return first != NULL ? first->due_ns : NEVER_NS;
}

static uint64_t round_up_ms(uint64_t ns)
{
    return ns / NS_PER_MS + (ns % NS_PER_MS != 0);
}

static void on_uv_timer(uv_timer_t *handle);

/* Sets uv_timer to the first deadline. The target is an absolute millisecond on libuv's own clock,
 * which has the same zero as uv_hrtime. So neither a stale cached time nor rounding makes it early.
 * It is never 0 ms: if a callback sets such a timer, libuv runs it again in the same uv_run. */
static void arm(struct loop *l)
{
    uint64_t due = next_due_ns(l);
    if (due == l->armed_ns)
        return;
    l->armed_ns = due;
    if (due == NEVER_NS) {
        uv_timer_stop(&l->uv_timer);
        return;
    }
    uint64_t target_ms = round_up_ms(due);
    uint64_t cached_ms = uv_now(l->uv);
    uint64_t wait_ms = target_ms > cached_ms ? target_ms - cached_ms : 1;
    int rc = uv_timer_start(&l->uv_timer, on_uv_timer, wait_ms, 0);
    ASSERT(rc == 0);
}

static void on_uv_timer(uv_timer_t *handle)
{
    struct loop *l = handle->data;
    l->armed_ns = NEVER_NS;
    if (l->in_turn) {
        /* loop_turn fires our timers after uv_run. libuv may run its timers before it polls. As
         * this one has then fired, uv_run would poll without a limit, so stop it. */
        uv_stop(l->uv);
        return;
    }
    if (!l->is_virtual)
        fire_due(l);
    arm(l);
}

static void on_async(uv_async_t *handle)
{
    struct loop *l = handle->data;
    /* Set it again: an earlier turn may have cleared it before the turn that runs the hooks. */
    atomic_store(&l->woken, true);
    LIST_FOR(node, &l->hooks)
    {
        struct loop_hook *h = CONTAINER_OF(node, struct loop_hook, node);
        h->fn(h);
    }
}

static void on_close(uv_handle_t *handle)
{
    struct loop *l = handle->data;
    l->open_handles--;
}

static enum err_kind uv_failed(struct err *err, const char *what, int rc)
{
    enum err_kind kind =
        err_set(err, rc == UV_ENOMEM ? ERR_MEMORY : ERR_IO, "%s: %s", what, uv_strerror(rc));
    if (err != NULL)
        err->code = rc;
    return kind;
}

/* The first loop of a process creates libuv's pipe for signals. If that fails, libuv aborts the
 * process, so check first that the descriptors are available. */
static int open_loop(uv_loop_t *uv)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return uv_translate_sys_error(errno);
    int third = fd_duplicate(ends[0], 0);
    int rc = third < 0 ? uv_translate_sys_error(errno) : 0;
    close(ends[0]);
    close(ends[1]);
    if (third >= 0)
        close(third);
    return rc != 0 ? rc : uv_loop_init(uv);
}

enum err_kind loop_init(struct loop *l, struct mem *mem, uv_loop_t *host, bool is_virtual,
                        struct err *err)
{
    *l = (struct loop){.mem = mem,
                       .uv = host != NULL ? host : &l->own_uv,
                       .owns_uv = host == NULL,
                       .is_virtual = is_virtual,
                       .virtual_ns = LOOP_VIRTUAL_START_NS,
                       .until_ns = NEVER_NS,
                       .armed_ns = NEVER_NS};
    list_init(&l->hooks);
    atomic_init(&l->woken, false);
    if (l->owns_uv) {
        int rc = open_loop(l->uv);
        if (rc != 0)
            return uv_failed(err, "cannot create an event loop", rc);
    }
    int rc = uv_async_init(l->uv, &l->async, on_async);
    if (rc != 0) {
        if (l->owns_uv)
            uv_loop_close(l->uv);
        return uv_failed(err, "cannot create the loop's wake-up", rc);
    }
    l->async.data = l;
    rc = uv_timer_init(l->uv, &l->uv_timer); /* cannot fail: it only sets fields */
    ASSERT(rc == 0);
    l->uv_timer.data = l;
    l->open_handles = 2;
    /* On our own loop, this handle stays referenced: otherwise uv_run(ONCE) returns at once. A
     * host's loop must be able to end while a runtime uses it. */
    if (!l->owns_uv)
        uv_unref((uv_handle_t *)&l->async);
    return ERR_NONE;
}

void loop_fini(struct loop *l)
{
    l->closing = true;
    uv_close((uv_handle_t *)&l->async, on_close);
    uv_close((uv_handle_t *)&l->uv_timer, on_close);
    for (int i = 0; l->open_handles > 0 && i < CLOSE_ROUNDS_MAX; i++)
        uv_run(l->uv, UV_RUN_NOWAIT);
    /* A handle was not closed, and its memory will be freed soon. */
    ASSERT(l->open_handles == 0);
    if (l->owns_uv) {
        int rc = uv_loop_close(l->uv);
        ASSERT(rc == 0);
    }
    l->uv = NULL;
}

uint64_t loop_now_ns(const struct loop *l)
{
    return l->is_virtual ? l->virtual_ns : uv_hrtime();
}

double loop_date_s(const struct loop *l)
{
    struct timespec ts;
    if (l->is_virtual)
        return 1767225600.0 + (double)(l->virtual_ns - LOOP_VIRTUAL_START_NS) / 1e9;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run_uv(struct loop *l, bool block)
{
    if (block && !l->is_virtual)
        arm(l);
    l->in_turn = true;
    uv_run(l->uv, block ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    l->in_turn = false;
}

static void turn_virtual(struct loop *l, bool block)
{
    run_uv(l, false);
    bool happened = atomic_exchange(&l->woken, false);
    uint64_t due = next_due_ns(l);
    if (block && !happened && due > l->virtual_ns) {
        if (l->busy == 0 && due != NEVER_NS)
            l->virtual_ns = due;
        else
            run_uv(l, true);
    }
    fire_due(l);
}

/* If a turn is cut short, the next turn does the rest. It then begins with the timers. */
static void turn_real(struct loop *l, bool block)
{
    bool timers_first = l->timers_first;
    l->timers_first = false;
    if (timers_first)
        fire_due(l);
    if (l->cut)
        return;
    run_uv(l, block && next_due_ns(l) > loop_now_ns(l));
    atomic_store(&l->woken, false);
    if (timers_first)
        return;
    if (l->cut || (next_due_ns(l) <= loop_now_ns(l) && !loop_has_time(l)))
        l->cut = l->timers_first = true;
    else
        fire_due(l);
}

void loop_turn(struct loop *l, bool block)
{
    ASSERT(!l->in_turn && !l->closing);
    l->cut = false;
    if (l->is_virtual) {
        turn_virtual(l, block);
        return;
    }
    turn_real(l, block);
    if (!l->owns_uv)
        arm(l);
}

void loop_until(struct loop *l, uint64_t until_ns)
{
    l->until_ns = until_ns;
    if (until_ns == NEVER_NS)
        return;
    uint64_t now = uv_hrtime(), budget = until_ns > now ? until_ns - now : 0;
    l->event_ns = MIN(l->event_ns, budget) / 4 *
                  3; /* such a long event may be rare, so reduce the estimate */
}

bool loop_has_time(const struct loop *l)
{
    return l->until_ns == NEVER_NS || uv_hrtime() + l->event_ns < l->until_ns;
}

bool loop_cut(struct loop *l, uint64_t began_ns)
{
    if (l->until_ns == NEVER_NS)
        return false;
    uint64_t now = uv_hrtime();
    l->event_ns = MAX(l->event_ns, now - began_ns);
    l->cut = now + l->event_ns >= l->until_ns;
    return l->cut;
}

bool loop_has_event(const struct loop *l)
{
    struct pollfd backend = {.fd = uv_backend_fd(l->uv), .events = POLLIN};
    return next_due_ns(l) <= loop_now_ns(l) || poll(&backend, 1, 0) == 1;
}

int loop_timeout_ms(const struct loop *l)
{
    int uv_ms = uv_backend_timeout(l->uv);
    uint64_t due = next_due_ns(l);
    if (due == NEVER_NS)
        return uv_ms;
    uint64_t now = loop_now_ns(l);
    if (l->is_virtual || due <= now)
        return 0;
    int ms = (int)MIN(round_up_ms(due - now), (uint64_t)INT_MAX);
    return uv_ms >= 0 ? MIN(ms, uv_ms) : ms;
}

void loop_timer_start(struct loop *l, struct timer *t, uint64_t due_ns)
{
    timer_heap_remove(&l->timers, t);
    timer_heap_insert(&l->timers, t, due_ns);
    /* Our own loop sets uv_timer just before it waits. A host's loop may wait at any time. */
    if (!l->owns_uv && !l->in_turn && !l->is_virtual)
        arm(l);
}

void loop_timer_stop(struct loop *l, struct timer *t)
{
    timer_heap_remove(&l->timers, t);
    if (!l->owns_uv && !l->in_turn && !l->is_virtual)
        arm(l);
}

void loop_wake(struct loop *l)
{
    atomic_store(&l->woken, true);
    uv_async_send(&l->async);
}

void loop_hook_add(struct loop *l, struct loop_hook *h, loop_hook_fn fn)
{
    h->fn = fn;
    list_push_back(&l->hooks, &h->node);
}

void loop_hook_remove(struct loop_hook *h)
{
    list_unlink(&h->node);
}

/* libuv allows both calls to be repeated. */
static void keep_alive(struct loop *l)
{
    if (l->owns_uv)
        return;
    if (l->busy != 0 || l->held)
        uv_ref((uv_handle_t *)&l->async);
    else
        uv_unref((uv_handle_t *)&l->async);
}

void loop_busy_add(struct loop *l, int change)
{
    ASSERT(change >= 0 || l->busy >= (unsigned)-change);
    l->busy += (unsigned)change;
    keep_alive(l);
}

void loop_hold(struct loop *l, bool held)
{
    l->held = held;
    keep_alive(l);
}

uint64_t loop_deadline_ns(const struct loop *l, double seconds)
{
    uint64_t now = loop_now_ns(l);
    /* Rounded up: a deadline may be late, but never early. Above 2^53 ns a double is always whole.
     */
    double ns = ceil(seconds * (double)NS_PER_S);
    if (!(ns < 0x1p63) || now > NEVER_NS - (uint64_t)ns)
        return NEVER_NS;
    return now + (uint64_t)ns;
}

size_t loop_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return 1024;
    return files.rlim_cur == RLIM_INFINITY ? 1024 * 1024 : (size_t)files.rlim_cur;
}

size_t loop_raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)!setrlimit(RLIMIT_NOFILE, &files); /* if it is refused, the old limit stays */
    }
    return loop_file_limit();
}
