/* Random HTTP/1 messages for test_http1_node.c: most are good or nearly good, as only those get far
 * into a parser. A seed gives the same messages each time. */
#pragma once

#include "ground/base.h"
#include <string.h>

struct random_message {
    char bytes[1024];
    size_t len;
    size_t cut; /* the bytes are handed over in two pieces */
    bool request, to_head;
    uint64_t state;
};

static size_t pick(struct random_message *m, size_t count)
{
    m->state = m->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)((m->state >> 33) % count);
}

static bool chance(struct random_message *m, unsigned percent)
{
    return pick(m, 100) < percent;
}

static void put_bytes(struct random_message *m, const char *bytes, size_t len)
{
    len = MIN(len, sizeof m->bytes - m->len);
    memcpy(m->bytes + m->len, bytes, len);
    m->len += len;
}

static void put(struct random_message *m, const char *text)
{
    put_bytes(m, text, strlen(text));
}

#define PUT_ONE_OF(m, list) put(m, (list)[pick(m, ARRAY_LEN(list))])

static void put_line_end(struct random_message *m)
{
    static const char *const odd[] = {"\n", "\r", "\r\r\n", "\n\r", " \r\n", ""};
    if (chance(m, 2))
        PUT_ONE_OF(m, odd);
    else
        put(m, "\r\n");
}

static void put_status_line(struct random_message *m)
{
    static const char *const good[] = {
        "HTTP/1.1 200 OK",      "HTTP/1.1 200 OK",  "HTTP/1.0 200 OK",
        "HTTP/1.1 204 Nothing", "HTTP/1.1 404",     "HTTP/1.1 304 Same",
        "HTTP/1.1 500 ",        "HTTP/1.1 999 a b", "HTTP/1.1 200 \xc3\xa4"};
    static const char *const odd[] = {"HTTP/1.1 101 Switch",
                                      "HTTP/1.2 200 OK",
                                      "HTTP/2.0 200 OK",
                                      "HTTP/0.9 200 OK",
                                      "HTTP/1.1 20 OK",
                                      "HTTP/1.1 2000 A",
                                      "HTTP/1.1  200 A",
                                      "http/1.1 200 OK",
                                      "HTTP/1.1 099 A",
                                      "HTTP/1.10 200 A",
                                      "HTTP/1.1\t200 A",
                                      "HTTP/1.1 200\tA",
                                      "HTTP/1.1",
                                      "ICY 200 OK",
                                      " HTTP/1.1 200 A",
                                      "HTTP/1.1 205 Reset"};
    if (chance(m, 10))
        put(m,
            chance(m, 50) ? "HTTP/1.1 100 Continue\r\n\r\n" : "HTTP/1.1 103 A\r\nLink: b\r\n\r\n");
    if (chance(m, 10))
        PUT_ONE_OF(m, odd);
    else
        PUT_ONE_OF(m, good);
}

static void put_request_line(struct random_message *m)
{
    static const char *const good[] = {"GET / HTTP/1.1",          "POST /a?b=c HTTP/1.1",
                                       "PUT http://a/b HTTP/1.1", "GET /\xc3\xa4 HTTP/1.1",
                                       "OPTIONS * HTTP/1.1",      "DELETE /a%20b HTTP/1.0"};
    static const char *const odd[] = {"GET /",
                                      "GET  / HTTP/1.1",
                                      "GET / HTTP/1.1 ",
                                      "GET / HTTP/1.2",
                                      "GET / HTTP/2.0",
                                      "get / HTTP/1.1",
                                      "GET /a b HTTP/1.1",
                                      "GET a HTTP/1.1",
                                      "GET / HTTP/1.10",
                                      "GET\t/ HTTP/1.1",
                                      "GE T / HTTP/1.1",
                                      " GET / HTTP/1.1",
                                      "\r\nGET / HTTP/1.1",
                                      "\nGET / HTTP/1.1",
                                      "NONE / HTTP/1.1",
                                      "GET /#a HTTP/1.1",
                                      "GET /\x7f HTTP/1.1",
                                      "GET / HTTP/0.9",
                                      "GET / http/1.1",
                                      "GET * HTTP/1.1"};
    if (chance(m, 12))
        PUT_ONE_OF(m, odd);
    else
        PUT_ONE_OF(m, good);
    put_line_end(m);
    put(m, chance(m, 95) ? "Host: a" : "Hos: a");
}

