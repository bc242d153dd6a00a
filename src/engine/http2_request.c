#include "engine/http2_request.h"
#include "engine/http2_deliver.h"
#include <string.h>
#include <strings.h>

enum {
    PSEUDO_FIELDS = 4,
    /* What HPACK may add to a field: two lengths, and rounding. nghttp2 refuses to send a head
     * whose largest possible size passes HTTP2_MAX_FIELD_BYTES. */
    FIELD_EXTRA = 16,
};

struct head {
    nghttp2_nv fields[PSEUDO_FIELDS + HTTP2_MAX_FIELDS + 1];
    size_t count, bytes;
};

/* nghttp2 copies both, and puts the name into lower case. */
static void add(struct head *h, const char *name, size_t name_len, const char *value, size_t len)
{
    h->fields[h->count++] = (nghttp2_nv){
        .name = (uint8_t *)name, .namelen = name_len, .value = (uint8_t *)value, .valuelen = len};
    h->bytes += name_len + len + FIELD_EXTRA;
}

static bool is(const char *name, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(name, word, len) == 0;
}

static size_t trim(const char **value, size_t len)
{
    while (len > 0 && (**value == ' ' || **value == '\t')) {
        ++*value;
        len--;
    }
    while (len > 0 && ((*value)[len - 1] == ' ' || (*value)[len - 1] == '\t'))
        len--;
    return len;
}

/* Whether `name` is a word of a list such as "close, x-mine". */
static bool listed(const char *list, const char *name, size_t len)
{
    while (*list) {
        list += strspn(list, " \t,");
        const char *word = list;
        size_t n = strcspn(list, ",");
        list += n;
        if (trim(&word, n) == len && len > 0 && strncasecmp(word, name, len) == 0)
            return true;
    }
    return false;
}

/* RFC 9113 8.2.2. Most names are decided by their length. */
static bool of_connection(const char *name, size_t len, const char *value, size_t value_len)
{
    switch (len) {
    case 2:
        return is(name, len, "te") && !is(value, value_len, "trailers");
    case 4:
        return is(name, len, "host"); /* :authority says it */
    case 7:
        return is(name, len, "upgrade");
    case 10:
        return is(name, len, "connection") || is(name, len, "keep-alive");
    case 14:
        return is(name, len, "http2-settings");
    case 16:
        return is(name, len, "proxy-connection");
    case 17:
        return is(name, len, "transfer-encoding");
    default:
        return false;
    }
}

static bool named_by_connection(const struct headers *all, const char *name, size_t len)
{
    size_t from = 0;
    const char *list;
    while ((list = headers_get(all, "connection", &from, NULL)) != NULL) {
        if (listed(list, name, len))
            return true;
    }
    return false;
}

static void add_headers(struct head *h, const struct headers *all)
{
    bool lists = headers_get(all, "connection", NULL, NULL) != NULL;
    for (size_t i = 0; i < all->count; i++) {
        const char *name = headers_name(all, i), *value = headers_value(all, i);
        size_t name_len = all->rows[i].name_len;
        size_t len = trim(&value, all->rows[i].value_len);
        if (!of_connection(name, name_len, value, len) &&
            !(lists && named_by_connection(all, name, name_len)))
            add(h, name, name_len, value, len);
    }
}

/* `digits` must live as long as `h`. */
static enum err_kind make_head(struct head *h, const struct http2_request *r, char digits[24],
                               struct err *err)
{
    h->count = h->bytes = 0;
    add(h, ":method", 7, r->method, strlen(r->method));
    add(h, ":scheme", 7, r->scheme, strlen(r->scheme));
    add(h, ":authority", 10, r->authority, strlen(r->authority));
    add(h, ":path", 5, r->path, strlen(r->path));
    for (size_t i = 0; i < PSEUDO_FIELDS; i++)
        h->fields[i].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    if (r->headers && r->headers->count > HTTP2_MAX_FIELDS)
        return err_set(err, ERR_TOO_LARGE, "more than %d request headers", HTTP2_MAX_FIELDS);
    if (r->headers)
        add_headers(h, r->headers);
    if (r->length >= 0 && (!r->headers || !headers_get(r->headers, "content-length", NULL, NULL))) {
        int n = snprintf(digits, 24, "%lld", (long long)r->length);
        add(h, "content-length", 14, digits, (size_t)n);
    }
    if (h->bytes > HTTP2_MAX_FIELD_BYTES - FIELD_EXTRA)
        return err_set(err, ERR_TOO_LARGE, "the request headers are longer than %d KiB",
                       HTTP2_MAX_FIELD_BYTES >> 10);
    return ERR_NONE;
}

/* nghttp2 asks for the next piece of a body. */
static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *out, size_t cap, uint32_t *flags,
                         nghttp2_data_source *source, void *session)
{
    UNUSED(source); /* the stream may be gone; nghttp2's own entry is kept up to date */
    struct http2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
    if (!s)
        return NGHTTP2_ERR_DEFERRED; /* its reset is on the way */
    /* A frame and its head fit into one TLS record. */
    cap = MIN(cap, (size_t)(HTTP2_RECORD - HTTP2_FRAME_HEAD));
    bool ended = false;
    ssize_t n;
    if (s->uploads) {
        n = http2_deliver_upload(s, (char *)out, cap, &ended);
        const struct http2 *h = session;
        if (n < 0)
            return http2_session_alive(h) ? NGHTTP2_ERR_DEFERRED : NGHTTP2_ERR_CALLBACK_FAILURE;
        s->starved = n == 0 && !ended;
        if (s->starved)
            return NGHTTP2_ERR_DEFERRED;
    } else {
        size_t len = MIN(cap, s->body_len);
        memcpy(out, s->body, len);
        s->body += len;
        s->body_len -= len;
        ended = s->body_len == 0;
        n = (ssize_t)len;
    }
    if (ended)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return n;
}

enum err_kind http2_request_submit(struct http2 *h, struct http2_stream *s,
                                   const struct http2_request *r, struct err *err)
{
    struct head head;
    char digits[24];
    enum err_kind kind = make_head(&head, r, digits, err);
    if (kind != ERR_NONE)
        return kind;
    s->uploads = r->uploads;
    s->body = r->body;
    s->body_len = r->body_len;
    nghttp2_data_provider provider = {.read_callback = read_body};
    bool has_body = r->uploads || r->body_len > 0;
    int32_t id = nghttp2_submit_request(h->ng, NULL, head.fields, head.count,
                                        has_body ? &provider : NULL, s);
    if (id < 0) {
        http2_session_check(h, id);
        return id == NGHTTP2_ERR_NOMEM
                   ? err_set(err, ERR_MEMORY, "no memory for a request")
                   : err_set(err, ERR_CLOSED, "the HTTP/2 connection takes no request: %s",
                             nghttp2_strerror(id));
    }
    http2_deliver_begin(s, h, id);
    return ERR_NONE;
}
