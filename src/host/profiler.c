#include "host/profiler.h"

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

/* A signal handler can use only globals. They are set before the first signal can arrive. */
static pthread_t runtime_thread;
static lua_State *profiled;
static luaJIT_profile_callback sample_fn;
static void (*tick_fn)(void *arg);
static void *callback_arg;
static bool has_compiler;
static struct sigaction luajit_action; /* with the compiler */
/* The registry of the state whose samples a hook takes; NULL: none. */
static _Atomic(const void *) hooked_registry;
static atomic_bool is_sample_due;
static volatile sig_atomic_t is_setting_hook;
/* The code of LuaJIT itself, and of memcpy, which it calls. Any other code that runs Lua is
 * compiled code. */
enum { RANGES = 8 };
static struct range {
    uintptr_t from, to;
} own_code[RANGES];
static int range_count;

enum { PERIOD_US = 10000 };

void profiler_set_hook(lua_State *L, lua_Hook hook, int mask, int count)
{
    sig_atomic_t before = is_setting_hook;
    is_setting_hook = 1;
    /* Removing the hook first makes LuaJIT rewrite its table, whatever a signal has done to it. */
    lua_sethook(L, NULL, 0, 0);
    if (hook)
        lua_sethook(L, hook, mask, count);
    is_setting_hook = before;
}

void profiler_poll(lua_State *L)
{
    if (atomic_load_explicit(&is_sample_due, memory_order_relaxed) &&
        lua_topointer(L, LUA_REGISTRYINDEX) == atomic_load(&hooked_registry) &&
        atomic_exchange(&is_sample_due, false))
        sample_fn(callback_arg, L, 1, 'I');
}

static void on_instruction(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    sigset_t all, before;
    /* The handler of another signal may set a hook, which this must not undo. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (lua_gethook(L) == on_instruction)
        profiler_set_hook(L, NULL, 0, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    profiler_poll(L);
}

/* Setting the hook again repairs the table, if the signal before came while it was rewritten. */
static void request_sample(void)
{
    if (!sample_fn)
        return;
    atomic_store(&is_sample_due, true);
    lua_Hook hook = lua_gethook(profiled);
    if (!is_setting_hook && (!hook || hook == on_instruction))
        profiler_set_hook(profiled, on_instruction, LUA_MASKCOUNT, 1);
}

static int note_code(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    uintptr_t code = *(const uintptr_t *)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_LOAD && code >= from && code - from < p->p_memsz &&
            range_count < RANGES)
            own_code[range_count++] = (struct range){from, from + p->p_memsz};
    }
    return 0;
}

static bool is_in_compiled_code(const void *context)
{
    const ucontext_t *at = context;
#if defined(__x86_64__)
    uintptr_t pc = (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    uintptr_t pc = (uintptr_t)at->uc_mcontext.pc;
#else
#error "where does a signal's context have the program counter?"
#endif
    for (int i = 0; i < range_count; i++)
        if (pc >= own_code[i].from && pc < own_code[i].to)
            return false;
    return true;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    /* The signal may arrive on any thread that does not block it, but the state belongs to one
     * thread. */
    if (!pthread_equal(pthread_self(), runtime_thread)) {
        pthread_kill(runtime_thread, sig);
        return;
    }
    if (tick_fn)
        tick_fn(callback_arg);
    if (!has_compiler) {
        request_sample();
    } else if (is_in_compiled_code(context)) {
        if (luajit_action.sa_flags & SA_SIGINFO)
            luajit_action.sa_sigaction(sig, info, context);
        else if (luajit_action.sa_handler != SIG_DFL && luajit_action.sa_handler != SIG_IGN)
            luajit_action.sa_handler(sig);
    }
}

static void no_sample(void *arg, lua_State *L, int samples, int vmstate)
{
    (void)arg;
    (void)L;
    (void)samples;
    (void)vmstate;
}

static void set_timer(suseconds_t period_us)
{
    struct itimerval when = {.it_value = {.tv_usec = period_us},
                             .it_interval = {.tv_usec = period_us}};
    setitimer(ITIMER_PROF, &when, NULL);
}

void profiler_begin(lua_State *L, bool compiler, luaJIT_profile_callback sample,
                    void (*tick)(void *arg), void *arg)
{
    /* LuaJIT restores this action when the profiler stops, so that a late signal does not end the
     * process. */
    signal(SIGPROF, SIG_IGN);
    runtime_thread = pthread_self();
    profiled = L;
    sample_fn = sample;
    tick_fn = tick;
    callback_arg = arg;
    has_compiler = compiler;
    atomic_store(&is_sample_due, false);
    atomic_store(&hooked_registry, compiler ? NULL : lua_topointer(L, LUA_REGISTRYINDEX));
    range_count = 0;
    uintptr_t code[] = {(uintptr_t)lua_sethook, (uintptr_t)memcpy};
    for (size_t i = 0; i < sizeof code / sizeof code[0]; i++)
        dl_iterate_phdr(note_code, &code[i]);
    if (compiler) {
        luaJIT_profile_start(L, "li10", sample ? sample : no_sample, arg);
        sigaction(SIGPROF, NULL, &luajit_action);
        if (luajit_action.sa_handler == SIG_IGN) /* the profiler has not started */
            return;
    }
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigfillset(&sa.sa_mask); /* no other handler sets a hook while this one does */
    sigaction(SIGPROF, &sa, NULL);
    if (!compiler)
        set_timer(PERIOD_US);
}

void profiler_end(lua_State *L)
{
    struct timespec now = {0};
    sigset_t ours, before;
    set_timer(0);
    sigemptyset(&ours);
    sigaddset(&ours, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    while (sigtimedwait(&ours, NULL, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (has_compiler) {
        luaJIT_profile_stop(L);
        return;
    }
    signal(SIGPROF, SIG_IGN);
    atomic_store(&hooked_registry, NULL);
    if (lua_gethook(L) == on_instruction)
        profiler_set_hook(L, NULL, 0, 0);
}
