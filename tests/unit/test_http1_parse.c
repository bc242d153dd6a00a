/* The reader of HTTP/1. Each case is read whole, byte by byte, and cut at every place, and must
 * give the same each time. */
#include "test.h"

#include "ground/mem.h"
#include "http1_show.h"

enum { RESPONSE = 0, REQUEST = 1, TO_HEAD = 2, MAY_UPGRADE = 4, SMALL = 8 };

/* For the cases that are marked SMALL. */
static const struct http1_limits small_limits = {
    .head_bytes = 80,
    .line_bytes = 40,
    .headers = 3,
    .informational = 2,
    .extension_bytes = 8,
};

struct message {
    const char *name;
    unsigned flags;
    const char *bytes;
    size_t len;
    const char *expected;
};

#define BYTES(text) text, sizeof(text) - 1
#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define CHUNKED_HEAD "head 1.1 200 [OK] chunked keep {Transfer-Encoding=chunked}\n"
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define PUT "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define PUT_HEAD "head 1.1 0 [PUT] / chunked keep {Host=a; Transfer-Encoding=chunked}\n"

static void init(struct http1_parser *p, unsigned flags)
{
    http1_parse_init(p, (flags & REQUEST) != 0 ? HTTP1_REQUEST : HTTP1_RESPONSE,
                     (flags & SMALL) != 0 ? &small_limits : NULL);
    p->to_head = (flags & TO_HEAD) != 0;
    p->may_upgrade = (flags & MAY_UPGRADE) != 0;
}

/* Hands the bytes in as a caller does: first up to `cut`, then `step` more each time. What is
 * handed in lies in a block of its own, so that a read beyond it is seen. */
static char *show(const struct message *m, size_t cut, size_t step)
{
    struct http1_show s = {.text = NULL};
    struct http1_parser p;
    struct http1_event e;
    struct err err;
    enum http1_result result = HTTP1_MORE;
    size_t used = 0, given = cut;
    init(&p, m->flags);
    for (;;) {
        size_t len = given - used;
        char *piece = malloc(len + 1);
        if (!piece)
            abort();
        memcpy(piece, m->bytes + used, len);
        piece = realloc(piece, len ? len : 1);
        const char *in = piece;
        while ((result = http1_parse_next(&p, &in, &len, &e, &err)) == HTTP1_HEAD ||
               result == HTTP1_BODY || result == HTTP1_TRAILERS)
            http1_show_event(&s, result, &e);
        used = given - len;
        free(piece);
        if (result != HTTP1_MORE || given == m->len)
            break;
        given = step < m->len - given ? given + step : m->len;
    }
    http1_show_end(&s, &p, result, m->bytes + used, m->len - used);
    return s.text;
}

static void check_message(const struct message *m, size_t cut, size_t step)
{
    char *shown = show(m, cut, step);
    if (strcmp(shown, m->expected) != 0) {
        printf("  %s, cut at %zu, then each %zu bytes:\n%s  expected:\n%s", m->name, cut, step,
               shown, m->expected);
        test_failed = true;
    }
    free(shown);
}

static void check_messages(const struct message *list, size_t count)
{
    for (size_t i = 0; i < count && !test_failed; i++) {
        const struct message *m = &list[i];
        for (size_t cut = 0; cut <= m->len && !test_failed; cut++)
            check_message(m, cut, m->len);
        if (!test_failed)
            check_message(m, 0, 1);
    }
}

#define CHECK_MESSAGES(...)                                                                        \
    do {                                                                                           \
        static const struct message list[] = {__VA_ARGS__};                                        \
        check_messages(list, ARRAY_LEN(list));                                                     \
    } while (0)

