#include "cli/cli_outputs.h"

#include "host/runtime_guard.h"
#include "host/runtime_report.h"
#include "lua/lua_trace.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char *value_of(const char *name, int argc, const char *const *argv, int *i)
{
    size_t len = strlen(name);
    if (argv[*i][len] == '=')
        return argv[*i] + len + 1;
    return *i + 1 < argc ? argv[++*i] : "";
}

static bool is_option(const char *arg, const char *name)
{
    size_t len = strlen(name);
    return strncmp(arg, name, len) == 0 && (arg[len] == '\0' || arg[len] == '=');
}

int cli_outputs_option(struct see *s, int argc, const char *const *argv, int *i)
{
    const char **paths[] = {&s->trace, &s->report};
    static const char *const names[] = {"--trace", "--report"};
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        if (is_option(argv[*i], names[k])) {
            *paths[k] = value_of(names[k], argc, argv, i);
            return (*paths[k])[0] ? 1 : -1;
        }
    }
    if (strcmp(argv[*i], "--stats") == 0) {
        s->stats = "";
        return 1;
    }
    if (is_option(argv[*i], "--stats")) {
        s->stats = argv[*i] + strlen("--stats=");
        return s->stats[0] ? 1 : -1;
    }
    return 0;
}

/* Checks the files before the run: a long run must not lose its output at the end. Existing
 * contents are kept. */
static bool can_write(const char *what, const char *path)
{
    if (!path || !path[0])
        return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) {
        close(fd);
        return true;
    }
    fprintf(stderr, "leat: cannot open the %s %s: %s\n", what, path, strerror(errno));
    return false;
}

bool cli_outputs_begin(struct see *s, leat_runtime *rt)
{
    struct err err;
    if (!s->trace && !s->report && !s->stats)
        return true;
    if (!can_write("report", s->report) || !can_write("statistics", s->stats))
        return false;
    s->record = trace_new(runtime_inside(rt), s->trace, &err);
    if (!s->record)
        fprintf(stderr, "leat: %s\n", err.message);
    return s->record != NULL;
}

struct finish {
    const struct see *see;
    int status;
    char problem[512];
};

static int finish(lua_State *L)
{
    struct finish *f = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "leat.cli.report");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "finish");
    lua_pushstring(L, f->see->report);
    lua_pushstring(L, f->see->stats);
    lua_pushstring(L, f->see->title);
    lua_pushinteger(L, f->status);
    lua_call(L, 4, 1);
    if (lua_isstring(L, -1))
        snprintf(f->problem, sizeof f->problem, "%s", lua_tostring(L, -1));
    return 0;
}

int cli_outputs_end(struct see *s, leat_runtime *rt, int status)
{
    struct rt *inside = runtime_inside(rt);
    inside->concluded = s->repl; /* a REPL's user has seen the result of each line */
    size_t all_failed = runtime_conclude(inside);
    if (status == 0 && inside->lost > 0)
        status = 1;
    if (status == 0 && inside->missed > 0)
        status = 3;
    else if (status == 0 && all_failed > 0 && !inside->exit_requested)
        status = 4; /* a script that calls os.exit chooses its status */
    if (!s->record)
        return status;
    struct finish f = {.see = s, .status = status};
    int error = trace_close(s->record);
    bool failed = error != 0;
    if (failed)
        fprintf(stderr, "leat: the trace %s could not be written: %s\n", s->trace, strerror(error));
    if ((s->report || s->stats) && lua_cpcall(inside->L, finish, &f) != 0) {
        const char *why = lua_tostring(inside->L, -1);
        snprintf(f.problem, sizeof f.problem, "%s", why ? why : "no memory");
        lua_pop(inside->L, 1);
    }
    if (f.problem[0]) {
        fprintf(stderr, "leat: the report or the statistics could not be written: %s\n", f.problem);
        failed = true;
    }
    trace_free(s->record);
    s->record = NULL;
    return failed && status == 0 ? 1 : status;
}

void cli_outputs_drop(struct see *s)
{
    trace_free(s->record);
    s->record = NULL;
}
