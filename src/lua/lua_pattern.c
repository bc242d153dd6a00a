/* string.find for sandboxed scripts. It finds the same matches as Lua's own, but a search with too
 * many steps ends as an error. Lua's own practically never ends on patterns such as ("a*"):rep(30),
 * and no hook can interrupt it. Its plain search takes up to the product of both lengths. */
#include "lua/lua_pattern.h"

#include "lua/lua_aux.h"
#include <ctype.h>
#include <string.h>

#define STEPS_MAX 5000000L
/* How much of a set such as [a-z] one step examines. */
#define SET_BYTES 16
#define DEPTH_MAX 180
#define CAPTURES_MAX 32
#define ESCAPE '%'

enum { OPEN = -1, POSITION = -2 };

struct search {
    lua_State *L;
    const char *subject, *subject_end, *pattern_end;
    long steps;
    int depth;
    int level; /* captures so far */
    struct {
        const char *start;
        ptrdiff_t len; /* or OPEN, POSITION */
    } captures[CAPTURES_MAX];
};

static void step(struct search *m)
{
    if (++m->steps <= STEPS_MAX)
        return;
    struct err e;
    err_set(&e, ERR_BUDGET, "the pattern takes more than %ld steps on this text", STEPS_MAX);
    err_reason(&e, "pattern");
    aux_push_err(m->L, &e);
    lua_error(m->L);
}

