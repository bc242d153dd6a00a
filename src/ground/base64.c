#include "ground/base64.h"

enum err_kind base64_append(struct buf *out, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    enum err_kind kind = buf_reserve(out, (len + 2) / 3 * 4);
    if (kind != ERR_NONE || len == 0)
        return kind;
    char *begin = out->data + out->len, *p = begin;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned v = (unsigned)in[i] << 16;
        if (left > 1)
            v |= (unsigned)in[i + 1] << 8;
        if (left > 2)
            v |= in[i + 2];
        *p++ = digits[v >> 18 & 63];
        *p++ = digits[v >> 12 & 63];
        *p++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *p++ = left > 2 ? digits[v & 63] : '=';
    }
    buf_commit(out, (size_t)(p - begin));
    return ERR_NONE;
}
