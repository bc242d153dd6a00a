/* A script that ignores `err` continues with nil. The bug that follows names neither the request
 * nor the reason. Therefore we remember the last failure that a script received. If a nil then
 * causes a bug in the same task, the bug's message includes that failure. */
#include "tasks/task_failure.h"

#include "tasks/task.h"
#include <string.h>

void task_note_failure(lua_State *L, struct sched *s, const char *what)
{
    struct task_failure *f = &s->failure;
    struct task *t = s->running;
    lua_Debug ar;
    f->task = 0;
    for (int level = 0; t && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline <= 0 || strncmp(ar.source, "@leat/", 6) == 0)
            continue;
        lua_pushliteral(L, "message");
        lua_rawget(L, -2); // err message
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        snprintf(f->text, sizeof f->text, "%s", text);
        lua_pop(L, 1);
        snprintf(f->what, sizeof f->what, "%s", what);
        snprintf(f->shown, sizeof f->shown, "%s", ar.short_src);
        f->file[0] = '\0';
        if (ar.source[0] == '@' && strlen(ar.source) <= sizeof f->file)
            memcpy(f->file, ar.source + 1, strlen(ar.source));
        f->line = ar.currentline;
        f->turn = sched_turn(s);
        f->task = t->id;
        return;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* The words that Lua and Leat use when a nil is used as something else. */
static bool is_about_nil(const char *message)
{
    static const char *const ends[] = {"a nil value)",  "a nil value", "got nil)",
                                       "got no value)", "got nil",     "not nil"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends_with(message, ends[i]))
            return true;
    }
    return strstr(message, "attempt to compare nil with") || strstr(message, " with nil");
}

/* True if `line` contains `name` as a word. */
static bool holds_word(const char *line, const char *name, size_t len)
{
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    for (const char *at = line; (at = strstr(at, name)) != NULL; at++) {
        bool begins = at == line || !strchr(word, at[-1]);
        if (begins && (at[len] == '\0' || !strchr(word, at[len])))
            return true;
    }
    return false;
}

/* True if the line of the failure contains the variable that was nil: "attempt to index local
 * 'res'". Then that line set the variable, however long ago. */
static bool set_there(const struct task_failure *f, const char *message)
{
    char name[64], line[512];
    const char *from = strchr(message, '\''), *to = from ? strchr(from + 1, '\'') : NULL;
    if (!to || to - from - 1 >= (ptrdiff_t)sizeof name || strstr(message, "field '"))
        return false;
    size_t len = (size_t)(to - from - 1);
    memcpy(name, from + 1, len);
    name[len] = '\0';
    FILE *file = f->file[0] ? fopen(f->file, "re") : NULL;
    if (!file)
        return false;
    bool found = false;
    for (int n = 1; n <= f->line && fgets(line, sizeof line, file);) {
        found = n == f->line && holds_word(line, name, len);
        n += strchr(line, '\n') != NULL;
    }
    fclose(file);
    return len > 0 && found;
}

const char *task_push_cause(lua_State *L, struct sched *s, uint64_t task, const char *message)
{
    const struct task_failure *f = &s->failure;
    if (f->task == 0 || f->task != task || !is_about_nil(message))
        return NULL;
    uint64_t turn = sched_turn(s);
    if (turn - f->turn > 1 && !set_there(f, message))
        return NULL;
    return lua_pushfstring(L, "%s; the %s at %s:%d had failed: %s", message, f->what, f->shown,
                           f->line, f->text);
}
