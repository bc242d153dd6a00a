#include "engine/inflate.h"

#include <limits.h>
#include <string.h>

#define STEP_MIN_BYTES 1024
#define STEP_MAX_BYTES 16384

enum state {
    EMPTY,   /* no byte yet */
    HEAD,    /* deflate: fewer bytes than tell the two formats apart */
    BODY,    /* within a stream or member */
    ENDED,   /* behind a good end */
    PADDING, /* behind it, and zero bytes seen: only more of them may follow */
    FAILED,
};

static voidpf z_alloc(voidpf opaque, uInt items, uInt size)
{
    if (size != 0 && items > SIZE_MAX / size)
        return Z_NULL;
    return mem_alloc(opaque, (size_t)items * size);
}

static void z_free(voidpf opaque, voidpf ptr)
{
    mem_free(opaque, ptr);
}

void inflate_init(struct inflate *f, enum inflate_kind kind, struct mem *mem, size_t max_out)
{
    *f = (struct inflate){.kind = kind, .mem = mem, .max_out = max_out, .state = EMPTY};
}

static void close_stream(struct inflate *f)
{
    if (f->opened)
        inflateEnd(&f->z);
    f->opened = false;
}

void inflate_fini(struct inflate *f)
{
    close_stream(f);
}

static const char *kind_name(const struct inflate *f)
{
    return f->kind == INFLATE_GZIP ? "gzip" : "deflate";
}

static enum err_kind fail(struct inflate *f, enum err_kind kind, const char *what)
{
    err_set(&f->failed, kind, "the %s body %s", kind_name(f), what);
    if (kind == ERR_PROTOCOL)
        err_reason(&f->failed, "decode");
    f->state = FAILED;
    close_stream(f);
    return kind;
}

static enum err_kind fail_rc(struct inflate *f, int rc)
{
    if (rc == Z_MEM_ERROR)
        return fail(f, ERR_MEMORY, "could not be decoded: no memory");
    return fail(f, ERR_PROTOCOL, "is damaged");
}

static enum err_kind open_stream(struct inflate *f)
{
    int bits = MAX_WBITS + 16;
    if (f->kind == INFLATE_DEFLATE) {
        unsigned b0 = f->head[0], b1 = f->head[1];
        bool wrapped = (b0 & 0x0f) == Z_DEFLATED && (b0 >> 4) <= 7 && (b0 << 8 | b1) % 31 == 0;
        bits = wrapped ? MAX_WBITS : -MAX_WBITS;
    }
    f->z = (z_stream){.zalloc = z_alloc, .zfree = z_free, .opaque = f->mem};
    int rc = inflateInit2(&f->z, bits);
    if (rc != Z_OK)
        return fail_rc(f, rc);
    f->opened = true;
    f->state = BODY;
    return ERR_NONE;
}

static enum err_kind too_large(struct inflate *f)
{
    return fail(f, ERR_TOO_LARGE, "is larger than allowed when decoded");
}

/* One call of zlib, with the output straight into `out`. Z_BUF_ERROR: it needs more input. */
static enum err_kind step(struct inflate *f, struct buf *out, int *rc)
{
    size_t room = MIN(f->max_out - f->total_out, out->max_bytes - out->len);
    if (room == 0) {
        /* The end of the stream may still come, but not another byte of content. */
        unsigned char over;
        f->z.next_out = &over;
        f->z.avail_out = 1;
        *rc = inflate(&f->z, Z_SYNC_FLUSH);
        return f->z.avail_out == 0 ? too_large(f) : ERR_NONE;
    }
    size_t want = MIN(MAX((size_t)f->z.avail_in * 4, STEP_MIN_BYTES), STEP_MAX_BYTES);
    want = MIN(want, room);
    enum err_kind kind = buf_reserve(out, want);
    if (kind != ERR_NONE)
        return fail(f, kind, "could not be decoded: no memory");
    f->z.next_out = (Bytef *)out->data + out->len;
    f->z.avail_out = (uInt)want;
    *rc = inflate(&f->z, Z_SYNC_FLUSH);
    size_t made = want - f->z.avail_out;
    buf_commit(out, made);
    f->total_out += made;
    return ERR_NONE;
}

/* Decodes until the input is used up or the stream has ended. */
static enum err_kind run_stream(struct inflate *f, struct buf *out)
{
    for (;;) {
        int rc = Z_OK;
        enum err_kind kind = step(f, out, &rc);
        if (kind != ERR_NONE)
            return kind;
        if (rc == Z_STREAM_END) {
            f->state = ENDED;
            return ERR_NONE;
        }
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return fail_rc(f, rc);
        /* Output room left over means that all input so far has been turned into output. */
        if (rc == Z_BUF_ERROR || (f->z.avail_in == 0 && f->z.avail_out > 0))
            return ERR_NONE;
    }
}

static size_t run_bytes(struct inflate *f, const unsigned char *in, size_t len, struct buf *out)
{
    f->z.next_in = (z_const Bytef *)in;
    f->z.avail_in = (uInt)MIN(len, (size_t)UINT_MAX);
    size_t given = f->z.avail_in;
    if (run_stream(f, out) != ERR_NONE)
        return 0;
    size_t used = given - f->z.avail_in;
    f->z.next_in = NULL;
    f->z.avail_in = 0;
    return used;
}

/* Takes the first two bytes of a deflate body and replays them once both are there. */
static size_t collect_head(struct inflate *f, const unsigned char *in, size_t len, struct buf *out)
{
    size_t n = MIN(len, sizeof(f->head) - f->head_len);
    memcpy(f->head + f->head_len, in, n);
    f->head_len += n;
    f->state = HEAD;
    if (f->head_len == sizeof(f->head) && open_stream(f) == ERR_NONE) {
        size_t used = run_bytes(f, f->head, sizeof(f->head), out);
        if (f->state == ENDED && used < sizeof(f->head) && f->head[used] != 0)
            fail(f, ERR_PROTOCOL, "is followed by other bytes");
    }
    return n;
}

static void next_member(struct inflate *f)
{
    int rc = inflateReset(&f->z);
    if (rc != Z_OK)
        fail_rc(f, rc);
    else
        f->state = BODY;
}

static void after_end(struct inflate *f, unsigned char next)
{
    if (next == 0)
        f->state = PADDING;
    else if (f->state == ENDED && f->kind == INFLATE_GZIP)
        next_member(f);
    else
        fail(f, ERR_PROTOCOL, "is followed by other bytes");
}

static enum err_kind result(const struct inflate *f, struct err *err)
{
    if (f->state != FAILED)
        return ERR_NONE;
    if (err != NULL)
        *err = f->failed;
    return f->failed.kind;
}

enum err_kind inflate_feed(struct inflate *f, const void *in, size_t len, struct buf *out,
                           struct err *err)
{
    const unsigned char *p = in;
    while (len > 0 && f->state != FAILED) {
        size_t used = 0;
        switch ((enum state)f->state) {
        case EMPTY:
        case HEAD:
            if (f->kind == INFLATE_DEFLATE)
                used = collect_head(f, p, len, out);
            else
                open_stream(f);
            break;
        case BODY:
            used = run_bytes(f, p, len, out);
            break;
        case ENDED:
        case PADDING:
            after_end(f, *p);
            used = f->state == PADDING;
            break;
        case FAILED:
            break;
        }
        p += used;
        len -= used;
    }
    return result(f, err);
}

enum err_kind inflate_finish(struct inflate *f, struct err *err)
{
    if (f->state == HEAD || f->state == BODY)
        fail(f, ERR_PROTOCOL, "ends too early");
    return result(f, err);
}
