#include "ground/redact.h"

#include "ground/secret.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

struct writer {
    char *out;
    size_t size, len;
};

static void put(struct writer *w, const char *s, size_t len)
{
    for (size_t i = 0; i < len && w->len + 1 < w->size; i++) {
        unsigned char c = (unsigned char)s[i];
        /* A line break in a URL must not add a forged line to the log. */
        w->out[w->len++] = c < 0x20 || c == 0x7f ? '?' : s[i];
    }
}

static void put_raw(struct writer *w, const char *s, size_t len)
{
    for (size_t i = 0; i < len && w->len + 1 < w->size; i++)
        w->out[w->len++] = s[i];
}

static bool slash(char c)
{
    return c == '/' || c == '\\';
}

static bool ends_authority(char c)
{
    return slash(c) || c == '?' || c == '#';
}

/* The start of the authority: after "scheme://", "//" and misspelt forms of them. 0 if there is no
 * such mark, as in "user:pw@host/". `len` for a path, which has no authority. */
static size_t authority_start(const char *url, size_t len)
{
    size_t mark = 0;
    while (mark < len && !ends_authority(url[mark]) && url[mark] != '@')
        mark++;
    size_t run = mark;
    while (run < len && slash(url[run]))
        run++;
    if (run == mark)
        return 0;
    if (mark == 0)
        return run >= 2 ? run : len;
    return url[mark - 1] == ':' ? run : 0;
}

/* The end of the userinfo (without "@"), or `start` if there is none. An unescaped "/", "?" or "#"
 * in a password makes its beginning look like a host and a port. A port that is not a number shows
 * this. */
static size_t userinfo_end(const char *url, size_t len, size_t start)
{
    size_t end = start;
    while (end < len && !ends_authority(url[end]))
        end++;
    size_t at = start;
    bool odd_port = false, colon = false;
    for (size_t i = start; i < end; i++) {
        if (url[i] == '@') {
            at = i;
            colon = odd_port = false;
        } else if (url[i] == ':') {
            colon = true;
        } else if (url[i] == '[') {
            while (i < end && url[i] != ']')
                i++;
        } else if (colon && (url[i] < '0' || url[i] > '9')) {
            odd_port = true;
        }
    }
    if (odd_port || (end < len && url[end] == '\\')) {
        for (size_t i = end; i < len; i++) {
            if (url[i] == '@')
                at = i;
        }
    }
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t decode(char *out, size_t size, const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n < size; i++) {
        int hi = s[i] == '%' && i + 2 < len ? hex_digit(s[i + 1]) : -1;
        int lo = hi >= 0 ? hex_digit(s[i + 2]) : -1;
        if (lo >= 0) {
            out[n++] = (char)(hi * 16 + lo);
            i += 2;
        } else {
            out[n++] = s[i];
        }
    }
    return n;
}

static bool secret_pair(const char *name, size_t name_len, const char *value, size_t value_len)
{
    char plain[512];
    size_t n = decode(plain, sizeof(plain), name, name_len);
    /* The name is also checked undecoded: it may be too long to decode. */
    if (secret_name(plain, n) || secret_name(name, name_len))
        return true;
    /* The parameter's value may itself be a URL with userinfo. */
    n = decode(plain, sizeof(plain), value, value_len);
    return memmem(plain, n, "://", 3) && memchr(plain, '@', n) != NULL;
}

/* Copies path, query and fragment. Each of them may contain "name=value" (matrix parameters, a
 * token in the fragment). The value of a secret ends at the next delimiter of its part. */
static void put_rest(struct writer *w, const char *s, size_t len)
{
    bool in_path = true;
    size_t i = 0;
    while (i < len) {
        size_t name = i;
        while (i < len && strchr(in_path ? "=&;?#/" : "=&;?#", s[i]) == NULL)
            i++;
        if (i == len || s[i] != '=') {
            size_t end = i;
            if (i < len) {
                if (s[i] == '?' || s[i] == '#')
                    in_path = false;
                i++;
            }
            bool hidden = secret_segment(s + name, end - name);
            put(w, hidden ? "***" : s + name, hidden ? 3 : end - name);
            put(w, s + end, i - end);
            continue;
        }
        size_t value = ++i;
        while (i < len && strchr(in_path ? "&;?#/" : "&#", s[i]) == NULL)
            i++;
        bool odd_name = secret_segment(s + name, value - 1 - name);
        put(w, odd_name ? "***=" : s + name, odd_name ? 4 : value - name);
        if (i > value && (secret_pair(s + name, value - 1 - name, s + value, i - value) ||
                          secret_segment(s + value, i - value))) {
            put(w, "***", 3);
        } else if (memchr(s + value, ';', i - value) != NULL ||
                   memchr(s + value, '?', i - value) != NULL) {
            i = value; /* a value that is not a secret may contain further pairs */
            while (i < len && strchr("&;?#", s[i]) == NULL)
                i++;
            put(w, s + value, i - value);
        } else {
            put(w, s + value, i - value);
        }
    }
}

void redact_path(char *out, size_t size, const char *path)
{
    size_t len = strlen(path);
    if (strstr(path, "://") != NULL) {
        redact_url(out, size, path, len);
        return;
    }
    struct writer w = {.out = out, .size = size};
    put_rest(&w, path, len);
    out[w.len] = '\0';
}

void redact_words(char *out, size_t size, const char *text)
{
    struct writer w = {.out = out, .size = size};
    bool bearer = false; /* the previous word was "Bearer" */
    while (*text && w.len + 1 < size) {
        size_t gap = strspn(text, " \t\r\n"), len = strcspn(text + gap, " \t\r\n");
        put_raw(&w, text, gap);
        text += gap;
        if (memmem(text, len, "://", 3)) {
            char url[1024];
            redact_url(url, sizeof url, text, len);
            put(&w, url, strlen(url));
        } else if (len > 0 && (bearer || secret_segment(text, len))) {
            put(&w, "***", 3);
        } else {
            put_raw(&w, text, len);
        }
        bearer = len == 6 && strncasecmp(text, "bearer", len) == 0;
        text += len;
    }
    out[w.len] = '\0';
}

void redact_url(char *out, size_t size, const char *url, size_t len)
{
    if (size == 0)
        return;
    struct writer w = {.out = out, .size = size};
    size_t start = authority_start(url, len);
    size_t rest = 0;
    if (start < len) {
        rest = userinfo_end(url, len, start);
        put(&w, url, start);
        if (url[rest] == '@')
            put(&w, "***", 3);
    }
    put_rest(&w, url + rest, len - rest);
    out[w.len] = '\0';
}
