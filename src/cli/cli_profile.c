#include "cli/cli_profile.h"

#include <pthread.h>
#include <signal.h>

/* A signal handler has nothing but globals to speak to. */
static pthread_t runtime_thread;
static struct sigaction profiler_action;

/* The signal may come to any thread that does not block it, but the state is one thread's alone. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
    if (!pthread_equal(pthread_self(), runtime_thread))
        pthread_kill(runtime_thread, sig);
    else if (profiler_action.sa_flags & SA_SIGINFO)
        profiler_action.sa_sigaction(sig, info, context);
    else
        profiler_action.sa_handler(sig);
}

void cli_profile_begin(lua_State *L, luaJIT_profile_callback fn, void *arg)
{
    /* What LuaJIT puts back at its end: a signal that is late must not end the process. */
    signal(SIGPROF, SIG_IGN);
    runtime_thread = pthread_self();
    luaJIT_profile_start(L, "li10", fn, arg);
    sigaction(SIGPROF, NULL, &profiler_action);
    if (profiler_action.sa_handler == SIG_IGN) /* the profiler has not begun */
        return;
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGPROF, &sa, NULL);
}

void cli_profile_end(lua_State *L)
{
    luaJIT_profile_stop(L);
}
