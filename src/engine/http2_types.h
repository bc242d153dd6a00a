/* The types of HTTP/2 sessions (http2.h) and of their streams (http2_stream.h). */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/headers.h"
#include "ground/list.h"

struct http2;
struct http2_stream;

enum {
    /* What a reader that is full may keep. A stream begins with this, and gets four times as much,
     * up to HTTP2_STREAM_MOST, each time its reader takes a whole window within half a second: on a
     * long way a small window would be the limit, not the way. */
    HTTP2_STREAM_WINDOW = 64 << 10,
    HTTP2_STREAM_MOST = 1 << 20,
    HTTP2_CONNECTION_WINDOW = 16 << 20,
    HTTP2_MAX_FIELDS = 256,            /* in a head or in trailers; requests, too */
    HTTP2_MAX_FIELD_BYTES = 256 << 10, /* all of them together */
    HTTP2_MAX_FIELD_LINE = 64 << 10,   /* one of them, name and value */
    HTTP2_MAX_INTERIMS = 32,           /* responses of 1xx to one request */
    HTTP2_MAX_STREAMS = 1000,          /* of one session, if the peer allows that many */
};

struct http2_ops {
    /* There is something to send. Call http2_flush before the loop waits. It comes beneath the
     * calls that start, feed, read and cancel streams. NULL is allowed. */
    void (*to_send)(struct http2 *h, void *owner);
    /* The session is over; all its streams have ended. The last call. http2_why says why:
     * ERR_CLOSED (the peer closed, or has sent GOAWAY and all is done), ERR_IO, ERR_TLS,
     * ERR_PROTOCOL (with reason "flood", if it was one), ERR_MEMORY. */
    void (*over)(struct http2 *h, void *owner);
};

struct http2_request {
    const char *method;
    const char *scheme;
    const char *authority; /* a host header is not sent */
    const char *path;      /* with the query */
    /* Or NULL. Names may be in any letter case. What belongs to a connection is left out
     * (Connection and what it names, Keep-Alive, Transfer-Encoding, Upgrade, TE but "trailers"). */
    const struct headers *headers;
    const char *body; /* borrowed until `sent` or the end of the stream; NULL: none */
    size_t body_len;
    bool uploads;   /* the body comes from the stream's `upload` instead */
    int64_t length; /* what Content-Length says, if no header does; -1: it is not sent */
};

enum http2_took {
    HTTP2_TOOK,
    HTTP2_FULL, /* it took nothing, and wants it again after http2_stream_go_on */
    HTTP2_STOP, /* it wants no more of this response: the stream is reset */
};

enum http2_end {
    HTTP2_COMPLETE,
    HTTP2_REFUSED,   /* the peer has processed nothing of it, and any request may be sent again */
    HTTP2_LOST,      /* the session ended before the response did: http2_why */
    HTTP2_RESET,     /* the peer reset the stream: `code` is its RST_STREAM's */
    HTTP2_INVALID,   /* the peer's response breaks the rules; `code` says which, for a person */
    HTTP2_TOO_LARGE, /* the header fields, or the 1xx responses, are past the caps */
    HTTP2_STOPPED,   /* a function of the stream said so */
    HTTP2_NO_MEMORY,
};

struct http2_stream_ops {
    /* 1xx responses are announced, but their fields are not. */
    void (*status)(struct http2_stream *s, int status);
    /* `name` is in lower case. Both end with a NUL. False: stop. Trailers do not wait for a reader
     * that is full. */
    bool (*field)(struct http2_stream *s, const char *name, size_t name_len, const char *value,
                  size_t value_len, bool is_trailer);
    /* False: stop. */
    bool (*head_end)(struct http2_stream *s);
    /* Pieces of at most 16 KiB. */
    enum http2_took (*body)(struct http2_stream *s, const char *data, size_t len);
    /* Writes at most `cap` bytes of the body to `out`. *ended: they are the last. 0 bytes that are
     * not the last: it has none now, and is asked again after http2_stream_fed. */
    size_t (*upload)(struct http2_stream *s, char *out, size_t cap, bool *ended);
    /* The whole request is written, or in the last 16 KiB that wait for the socket. It does not
     * come if the response was whole before. */
    void (*sent)(struct http2_stream *s);
    void (*end)(struct http2_stream *s, enum http2_end how, uint32_t code);
};

/* All fields are private to the http2 files. All zero: a stream that was never started. */
struct http2_stream {
    const struct http2_stream_ops *ops;
    struct http2 *session; /* NULL: it is not in one (any more) */
    struct list node;      /* http2.streams */
    struct buf kept;       /* what the reader has not taken; from kept_from on */
    size_t kept_from;
    size_t window;     /* what the peer may send of it */
    size_t taken;      /* by the reader, since the window was opened or grew */
    uint64_t since_ns; /* when a quarter of that had been taken; 0: not yet */
    bool *gone;        /* set to true if the stream is given up during a call of its functions */
    const char *body;  /* the rest of a request's body */
    size_t body_len;
    uint32_t code; /* of `how` */
    enum http2_end how;
    int32_t id;
    unsigned fields, interims;
    size_t field_bytes;
    bool ended;     /* `how` is decided; only kept bytes come before `end` */
    bool uploads;   /* the body comes from `upload` */
    bool starved;   /* `upload` had none */
    bool head_sent; /* the peer may have seen some of it */
    bool all_sent;
    bool has_status; /* the head that comes now has one */
    bool interim;    /* the head that comes now is a 1xx */
    bool answered;   /* a status has come, be it a 1xx */
    bool head_done;  /* the response's head is complete */
    bool was_reset;  /* the peer has sent RST_STREAM */
};
