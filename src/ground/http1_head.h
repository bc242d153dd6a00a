/* Reads a whole head, or whole trailers, of HTTP/1: the lines, and what the headers say about the
 * body and the connection. http1_parse finds where they end, and decides what follows them. */
#pragma once

#include "ground/base.h"
#include "ground/headers.h"

enum http1_kind { HTTP1_RESPONSE, HTTP1_REQUEST };

/* How the end of a body is known. */
enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };

/* Why a message is refused. http1_parse.c has the words. */
enum http1_fault {
    FAULT_NONE,
    FAULT_STATUS_LINE,
    FAULT_REQUEST_LINE,
    FAULT_VERSION,
    FAULT_HEADER_NAME,
    FAULT_HEADER_VALUE,
    FAULT_FOLDED_LINE,
    FAULT_BARE_CR,
    FAULT_BARE_LF,
    FAULT_NUL,
    FAULT_CONTENT_LENGTH,
    FAULT_TRANSFER_ENCODING,
    FAULT_TWO_LENGTHS,
    FAULT_HOST,
    FAULT_CHUNK_SIZE,
    FAULT_CHUNK_EXTENSION,
    FAULT_CHUNK_END,
    FAULT_TOO_MANY_HEADERS,
    FAULT_HEAD_TOO_LARGE,
    FAULT_LINE_TOO_LONG,
    FAULT_TOO_MANY_INFORMATIONAL,
    FAULT_UNEXPECTED_101,
    FAULT_TRUNCATED
};

#define HTTP1_MAX_HEADERS 256

/* All slices lie in the bytes that were read, and are borrowed from there. */
struct http1_head {
    unsigned minor;     /* of the version: 0 is HTTP/1.0; what is above 1 means 1 */
    unsigned status;    /* of a response: 100 to 999 */
    const char *word;   /* the reason phrase of a response, which may be empty; */
    size_t word_len;    /* the method of a request, a token */
    const char *target; /* of a request: at least one byte, no blanks and no control bytes */
    size_t target_len;
    enum http1_framing body;
    int64_t content_length; /* as it was announced, even if no body follows; -1: it was not */
    bool informational;     /* 1xx, but 101: another head follows, and then the response */
    bool keep_alive;        /* once the message is complete, another one may follow */
    bool coded;   /* the body has other transfer codings than chunked; they are not taken off */
    bool upgrade; /* `Connection` lists upgrade */
    bool expect;  /* a request's: it waits for a 100 (`Expect: 100-continue`) */
    /* The rows are offsets into `fields`; headers_add_rows copies them. The names are tokens. The
     * values have no control byte but tab, and no blanks around them. */
    const char *fields;
    size_t fields_len, count;
    struct header rows[HTTP1_MAX_HEADERS];
};

/* What the headers say, before it is decided what holds. */
struct http1_meaning {
    bool request;
    bool close, keep_alive; /* Connection */
    bool encoded, chunked;  /* there is a Transfer-Encoding; it ends with chunked */
    unsigned hosts;
    int64_t length; /* Content-Length, or -1 */
};

/* Refuses, by the first bytes of a head, what is no HTTP/1: there may never be an empty line. len
 * is at least 1. */
enum http1_fault http1_head_opening(enum http1_kind kind, const char *s, size_t len);
/* Reads a head at the front of s[0..len); *used is its length. Sets all of *out but `body`,
 * `informational` and `keep_alive`, and all of *m. Any fault may also mean that s ends too early.
 */
enum http1_fault http1_head_read(enum http1_kind kind, const char *s, size_t len,
                                 size_t max_headers, struct http1_head *out,
                                 struct http1_meaning *m, size_t *used);
/* The same without a first line. Sets the fields of *out only. */
enum http1_fault http1_head_read_trailers(enum http1_kind kind, const char *s, size_t len,
                                          size_t max_headers, struct http1_head *out, size_t *used);
