#include "ground/sse.h"
#include <string.h>

enum { BOM_BYTES = 3 };
#define RETRY_MAX_MS ((int64_t)24 * 60 * 60 * 1000)

static const char bom_bytes[BOM_BYTES + 1] = "\xef\xbb\xbf";

void sse_init(struct sse *s, struct mem *mem, size_t max_event_bytes)
{
    *s = (struct sse){.max_bytes = max_event_bytes, .retry_ms = -1};
    buf_init(&s->line, mem, max_event_bytes);
    buf_init(&s->data, mem, max_event_bytes);
    buf_init(&s->type, mem, max_event_bytes);
    buf_init(&s->id, mem, max_event_bytes);
    buf_init(&s->stray, mem, SSE_STRAY_BYTES);
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->data);
    buf_fini(&s->type);
    buf_fini(&s->id);
    buf_fini(&s->stray);
}

const char *sse_stray(const struct sse *s, size_t *len)
{
    *len = s->stray.len;
    return s->stray.len > 0 ? s->stray.data : NULL;
}

int64_t sse_retry_ms(const struct sse *s)
{
    return s->retry_ms;
}

static bool note(struct sse *s, enum err_kind kind, const char *what)
{
    if (kind == ERR_NONE)
        return true;
    if (kind == ERR_TOO_LARGE)
        err_set(&s->failed, kind, "%s of the event stream is larger than %zu bytes", what,
                s->max_bytes);
    else
        err_set(&s->failed, kind, "no memory for the event stream");
    return false;
}

static bool append(struct sse *s, struct buf *b, const char *bytes, size_t len, const char *what)
{
    return note(s, buf_append(b, bytes, len), what);
}

/* Copies data that still lies in the input into a buffer, where it can grow and outlive the input.
 */
static bool settle_direct(struct sse *s)
{
    const char *bytes = s->direct;
    s->direct = NULL;
    return !bytes || append(s, &s->data, bytes, s->direct_len, "an event");
}

/* `stays`: the value lies in the input, not in the line buffer, which the next line will overwrite.
 */
static bool add_data(struct sse *s, const char *value, size_t len, bool stays)
{
    if (len > s->max_bytes)
        return note(s, ERR_TOO_LARGE, "an event");
    if (!s->has_data && stays) {
        s->direct = value;
        s->direct_len = len;
        s->has_data = true;
        return true;
    }
    bool first = !s->has_data;
    s->has_data = true;
    return settle_direct(s) && (first || append(s, &s->data, "\n", 1, "an event")) &&
           append(s, &s->data, value, len, "an event");
}

static void set_retry(struct sse *s, const char *value, size_t len)
{
    int64_t ms = 0;
    if (len == 0)
        return;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return;
        ms = MIN(ms * 10 + (value[i] - '0'), RETRY_MAX_MS);
    }
    s->retry_ms = ms;
}

static bool is(const char *name, size_t len, const char *word, size_t word_len)
{
    return len == word_len && memcmp(name, word, len) == 0;
}

/* Keeps a line that is no field. Nothing depends on it, so it is left out if there is no room or no
 * memory. */
static void keep_stray(struct sse *s, const char *line, size_t len)
{
    size_t room = SSE_STRAY_BYTES - s->stray.len;
    if (room < 2)
        return;
    len = MIN(len, room - 1);
    if (buf_reserve(&s->stray, len + 1) != ERR_NONE)
        return;
    memcpy(s->stray.data + s->stray.len, line, len);
    s->stray.data[s->stray.len + len] = '\n';
    buf_commit(&s->stray, len + 1);
}

static bool field(struct sse *s, const char *line, size_t len, bool stays)
{
    const char *colon = memchr(line, ':', len);
    if (colon == line)
        return true; /* a comment */
    size_t name_len = colon ? (size_t)(colon - line) : len;
    const char *value = colon ? colon + 1 : line + len;
    size_t value_len = (size_t)(line + len - value);
    if (value_len > 0 && value[0] == ' ') {
        value++;
        value_len--;
    }
    if (is(line, name_len, "data", 4))
        return add_data(s, value, value_len, stays);
    if (is(line, name_len, "event", 5)) {
        buf_clear(&s->type);
        return append(s, &s->type, value, value_len, "an event's name");
    }
    if (is(line, name_len, "id", 2)) {
        if (memchr(value, '\0', value_len))
            return true;
        buf_clear(&s->id);
        return append(s, &s->id, value, value_len, "an event's id");
    }
    if (is(line, name_len, "retry", 5))
        set_retry(s, value, value_len);
    else
        keep_stray(s, line, len);
    return true;
}

