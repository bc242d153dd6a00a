/* Decodes gzip and deflate bodies. libcurl can do this too, but differs in three ways. Here, a
 * stream is complete only if it ended with a correct checksum, the decoded size has a cap, and each
 * flushed piece is delivered at once. Memory comes from mem.h: about 40 KiB while a stream is open.
 */
#pragma once

#include "ground/base.h"
#include "ground/buf.h"
#include "ground/err.h"
#include "ground/mem.h"
#include <zlib.h>

enum inflate_kind {
    INFLATE_GZIP,    /* one or more members */
    INFLATE_DEFLATE, /* wrapped in zlib as the standard says, or bare as some servers send it */
};

/* Private. The struct is public only so that others can embed it. It must not move between init and
 * fini. */
struct inflate {
    z_stream z;
    struct mem *mem;
    size_t max_out, total_out;
    enum inflate_kind kind;
    int state;
    bool opened;
    size_t head_len;
    unsigned char
        head[2]; /* for deflate: two bytes are needed to see which of the two forms it is */
    struct err failed;
};

/* `max_out`: the largest decoded size. Does not allocate. */
void inflate_init(struct inflate *f, enum inflate_kind kind, struct mem *mem, size_t max_out);
void inflate_fini(struct inflate *f);

/* Decodes as much as it can and appends it to `out`, even if it fails. ERR_PROTOCOL with reason
 * "decode"; ERR_TOO_LARGE past max_out or the cap of `out`; ERR_MEMORY. After a failure, every call
 * returns it again. */
NODISCARD enum err_kind inflate_feed(struct inflate *f, const void *in, size_t len, struct buf *out,
                                     struct err *err);
/* ERR_PROTOCOL with reason "decode" if the stream has not ended correctly. A body without any byte
 * is empty and correct: the answer to a HEAD may have a Content-Encoding too. */
NODISCARD enum err_kind inflate_finish(struct inflate *f, struct err *err);
