#include "cli/cli_signal.h"

#include "cli/cli_hold.h"
#include "ground/base.h"
#include "host/runtime_private.h"
#include "lua/lua_lines.h"
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Times after the first signal, for a task that does not wait: */
#define WARN_NS (300 * NS_PER_MS)    /* a warning names its place, */
#define WARN_C_NS (1 * NS_PER_S)     /* or says that it is in a C call; */
#define CANCEL_NS (2 * NS_PER_S)     /* it is cancelled (at once after a second signal); */
#define ABANDON_NS (1 * NS_PER_S)    /* this long after the cancel reached it, it is abandoned, */
#define IGNORED_NS (100 * NS_PER_MS) /* if it has computed for this long since; */
#define PATIENCE_NS (5 * NS_PER_S)   /* the process ends. */
/* At most this much of PATIENCE_NS is counted as used when the runtime begins to close. */
#define CLOSING_NS (3 * NS_PER_S)
/* The time that clean-ups have after the second signal. */
#define LAST_GRACE_NS (5 * NS_PER_S)
#define LOOK_NS (50 * NS_PER_MS)
/* The time to flush printed output. */
#define FLUSH_NS (300 * NS_PER_MS)
/* The time to write the lines that the writers have accepted. */
#define RESCUE_NS (3 * NS_PER_S)

/* A signal handler can use only globals. */
static _Atomic(leat_runtime *) signalled_runtime;
static _Atomic(struct repl *) signalled_repl;
static _Atomic(struct hold *) signalled_hold;
static atomic_uint signal_count;
static atomic_int first_signal;
static atomic_bool watched, closing, flushed;
static _Atomic(const char *) last_words; /* not NULL: the process is ending */
static struct hold the_hold;
static pthread_t runtime_thread;
static sem_t news;
/* Held while the watching thread uses the runtime, and while the runtime is taken away. */
static pthread_mutex_t runtime_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

/* ---- ending by force */

/* May block for ever: on a file that another thread is reading, or on a pipe that nobody reads. */
static void *flush_all(void *arg)
{
    fflush(NULL);
    atomic_store(&flushed, true);
    return arg;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&ts, NULL);
}

/* Runs in a signal handler on the runtime's thread. If that thread does not answer, runs on the
 * watching thread. */
static void leave(leat_runtime *rt)
{
    struct repl *repl = atomic_load(&signalled_repl);
    if (rt)
        lua_lines_rescue(&rt->rt);
    if (repl)
        repl_restore_terminal(repl);
    const char *why = atomic_load(&last_words);
    if (why && atomic_load(&first_signal) != SIGPIPE)
        say(why);
    _exit(128 + atomic_load(&first_signal));
}

/* Writes out printed output, and the lines that the writers have accepted. */
static void end_process(const char *why)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, flush_all, NULL) == 0) {
        pthread_detach(thread);
        for (uint64_t until = now_ns() + FLUSH_NS; !atomic_load(&flushed) && now_ns() < until;)
            sleep_ns(NS_PER_MS);
    }
    atomic_store(&last_words, why);
    pthread_kill(runtime_thread, SIGALRM);
    sleep_ns(RESCUE_NS);
    leave(NULL);
}

/* ---- the watching thread */

struct watch {
    uint64_t first_ns;    /* when the first signal came */
    uint64_t second_ns;   /* ... and the second; 0: not yet */
    uint64_t since_ns;    /* start of the running task's turn, or of the close */
    uint64_t turn;        /* the turn of that task: see sched_turn */
    bool cancels;         /* the task has been asked to end */
    uint64_t cancel_ns;   /* when that was seen to have reached it; 0: not yet */
    uint64_t computed_ns; /* the CPU time of its thread then */
    bool closing;
};

/* HOLD_NONE: only interrupts a read, or a wait for a command. */
static void order(struct hold *h, enum hold_order what, uint64_t turn)
{
    /* A mere warning must not interrupt a read. */
    struct sigaction sa;
    sigaction(SIGALRM, NULL, &sa);
    sa.sa_flags = what == HOLD_WARN ? SA_RESTART : 0;
    sigaction(SIGALRM, &sa, NULL);
    cli_hold_give(h, what, turn);
    pthread_kill(runtime_thread, SIGALRM);
}