TEST(a_response_is_read_with_its_headers_and_body)
{
    CHECK_MESSAGES(
        {"length", 0, BYTES(OK "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"),
         "head 1.1 200 [OK] length 5 keep {Content-Type=text/plain; Content-Length=5}\n"
         "body [hello]\ndone []\n"},
        {"length 0", 0, BYTES(OK "Content-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {Content-Length=0}\ndone []\n"},
        {"bytes behind it", 0, BYTES(OK "Content-Length: 2\r\n\r\nhello"),
         "head 1.1 200 [OK] length 2 keep {Content-Length=2}\nbody [he]\ndone [llo]\n"},
        {"until the end of the connection", 0, BYTES(OK "\r\nhello"),
         "head 1.1 200 [OK] close {}\nbody [hello]\ndone []\n"},
        {"nothing until the end of the connection", 0, BYTES(OK "\r\n"),
         "head 1.1 200 [OK] close {}\ndone []\n"},
        {"LF alone", 0, BYTES("HTTP/1.1 200 OK\nA: b\nContent-Length: 1\n\nx"),
         "head 1.1 200 [OK] length 1 keep {A=b; Content-Length=1}\nbody [x]\ndone []\n"},
        {"LF alone at some ends", 0, BYTES("HTTP/1.1 200 OK\nA: b\r\nContent-Length: 1\n\r\nx"),
         "head 1.1 200 [OK] length 1 keep {A=b; Content-Length=1}\nbody [x]\ndone []\n"},
        {"no reason phrase", 0, BYTES("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 404 [] length 0 keep {Content-Length=0}\ndone []\n"},
        {"no blank before no reason phrase", 0, BYTES("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 404 [] length 0 keep {Content-Length=0}\ndone []\n"},
        {"bytes above 0x7f in a reason phrase", 0,
         BYTES("HTTP/1.1 200 \xc3\xa4\t\xff\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [\xc3\xa4\t\xff] length 0 keep {Content-Length=0}\ndone []\n"},
        {"a status that nobody has named", 0,
         BYTES("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 999 [Odd] length 0 keep {Content-Length=0}\ndone []\n"},
        {"a later version", 0, BYTES("HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
         "failed status_line\n"}, );
}

TEST(values_may_be_empty_and_blanks_around_them_are_dropped)
{
    CHECK_MESSAGES(
        {"empty values", 0, BYTES(OK "A:\r\nB: \r\nC:\t \t\r\nContent-Length:0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {A=; B=; C=; Content-Length=0}\ndone []\n"},
        {"blanks", 0, BYTES(OK "A: \t b \t c\t \r\nContent-Length: \t 0 \t\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {A=b \t c; Content-Length=0}\ndone []\n"},
        {"bytes above 0x7f", 0, BYTES(OK "A: \x80\xff\xc3\xa4\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {A=\x80\xff\xc3\xa4; Content-Length=0}\ndone []\n"},
        {"colons, quotes, commas", 0, BYTES(OK "A: :\"b, \\\"c:\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {A=:\"b, \\\"c:; Content-Length=0}\ndone []\n"},
        {"all bytes of a name", 0,
         BYTES(OK "!#$%&'*+-.^_`|~09azAZ: x\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {!#$%&'*+-.^_`|~09azAZ=x; Content-Length=0}\ndone []\n"},
        {"the same name twice", 0, BYTES(OK "A: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {A=1; a=2; Content-Length=0}\ndone []\n"}, );
}

TEST(a_response_without_a_body_has_none_whatever_its_headers_say)
{
    CHECK_MESSAGES({"to HEAD, with a length", TO_HEAD, BYTES(OK "Content-Length: 5\r\n\r\n"),
                    "head 1.1 200 [OK] none 5 keep {Content-Length=5}\ndone []\n"},
                   {"to HEAD, chunked", TO_HEAD, BYTES(CHUNKED),
                    "head 1.1 200 [OK] none keep {Transfer-Encoding=chunked}\ndone []\n"},
                   {"to HEAD, without a length", TO_HEAD, BYTES(OK "\r\n"),
                    "head 1.1 200 [OK] none keep {}\ndone []\n"},
                   {"304 with a length", 0, BYTES("HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n"),
                    "head 1.1 304 [Not] none 5 keep {Content-Length=5}\ndone []\n"},
                   {"204", 0, BYTES("HTTP/1.1 204 None\r\n\r\n"),
                    "head 1.1 204 [None] none keep {}\ndone []\n"},
                   {"204 with a length of 0", 0,
                    BYTES("HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n"),
                    "head 1.1 204 [None] none 0 keep {Content-Length=0}\ndone []\n"},
                   {"204 that announces a body ends the connection", 0,
                    BYTES("HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello"),
                    "head 1.1 204 [None] none 5 {Content-Length=5}\ndone [hello]\n"},
                   {"204 that is chunked ends the connection", 0,
                    BYTES("HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                    "head 1.1 204 [None] none {Transfer-Encoding=chunked}\ndone [0\r\n\r\n]\n"}, );
}

TEST(interim_responses_come_before_the_response)
{
    CHECK_MESSAGES(
        {"100", 0, BYTES("HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 0\r\n\r\n"),
         "head 1.1 100 [Continue] none keep interim {}\n"
         "head 1.1 200 [OK] length 0 keep {Content-Length=0}\ndone []\n"},
        {"103 with headers, twice", 0,
         BYTES("HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 103 Early\r\nLink: b\r\n\r\n" OK
               "Content-Length: 0\r\n\r\n"),
         "head 1.1 103 [Early] none keep interim {Link=a}\n"
         "head 1.1 103 [Early] none keep interim {Link=b}\n"
         "head 1.1 200 [OK] length 0 keep {Content-Length=0}\ndone []\n"},
        {"an interim response that announces a body", 0,
         BYTES("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" OK "Content-Length: 0\r\n\r\n"),
         "head 1.1 100 [Continue] none 5 interim {Content-Length=5}\n"
         "head 1.1 200 [OK] length 0 {Content-Length=0}\ndone []\n"},
        {"101 that was asked for", MAY_UPGRADE,
         BYTES("HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\1\2"),
         "head 1.1 101 [Switch] none upgrade {Connection=Upgrade; Upgrade=x}\ndone [\1\2]\n"},
        {"101 that was not asked for", 0, BYTES("HTTP/1.1 101 Switch\r\n\r\n"),
         "failed unexpected_101\n"},
        {"another response instead of the 101", MAY_UPGRADE, BYTES(OK "Content-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {Content-Length=0}\ndone []\n"},
        {"nothing behind it", 0, BYTES("HTTP/1.1 100 Continue\r\n\r\n"),
         "head 1.1 100 [Continue] none keep interim {}\nfailed truncated\n"},
        {"too many", SMALL,
         BYTES("HTTP/1.1 100 A\r\n\r\nHTTP/1.1 102 B\r\n\r\nHTTP/1.1 100 C\r\n\r\n"),
         "head 1.1 100 [A] none keep interim {}\nhead 1.1 102 [B] none keep interim {}\n"
         "failed too_many_informational\n"}, );
}

TEST(the_connection_is_kept_as_version_and_connection_header_say)
{
    CHECK_MESSAGES(
        {"1.0", 0, BYTES("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
         "head 1.0 200 [OK] length 0 {Content-Length=0}\ndone []\n"},
        {"1.0 keep-alive", 0,
         BYTES("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
         "head 1.0 200 [OK] length 0 keep {Connection=Keep-Alive; Content-Length=0}\ndone []\n"},
        {"1.0 keep-alive without a length", 0,
         BYTES("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nx"),
         "head 1.0 200 [OK] close {Connection=keep-alive}\nbody [x]\ndone []\n"},
        {"close", 0, BYTES(OK "Connection: close\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 {Connection=close; Content-Length=0}\ndone []\n"},
        {"close in capitals, in a list", 0,
         BYTES(OK "connection: a,\t CLOSE ,b\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 {connection=a,\t CLOSE ,b; Content-Length=0}\ndone []\n"},
        {"close in the second line", 0,
         BYTES(OK "Connection: keep-alive\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 {Connection=keep-alive; Connection=Close; Content-Length=0}\n"
         "done []\n"},
        {"words that begin or end as close does", 0,
         BYTES(OK
               "Connection: closed, foreclose, clos\r\nConnection:\r\nContent-Length: 0\r\n\r\n"),
         "head 1.1 200 [OK] length 0 keep {Connection=closed, foreclose, clos; Connection=; "
         "Content-Length=0}\ndone []\n"}, );
}

TEST(a_chunked_body_is_read_with_its_trailers)
{
    CHECK_MESSAGES(
        {"two chunks", 0, BYTES(CHUNKED "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nrest"),
         CHUNKED_HEAD "body [hello!]\ndone [rest]\n"},
        {"no chunks", 0, BYTES(CHUNKED "0\r\n\r\n"), CHUNKED_HEAD "done []\n"},
        {"digits in both cases, and zeros", 0,
         BYTES(CHUNKED "0000000000000A\r\n0123456789\r\n00b\r\n0123456789a\r\n000\r\n\r\n"),
         CHUNKED_HEAD "body [01234567890123456789a]\ndone []\n"},
        {"extensions", 0,
         BYTES(CHUNKED "1;a\r\nx\r\n1 ; a=\"b;\t\xff\" ;c\r\ny\r\n0;last=1\r\n\r\n"),
         CHUNKED_HEAD "body [xy]\ndone []\n"},
        {"blanks behind a size", 0, BYTES(CHUNKED "1 \t\r\nx\r\n0  \r\n\r\n"),
         CHUNKED_HEAD "body [x]\ndone []\n"},
        {"trailers", 0, BYTES(CHUNKED "1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\nrest"),
         CHUNKED_HEAD "body [x]\ntrailers {A=b; C=}\ndone [rest]\n"},
        {"trailers mean nothing", 0,
         BYTES(CHUNKED "0\r\nContent-Length: x\r\nTransfer-Encoding: y\r\n\r\n"),
         CHUNKED_HEAD "trailers {Content-Length=x; Transfer-Encoding=y}\ndone []\n"},
        {"the coding in any case", 0, BYTES(OK "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n"),
         "head 1.1 200 [OK] chunked keep {transfer-encoding=CHUNKED}\ndone []\n"},
        {"another coding beneath it", 0,
         BYTES(OK "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "head 1.1 200 [OK] chunked keep coded {Transfer-Encoding=gzip; "
         "Transfer-Encoding=chunked}\n"
         "done []\n"},
        {"with a length, too: chunked holds, and the connection ends", 0,
         BYTES(OK "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
         "head 1.1 200 [OK] chunked 3 {Content-Length=3; Transfer-Encoding=chunked}\n"
         "body [x]\ndone []\n"},
        {"in HTTP/1.0, which does not know it: the connection ends", 0,
         BYTES("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
               "0\r\n\r\n"),
         "head 1.0 200 [OK] chunked {Connection=keep-alive; Transfer-Encoding=chunked}\n"
         "done []\n"}, );
}

TEST(a_message_that_breaks_off_is_truncated)
{
    CHECK_MESSAGES(
        {"nothing", 0, BYTES(""), "failed truncated\n"},
        {"in the status line", 0, BYTES("HTTP/1.1 20"), "failed truncated\n"},
        {"in a header", 0, BYTES(OK "A: b"), "failed truncated\n"},
        {"before the empty line", 0, BYTES(OK "A: b\r\n\r"), "failed truncated\n"},
        {"in a body", 0, BYTES(OK "Content-Length: 9\r\n\r\nhello"),
         "head 1.1 200 [OK] length 9 keep {Content-Length=9}\nbody [hello]\n"
         "failed truncated\n"},
        {"before a body", 0, BYTES(OK "Content-Length: 9\r\n\r\n"),
         "head 1.1 200 [OK] length 9 keep {Content-Length=9}\nfailed truncated\n"},
        {"before a chunk", 0, BYTES(CHUNKED), CHUNKED_HEAD "failed truncated\n"},
        {"in a chunk line", 0, BYTES(CHUNKED "5"), CHUNKED_HEAD "failed truncated\n"},
        {"in a chunk", 0, BYTES(CHUNKED "5\r\nhel"), CHUNKED_HEAD "body [hel]\nfailed truncated\n"},
        {"behind a chunk", 0, BYTES(CHUNKED "2\r\nhe\r"),
         CHUNKED_HEAD "body [he]\nfailed truncated\n"},
        {"behind the last chunk", 0, BYTES(CHUNKED "0\r\n"), CHUNKED_HEAD "failed truncated\n"},
        {"in trailers", 0, BYTES(CHUNKED "0\r\nA: b\r\n"), CHUNKED_HEAD "failed truncated\n"}, );
}

TEST(what_does_not_begin_as_http_is_refused_at_once)
{
    CHECK_MESSAGES(
        {"another protocol", 0, BYTES("SSH-2.0-x\r\n"), "failed status_line\n"},
        {"no line end", 0, BYTES("<"), "failed status_line\n"},
        {"a TLS alert", 0, BYTES("\x15\3\1"), "failed status_line\n"},
        {"an empty line", 0, BYTES("\r\n" OK), "failed status_line\n"},
        {"HTTP/2", 0, BYTES("HTTP/2 200\r\n"), "failed status_line\n"},
        {"lower case", 0, BYTES("http/1.1 200 OK\r\n"), "failed status_line\n"},
        {"behind an interim response", 0, BYTES("HTTP/1.1 100 A\r\n\r\nx"),
         "head 1.1 100 [A] none keep interim {}\nfailed status_line\n"},
        {"a TLS hello instead of a request", REQUEST, BYTES("\x16\3\1"), "failed request_line\n"},
        {"a NUL instead of a request", REQUEST, BYTES("\0"), "failed nul\n"}, );
}

TEST(a_status_line_without_version_or_three_digits_is_refused)
{
    CHECK_MESSAGES(
        {"no minor version", 0, BYTES("HTTP/1. 200 OK\r\n\r\n"), "failed status_line\n"},
        {"two digits in it", 0, BYTES("HTTP/1.10 200 OK\r\n\r\n"), "failed status_line\n"},
        {"only a version", 0, BYTES("HTTP/1.1\r\n\r\n"), "failed status_line\n"},
        {"two digits", 0, BYTES("HTTP/1.1 20 OK\r\n\r\n"), "failed status_line\n"},
        {"four digits", 0, BYTES("HTTP/1.1 2000 OK\r\n\r\n"), "failed status_line\n"},
        {"a letter", 0, BYTES("HTTP/1.1 2O0 OK\r\n\r\n"), "failed status_line\n"},
        {"a sign", 0, BYTES("HTTP/1.1 +20 OK\r\n\r\n"), "failed status_line\n"},
        {"below 100", 0, BYTES("HTTP/1.1 099 OK\r\n\r\n"), "failed status_line\n"},
        {"two blanks", 0, BYTES("HTTP/1.1  200 OK\r\n\r\n"), "failed status_line\n"},
        {"a tab", 0, BYTES("HTTP/1.1\t200 OK\r\n\r\n"), "failed status_line\n"},
        {"a tab behind the digits", 0, BYTES("HTTP/1.1 200\tOK\r\n\r\n"), "failed status_line\n"},
        {"a control byte", 0, BYTES("HTTP/1.1 200 O\1K\r\n\r\n"), "failed status_line\n"},
        {"a NUL", 0, BYTES("HTTP/1.1 200 O\0K\r\n\r\n"), "failed nul\n"},
        {"a CR", 0, BYTES("HTTP/1.1 200 O\rK\r\n\r\n"), "failed bare_cr\n"}, );
}

TEST(a_head_that_two_readers_could_understand_differently_is_refused)
{
    CHECK_MESSAGES(
        {"a CR in a value", 0, BYTES(OK "A: b\rC: d\r\n\r\n"), "failed bare_cr\n"},
        {"a CR in a name", 0, BYTES(OK "A\rB: c\r\n\r\n"), "failed bare_cr\n"},
        {"a CR before the line end", 0, BYTES(OK "A: b\r\r\n\r\n"), "failed bare_cr\n"},
        {"a CR before the empty line", 0, BYTES(OK "A: b\r\n\r\r\n\r\n"), "failed bare_cr\n"},
        {"a CR behind the colon", 0, BYTES(OK "A:\rb\r\n\r\n"), "failed bare_cr\n"},
        {"a CR instead of a line end", 0, BYTES(OK "A: b\r\rC: d\r\n\r\n"), "failed bare_cr\n"},
        {"a NUL in a value", 0, BYTES(OK "A: b\0c\r\n\r\n"), "failed nul\n"},
        {"a NUL in a name", 0, BYTES(OK "A\0: b\r\n\r\n"), "failed nul\n"},
        {"a control byte in a value", 0, BYTES(OK "A: b\x1f\r\n\r\n"), "failed header_value\n"},
        {"DEL in a value", 0, BYTES(OK "A: 0123456789\x7f\r\n\r\n"), "failed header_value\n"},
        {"a control byte in a name", 0, BYTES(OK "A\1: b\r\n\r\n"), "failed header_name\n"},
        {"a byte above 0x7f in a name", 0, BYTES(OK "\xc3\xa4: b\r\n\r\n"), "failed header_name\n"},
        {"a blank before the colon", 0, BYTES(OK "Content-Length : 5\r\n\r\n"),
         "failed header_name\n"},
        {"a tab before the colon", 0, BYTES(OK "Content-Length\t: 5\r\n\r\n"),
         "failed header_name\n"},
        {"a blank in a name", 0, BYTES(OK "A B: c\r\n\r\n"), "failed header_name\n"},
        {"no name", 0, BYTES(OK ": b\r\n\r\n"), "failed header_name\n"},
        {"no colon", 0, BYTES(OK "A\r\n\r\n"), "failed header_name\n"},
        {"a folded line", 0, BYTES(OK "A: b\r\n c\r\n\r\n"), "failed folded_line\n"},
        {"a folded line with a tab", 0, BYTES(OK "A: b\r\n\tc: d\r\n\r\n"), "failed folded_line\n"},
        {"a first header that begins with a blank", 0, BYTES(OK " A: b\r\n\r\n"),
         "failed folded_line\n"},
        {"a line of blanks", 0, BYTES(OK "A: b\r\n \r\n\r\n"), "failed folded_line\n"}, );
}

TEST(a_length_that_is_not_one_number_is_refused)
{
    CHECK_MESSAGES(
        {"two that are equal", 0, BYTES(OK "Content-Length: 2\r\nContent-Length: 02\r\n\r\nhi"),
         "head 1.1 200 [OK] length 2 keep {Content-Length=2; Content-Length=02}\nbody [hi]\n"
         "done []\n"},
        {"a list of equal ones", 0, BYTES(OK "Content-Length: 2, 2 ,2\r\n\r\nhi"),
         "failed content_length\n"},
        {"the largest", 0, BYTES(OK "Content-Length: 9223372036854775807\r\n\r\n"),
         "head 1.1 200 [OK] length 9223372036854775807 keep {Content-Length=9223372036854775807}\n"
         "failed truncated\n"},
        {"one more", 0, BYTES(OK "Content-Length: 9223372036854775808\r\n\r\n"),
         "failed content_length\n"},
        {"far more", 0, BYTES(OK "Content-Length: 18446744073709551621\r\n\r\n"),
         "failed content_length\n"},
        {"two that differ", 0, BYTES(OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
         "failed content_length\n"},
        {"a list that differs", 0, BYTES(OK "Content-Length: 5, 6\r\n\r\n"),
         "failed content_length\n"},
        {"an empty element", 0, BYTES(OK "Content-Length: 5,\r\n\r\n"), "failed content_length\n"},
        {"empty", 0, BYTES(OK "Content-Length:\r\n\r\n"), "failed content_length\n"},
        {"a sign", 0, BYTES(OK "Content-Length: +5\r\n\r\n"), "failed content_length\n"},
        {"a minus", 0, BYTES(OK "Content-Length: -5\r\n\r\n"), "failed content_length\n"},
        {"a blank inside", 0, BYTES(OK "Content-Length: 1 2\r\n\r\n"), "failed content_length\n"},
        {"hexadecimal", 0, BYTES(OK "Content-Length: 0x5\r\n\r\n"), "failed content_length\n"},
        {"a letter", 0, BYTES(OK "Content-Length: 5a\r\n\r\n"), "failed content_length\n"},
        {"a fraction", 0, BYTES(OK "Content-Length: 5.0\r\n\r\n"), "failed content_length\n"},
        {"quotes", 0, BYTES(OK "Content-Length: \"5\"\r\n\r\n"), "failed content_length\n"},
        {"in a 304", 0, BYTES("HTTP/1.1 304 A\r\nContent-Length: x\r\n\r\n"),
         "failed content_length\n"}, );
}

TEST(a_transfer_encoding_that_does_not_end_with_chunked_is_refused)
{
    CHECK_MESSAGES(
        {"identity", 0, BYTES(OK "Transfer-Encoding: identity\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"gzip", 0, BYTES(OK "Transfer-Encoding: gzip\r\n\r\n"), "failed transfer_encoding\n"},
        {"empty", 0, BYTES(OK "Transfer-Encoding:\r\n\r\n"), "failed transfer_encoding\n"},
        {"nothing behind a comma", 0, BYTES(OK "Transfer-Encoding: chunked,\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"nothing before a comma", 0, BYTES(OK "Transfer-Encoding: ,chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked in the middle", 0, BYTES(OK "Transfer-Encoding: chunked, gzip\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked, then identity in a second line", 0,
         BYTES(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked twice", 0, BYTES(OK "Transfer-Encoding: chunked, chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a parameter", 0, BYTES(OK "Transfer-Encoding: chunked;q=1\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a quoted comma", 0, BYTES(OK "Transfer-Encoding: a=\"b, chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a word that begins so", 0, BYTES(OK "Transfer-Encoding: chunkedx\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a word that ends so", 0, BYTES(OK "Transfer-Encoding: xchunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a byte before it", 0, BYTES(OK "Transfer-Encoding: \xff chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"quotes", 0, BYTES(OK "Transfer-Encoding: \"chunked\"\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a control byte before it", 0,
         BYTES(OK "Transfer-Encoding: \x0b"
                  "chunked\r\n\r\n"),
         "failed header_value\n"}, );
}

TEST(a_chunk_line_that_is_not_exact_is_refused)
{
    CHECK_MESSAGES(
        {"a sign", 0, BYTES(CHUNKED "+1\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"a minus", 0, BYTES(CHUNKED "-1\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"0x", 0, BYTES(CHUNKED "0x1\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"a blank before it", 0, BYTES(CHUNKED " 1\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"a blank inside", 0, BYTES(CHUNKED "1 1\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"no digits", 0, BYTES(CHUNKED "\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"only an extension", 0, BYTES(CHUNKED ";a\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"a letter", 0, BYTES(CHUNKED "g\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"an underscore", 0, BYTES(CHUNKED "1_0\r\nx\r\n"), CHUNKED_HEAD "failed chunk_size\n"},
        {"the largest", 0, BYTES(CHUNKED "7fffffffffffffff\r\nx"),
         CHUNKED_HEAD "body [x]\nfailed truncated\n"},
        {"one more", 0, BYTES(CHUNKED "8000000000000000\r\nx"), CHUNKED_HEAD "failed chunk_size\n"},
        {"so many digits that they wrap", 0, BYTES(CHUNKED "10000000000000001\r\nx"),
         CHUNKED_HEAD "failed chunk_size\n"},
        {"zeros without end", 0, BYTES(CHUNKED "00000000000000001\r\nx"),
         CHUNKED_HEAD "failed chunk_size\n"},
        {"LF alone", 0, BYTES(CHUNKED "1\nx\r\n"), CHUNKED_HEAD "failed bare_lf\n"},
        {"LF alone behind an extension", 0, BYTES(CHUNKED "1;a\nx\r\n"),
         CHUNKED_HEAD "failed bare_lf\n"},
        {"LF alone behind the last size", 0, BYTES(CHUNKED "0\n\r\n"),
         CHUNKED_HEAD "failed bare_lf\n"},
        {"CR alone", 0, BYTES(CHUNKED "1\rx\r\n"), CHUNKED_HEAD "failed bare_cr\n"},
        {"CR alone in an extension", 0, BYTES(CHUNKED "1;a\rb\r\nx\r\n"),
         CHUNKED_HEAD "failed bare_cr\n"},
        {"a NUL", 0, BYTES(CHUNKED "\0001\r\nx\r\n"), CHUNKED_HEAD "failed nul\n"},
        {"a NUL behind the size", 0, BYTES(CHUNKED "1\0\r\nx\r\n"), CHUNKED_HEAD "failed nul\n"},
        {"a NUL in an extension", 0, BYTES(CHUNKED "1;\0\r\nx\r\n"), CHUNKED_HEAD "failed nul\n"},
        {"a control byte in an extension", 0, BYTES(CHUNKED "1;\x1b\r\nx\r\n"),
         CHUNKED_HEAD "failed chunk_extension\n"},
        {"LF alone behind the data", 0, BYTES(CHUNKED "1\r\nx\n0\r\n\r\n"),
         CHUNKED_HEAD "body [x]\nfailed bare_lf\n"},
        {"CR alone behind the data", 0, BYTES(CHUNKED "1\r\nx\r0\r\n\r\n"),
         CHUNKED_HEAD "body [x]\nfailed bare_cr\n"},
        {"more data than its size", 0, BYTES(CHUNKED "1\r\nxy\r\n0\r\n\r\n"),
         CHUNKED_HEAD "body [x]\nfailed chunk_end\n"},
        {"less data than its size", 0, BYTES(CHUNKED "3\r\nx\r\n0\r\n\r\n"),
         CHUNKED_HEAD "body [x\r\n]\nfailed chunk_end\n"}, );
}

TEST(trailers_are_checked_as_headers_are)
{
    CHECK_MESSAGES(
        {"a folded line", 0, BYTES(CHUNKED "0\r\nA: b\r\n c\r\n\r\n"),
         CHUNKED_HEAD "failed folded_line\n"},
        {"a CR", 0, BYTES(CHUNKED "0\r\nA: b\rc\r\n\r\n"), CHUNKED_HEAD "failed bare_cr\n"},
        {"a NUL", 0, BYTES(CHUNKED "0\r\nA: \0\r\n\r\n"), CHUNKED_HEAD "failed nul\n"},
        {"a blank before the colon", 0, BYTES(CHUNKED "0\r\nA : b\r\n\r\n"),
         CHUNKED_HEAD "failed header_name\n"},
        {"the next response", 0, BYTES(CHUNKED "0\r\n" OK "\r\n"),
         CHUNKED_HEAD "failed header_name\n"},
        {"LF alone", 0, BYTES(CHUNKED "0\r\nA: b\n\n"),
         CHUNKED_HEAD "trailers {A=b}\ndone []\n"}, );
}

TEST(what_is_too_large_is_refused_as_soon_as_it_is_known)
{
    CHECK_MESSAGES(
        {"a line of the largest size", SMALL,
         BYTES("HTTP/1.0 200 OK\r\nA: 01234567890123456789012345678901234\r\n\r\n"),
         "head 1.0 200 [OK] close {A=01234567890123456789012345678901234}\ndone []\n"},
        /* Neither these lines nor these heads end. */
        {"a line", SMALL, BYTES("HTTP/1.0 200 OK\r\nA: 01234567890123456789012345678901234567"),
         "failed line_too_long\n"},
        {"a first line", SMALL, BYTES("HTTP/1.0 200 OK234567890123456789012345678901234567890"),
         "failed line_too_long\n"},
        {"a head", SMALL,
         BYTES("HTTP/1.0 200 OK\r\nA: 0123456789012345678901234567890\r\nB: "
               "0123456789012345678901234"),
         "failed head_too_large\n"},
        {"a head of the largest size", SMALL,
         BYTES("HTTP/1.0 200 OK\r\nA: 0123456789012345678901234567890\r\nB: "
               "01234567890123456789\r\n\r\n"),
         "head 1.0 200 [OK] close {A=0123456789012345678901234567890; B=01234567890123456789}\n"
         "done []\n"},
        {"as many headers as there may be", SMALL,
         BYTES("HTTP/1.0 200 OK\r\na:\r\nb:\r\nc:\r\n\r\n"),
         "head 1.0 200 [OK] close {a=; b=; c=}\ndone []\n"},
        {"one header more", SMALL, BYTES("HTTP/1.0 200 OK\r\na:\r\nb:\r\nc:\r\nd:\r\n"),
         "failed too_many_headers\n"},
        {"as many trailers as there may be", SMALL, BYTES(CHUNKED "0\r\na:\r\nb:\r\nc:\r\n\r\n"),
         CHUNKED_HEAD "trailers {a=; b=; c=}\ndone []\n"},
        {"one trailer more", SMALL, BYTES(CHUNKED "0\r\na:\r\nb:\r\nc:\r\nd:\r\n"),
         CHUNKED_HEAD "failed too_many_headers\n"},
        {"a trailer's line", SMALL, BYTES(CHUNKED "0\r\nA: 01234567890123456789012345678901234567"),
         CHUNKED_HEAD "failed line_too_long\n"},
        {"an extension of the largest size", SMALL, BYTES(CHUNKED "1;2345678\r\nx\r\n0\r\n\r\n"),
         CHUNKED_HEAD "body [x]\ndone []\n"},
        {"an extension", SMALL, BYTES(CHUNKED "1;23456789"),
         CHUNKED_HEAD "failed chunk_extension\n"},
        {"blanks behind a size", SMALL, BYTES(CHUNKED "1         "),
         CHUNKED_HEAD "failed chunk_extension\n"},
        {"extensions count for each chunk", SMALL,
         BYTES(CHUNKED "1;2345678\r\nx\r\n0;2345678\r\n\r\n"),
         CHUNKED_HEAD "body [x]\ndone []\n"}, );
}

TEST(a_request_is_read_with_its_target)
{
    CHECK_MESSAGES(
        {"GET", REQUEST, BYTES(GET "\r\nrest"),
         "head 1.1 0 [GET] / none keep {Host=a}\ndone [rest]\n"},
        {"POST", REQUEST,
         BYTES("POST http://a/b?c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: "
               "100-Continue\r\n\r\nhi"),
         "head 1.1 0 [POST] http://a/b?c length 2 keep expect {Host=a; Content-Length=2; "
         "Expect=100-Continue}\nbody [hi]\ndone []\n"},
        {"chunked", REQUEST,
         BYTES("P / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
         "head 1.1 0 [P] / chunked keep {Host=a; Transfer-Encoding=chunked}\nbody [x]\ndone []\n"},
        {"empty lines before it", REQUEST, BYTES("\r\n\r\n" GET "\r\n"),
         "head 1.1 0 [GET] / none keep {Host=a}\ndone []\n"},
        {"HTTP/1.0 without a Host", REQUEST, BYTES("GET / HTTP/1.0\r\n\r\n"),
         "head 1.0 0 [GET] / none {}\ndone []\n"},
        {"bytes above 0x7f in a target", REQUEST, BYTES("GET /\xc3\xa4 HTTP/1.0\r\n\r\n"),
         "head 1.0 0 [GET] /\xc3\xa4 none {}\ndone []\n"},
        {"upgrade and close", REQUEST, BYTES(GET "Connection: close, Upgrade\r\n\r\n"),
         "head 1.1 0 [GET] / none upgrade {Host=a; Connection=close, Upgrade}\ndone []\n"},
        {"an empty Host", REQUEST, BYTES("GET / HTTP/1.1\r\nHost:\r\n\r\n"),
         "head 1.1 0 [GET] / none keep {Host=}\ndone []\n"}, );
}

TEST(a_request_line_that_is_not_exact_is_refused)
{
    CHECK_MESSAGES(
        {"HTTP/0.9", REQUEST, BYTES("GET /\r\n\r\n"), "failed request_line\n"},
        {"no target", REQUEST, BYTES("GET HTTP/1.1\r\n\r\n"), "failed request_line\n"},
        {"only a method", REQUEST, BYTES("GET\r\n\r\n"), "failed request_line\n"},
        {"a blank before the target", REQUEST, BYTES("GET  / HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"a blank in the target", REQUEST, BYTES("GET /a b HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"two blanks before the version", REQUEST, BYTES("GET /  HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"a blank at the end", REQUEST, BYTES("GET / HTTP/1.1 \r\n\r\n"), "failed version\n"},
        {"a tab", REQUEST, BYTES("GET\t/ HTTP/1.1\r\n\r\n"), "failed request_line\n"},
        {"a tab in the target", REQUEST, BYTES("GET /\ta HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"a control byte in the target", REQUEST, BYTES("GET /\x7f HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"a NUL in the target", REQUEST, BYTES("GET /\0 HTTP/1.1\r\n\r\n"), "failed nul\n"},
        {"a CR in the target", REQUEST, BYTES("GET /\rA HTTP/1.1\r\n\r\n"), "failed bare_cr\n"},
        {"a method that is no token", REQUEST, BYTES("G@T / HTTP/1.1\r\n\r\n"),
         "failed request_line\n"},
        {"a blank first", REQUEST, BYTES(" GET / HTTP/1.1\r\n\r\n"), "failed request_line\n"},
        {"HTTP/2", REQUEST, BYTES("PRI * HTTP/2.0\r\n\r\n"), "failed version\n"},
        {"HTTP/1.10", REQUEST, BYTES("GET / HTTP/1.10\r\n\r\n"), "failed version\n"},
        {"another protocol", REQUEST, BYTES("GET / RTSP/1.0\r\n\r\n"), "failed request_line\n"}, );
}

TEST(a_request_that_could_smuggle_another_one_is_refused)
{
    CHECK_MESSAGES(
        {"LF alone behind the first line", REQUEST, BYTES("GET / HTTP/1.0\n\r\n"),
         "failed bare_lf\n"},
        {"LF alone behind a header", REQUEST, BYTES(GET "A: b\n\r\n"), "failed bare_lf\n"},
        {"LF alone as the empty line", REQUEST, BYTES(GET "A: b\r\n\n"), "failed bare_lf\n"},
        {"LF alone before it", REQUEST, BYTES("\n" GET "\r\n"), "failed bare_lf\n"},
        {"LF alone in trailers", REQUEST, BYTES(GET "Transfer-Encoding: chunked\r\n\r\n0\r\n\n"),
         "head 1.1 0 [GET] / chunked keep {Host=a; Transfer-Encoding=chunked}\nfailed bare_lf\n"},
        {"CR alone before it", REQUEST, BYTES("\rGET / HTTP/1.1\r\n\r\n"), "failed bare_cr\n"},
        {"no Host", REQUEST, BYTES("GET / HTTP/1.1\r\n\r\n"), "failed host\n"},
        {"two Hosts", REQUEST, BYTES(GET "host: a\r\n\r\n"), "failed host\n"},
        {"two equal lengths", REQUEST, BYTES(GET "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
         "failed content_length\n"},
        {"a list of lengths", REQUEST, BYTES(GET "Content-Length: 0, 0\r\n\r\n"),
         "failed content_length\n"},
        {"identity", REQUEST, BYTES(GET "Transfer-Encoding: identity\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked and identity", REQUEST, BYTES(GET "Transfer-Encoding: chunked, identity\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a blank before the colon", REQUEST, BYTES(GET "Transfer-Encoding : chunked\r\n\r\n"),
         "failed header_name\n"},
        {"chunked in HTTP/1.0", REQUEST,
         BYTES("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked with a length", REQUEST,
         BYTES(GET "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "failed two_lengths\n"},
        {"a length with chunked", REQUEST,
         BYTES(GET "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
         "failed two_lengths\n"},
        {"chunked in two lines", REQUEST,
         BYTES(GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked, then identity, in two lines", REQUEST,
         BYTES(GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"xchunked", REQUEST, BYTES(GET "Transfer-Encoding: xchunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a quoted chunked", REQUEST, BYTES(GET "Transfer-Encoding: \"chunked\"\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"chunked behind a vertical tab", REQUEST,
         BYTES(GET "Transfer-Encoding: \x0b chunked\r\n\r\n"), "failed header_value\n"},
        {"no Transfer-Encoding at all", REQUEST, BYTES(GET "Transfer-Encoding:\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a folded Transfer-Encoding", REQUEST, BYTES(GET "Transfer-Encoding:\r\n chunked\r\n\r\n"),
         "failed transfer_encoding\n"},
        {"a Transfer-Encoding in a fold", REQUEST,
         BYTES(GET "A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n"), "failed folded_line\n"},
        {"a Transfer-Encoding behind a bare CR", REQUEST,
         BYTES(GET "A: b\rTransfer-Encoding: chunked\r\n\r\n"), "failed bare_cr\n"},
        {"a NUL in a name", REQUEST, BYTES(GET "Transfer-\0Encoding: chunked\r\n\r\n"),
         "failed nul\n"},
        {"a NUL in a value", REQUEST, BYTES(GET "Content-Length: 5\0\r\n\r\n"), "failed nul\n"},
        {"a length with a plus", REQUEST, BYTES(GET "Content-Length: +5\r\n\r\n"),
         "failed content_length\n"},
        {"a length with a minus", REQUEST, BYTES(GET "Content-Length: -5\r\n\r\n"),
         "failed content_length\n"},
        {"a length in hexadecimal", REQUEST, BYTES(GET "Content-Length: 0x5\r\n\r\n"),
         "failed content_length\n"},
        {"a length with a blank inside", REQUEST, BYTES(GET "Content-Length: 1 0\r\n\r\n"),
         "failed content_length\n"},
        {"a length of nothing", REQUEST, BYTES(GET "Content-Length:\r\n\r\n"),
         "failed content_length\n"},
        {"a length of 2^63", REQUEST, BYTES(GET "Content-Length: 9223372036854775808\r\n\r\n"),
         "failed content_length\n"}, );
}

TEST(a_request_whose_chunks_could_be_read_in_two_ways_is_refused)
{
    CHECK_MESSAGES(
        {"0x5", REQUEST, BYTES(PUT "0x5\r\nhello\r\n0\r\n\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"+5", REQUEST, BYTES(PUT "+5\r\nhello\r\n0\r\n\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"-5", REQUEST, BYTES(PUT "-5\r\nhello\r\n0\r\n\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"a blank first", REQUEST, BYTES(PUT " 5\r\nhello\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"a blank at the end", REQUEST, BYTES(PUT "5 \r\nhello\r\n"),
         PUT_HEAD "failed chunk_size\n"},
        {"a blank before an extension", REQUEST, BYTES(PUT "2 ;a=b\r\nhi\r\n0\r\n\r\n"),
         PUT_HEAD "body [hi]\ndone []\n"},
        {"no size", REQUEST, BYTES(PUT "\r\nhello\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"2^63", REQUEST, BYTES(PUT "8000000000000000\r\n"), PUT_HEAD "failed chunk_size\n"},
        {"2^64 and 5", REQUEST, BYTES(PUT "10000000000000005\r\nhello\r\n"),
         PUT_HEAD "failed chunk_size\n"},
        {"a LF alone behind the size", REQUEST, BYTES(PUT "5\nhello\r\n"),
         PUT_HEAD "failed bare_lf\n"},
        {"a LF alone behind an extension", REQUEST, BYTES(PUT "5;a\nhello\r\n"),
         PUT_HEAD "failed bare_lf\n"},
        {"a CR alone in an extension", REQUEST, BYTES(PUT "5;a\rb\r\nhello\r\n"),
         PUT_HEAD "failed bare_cr\n"},
        {"a NUL in an extension", REQUEST, BYTES(PUT "5;\0\r\nhello\r\n"), PUT_HEAD "failed nul\n"},
        {"a LF alone behind the data", REQUEST, BYTES(PUT "2\r\nhi\n0\r\n\r\n"),
         PUT_HEAD "body [hi]\nfailed bare_lf\n"},
        {"more data than announced", REQUEST, BYTES(PUT "2\r\nhiho\r\n0\r\n\r\n"),
         PUT_HEAD "body [hi]\nfailed chunk_end\n"},
        {"a length in trailers means nothing", REQUEST, BYTES(PUT "0\r\nContent-Length: 9\r\n\r\n"),
         PUT_HEAD "trailers {Content-Length=9}\ndone []\n"},
        {"a folded trailer", REQUEST, BYTES(PUT "0\r\nA: b\r\n c\r\n\r\n"),
         PUT_HEAD "failed folded_line\n"}, );
}

/* As many bytes or lines as the default limits allow, and one more. */
TEST(the_default_limits_are_those_that_are_documented)
{
    enum { HEAD = 256 * 1024, LINE = 64 * 1024 };
    char *text = malloc(HEAD + 1024);
    REQUIRE(text != NULL);
    for (int more = 0; more <= 1; more++) {
        struct message line = {"a line", 0, text, 0, NULL}, head = {"a head", 0, text, 0, NULL},
                       count = {"headers", 0, text, 0, NULL};
        char *shown;
        line.len = (size_t)sprintf(text, "HTTP/1.0 200 OK\r\nA:%*s\r\n\r\n", LINE - 4 + more, "x");
        shown = show(&line, line.len, 1);
        CHECK_EQ(strncmp(shown, more ? "failed line_too_long" : "head", more ? 20 : 4), 0);
        free(shown);
        for (int i = 0; i < 4; i++)
            head.len +=
                (size_t)sprintf(text + head.len, i == 0 ? "HTTP/1.0 200 %*s\r\n" : "A:%*s\r\n",
                                LINE - (i == 0 ? 15 : 4) - (i == 3 ? 2 - more : 0), "x");
        head.len += (size_t)sprintf(text + head.len, "\r\n");
        CHECK_EQ(head.len, HEAD + more);
        shown = show(&head, head.len, 1);
        CHECK_EQ(strncmp(shown, more ? "failed head_too_large" : "head", more ? 21 : 4), 0);
        free(shown);
        count.len = (size_t)sprintf(text, "HTTP/1.0 200 OK\r\n");
        for (int i = 0; i < 256 + more; i++)
            count.len += (size_t)sprintf(text + count.len, "A: b\r\n");
        count.len += (size_t)sprintf(text + count.len, "\r\n");
        shown = show(&count, count.len, 1);
        CHECK_EQ(strncmp(shown, more ? "failed too_many_headers" : "head", more ? 23 : 4), 0);
        free(shown);
        count.len = 0;
        for (int i = 0; i < 32 + more; i++)
            count.len += (size_t)sprintf(text + count.len, "HTTP/1.1 100 A\r\n\r\n");
        shown = show(&count, count.len, 1);
        CHECK_EQ(strstr(shown, "failed too_many_informational") != NULL, more);
        free(shown);
        count.len = (size_t)sprintf(text, CHUNKED "0;%*s\r\n\r\n", 1023 + more, "x");
        shown = show(&count, count.len, 1);
        CHECK_EQ(strstr(shown, "failed chunk_extension") != NULL, more);
        free(shown);
    }
    free(text);
}

TEST(a_long_head_that_comes_byte_by_byte_is_looked_at_once)
{
    enum { LEN = 20 * 1024 };
    static char text[LEN];
    struct http1_parser p;
    struct http1_event e;
    struct err err;
    memset(text, 'x', LEN);
    memcpy(text, BYTES("HTTP/1.1 200 "));
    init(&p, 0);
    for (size_t given = 1; given <= LEN; given++) {
        const char *in = text;
        size_t len = given;
        REQUIRE(http1_parse_next(&p, &in, &len, &e, &err) == HTTP1_MORE);
        REQUIRE(in == text && len == given);
        /* An end among the bytes that were handed in before is not seen. */
        if (given > 100)
            memcpy(text + 50, "\r\n\r\n", 4);
    }
}

TEST(the_body_is_not_copied)
{
    static const char text[] = OK "Content-Length: 5\r\n\r\nhello";
    struct http1_parser p;
    struct http1_event e;
    struct err err;
    const char *in = text;
    size_t len = sizeof text - 1;
    init(&p, 0);
    REQUIRE(http1_parse_next(&p, &in, &len, &e, &err) == HTTP1_HEAD);
    REQUIRE(http1_parse_next(&p, &in, &len, &e, &err) == HTTP1_BODY);
    CHECK(e.data == text + sizeof text - 6 && e.len == 5);
    CHECK_EQ(http1_parse_next(&p, &in, &len, &e, &err), HTTP1_DONE);
    CHECK_EQ(http1_parse_next(&p, &in, &len, &e, &err), HTTP1_DONE);
}

TEST(the_rows_of_a_head_become_headers_at_once)
{
    static const char text[] = OK "A:\r\nB: c \r\nContent-Length: 0\r\n\r\n";
    struct http1_parser p;
    struct http1_event e;
    struct err err;
    struct mem mem;
    struct headers h;
    const char *in = text;
    size_t len = sizeof text - 1;
    init(&p, 0);
    REQUIRE(http1_parse_next(&p, &in, &len, &e, &err) == HTTP1_HEAD);
    mem_init(&mem, 0);
    headers_init(&h, &mem, 8, 1024);
    for (int i = 0; i < 2; i++)
        REQUIRE(headers_add_rows(&h, e.head.fields, e.head.fields_len, e.head.rows, e.head.count) ==
                ERR_NONE);
    CHECK_EQ(h.count, 6);
    for (size_t i = 0; i < h.count; i += 3) {
        CHECK_STR(headers_name(&h, i), "A");
        CHECK_STR(headers_value(&h, i), "");
        CHECK_STR(headers_name(&h, i + 1), "B");
        CHECK_STR(headers_value(&h, i + 1), "c");
        CHECK_STR(headers_name(&h, i + 2), "Content-Length");
        CHECK_STR(headers_value(&h, i + 2), "0");
    }
    CHECK_EQ(headers_add_rows(&h, e.head.fields, e.head.fields_len, e.head.rows, e.head.count),
             ERR_TOO_LARGE);
    CHECK_EQ(h.count, 6);
    headers_fini(&h);
    CHECK_EQ(mem.blocks, 0);
}

TEST_MAIN
