/* A host with a LuaJIT state of its own: runs each script named, in a state of its own, and closes
 * that state whatever still runs in it. Before and after each: which signals, descriptors, limits
 * and hooks there are. `url` is a script's argument. */
#include <dirent.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { SIGNALS = 32 };

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

static size_t allocated;

static void *allocate(void *ud, void *block, size_t old, size_t size)
{
    (void)ud;
    if (size == 0) {
        allocated -= block ? old : 0;
        free(block);
        return NULL;
    }
    void *moved = realloc(block, size);
    if (moved)
        allocated += size - (block ? old : 0);
    return moved;
}

static int at_panic(lua_State *L)
{
    printf("panic: %s\n", lua_tostring(L, -1));
    return 0;
}

static int run(const char *script, const char *url)
{
    struct process before, after;
    look(&before);
    int files = descriptors();
    lua_State *L = lua_newstate(allocate, &allocated);
    lua_atpanic(L, at_panic);
    luaL_openlibs(L);
    int rc = luaL_loadfile(L, script);
    lua_pushstring(L, url);
    if (rc == 0)
        rc = lua_pcall(L, 1, 0, 0);
    if (rc != 0)
        printf("%s: %s\n", script, lua_tostring(L, -1));
    void *ud;
    if (lua_getallocf(L, &ud) != allocate || ud != &allocated) {
        printf("%s: the allocator is another\n", script);
        rc = 1;
    }
    if (lua_atpanic(L, NULL) != at_panic) {
        printf("%s: the panic function is another\n", script);
        rc = 1;
    }
    look(&after);
    if (!same(&before, &after)) {
        printf("%s: signals or limits have changed\n", script);
        rc = 1;
    }
    lua_close(L);
    if (allocated != 0) {
        printf("%s: %zu bytes of Lua's are left\n", script, allocated);
        rc = 1;
    }
    /* (The first state's libraries may keep some, such as a source of randomness.) */
    if (descriptors() > files + 2) {
        printf("%s: %d descriptors, %d before\n", script, descriptors(), files);
        rc = 1;
    }
    return rc;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 2; i < argc; i++) {
        for (int round = 0; round < 3; round++)
            failed += run(argv[i], argv[1]) != 0;
    }
    if (failed == 0)
        printf("host ok\n");
    return failed != 0;
}
