/* Our own pass that decodes gzip and deflate bodies. Unlike libcurl's it takes a
 * stream for whole only when it ended with a good checksum, has a cap on what comes out, and hands
 * over each flushed piece at once. Memory comes from mem.h; about 40 KiB while a stream is open. */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"
#include "ground/mem.h"
#include <zlib.h>

enum inflate_kind {
    INFLATE_GZIP,    /* one or more members */
    INFLATE_DEFLATE, /* zlib-wrapped as the standard says, or bare as some servers send */
};

/* Private, but for being embedded. Must not move between init and fini. */
struct inflate {
    z_stream z;
    struct mem *mem;
    size_t max_out, total_out;
    enum inflate_kind kind;
    int state;
    bool opened;
    size_t head_len;
    unsigned char head[2]; /* deflate: which of the two it is needs two bytes */
    struct err failed;
};

/* `max_out`: bytes that may come out in all. Allocates nothing yet. */
void inflate_init(struct inflate *f, enum inflate_kind kind, struct mem *mem, size_t max_out);
void inflate_fini(struct inflate *f);

/* Appends to `out` all that can be decoded so far, also when it fails. ERR_PROTOCOL with reason
 * "decode"; ERR_TOO_LARGE past max_out or the cap of `out`; ERR_MEMORY. After a failure every call
 * repeats it. */
NODISCARD enum err_kind inflate_feed(struct inflate *f, const void *in, size_t len, struct buf *out,
                                     struct err *err);
/* ERR_PROTOCOL, reason "decode", unless the stream has ended as it should. No byte at all is an
 * empty body and fine (the answer to a HEAD has a Content-Encoding too). */
NODISCARD enum err_kind inflate_finish(struct inflate *f, struct err *err);
