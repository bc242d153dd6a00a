#include "test.h"

#include "engine/inflate.h"

#define PLAIN_BYTES 600

struct sample {
    unsigned char bytes[4096];
    size_t len;
};

static void make_plain(char plain[PLAIN_BYTES])
{
    unsigned state = 7;
    for (size_t i = 0; i < PLAIN_BYTES; i++) {
        state = state * 1103515245u + 12345u;
        plain[i] = i % 3 == 0 ? (char)(state >> 16) : "leat "[i % 5];
    }
}

/* `bits` as deflateInit2 takes them: 31 gzip, 15 zlib, -15 bare. Appends to `s`. */
static void pack(struct sample *s, int bits, const void *plain, size_t len)
{
    z_stream z = {.next_in = (z_const Bytef *)plain, .avail_in = (uInt)len};
    CHECK_EQ(deflateInit2(&z, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = s->bytes + s->len;
    z.avail_out = (uInt)(sizeof(s->bytes) - s->len);
    CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    s->len = sizeof(s->bytes) - z.avail_out;
    deflateEnd(&z);
}

/* Feeds the pieces [0,a) [a,b) [b,len), each from memory of its own size. */
static enum err_kind decode(enum inflate_kind kind, const unsigned char *in, size_t a, size_t b,
                            size_t len, struct buf *out, struct err *err)
{
    struct inflate f;
    inflate_init(&f, kind, out->mem, 1 << 20);
    size_t at[] = {0, a, b, len};
    enum err_kind result = ERR_NONE;
    for (size_t i = 0; i < 3 && result == ERR_NONE; i++) {
        size_t n = at[i + 1] - at[i];
        unsigned char *piece = malloc(n + (n == 0));
        if (piece == NULL)
            return ERR_MEMORY;
        memcpy(piece, in + at[i], n);
        result = inflate_feed(&f, piece, n, out, err);
        free(piece);
    }
    if (result == ERR_NONE)
        result = inflate_finish(&f, err);
    inflate_fini(&f);
    return result;
}

static const struct {
    enum inflate_kind kind;
    int bits;
} formats[] = {{INFLATE_GZIP, 31}, {INFLATE_DEFLATE, 15}, {INFLATE_DEFLATE, -15}};

TEST(any_split_gives_the_same_bytes)
{
    char plain[PLAIN_BYTES];
    make_plain(plain);
    struct mem m;
    mem_init(&m, 0);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct sample s = {.len = 0};
        pack(&s, formats[f].bits, plain, PLAIN_BYTES);
        for (size_t cut = 0; cut <= s.len; cut++) {
            struct buf out;
            struct err err;
            buf_init(&out, &m, PLAIN_BYTES); /* the cap may be reached, not passed */
            size_t next = MIN(cut + 1, s.len);
            CHECK_EQ(decode(formats[f].kind, s.bytes, cut, next, s.len, &out, &err), ERR_NONE);
            CHECK_EQ(out.len, PLAIN_BYTES);
            CHECK(out.len == PLAIN_BYTES && memcmp(out.data, plain, PLAIN_BYTES) == 0);
            buf_fini(&out);
        }
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(a_body_fed_byte_by_byte_is_whole)
{
    char plain[PLAIN_BYTES];
    make_plain(plain);
    struct mem m;
    mem_init(&m, 0);
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct sample s = {.len = 0};
        pack(&s, formats[i].bits, plain, PLAIN_BYTES);
        struct inflate f;
        inflate_init(&f, formats[i].kind, &m, PLAIN_BYTES);
        struct buf out;
        buf_init(&out, &m, 1 << 20);
        for (size_t n = 0; n < s.len; n++)
            CHECK_EQ(inflate_feed(&f, s.bytes + n, 1, &out, NULL), ERR_NONE);
        CHECK_EQ(inflate_finish(&f, NULL), ERR_NONE);
        CHECK(out.len == PLAIN_BYTES && memcmp(out.data, plain, PLAIN_BYTES) == 0);
        inflate_fini(&f);
        buf_fini(&out);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(a_truncated_body_is_an_error_wherever_it_is_cut)
{
    char plain[PLAIN_BYTES];
    make_plain(plain);
    struct mem m;
    mem_init(&m, 0);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct sample s = {.len = 0};
        pack(&s, formats[f].bits, plain, PLAIN_BYTES);
        for (size_t len = 1; len < s.len; len++) {
            struct buf out;
            struct err err;
            buf_init(&out, &m, 1 << 20);
            CHECK_EQ(decode(formats[f].kind, s.bytes, len, len, len, &out, &err), ERR_PROTOCOL);
            CHECK_STR(err.reason, "decode");
            CHECK(out.len == 0 || memcmp(out.data, plain, out.len) == 0);
            buf_fini(&out);
        }
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(no_byte_at_all_is_an_empty_body)
{
    struct mem m;
    mem_init(&m, 0);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct buf out;
        buf_init(&out, &m, 100);
        CHECK_EQ(decode(formats[f].kind, (const unsigned char *)"", 0, 0, 0, &out, NULL), ERR_NONE);
        CHECK_EQ(out.len, 0);
        buf_fini(&out);
    }
}

TEST(a_wrong_checksum_or_length_is_an_error)
{
    struct mem m;
    mem_init(&m, 0);
    for (size_t back = 1; back <= 8; back++) {
        struct sample s = {.len = 0};
        pack(&s, 31, "checksum me", 11);
        s.bytes[s.len - back] ^= 0x40;
        struct buf out;
        struct err err;
        buf_init(&out, &m, 100);
        CHECK_EQ(decode(INFLATE_GZIP, s.bytes, 5, 9, s.len, &out, &err), ERR_PROTOCOL);
        CHECK_STR(err.reason, "decode");
        CHECK(err.message[0] != '\0');
        buf_fini(&out);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(all_members_of_a_gzip_body_are_delivered)
{
    struct mem m;
    mem_init(&m, 0);
    struct sample s = {.len = 0};
    pack(&s, 31, "one,", 4);
    pack(&s, 31, "", 0);
    pack(&s, 31, "three", 5);
    for (size_t cut = 0; cut <= s.len; cut++) {
        struct buf out;
        buf_init(&out, &m, 100);
        CHECK_EQ(decode(INFLATE_GZIP, s.bytes, cut, cut, s.len, &out, NULL), ERR_NONE);
        CHECK_STR(out.data, "one,three");
        buf_fini(&out);
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(zero_padding_behind_the_end_is_ignored_and_other_bytes_are_not)
{
    static const struct {
        const char *tail;
        size_t len;
        enum err_kind kind;
    } rows[] = {
        {"\0", 1, ERR_NONE},        {"\0\0\0\0\0", 5, ERR_NONE}, {"junk", 4, ERR_PROTOCOL},
        {"\0\0x", 3, ERR_PROTOCOL}, {"\x1f", 1, ERR_PROTOCOL},   {"\0\x1f\x8b", 3, ERR_PROTOCOL},
    };
    struct mem m;
    mem_init(&m, 0);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            struct sample s = {.len = 0};
            pack(&s, formats[f].bits, "text", 4);
            size_t end = s.len;
            memcpy(s.bytes + s.len, rows[i].tail, rows[i].len);
            s.len += rows[i].len;
            for (size_t cut = end - 1; cut <= s.len; cut++) {
                struct buf out;
                buf_init(&out, &m, 100);
                CHECK_EQ(decode(formats[f].kind, s.bytes, cut, cut, s.len, &out, NULL),
                         rows[i].kind);
                CHECK_STR(out.data, "text");
                buf_fini(&out);
            }
        }
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(a_bomb_ends_at_the_cap_in_bounded_memory)
{
    size_t plain_len = 64u << 20, room = 200000;
    unsigned char *bomb = malloc(room);
    unsigned char zeros[4096] = {0};
    REQUIRE(bomb != NULL);
    z_stream z = {.next_out = bomb, .avail_out = (uInt)room};
    CHECK_EQ(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    for (size_t done = 0; done < plain_len; done += sizeof(zeros)) {
        z.next_in = zeros;
        z.avail_in = sizeof(zeros);
        deflate(&z, Z_NO_FLUSH);
    }
    CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t len = room - z.avail_out;
    deflateEnd(&z);

    for (int by_buf = 0; by_buf < 2; by_buf++) {
        struct mem m;
        mem_init(&m, 0);
        struct inflate f;
        struct buf out;
        struct err err;
        inflate_init(&f, INFLATE_GZIP, &m, by_buf ? SIZE_MAX : 1 << 20);
        buf_init(&out, &m, by_buf ? 1 << 20 : SIZE_MAX);
        CHECK_EQ(inflate_feed(&f, bomb, len, &out, &err), ERR_TOO_LARGE);
        CHECK_EQ(err.kind, ERR_TOO_LARGE);
        CHECK_EQ(out.len, 1 << 20);
        CHECK(m.peak_bytes < (3u << 20));
        CHECK_EQ(inflate_feed(&f, bomb, 1, &out, &err), ERR_TOO_LARGE);
        CHECK_EQ(inflate_finish(&f, &err), ERR_TOO_LARGE);
        inflate_fini(&f);
        buf_fini(&out);
        CHECK_EQ(m.blocks, 0);
    }
    free(bomb);
}

TEST(a_flushed_piece_is_delivered_before_the_stream_goes_on)
{
    struct mem m;
    mem_init(&m, 0);
    struct inflate f;
    struct buf out;
    inflate_init(&f, INFLATE_GZIP, &m, 1 << 20);
    buf_init(&out, &m, 1 << 20);
    z_stream z = {.next_in = NULL};
    CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    char big[20001];
    for (size_t i = 0; i < 20000; i++)
        big[i] = "abcdefghij klm"[(i * i / 7) % 14];
    big[20000] = '\0';
    const char *pieces[] = {"data: 1\n\n", big, "data: 3\n\n"};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        unsigned char packed[30000];
        z.next_in = (z_const Bytef *)pieces[i];
        z.avail_in = (uInt)strlen(pieces[i]);
        z.next_out = packed;
        z.avail_out = sizeof(packed);
        CHECK_EQ(deflate(&z, Z_SYNC_FLUSH), Z_OK);
        buf_clear(&out); /* the reader took what was there */
        CHECK_EQ(inflate_feed(&f, packed, sizeof(packed) - z.avail_out, &out, NULL), ERR_NONE);
        CHECK_STR(out.data, pieces[i]);
    }
    CHECK_EQ(inflate_finish(&f, NULL), ERR_PROTOCOL);
    deflateEnd(&z);
    inflate_fini(&f);
    buf_fini(&out);
    CHECK_EQ(m.blocks, 0);
}

TEST(damaged_bytes_never_crash)
{
    char plain[PLAIN_BYTES];
    make_plain(plain);
    struct mem m;
    mem_init(&m, 0);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct sample s = {.len = 0};
        pack(&s, formats[f].bits, plain, PLAIN_BYTES);
        for (size_t i = 0; i < s.len; i++) {
            struct sample bad = s;
            bad.bytes[i] ^= (unsigned char)(1u << i % 8);
            struct buf out;
            buf_init(&out, &m, 1 << 16);
            enum err_kind kind = decode(formats[f].kind, bad.bytes, i, i, s.len, &out, NULL);
            CHECK(kind == ERR_NONE || kind == ERR_PROTOCOL || kind == ERR_TOO_LARGE);
            buf_fini(&out);
        }
    }
    CHECK_EQ(m.blocks, 0);
}

TEST(any_failing_allocation_ends_as_a_memory_error)
{
    char plain[PLAIN_BYTES];
    make_plain(plain);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct sample s = {.len = 0};
        pack(&s, formats[f].bits, plain, PLAIN_BYTES);
        long n = 0;
        for (;; n++) {
            struct mem m;
            mem_init(&m, 0);
            m.fail_in = n;
            struct buf out;
            struct err err;
            buf_init(&out, &m, 1 << 20);
            enum err_kind kind = decode(formats[f].kind, s.bytes, 1, 50, s.len, &out, &err);
            CHECK_EQ(kind, m.fail_in >= 0 ? ERR_NONE : ERR_MEMORY);
            buf_fini(&out);
            CHECK_EQ(m.blocks, 0);
            if (m.fail_in >= 0)
                break;
        }
        CHECK(n >= 3);
    }
}

TEST_MAIN