static void show(const struct sse *s, struct sse_event *out)
{
    out->data = s->direct ? s->direct : s->data.len ? s->data.data : "";
    out->data_len = s->direct ? s->direct_len : s->data.len;
    out->type = s->type.len ? s->type.data : "message";
    out->type_len = s->type.len ? s->type.len : 7;
    out->id = s->id.len ? s->id.data : "";
    out->id_len = s->id.len;
}

static void clear_event(struct sse *s)
{
    buf_clear(&s->data);
    buf_clear(&s->type);
    s->direct = NULL;
    s->has_data = s->handed_out = false;
}

/* Skips a byte order mark at the very beginning. It may arrive in several pieces. */
static bool skip_bom(struct sse *s, const char **p, const char *end)
{
    while (s->bom < BOM_BYTES && *p < end) {
        if (**p != bom_bytes[s->bom]) {
            unsigned seen = s->bom;
            s->bom = BOM_BYTES;
            return append(s, &s->line, bom_bytes, seen, "a line"); /* it was not one */
        }
        s->bom++;
        (*p)++;
    }
    return true;
}

/* Searches block by block. In input with CRs only, searching for the next LF each time would take
 * quadratic time. */
static const char *line_end(const char *p, const char *end)
{
    enum { BLOCK = 1024 };
    for (; p < end; p += MIN((size_t)BLOCK, (size_t)(end - p))) {
        size_t len = MIN((size_t)BLOCK, (size_t)(end - p));
        const char *lf = memchr(p, '\n', len);
        const char *cr = memchr(p, '\r', lf ? (size_t)(lf - p) : len);
        if (cr || lf)
            return cr ? cr : lf;
    }
    return NULL;
}

static enum sse_result parse(struct sse *s, const char **p, const char *end, struct sse_event *out)
{
    if (!skip_bom(s, p, end))
        return SSE_FAILED;
    while (*p < end) {
        if (s->skip_lf && **p == '\n')
            (*p)++;
        s->skip_lf = false;
        if (*p == end)
            break;
        const char *stop = line_end(*p, end);
        if (!stop) {
            bool kept = append(s, &s->line, *p, (size_t)(end - *p), "a line");
            *p = end;
            return kept && settle_direct(s) ? SSE_MORE : SSE_FAILED;
        }
        const char *line = *p;
        size_t len = (size_t)(stop - line);
        bool stays = s->line.len == 0;
        *p = stop + 1;
        if (*stop ==
            '\r') { /* an LF after it belongs to it, even if it arrives in the next piece */
            if (*p < end && **p == '\n')
                (*p)++;
            else
                s->skip_lf = *p == end;
        }
        if (!stays) {
            if (!append(s, &s->line, line, len, "a line"))
                return SSE_FAILED;
            line = s->line.data;
            len = s->line.len;
        } else if (len > s->max_bytes) { /* the same limit as for a line that arrives in pieces */
            note(s, ERR_TOO_LARGE, "a line");
            return SSE_FAILED;
        }
        if (len > 0) {
            if (!field(s, line, len, stays))
                return SSE_FAILED;
            buf_clear(&s->line);
        } else if (s->has_data) {
            s->handed_out = true;
            show(s, out);
            return SSE_EVENT;
        } else {
            clear_event(s);
        }
    }
    return settle_direct(s) ? SSE_MORE : SSE_FAILED;
}

enum sse_result sse_next(struct sse *s, const char **in, size_t *len, struct sse_event *out,
                         struct err *err)
{
    const char *end = *in + *len;
    enum sse_result result = SSE_FAILED;
    if (s->handed_out)
        clear_event(s);
    if (s->failed.kind == ERR_NONE)
        result = parse(s, in, end, out);
    if (result == SSE_FAILED)
        *err = s->failed;
    *len = (size_t)(end - *in);
    return result;
}

bool sse_finish(struct sse *s, struct sse_event *out)
{
    if (s->handed_out)
        clear_event(s);
    if (s->failed.kind != ERR_NONE)
        return false;
    if (s->line.len > 0 && !field(s, s->line.data, s->line.len, true))
        return false;
    show(s, out);
    return s->has_data || s->type.len > 0;
}
