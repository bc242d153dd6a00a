#include "ground/reference.h"

#include <string.h>
#include <strings.h>

/* A part of a text. `at` NULL: the part is absent, which is not the same as empty. */
struct part {
    const char *at;
    size_t len;
};

struct parts {
    struct part scheme, authority, path, query, fragment;
};

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The length of the scheme before a colon; 0: there is none. */
static size_t scheme_len(const char *text)
{
    size_t n = 0;
    if (!is_alpha(text[0]))
        return 0;
    while (is_alpha(text[n]) || (text[n] != '\0' && strchr("0123456789+-.", text[n])))
        n++;
    return text[n] == ':' ? n : 0;
}

/* RFC 3986, appendix B. */
static struct parts split(const char *text)
{
    struct parts p = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    size_t n = scheme_len(text);
    if (n > 0) {
        p.scheme = (struct part){text, n};
        text += n + 1;
    }
    if (text[0] == '/' && text[1] == '/') {
        text += 2;
        p.authority = (struct part){text, strcspn(text, "/?#")};
        text += p.authority.len;
    }
    p.path = (struct part){text, strcspn(text, "?#")};
    text += p.path.len;
    if (*text == '?') {
        p.query = (struct part){text + 1, strcspn(text + 1, "#")};
        text += 1 + p.query.len;
    }
    if (*text == '#')
        p.fragment = (struct part){text + 1, strlen(text + 1)};
    return p;
}

static enum err_kind put(struct buf *out, const char *before, struct part part, const char *behind)
{
    if (part.at == NULL)
        return ERR_NONE;
    enum err_kind kind = buf_append_str(out, before);
    if (kind == ERR_NONE)
        kind = buf_append(out, part.at, part.len);
    return kind == ERR_NONE ? buf_append_str(out, behind) : kind;
}

/* Appends the segments of `path` ("/a/b") to those that `out` has from `root` on, and removes "."
 * and "..". `last`: no more segments follow, so a dot segment at the end keeps its slash. */
static enum err_kind put_segments(struct buf *out, size_t root, struct part path, bool last)
{
    const char *at = path.at, *end = path.at + path.len;
    enum err_kind kind = ERR_NONE;
    while (kind == ERR_NONE && at <= end) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t len = (size_t)((slash ? slash : end) - at);
        bool dot = len == 1 && at[0] == '.', dots = len == 2 && memcmp(at, "..", 2) == 0;
        if (dots) {
            while (out->len > root && out->data[--out->len] != '/')
                ;
            if (out->data)
                out->data[out->len] = '\0';
        }
        if (!dot && !dots)
            kind = put(out, "/", (struct part){at, len}, "");
        else if (!slash && last)
            kind = buf_append_str(out, "/");
        at = slash ? slash + 1 : end + 1;
    }
    return kind;
}

/* RFC 3986, 5.2.3 and 5.2.4: a path that does not begin with a slash replaces the last segment of
 * the base's path. */
static enum err_kind put_path(struct buf *out, struct part base, struct part path)
{
    size_t root = out->len;
    enum err_kind kind = ERR_NONE;
    if (path.len > 0 && path.at[0] == '/')
        return put_segments(out, root, (struct part){path.at + 1, path.len - 1}, true);
    while (base.len > 0 && base.at[base.len - 1] != '/')
        base.len--;
    if (base.len > 1)
        kind = put_segments(out, root, (struct part){base.at + 1, base.len - 2}, false);
    return kind == ERR_NONE ? put_segments(out, root, path, true) : kind;
}

static bool same_scheme(struct part a, struct part b)
{
    return a.at && a.len == b.len && strncasecmp(a.at, b.at, a.len) == 0;
}

enum err_kind reference_resolve(struct buf *out, const char *base_text, const char *reference)
{
    struct parts base = split(base_text), r = split(reference);
    if (same_scheme(r.scheme, base.scheme) && !r.authority.at)
        r.scheme.at = NULL;
    if (r.scheme.at)
        return buf_append_str(out, reference);
    bool own_path = r.authority.at || r.path.len > 0;
    enum err_kind kind = put(out, "", base.scheme, ":");
    if (kind == ERR_NONE)
        kind = put(out, "//", r.authority.at ? r.authority : base.authority, "");
    if (kind == ERR_NONE && r.path.len > 0)
        kind = put_path(out, base.path, r.path);
    else if (kind == ERR_NONE && !own_path)
        kind = put(out, "", base.path, "");
    if (kind == ERR_NONE)
        kind = put(out, "?", own_path || r.query.at ? r.query : base.query, "");
    return kind == ERR_NONE ? put(out, "#", r.fragment, "") : kind;
}