/* The CPU time of the runtime's thread. */
static uint64_t computed_ns(void)
{
    clockid_t clock;
    struct timespec ts;
    if (pthread_getcpuclockid(runtime_thread, &clock) != 0 || clock_gettime(clock, &ts) != 0)
        return now_ns();
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The task has been asked to end. On a busy machine it may take seconds until it computes again and
 * learns of that: this time is not held against it. */
static void press_on(struct watch *w, struct hold *h, uint64_t now)
{
    if (w->cancel_ns == 0 && atomic_load(&h->cancelled) == w->turn) {
        w->cancel_ns = now;
        w->computed_ns = computed_ns();
    } else if (w->cancel_ns != 0 && now - w->cancel_ns >= ABANDON_NS &&
               computed_ns() - w->computed_ns >= IGNORED_NS) {
        order(h, HOLD_ABANDON, w->turn);
    }
}

/* A task has run for `held_ns` without a wait. */
static void press(struct watch *w, struct hold *h, leat_runtime *rt, uint64_t now)
{
    uint64_t held_ns = now - w->since_ns;
    bool cancels = rt->rt.graceful_runs == 0 || w->second_ns != 0;
    if (rt->blocked && cancels && held_ns < WARN_C_NS) { /* the call checks for a cancel itself */
        order(h, HOLD_NONE, w->turn);
        return;
    }
    if (w->cancels) {
        press_on(w, h, now);
    } else if (w->second_ns != 0 || held_ns >= CANCEL_NS) {
        w->cancels = true;
        order(h, HOLD_CANCEL, w->turn);
    } else if (held_ns >= WARN_C_NS && !atomic_exchange(&h->warned, true)) {
        say("leat: warning: interrupted, but the script is in a call that does not return: if it "
            "goes on, the process is ended\n");
    } else if (held_ns >= WARN_NS && !atomic_load(&h->warned)) {
        order(h, HOLD_WARN, w->turn);
    }
}

static void look(struct watch *w)
{
    uint64_t now = now_ns();
    unsigned count = atomic_load(&signal_count);
    leat_runtime *rt = atomic_load(&signalled_runtime);
    struct hold *h = atomic_load(&signalled_hold);
    bool is_closing = atomic_load(&closing);
    uint64_t turn = rt ? sched_turn(&rt->rt.sched) : 0;
    if (count >= 2 && w->second_ns == 0)
        w->second_ns = now;
    bool in_task = turn % 2 == 1, in_loop = rt && rt->interrupts_handled < rt->interrupts;
    if (turn != w->turn || is_closing != w->closing || !(in_task || in_loop || is_closing)) {
        w->since_ns = is_closing ? MAX(w->first_ns, now - CLOSING_NS) : now;
        w->cancels = false;
        w->cancel_ns = 0;
    }
    w->turn = turn;
    w->closing = is_closing;
    if (count >= 3)
        end_process("leat: ended by the third interrupt: clean-ups may not have run\n");
    if (w->second_ns != 0 && now - w->second_ns >= LAST_GRACE_NS)
        end_process("leat: ended 5 s after the second interrupt: clean-ups may not have run\n");
    if (now - w->since_ns >= PATIENCE_NS)
        end_process(is_closing ? "leat: interrupted while it was closing\n"
                               : "leat: interrupted: the script did not give way for 5 s, so the "
                                 "process is ended without its clean-ups\n");
    if (h && in_task && !is_closing)
        press(w, h, rt, now);
}

static void *keep_watch(void *arg)
{
    while (sem_wait(&news) != 0) {
    }
    struct watch w = {.since_ns = now_ns(), .first_ns = now_ns()};
    pthread_mutex_lock(&runtime_lock);
    leat_runtime *rt = atomic_load(&signalled_runtime);
    w.turn = rt ? sched_turn(&rt->rt.sched) : 0;
    w.closing = atomic_load(&closing);
    pthread_mutex_unlock(&runtime_lock);
    for (;;) {
        pthread_mutex_lock(&runtime_lock);
        look(&w);
        pthread_mutex_unlock(&runtime_lock);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)LOOK_NS;
        until.tv_sec += until.tv_nsec / (long)NS_PER_S;
        until.tv_nsec %= (long)NS_PER_S;
        sem_clockwait(&news, CLOCK_MONOTONIC, &until);
    }
    return arg;
}