/* The position after the single-character item at `p`. */
static const char *item_end(struct search *m, const char *p)
{
    if (*p == ESCAPE) {
        if (p + 1 >= m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 2;
    }
    if (*p++ != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    do { /* a ']' in first position is a literal */
        if (p >= m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == ESCAPE)
            p++; /* skip the escaped character, even ']' */
    } while (p >= m->pattern_end || *p != ']');
    return p + 1;
}

static bool in_class(int c, int letter)
{
    bool in;
    switch (tolower(letter)) {
    case 'a':
        in = isalpha(c) != 0;
        break;
    case 'c':
        in = iscntrl(c) != 0;
        break;
    case 'd':
        in = isdigit(c) != 0;
        break;
    case 'g':
        in = isgraph(c) != 0;
        break;
    case 'l':
        in = islower(c) != 0;
        break;
    case 'p':
        in = ispunct(c) != 0;
        break;
    case 's':
        in = isspace(c) != 0;
        break;
    case 'u':
        in = isupper(c) != 0;
        break;
    case 'w':
        in = isalnum(c) != 0;
        break;
    case 'x':
        in = isxdigit(c) != 0;
        break;
    case 'z':
        in = c == 0;
        break;
    default:
        return letter == c;
    }
    return isupper(letter) ? !in : in;
}

/* `p` at '[', `close` at its ']'. */
static bool in_set(int c, const char *p, const char *close)
{
    bool wanted = true;
    if (*++p == '^') {
        wanted = false;
        p++;
    }
    for (; p < close; p++) {
        if (*p == ESCAPE) {
            p++;
            if (in_class(c, (unsigned char)*p))
                return wanted;
        } else if (p + 2 < close && p[1] == '-') {
            if ((unsigned char)*p <= c && c <= (unsigned char)p[2])
                return wanted;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return wanted;
        }
    }
    return !wanted;
}

static bool item_matches(int c, const char *p, const char *end)
{
    switch (*p) {
    case '.':
        return true;
    case ESCAPE:
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

/* A set costs steps by its length. The next call of step() ends the search if they are used up. */
static void count_set(struct search *m, const char *p, const char *end)
{
    m->steps += (end - p) / SET_BYTES;
}

static bool one(struct search *m, const char *s, const char *p, const char *end)
{
    step(m);
    count_set(m, p, end);
    return s < m->subject_end && item_matches((unsigned char)*s, p, end);
}

static const char *match(struct search *m, const char *s, const char *p);

static const char *balanced(struct search *m, const char *s, const char *p)
{
    if (p + 1 >= m->pattern_end)
        luaL_error(m->L, "unbalanced pattern");
    if (s >= m->subject_end || *s != p[0])
        return NULL;
    int open = 1;
    while (++s < m->subject_end) {
        step(m);
        if (*s == p[1]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *most(struct search *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;
    while (one(m, s + n, p, end))
        n++;
    for (; n >= 0; n--) {
        const char *found = match(m, s + n, end + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *least(struct search *m, const char *s, const char *p, const char *end)
{
    for (;;) {
        const char *found = match(m, s, end + 1);
        if (found)
            return found;
        if (!one(m, s, p, end))
            return NULL;
        s++;
    }
}

static const char *open_capture(struct search *m, const char *s, const char *p, ptrdiff_t what)
{
    if (m->level >= CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->level].start = s;
    m->captures[m->level].len = what;
    m->level++;
    const char *found = match(m, s, p);
    if (!found)
        m->level--;
    return found;
}

static const char *close_capture(struct search *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->captures[i].len != OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].start;
    const char *found = match(m, s, p);
    if (!found)
        m->captures[i].len = OPEN;
    return found;
}

static const char *back_reference(struct search *m, const char *s, int digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->captures[i].len == OPEN)
        luaL_error(m->L, "invalid capture index");
    ptrdiff_t len = MAX(m->captures[i].len, 0);
    m->steps += (long)len;
    if (m->subject_end - s < len || memcmp(m->captures[i].start, s, (size_t)len) != 0)
        return NULL;
    return s + len;
}

static bool at_frontier(struct search *m, const char *s, const char *set, const char *end)
{
    int before = s == m->subject ? 0 : (unsigned char)s[-1];
    int here = s < m->subject_end ? (unsigned char)*s : 0;
    return !in_set(before, set, end - 1) && in_set(here, set, end - 1);
}

static const char *match_here(struct search *m, const char *s, const char *p)
{
    while (p < m->pattern_end) {
        step(m);
        if (*p == '(') {
            bool position = p + 1 < m->pattern_end && p[1] == ')';
            return open_capture(m, s, p + (position ? 2 : 1), position ? POSITION : OPEN);
        }
        if (*p == ')')
            return close_capture(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pattern_end)
            return s == m->subject_end ? s : NULL;
        char kind = *p == ESCAPE && p + 1 < m->pattern_end ? p[1] : '\0';
        if (kind == 'b') {
            s = balanced(m, s, p + 2);
            if (!s)
                return NULL;
            p += 4;
            continue;
        }
        if (kind == 'f') {
            p += 2;
            if (p >= m->pattern_end || *p != '[')
                luaL_error(m->L, "missing '[' after '%%f' in pattern");
            const char *end = item_end(m, p);
            count_set(m, p, end);
            if (!at_frontier(m, s, p, end))
                return NULL;
            p = end;
            continue;
        }
        if (isdigit((unsigned char)kind)) {
            s = back_reference(m, s, (unsigned char)kind);
            if (!s)
                return NULL;
            p += 2;
            continue;
        }
        const char *end = item_end(m, p);
        count_set(m, p, end);
        char suffix = end < m->pattern_end ? *end : '\0';
        if (suffix == '*')
            return most(m, s, p, end);
        if (suffix == '-')
            return least(m, s, p, end);
        bool is = one(m, s, p, end);
        if (suffix == '+')
            return is ? most(m, s + 1, p, end) : NULL;
        if (suffix == '?') {
            const char *found = is ? match(m, s + 1, end + 1) : NULL;
            if (found)
                return found;
            p = end + 1;
            continue;
        }
        if (!is)
            return NULL;
        s++;
        p = end;
    }
    return s;
}

static const char *match(struct search *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    const char *found = match_here(m, s, p);
    m->depth--;
    return found;
}

/* find(text, pattern, from): start, end and captures of the first match at or after `from`; nil if
 * there is none. `from`: 1 to length + 1. */
static int l_find(lua_State *L)
{
    size_t len, pattern_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    size_t from = (size_t)aux_check_integer(L, 3, "find: from", 1, (int64_t)len + 1);
    struct search m = {
        .L = L, .subject = text, .subject_end = text + len, .pattern_end = pattern + pattern_len};
    bool anchored = pattern_len > 0 && pattern[0] == '^';
    const char *s = text + from - 1, *end = NULL;
    for (;; s++) {
        m.level = m.depth = 0;
        end = match(&m, s, pattern + anchored);
        if (end || anchored || s >= m.subject_end)
            break;
    }
    if (!end) {
        lua_pushnil(L);
        return 1;
    }
    luaL_checkstack(L, m.level + 2, "too many captures");
    lua_pushnumber(L, (double)(s - text + 1));
    lua_pushnumber(L, (double)(end - text));
    for (int i = 0; i < m.level; i++) {
        if (m.captures[i].len == OPEN)
            luaL_error(L, "unfinished capture");
        if (m.captures[i].len == POSITION)
            lua_pushnumber(L, (double)(m.captures[i].start - text + 1));
        else
            lua_pushlstring(L, m.captures[i].start, (size_t)m.captures[i].len);
    }
    return m.level + 2;
}

/* plain(text, wanted, from): start and end of the first `wanted` at or after `from`, or nil. */
static int l_plain(lua_State *L)
{
    size_t len, wanted_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *wanted = luaL_checklstring(L, 2, &wanted_len);
    size_t from = (size_t)aux_check_integer(L, 3, "find: from", 1, (int64_t)len + 1);
    const char *at = memmem(text + from - 1, len - (from - 1), wanted, wanted_len);
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushnumber(L, (double)(at - text + 1));
    lua_pushnumber(L, (double)(at - text) + (double)wanted_len);
    return 2;
}

int lua_open_pattern(lua_State *L, struct rt *rt)
{
    static const luaL_Reg functions[] = {{"find", l_find}, {"plain", l_plain}, {NULL, NULL}};
    lua_newtable(L);
    rt_setfuncs(L, rt, functions);
    return 1;
}
