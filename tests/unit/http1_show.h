/* Writes down all that http1_parse finds in some bytes, as text that is easy to compare:
 *
 *     head 1.1 200 [OK] length 5 keep {Content-Length=5}
 *     body [hello]
 *     done [bytes that belong to the next message]
 *
 * or `failed REASON`. The bytes of a body are joined, so that the text does not depend on how they
 * were cut. The unit test and the fuzzers use it. */
#pragma once

#include "ground/http1_parse.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct http1_show {
    char *text;
    size_t len, cap;
    bool in_body;
};

__attribute__((unused)) static void http1_show_bytes(struct http1_show *s, const char *bytes,
                                                     size_t len)
{
    if (len >= s->cap - s->len) {
        s->cap = (s->len + len + 256) * 2;
        s->text = realloc(s->text, s->cap);
        ASSERT(s->text != NULL);
    }
    if (len != 0)
        memcpy(s->text + s->len, bytes, len);
    s->len += len;
    s->text[s->len] = '\0';
}

PRINTF_LIKE(2, 3)
__attribute__((unused)) static void http1_show_text(struct http1_show *s, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0 && (size_t)n < sizeof text);
    http1_show_bytes(s, text, (size_t)n);
}

__attribute__((unused)) static void http1_show_fields(struct http1_show *s,
                                                      const struct http1_head *h)
{
    http1_show_text(s, " {");
    for (size_t i = 0; i < h->count; i++) {
        const struct header *row = &h->rows[i];
        ASSERT(row->name_off + row->name_len < row->value_off + 1);
        ASSERT((size_t)row->value_off + row->value_len < h->fields_len);
        if (i != 0)
            http1_show_text(s, "; ");
        http1_show_bytes(s, h->fields + row->name_off, row->name_len);
        http1_show_text(s, "=");
        http1_show_bytes(s, h->fields + row->value_off, row->value_len);
    }
    http1_show_text(s, "}\n");
}

__attribute__((unused)) static void http1_show_head(struct http1_show *s,
                                                    const struct http1_head *h)
{
    static const char *const bodies[] = {
        [HTTP1_NO_BODY] = "none",
        [HTTP1_LENGTH] = "length",
        [HTTP1_CHUNKED] = "chunked",
        [HTTP1_UNTIL_CLOSE] = "close",
    };
    http1_show_text(s, "head 1.%u %u [", h->minor, h->status);
    http1_show_bytes(s, h->word, h->word_len);
    http1_show_text(s, "] ");
    if (h->target != NULL) {
        http1_show_bytes(s, h->target, h->target_len);
        http1_show_text(s, " ");
    }
    http1_show_text(s, "%s", bodies[h->body]);
    if (h->content_length >= 0)
        http1_show_text(s, " %lld", (long long)h->content_length);
    http1_show_text(s, "%s%s%s%s%s", h->keep_alive ? " keep" : "", h->coded ? " coded" : "",
                    h->upgrade ? " upgrade" : "", h->expect ? " expect" : "",
                    h->informational ? " interim" : "");
    http1_show_fields(s, h);
}

__attribute__((unused)) static void http1_show_end_of_body(struct http1_show *s)
{
    if (s->in_body)
        http1_show_text(s, "]\n");
    s->in_body = false;
}

__attribute__((unused)) static void http1_show_event(struct http1_show *s, enum http1_result result,
                                                     const struct http1_event *e)
{
    if (result == HTTP1_BODY) {
        ASSERT(e->len != 0);
        if (!s->in_body)
            http1_show_text(s, "body [");
        s->in_body = true;
        http1_show_bytes(s, e->data, e->len);
        return;
    }
    http1_show_end_of_body(s);
    if (result == HTTP1_HEAD)
        http1_show_head(s, &e->head);
    if (result == HTTP1_TRAILERS) {
        http1_show_text(s, "trailers");
        http1_show_fields(s, &e->head);
    }
}

/* The end: of the message with what is left, or of the connection. */
__attribute__((unused)) static void http1_show_end(struct http1_show *s, struct http1_parser *p,
                                                   enum http1_result result, const char *rest,
                                                   size_t len)
{
    struct err err = {.kind = ERR_NONE};
    size_t zero = 0;
    if (result == HTTP1_MORE)
        result = http1_parse_end(p, &err);
    else if (result == HTTP1_FAILED)
        result = http1_parse_next(p, &rest, &zero, NULL, &err); /* it says so again */
    http1_show_end_of_body(s);
    if (result == HTTP1_FAILED) {
        ASSERT(err.message[0] != '\0');
        ASSERT(err.kind == (strcmp(err.reason, "truncated") == 0 ? ERR_CLOSED : ERR_PROTOCOL));
        http1_show_text(s, "failed %s\n", err.reason);
        return;
    }
    ASSERT(result == HTTP1_DONE);
    http1_show_text(s, "done [");
    http1_show_bytes(s, rest, len);
    http1_show_text(s, "]\n");
}