static bool start_watching(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    if (sem_init(&news, 0, 0) != 0 || pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setstacksize(&attr, 128u << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals go to the runtime's thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attr, keep_watch, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    atomic_store(&watched, started);
    return started;
}

/* ---- the handlers */

static void ask_to_stop(int sig, unsigned times)
{
    int none = 0;
    atomic_compare_exchange_strong(&first_signal, &none, sig);
    unsigned n = atomic_fetch_add(&signal_count, times) + times;
    leat_runtime *rt = atomic_load(&signalled_runtime);
    for (unsigned i = 0; rt && i < times; i++)
        leat_interrupt(rt);
    if (atomic_load(&watched))
        sem_post(&news);
    else if (n >= 3)
        leave(rt);
}

/* The first signal asks for a stop, the second asks again, the third ends the process. */
static void on_interrupt(int sig)
{
    int saved = errno;
    struct repl *repl = atomic_load(&signalled_repl);
    if (sig != SIGINT || !repl || !repl_interrupt(repl))
        ask_to_stop(sig, 1);
    errno = saved;
}

static void on_order(int sig)
{
    UNUSED(sig);
    struct hold *h = atomic_load(&signalled_hold);
    if (atomic_load(&last_words))
        leave(atomic_load(&signalled_runtime));
    if (h)
        cli_hold_obey(h);
}

/* The engine handles broken sockets. If standard output is broken, nobody reads the results:
 * everything is cancelled at once, without messages. */
static void on_sigpipe(int sig)
{
    int saved = errno;
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) &&
        atomic_load(&first_signal) == 0)
        ask_to_stop(sig, 2);
    errno = saved;
}

static void on_terminal_change(int sig)
{
    int saved = errno;
    struct repl *repl = atomic_load(&signalled_repl);
    if (repl)
        repl_terminal_changed(repl, sig == SIGWINCH);
    errno = saved;
}

void cli_signal_begin(void)
{
    struct sigaction sa = {.sa_flags = SA_RESTART}, found;
    sigemptyset(&sa.sa_mask);
    sa.sa_handler = on_interrupt;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    if (sigaction(SIGHUP, NULL, &found) == 0 && found.sa_handler != SIG_IGN) /* nohup ignores it */
        sigaction(SIGHUP, &sa, NULL);
    sa.sa_handler = on_order;
    sigaction(SIGALRM, &sa, NULL);
    sa.sa_handler = on_sigpipe;
    sigaction(SIGPIPE, &sa, NULL);
    sa.sa_handler = on_terminal_change;
    sigaction(SIGWINCH, &sa, NULL);
    sigaction(SIGCONT, &sa, NULL);
}

bool cli_signal_watch(leat_runtime *rt, struct repl *repl, bool hold)
{
    runtime_thread = pthread_self();
    if (hold && !cli_hold_start(&the_hold, &rt->rt, &rt->limit))
        return false;
    (void)start_watching(); /* without that thread the third signal ends the process */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&signalled_hold, hold ? &the_hold : NULL);
    atomic_store(&signalled_repl, repl);
    atomic_store(&signalled_runtime, rt);
    /* Signals may have come before there was a runtime to inform. */
    for (unsigned i = atomic_load(&signal_count); i > 0; i--)
        leat_interrupt(rt);
    if (atomic_load(&signal_count) > 0)
        sem_post(&news);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return true;
}

void cli_signal_close(void)
{
    pthread_mutex_lock(&runtime_lock);
    struct hold *h = atomic_exchange(&signalled_hold, NULL);
    atomic_store(&closing, true);
    atomic_store(&signalled_runtime, NULL);
    atomic_store(&signalled_repl, NULL);
    pthread_mutex_unlock(&runtime_lock);
    if (h)
        cli_hold_stop(h);
}

int cli_signal_got(void)
{
    return atomic_load(&first_signal);
}
