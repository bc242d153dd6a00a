#include "faultd.h"

void *xmalloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) {
        fprintf(stderr, "faultd: out of memory\n");
        exit(2);
    }
    return p;
}

static void reserve(struct bytes *b, size_t len)
{
    if (b->cap - b->len > len)
        return;
    size_t cap = b->cap ? b->cap : 512;
    while (cap - b->len <= len)
        cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        fprintf(stderr, "faultd: out of memory\n");
        exit(2);
    }
    b->data = data;
    b->cap = cap;
}

void bytes_add(struct bytes *b, const void *data, size_t len)
{
    reserve(b, len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

static void add_formatted(struct bytes *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    reserve(b, (size_t)len + 1);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, again);
    va_end(again);
    b->len += (size_t)len;
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_formatted(b, fmt, args);
    va_end(args);
}

struct step *step_printf(struct conn *c, const char *fmt, ...)
{
    struct step *s = step_add(c, STEP_SEND);
    va_list args;
    va_start(args, fmt);
    add_formatted(&s->data, fmt, args);
    va_end(args);
    return s;
}

void bytes_drop(struct bytes *b, size_t n)
{
    b->len -= n;
    if (n && b->len)
        memmove(b->data, b->data + n, b->len);
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

static bool is_utf8(const unsigned char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char ch = s[i++];
        size_t more = ch < 0x80 ? 0 : ch >= 0xc2 && ch < 0xe0 ? 1 : ch >= 0xe0 && ch < 0xf0 ? 2 : 3;
        if ((ch >= 0x80 && ch < 0xc2) || ch > 0xf4 || more > len - i)
            return false;
        for (; more; more--) {
            if ((s[i++] & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

void bytes_json(struct bytes *b, const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    bool raw = is_utf8(u, len);
    bytes_add(b, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (u[i] == '"' || u[i] == '\\')
            bytes_printf(b, "\\%c", u[i]);
        else if (u[i] < 0x20 || u[i] == 0x7f || (u[i] >= 0x80 && !raw))
            bytes_printf(b, "\\u%04x", u[i]);
        else
            bytes_add(b, s + i, 1);
    }
    bytes_add(b, "\"", 1);
}

/* ---- counters: few paths and few ids, so plain arrays and a linear look-up do */

enum { MAX_PATHS = 128, ID_BUCKETS = 4096 };

struct seen {
    struct seen *next;
    unsigned long count;
    char id[];
};

static struct counter counters[MAX_PATHS];
static size_t counter_count;
static struct counter all = {.path = "*"};
static unsigned long connections, connections_open, connections_peak;
static struct seen *seen_ids[ID_BUCKETS];

struct counter *counter_of(const char *path)
{
    for (size_t i = 0; i < counter_count; i++) {
        if (strncmp(counters[i].path, path, sizeof counters[i].path - 1) == 0)
            return &counters[i];
    }
    /* When the table is full, the last row counts all that is left over. */
    struct counter *c = &counters[counter_count < MAX_PATHS ? counter_count++ : MAX_PATHS - 1];
    snprintf(c->path, sizeof c->path, "%s", path);
    return c;
}

static void begin(struct counter *c)
{
    c->requests++;
    if (++c->in_flight > c->peak_in_flight)
        c->peak_in_flight = c->in_flight;
}

void counter_begin(struct counter *c)
{
    begin(c);
    begin(&all);
}

void counter_end(struct counter *c, bool aborted)
{
    c->in_flight--;
    all.in_flight--;
    if (aborted) {
        c->aborted++;
        all.aborted++;
    }
}

void counter_sent(struct counter *c, size_t len)
{
    c->bytes_sent += len;
    all.bytes_sent += len;
}

void counter_connection(int change)
{
    if (change < 0) {
        connections_open--;
        return;
    }
    connections++;
    if (++connections_open > connections_peak)
        connections_peak = connections_open;
}

static struct seen **seen_bucket(const char *id)
{
    uint32_t hash = 2166136261u;
    for (const char *p = id; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    return &seen_ids[hash % ID_BUCKETS];
}

unsigned long seen_count(const char *id)
{
    for (struct seen *s = *seen_bucket(id); s; s = s->next) {
        if (strcmp(s->id, id) == 0)
            return s->count;
    }
    return 0;
}

void seen_list(struct bytes *out)
{
    for (size_t i = 0; i < ID_BUCKETS; i++) {
        for (const struct seen *s = seen_ids[i]; s; s = s->next)
            bytes_printf(out, "%s %lu\n", s->id, s->count);
    }
}

unsigned long seen_add(const char *id)
{
    struct seen **bucket = seen_bucket(id);
    for (struct seen *s = *bucket; s; s = s->next) {
        if (strcmp(s->id, id) == 0)
            return ++s->count;
    }
    struct seen *s = xmalloc(sizeof *s + strlen(id) + 1);
    memcpy(s->id, id, strlen(id) + 1);
    s->count = 1;
    s->next = *bucket;
    *bucket = s;
    return 1;
}

static void counter_json(struct bytes *out, const struct counter *c)
{
    bytes_printf(out,
                 "\"requests\":%lu,\"in_flight\":%lu,\"peak_in_flight\":%lu,\"aborted\":%lu,"
                 "\"bytes_sent\":%lu",
                 c->requests, c->in_flight, c->peak_in_flight, c->aborted, c->bytes_sent);
}

void stats_json(struct bytes *out)
{
    bytes_printf(out, "{");
    counter_json(out, &all);
    bytes_printf(out, ",\"connections\":%lu,\"connections_open\":%lu,\"connections_peak\":%lu",
                 connections, connections_open, connections_peak);
    bytes_printf(out, ",\"paths\":{");
    for (size_t i = 0; i < counter_count; i++) {
        bytes_printf(out, i ? "," : "");
        bytes_json(out, counters[i].path, strlen(counters[i].path));
        bytes_printf(out, ":{");
        counter_json(out, &counters[i]);
        bytes_printf(out, "}");
    }
    bytes_printf(out, "},");
    proxy_stats_json(out);
    bytes_printf(out, "}");
}

static void reset(struct counter *c)
{
    c->requests = c->aborted = c->bytes_sent = 0;
    c->peak_in_flight = c->in_flight;
}

void stats_reset(void)
{
    reset(&all);
    for (size_t i = 0; i < counter_count; i++)
        reset(&counters[i]);
    proxy_stats_reset();
    connections = 0;
    connections_peak = connections_open;
    for (size_t i = 0; i < ID_BUCKETS; i++) {
        while (seen_ids[i]) {
            struct seen *s = seen_ids[i];
            seen_ids[i] = s->next;
            free(s);
        }
    }
}
