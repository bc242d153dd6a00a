/* A host with LuaJIT states of its own:
 *
 *     host URL SCRIPT...    runs each script three times, each time in a new state, and closes that
 *                           state whatever still runs in it
 *     host --threads URL SCRIPT...    the same in four threads at once
 *     host --torture URL SCRIPT...    each in state after state, in which the first, the second,
 * ... allocation behind the libraries fails, until none does
 *
 * Before and after each script: the signals, limits, allocator and panic function that there are;
 * and behind the states, what is left of memory and descriptors. URL is the scripts' argument. */
#include <dirent.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { SIGNALS = 32, ROUNDS = 3, THREADS = 4 };

struct process {
    struct sigaction actions[SIGNALS];
    sigset_t mask;
    struct rlimit files;
};

static void look(struct process *p)
{
    memset(p, 0, sizeof *p);
    for (int i = 1; i < SIGNALS; i++)
        sigaction(i, NULL, &p->actions[i]);
    sigprocmask(SIG_SETMASK, NULL, &p->mask);
    getrlimit(RLIMIT_NOFILE, &p->files);
}

static int same(const struct process *a, const struct process *b)
{
    for (int i = 1; i < SIGNALS; i++) {
        if (a->actions[i].sa_handler != b->actions[i].sa_handler)
            return 0;
    }
    return memcmp(&a->mask, &b->mask, sizeof a->mask) == 0 &&
           a->files.rlim_cur == b->files.rlim_cur && a->files.rlim_max == b->files.rlim_max;
}

static int descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        n++;
    if (folder)
        closedir(folder);
    return n;
}

struct heap {
    size_t bytes;
    long fail_in; /* 0: the next one; negative: none */
};

static void *allocate(void *ud, void *block, size_t old, size_t size)
{
    struct heap *heap = ud;
    if (size == 0) {
        heap->bytes -= block ? old : 0;
        free(block);
        return NULL;
    }
    if (size > (block ? old : 0) && heap->fail_in >= 0 && heap->fail_in-- == 0)
        return NULL;
    void *moved = realloc(block, size);
    if (moved)
        heap->bytes += size - (block ? old : 0);
    return moved;
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    signals = signals + 1;
    (void)sig;
}

static int at_panic(lua_State *L)
{
    printf("panic: %s\n", lua_tostring(L, -1));
    return 0;
}

static int check(int good, const char *script, const char *what)
{
    if (!good)
        printf("%s: %s\n", script, what);
    return !good;
}

/* How many things were wrong. An allocation that fails may fail the script. */
static int run(const char *script, const char *url, long *fail_in)
{
    struct process before, after;
    struct heap heap = {.fail_in = -1};
    void *ud;
    look(&before);
    lua_State *L = lua_newstate(allocate, &heap);
    lua_atpanic(L, at_panic);
    luaL_openlibs(L);
    lua_pushstring(L, url);
    int rc = luaL_loadfile(L, script);
    lua_insert(L, -2);
    bool tortured = *fail_in >= 0;
    heap.fail_in = *fail_in;
    if (rc == 0)
        rc = lua_pcall(L, 1, 0, 0);
    if (tortured && heap.fail_in < 0)
        rc = 0;
    *fail_in = heap.fail_in;
    heap.fail_in = -1;
    int wrong = check(rc == 0, script, rc == 0 ? "" : lua_tostring(L, -1));
    wrong += check(lua_getallocf(L, &ud) == allocate && ud == &heap, script, "the allocator");
    wrong += check(lua_atpanic(L, NULL) == at_panic, script, "the panic function");
    look(&after);
    wrong += check(same(&before, &after), script, "signals or limits");
    lua_close(L);
    /* LuaJIT itself loses a few bytes where an allocation fails. */
    size_t lost = tortured && *fail_in < 0 ? 256 : 0;
    return wrong + check(heap.bytes <= lost, script, "memory of Lua's is left");
}

struct job {
    const char *url;
    char **scripts; /* ended by NULL */
    int wrong;
};

static void *run_all(void *arg)
{
    struct job *job = arg;
    for (char **script = job->scripts; *script; script++) {
        for (int round = 0; round < ROUNDS; round++) {
            long fail_in = -1;
            job->wrong += run(*script, job->url, &fail_in);
        }
    }
    return NULL;
}

static int torture(const char *script, const char *url)
{
    int wrong = 0;
    long left = -1, n = 0;
    for (; left < 0; n++) {
        left = n;
        wrong += run(script, url, &left);
    }
    printf("%ld allocations\n", n);
    return wrong;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 && argv[1][0] == '-' ? argv[1] : "";
    char **rest = argv + 1 + (mode[0] != '\0');
    if (argc < 3 || !rest[0] || !rest[1])
        return 2;
    int files = descriptors(), wrong = 0;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 512; /* not what could be had */
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, on_signal);
    signal(SIGCHLD, on_signal);
    signal(SIGPROF, on_signal);
    if (strcmp(mode, "--torture") == 0) {
        for (char **script = rest + 1; *script; script++)
            wrong += torture(*script, rest[0]);
    } else {
        struct job jobs[THREADS];
        pthread_t ids[THREADS];
        int threads = strcmp(mode, "--threads") == 0 ? THREADS : 1;
        for (int i = 0; i < threads; i++) {
            jobs[i] = (struct job){rest[0], rest + 1, 0};
            if (pthread_create(&ids[i], NULL, run_all, &jobs[i]) != 0)
                return 2;
        }
        for (int i = 0; i < threads; i++) {
            pthread_join(ids[i], NULL);
            wrong += jobs[i].wrong;
        }
    }
    /* The libraries keep a few for the process, such as a source of randomness. */
    wrong += check(descriptors() <= files + 4, "host", "descriptors are left open");
    wrong += check(signals == 0, "host", "a signal came");
    if (wrong == 0)
        printf("host ok\n");
    return wrong != 0;
}
