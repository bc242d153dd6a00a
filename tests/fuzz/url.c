/* Fuzzes the check of what a request sends (see run.sh). What must hold for any method, URL, header
 * name and value, here between bytes 0xfe: refused with a message, or nothing in what is sent that
 * could end a line or be a control byte; and what was accepted is accepted again as it then is. */
#include "engine/transfer.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { METHOD, URL, NAME, VALUE, PARTS };

static void check_text(const char *text, size_t len, const char *also_allowed)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        ASSERT((c >= 0x20 && c != 0x7f) || (c != 0 && strchr(also_allowed, c)));
    }
}

static void check_sent(const struct transfer_spec *spec)
{
    ASSERT(spec->url && strlen(spec->url) > 7);
    ASSERT(strncasecmp(spec->url, "http://", 7) == 0 || strncasecmp(spec->url, "https://", 8) == 0);
    check_text(spec->url, strlen(spec->url), "");
    ASSERT(!strpbrk(spec->url, " \\"));
    const char *host = strstr(spec->url, "//") + 2;
    ASSERT(!memchr(host, '@', strcspn(host, "/?")));
    ASSERT(strcspn(host, "/?:") > 0);
    if (spec->method) {
        ASSERT(spec->method[0] != '\0' && !strpbrk(spec->method, " :/\t"));
        check_text(spec->method, strlen(spec->method), "");
    }
    for (size_t i = 0; i < spec->headers.count; i++) {
        struct header h = spec->headers.rows[i];
        const char *name = headers_name(&spec->headers, i);
        ASSERT(h.name_len > 0 && strlen(name) == h.name_len && !strpbrk(name, " :;\t"));
        check_text(name, h.name_len, "");
        check_text(headers_value(&spec->headers, i), h.value_len, "\t");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *parts[PARTS];
    size_t lens[PARTS];
    const char *p = (const char *)data, *end = p + size;
    for (int i = 0; i < PARTS; i++) {
        const char *stop = i + 1 < PARTS && p < end ? memchr(p, 0xfe, (size_t)(end - p)) : NULL;
        parts[i] = p;
        lens[i] = (size_t)((stop ? stop : end) - p);
        p = stop ? stop + 1 : end;
    }
    struct mem mem;
    struct err err;
    mem_init(&mem, 0);
    err_clear(&err);
    struct transfer *t = transfer_new(&mem);
    ASSERT(t != NULL);
    t->spec.url = mem_strndup(&mem, parts[URL], lens[URL]);
    if (lens[METHOD] > 0)
        t->spec.method = mem_strndup(&mem, parts[METHOD], lens[METHOD]);
    ASSERT(t->spec.url && (lens[METHOD] == 0 || t->spec.method));
    if (lens[NAME] > 0) {
        enum err_kind kind =
            headers_add(&t->spec.headers, parts[NAME], lens[NAME], parts[VALUE], lens[VALUE]);
        ASSERT(kind == ERR_NONE);
    }
    enum err_kind kind = transfer_prepare(t, &err);
    if (kind == ERR_NONE) {
        check_sent(&t->spec);
        size_t headers = t->spec.headers.count;
        char *url = strdup(t->spec.url);
        ASSERT(url != NULL);
        ASSERT(transfer_prepare(t, &err) == ERR_NONE);
        ASSERT(strcmp(t->spec.url, url) == 0 && t->spec.headers.count == headers);
        free(url);
    } else {
        ASSERT(kind == ERR_INVALID && err.kind == kind);
        check_text(err.message, strlen(err.message), "");
        ASSERT(err.message[0] != '\0');
    }
    transfer_free(t);
    ASSERT(mem.blocks == 0);
    return 0;
}

#define FUZZ_BYTES "htps:/@?#[]%.0123456789abcXY;=&\\ \t\r\n\x7f\xfe\xfe\xfe\xc3\xa9\xff"
#include "standalone.h"
