/* Fuzzes the cookie jar (see run.sh) with Set-Cookie values, one in a line, from several sites in
 * turn. What must hold: what a site is sent has no byte that could end a line, and is no longer
 * than allowed; no site gets what only another could have set; what was sent is read as the same
 * cookie again; and all memory comes back. */
#include "engine/cookie_jar.h"
#include "engine/cookie_parse.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cookie_jar_site sources[] = {
    {true, "a.b.shop.co.uk", "/x/y", 4}, {false, "a.b.shop.co.uk", "/", 1},
    {false, "shop.co.uk", "/x", 2},      {false, "127.0.0.1", "/", 1},
    {true, "[::2]", "/x/", 3},           {false, "localhost", "/", 1},
};

static const struct cookie_jar_site strangers[] = {
    {true, "co.uk", "/x/y", 4},     {true, "uk", "/", 1},          {true, "other.co.uk", "/x/y", 4},
    {true, "myshop.co.uk", "/", 1}, {true, "0.0.1", "/", 1},       {true, "127.0.0.2", "/", 1},
    {true, "a.localhost", "/", 1},  {true, "1.127.0.0.1", "/", 1}, {true, "shop.co.uk.", "/", 1},
};

static void check_sent(const char *text, size_t len)
{
    ASSERT(len <= COOKIE_JAR_SENT_BYTES_MAX && memchr(text, '=', len));
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        ASSERT((c >= ' ' || c == '\t') && c != 0x7f);
    }
    size_t n = (size_t)((const char *)memchr(text, '=', len) - text);
    const char *end = memchr(text, ';', len);
    struct cookie_set again;
    ASSERT(cookie_parse(&again, text, end ? (size_t)(end - text) : len, 5));
    ASSERT(again.name.len == n && memcmp(again.name.at, text, n) == 0);
}

static void check_date(const uint8_t *data, size_t size)
{
    int64_t seconds;
    if (cookie_parse_date((const char *)data, size, &seconds))
        ASSERT(seconds >= INT64_C(-11644473600) && seconds <= INT64_C(253402300799));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    struct buf out;
    mem_init(&mem, 0);
    buf_init(&out, &mem, 64 * 1024);
    struct cookie_jar *jar = cookie_jar_new(&mem);
    ASSERT(jar != NULL);
    check_date(data, size);
    const char *p = (const char *)data, *end = p + size;
    for (size_t line = 0; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        const struct cookie_jar_site *site = &sources[line % ARRAY_LEN(sources)];
        ASSERT(cookie_jar_store(jar, site, p, (size_t)(stop - p), (int64_t)line) == ERR_NONE);
        p = stop + 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        buf_clear(&out);
        ASSERT(cookie_jar_header(jar, &sources[i], 10, &out) == ERR_NONE);
        if (out.len > 0)
            check_sent(out.data, out.len);
    }
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++) {
        buf_clear(&out);
        ASSERT(cookie_jar_header(jar, &strangers[i], 10, &out) == ERR_NONE);
        ASSERT(out.len == 0);
    }
    cookie_jar_unref(jar);
    buf_fini(&out);
    ASSERT(mem.blocks == 0);
    return 0;
}

#define FUZZ_BYTES "a=;,. \t\n\"/-:019DdPpMxE_\xff\x7f\x01"
#include "standalone.h"
