#include "ground/headers.h"

#include <string.h>
#include <strings.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define FIRST_ROWS 8

void headers_init(struct headers *h, struct mem *mem, size_t max_count, size_t max_bytes)
{
    *h = (struct headers){.max_count = max_count};
    /* Rows hold 32-bit offsets. */
    buf_init(&h->text, mem, MIN(max_bytes, (size_t)UINT32_MAX));
}

void headers_fini(struct headers *h)
{
    mem_free(h->text.mem, h->rows);
    buf_fini(&h->text);
    h->rows = NULL;
    h->count = h->cap = 0;
}

void headers_clear(struct headers *h)
{
    buf_clear(&h->text);
    h->count = 0;
}

/* Makes room for `more` rows. */
static enum err_kind grow_rows(struct headers *h, size_t more)
{
    if (more > h->max_count - h->count)
        return ERR_TOO_LARGE;
    if (more <= h->cap - h->count)
        return ERR_NONE;
    size_t cap = MIN(h->cap == 0 ? FIRST_ROWS : h->cap * 2, h->max_count);
    cap = MAX(cap, h->count + more);
    if (cap > SIZE_MAX / sizeof(struct header))
        return ERR_TOO_LARGE;
    struct header *rows = mem_realloc(h->text.mem, h->rows, cap * sizeof(*rows));
    if (rows == NULL)
        return ERR_MEMORY;
    h->rows = rows;
    h->cap = cap;
    return ERR_NONE;
}

static uint32_t append_text(struct headers *h, const char *s, size_t len)
{
    uint32_t off = (uint32_t)h->text.len;
    if (len != 0)
        memcpy(h->text.data + off, s, len);
    h->text.data[off + len] = '\0';
    buf_commit(&h->text, len + 1);
    return off;
}

enum err_kind headers_add(struct headers *h, const char *name, size_t name_len, const char *value,
                          size_t value_len)
{
    enum err_kind kind = grow_rows(h, 1);
    if (kind != ERR_NONE)
        return kind;
    if (name_len > h->text.max_bytes || value_len > h->text.max_bytes - name_len)
        return ERR_TOO_LARGE;
    kind = buf_reserve(&h->text, name_len + value_len + 2);
    if (kind != ERR_NONE)
        return kind;
    struct header *row = &h->rows[h->count];
    row->name_off = append_text(h, name, name_len);
    row->name_len = (uint32_t)name_len;
    row->value_off = append_text(h, value, value_len);
    row->value_len = (uint32_t)value_len;
    h->count++;
    return ERR_NONE;
}

enum err_kind headers_add_rows(struct headers *h, const char *text, size_t len,
                               const struct header *rows, size_t count)
{
    enum err_kind kind = grow_rows(h, count);
    if (kind != ERR_NONE)
        return kind;
    kind = buf_reserve(&h->text, len);
    if (kind != ERR_NONE)
        return kind;
    char *begin = h->text.data + h->text.len, *to = begin;
    for (size_t i = 0; i < count; i++) {
        const struct header *from = &rows[i];
        struct header *row = &h->rows[h->count++];
        *row = (struct header){(uint32_t)(to - h->text.data), from->name_len, 0, from->value_len};
        memcpy(to, text + from->name_off, from->name_len);
        to += from->name_len;
        *to++ = '\0';
        row->value_off = (uint32_t)(to - h->text.data);
        memcpy(to, text + from->value_off, from->value_len);
        to += from->value_len;
        *to++ = '\0';
    }
    buf_commit(&h->text, (size_t)(to - begin));
    return ERR_NONE;
}

const char *headers_get(const struct headers *h, const char *name, size_t *from, size_t *len)
{
    size_t name_len = strlen(name);
    for (size_t i = from != NULL ? *from : 0; i < h->count; i++) {
        const struct header *row = &h->rows[i];
        if (row->name_len != name_len || strncasecmp(headers_name(h, i), name, name_len) != 0)
            continue;
        if (from != NULL)
            *from = i + 1;
        if (len != NULL)
            *len = row->value_len;
        return headers_value(h, i);
    }
    if (from != NULL)
        *from = h->count;
    return NULL;
}

/* RFC 9110 5.6.2: the bytes of a token. */
static const bool token_byte[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x10 */
    0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, /* 0x20 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, /* 0x30 */
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* 0x40 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, /* 0x50 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* 0x60 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, /* 0x70 */
};

static bool value_byte(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* Most names and values fit in sixteen bytes, which every x86-64 processor compares at once. The
 * others look at each byte. */
#if defined(__SSE2__) && defined(__GNUC__)
#define BLOCK 16

static __m128i in_range(__m128i bytes, char first, char count)
{
    __m128i above = _mm_sub_epi8(bytes, _mm_set1_epi8(first));
    return _mm_cmpeq_epi8(_mm_min_epu8(above, _mm_set1_epi8((char)(count - 1))), above);
}

/* How many bytes at the front of the block are letters, digits or dashes. */
static size_t common_in_block(const char *s)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)s);
    __m128i letter = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26);
    __m128i other =
        _mm_or_si128(in_range(bytes, '0', 10), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
    unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(letter, other));
    return (size_t)__builtin_ctz(~mask);
}

static size_t values_in_block(const char *s)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)s);
    __m128i control =
        _mm_andnot_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')), in_range(bytes, 0, 0x20));
    __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
    unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(control, del));
    return (size_t)__builtin_ctz(mask | 1u << BLOCK);
}
#else
#define BLOCK 1

static size_t common_in_block(const char *s)
{
    return token_byte[(unsigned char)*s];
}

static size_t values_in_block(const char *s)
{
    return value_byte((unsigned char)*s);
}
#endif

size_t headers_name_span(const char *s, size_t len)
{
    size_t i = 0, n = BLOCK;
    while (n == BLOCK && len - i >= BLOCK)
        i += (n = common_in_block(s + i));
    while (i < len && token_byte[(unsigned char)s[i]])
        i++;
    return i;
}

size_t headers_value_span(const char *s, size_t len)
{
    size_t i = 0;
    while (len - i >= BLOCK) {
        size_t n = values_in_block(s + i);
        i += n;
        if (n != BLOCK)
            return i;
    }
    while (i < len && value_byte((unsigned char)s[i]))
        i++;
    return i;
}

static bool token_valid(const char *s, size_t len)
{
    return len != 0 && headers_name_span(s, len) == len;
}

bool headers_valid_name(const char *name, size_t len)
{
    return token_valid(name, len);
}

bool headers_valid_value(const char *value, size_t len)
{
    return headers_value_span(value, len) == len;
}

bool headers_valid_method(const char *method, size_t len)
{
    return token_valid(method, len);
}
