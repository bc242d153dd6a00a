/* A host program as small as they come: runs scripts in runtimes of its own, against the installed
 * header and library. Prints "host ok". */
#include <leat.h>
#include <stdio.h>
#include <string.h>

static int run(const char *source, enum leat_status wanted)
{
    struct leat_error err;
    leat_runtime *rt = leat_new(&(struct leat_config){.virtual_time = true, .seed = 1}, &err);
    if (!rt) {
        fprintf(stderr, "leat_new: %s\n", err.message);
        return 1;
    }
    int bad = 0;
    if (!leat_start_string(rt, "=host", source, strlen(source), NULL, &err)) {
        fprintf(stderr, "leat_start_string: %s\n", err.message);
        bad = 1;
    } else if (leat_run(rt) != wanted) {
        fprintf(stderr, "ended otherwise: %s\n", leat_report(rt));
        bad = 1;
    }
    leat_free(rt);
    return bad;
}

static int refuse(const char *name, const char *source, const char *said)
{
    struct leat_error err = {"", ""};
    leat_runtime *rt = leat_new(NULL, &err);
    bool bad = !rt || leat_start_string(rt, name, source, strlen(source), NULL, &err) ||
               !strstr(err.message, said);
    if (bad)
        fprintf(stderr, "not refused, or by other words: %s\n", err.message);
    leat_free(rt);
    return bad;
}

int main(void)
{
    /* Names that the library uses inside must not be its users' concern. */
    int bad = run("sleep(3600) assert(gather{ function() return 1 end }.n == 1)", LEAT_OK);
    bad |= run("return nil, 'as it should'", LEAT_FAILED);
    bad |= run("local t = nil; t.x = 1", LEAT_RAISED);
    bad |= refuse("", "\033LJ", "bytecode");
    bad |= refuse("=name", "local = 1", "name:1:");
    for (int i = 0; i < 50; i++)
        bad |= run("spawn(sleep, 10) sleep(1)", LEAT_OK);
    if (!bad)
        puts("host ok");
    return bad;
}

/* Our own inner names, too: they clash unless the library hides its own. */
void buf_init(void);
void buf_init(void)
{
}