static void put_header(struct random_message *m)
{
    static const char *const good[] = {"A: b",
                                       "B:",
                                       "C: \t x y \t",
                                       "Content-Type: text/plain; charset=\"utf-8\"",
                                       "Connection: close",
                                       "Connection: Keep-Alive",
                                       "connection: a,\tCLOSE , b",
                                       "Connection: upgrade",
                                       "Upgrade: x",
                                       "D: \x80\xff",
                                       "Set-Cookie: a=b; Path=/",
                                       "Expect: 100-continue",
                                       "Keep-Alive: timeout=5",
                                       "Proxy-Connection: close",
                                       "Trailer: T",
                                       "!#$%&'*+-.^_`|~09azAZ: all"};
    static const char *const odd[] = {"Bad : x",
                                      "Bad\t: x",
                                      " folded",
                                      "\tfolded: too",
                                      "no colon",
                                      ": no name",
                                      "",
                                      "A\x01: b",
                                      "A: b\x01",
                                      "A: b\x7f",
                                      "\xc3\xa4: b",
                                      "A(: b",
                                      "Host: b",
                                      "Content-Length: 5",
                                      "Content-Length: +5",
                                      "Content-Length: 5 5",
                                      "Content-Length: 5, 5",
                                      "Content-Length:",
                                      "Content-Length: 0x5",
                                      "Content-Length: 99999999999999999999",
                                      "Content-Length: 9223372036854775808",
                                      "Transfer-Encoding: identity",
                                      "Transfer-Encoding: gzip, chunked",
                                      "Transfer-Encoding: chunked, gzip",
                                      "Transfer-Encoding: chunked, chunked",
                                      "Transfer-Encoding: Chunked ",
                                      "Transfer-Encoding: , chunked",
                                      "Transfer-Encoding: chunked;a=b",
                                      "Transfer-Encoding:",
                                      "Transfer-Encoding: xchunked",
                                      "Connection: closed",
                                      "Connection: close close",
                                      "Connection: ,close"};
    if (chance(m, 8))
        PUT_ONE_OF(m, odd);
    else
        PUT_ONE_OF(m, good);
    put_line_end(m);
}

static void put_data(struct random_message *m, size_t len)
{
    static const char text[] = "hello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    for (size_t i = 0; i < len; i++)
        put_bytes(m, text + i % (sizeof text - 1), 1);
}

static void put_chunk(struct random_message *m, size_t len)
{
    static const char *const after[] = {";a", ";a=b", ";a=\"b c\"", " ",       " ;a",
                                        ";",  "\t",   ";=",         "; a = b", "x"};
    static const char *const before[] = {"0", "00000", "+", "-", "0x", " ", "_"};
    char size[16];
    if (chance(m, 6))
        PUT_ONE_OF(m, before);
    snprintf(size, sizeof size, chance(m, 50) ? "%zx" : "%zX", len);
    put(m, size);
    if (chance(m, 10))
        PUT_ONE_OF(m, after);
    put_line_end(m);
    if (len == 0)
        return;
    put_data(m, chance(m, 97) ? len : len + 1);
    put_line_end(m);
}

static void put_chunked(struct random_message *m)
{
    static const char *const trailers[] = {"T: u",    "T:",      "Content-Length: 1",
                                           "Bad : x", " folded", "Transfer-Encoding: chunked",
                                           "U: \x01"};
    for (size_t n = pick(m, 4); n > 0; n--)
        put_chunk(m, pick(m, 20) + 1);
    put_chunk(m, 0);
    while (chance(m, 15)) {
        PUT_ONE_OF(m, trailers);
        put_line_end(m);
    }
    put_line_end(m);
}

static void put_body(struct random_message *m)
{
    size_t way = pick(m, 10), len = pick(m, 30);
    char line[48];
    snprintf(line, sizeof line, "Content-Length: %zu", way == 9 && len > 0 ? len - 1 : len);
    if (way < 4 || way == 7 || way == 9) {
        put(m, line);
        put_line_end(m);
    }
    if (way >= 4 && way < 8) {
        put(m, "Transfer-Encoding: chunked");
        put_line_end(m);
    }
    while (chance(m, 30))
        put_header(m);
    put_line_end(m);
    if (way >= 4 && way < 8)
        put_chunked(m);
    else if (!m->request || way != 8)
        put_data(m, len);
}

static void change(struct random_message *m)
{
    static const char bytes[] = "\r\n\r\n\0\t :;,0159aAfFgG=+-\x7f\x80\xff\"()/HTP.";
    size_t at = pick(m, m->len), what = pick(m, 5);
    char byte = bytes[pick(m, sizeof bytes - 1)];
    if (what == 0) {
        m->bytes[at] = byte;
    } else if (what == 1 && m->len > 1) {
        memmove(m->bytes + at, m->bytes + at + 1, m->len - at - 1);
        m->len--;
    } else if (what == 2 && m->len < sizeof m->bytes) {
        memmove(m->bytes + at + 1, m->bytes + at, m->len - at);
        m->bytes[at] = byte;
        m->len++;
    } else if (what == 3) {
        m->bytes[at] = (char)pick(m, 256);
    } else if (chance(m, 20)) {
        m->len = at + 1;
    }
}

/* The next message of the row that m->state began. */
static void random_message(struct random_message *m)
{
    m->len = 0;
    m->request = chance(m, 40);
    m->to_head = !m->request && chance(m, 5);
    if (m->request)
        put_request_line(m);
    else
        put_status_line(m);
    put_line_end(m);
    while (chance(m, 50))
        put_header(m);
    put_body(m);
    if (chance(m, 50)) {
        for (size_t n = pick(m, 3) + 1; n > 0; n--)
            change(m);
    }
    m->cut = chance(m, 30) ? m->len : pick(m, m->len + 1);
}
