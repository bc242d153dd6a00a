/* The SOCKS5 proxy (RFC 1928, RFC 1929): CONNECT alone. */
#include "faultd_relay.h"

enum { MAX_NAMES = 256 };

enum reply {
    REPLY_OK = 0,
    REPLY_NOT_ALLOWED = 2,
    REPLY_NO_HOST = 4,
    REPLY_REFUSED = 5,
    REPLY_NO_COMMAND = 7,
    REPLY_NO_ADDRESS_TYPE = 8,
};

/* connects: that came about. refused: for want of credentials, or targets that are none of ours.
 * names: those the proxy was asked to look up, in order. */
static struct {
    unsigned long connects, refused;
    char *names[MAX_NAMES];
    size_t name_count;
} counts;

void socks_stats_json(struct bytes *out)
{
    bytes_printf(out, "\"socks\":{\"connects\":%lu,\"refused\":%lu,\"names\":[", counts.connects,
                 counts.refused);
    for (size_t i = 0; i < counts.name_count; i++) {
        bytes_printf(out, i ? "," : "");
        bytes_json(out, counts.names[i], strlen(counts.names[i]));
    }
    bytes_printf(out, "]}");
}

void socks_stats_reset(void)
{
    counts.connects = counts.refused = 0;
    while (counts.name_count)
        free(counts.names[--counts.name_count]);
}

static void note_name(const char *name)
{
    if (counts.name_count == MAX_NAMES)
        return;
    char *copy = xmalloc(strlen(name) + 1);
    memcpy(copy, name, strlen(name) + 1);
    counts.names[counts.name_count++] = copy;
}

static void say(struct relay *r, unsigned char version, unsigned char code)
{
    unsigned char both[2] = {version, code};
    bytes_add(&r->client.out, both, sizeof both);
}

static void reply(struct relay *r, enum reply code)
{
    unsigned char text[10] = {5, (unsigned char)code, 0, 1, 127, 0, 0, 1, 0, 0};
    bytes_add(&r->client.out, text, sizeof text);
    if (code == REPLY_OK)
        return;
    if (code != REPLY_REFUSED)
        counts.refused++;
    relay_finish(r);
}

void socks_connected(struct relay *r, bool ok)
{
    r->phase = RELAY_TUNNEL;
    if (ok)
        counts.connects++;
    reply(r, ok ? REPLY_OK : REPLY_REFUSED);
}

/* Each takes one message off the front; false: it is not all there. */

static bool take_hello(struct relay *r)
{
    const unsigned char *p = (const unsigned char *)r->in.data;
    if (r->in.len < 2 || r->in.len < 2u + p[1])
        return false;
    unsigned char wanted = r->auth ? 2 : 0;
    bool offered = p[0] == 5 && memchr(p + 2, wanted, p[1]);
    bytes_drop(&r->in, 2u + p[1]);
    say(r, 5, offered ? wanted : 0xff);
    r->phase = r->auth ? RELAY_SOCKS_AUTH : RELAY_SOCKS_REQUEST;
    if (!offered) {
        counts.refused++;
        relay_finish(r);
    }
    return true;
}

static bool take_credentials(struct relay *r)
{
    static const char right[] = "\1\1u\4p:ss";
    const unsigned char *p = (const unsigned char *)r->in.data;
    if (r->in.len < 2 || r->in.len < 3u + p[1] || r->in.len < 3u + p[1] + p[2 + p[1]])
        return false;
    size_t len = 3u + p[1] + p[2 + p[1]];
    bool ok = len == sizeof right - 1 && memcmp(p, right, len) == 0;
    bytes_drop(&r->in, len);
    say(r, 1, ok ? 0 : 1);
    r->phase = RELAY_SOCKS_REQUEST;
    if (!ok) {
        counts.refused++;
        relay_finish(r);
    }
    return true;
}

static bool take_connect(struct relay *r)
{
    const unsigned char *p = (const unsigned char *)r->in.data;
    char host[256];
    size_t at = 4, len;
    if (r->in.len < 5)
        return false;
    switch (p[3]) {
    case 1:
        len = 4;
        break;
    case 3:
        len = p[at++];
        break;
    case 4:
        len = 16;
        break;
    default:
        reply(r, REPLY_NO_ADDRESS_TYPE);
        return true;
    }
    if (r->in.len < at + len + 2)
        return false;
    const unsigned char *a = p + at;
    struct target target = {.v6 = p[3] == 4};
    long port = a[len] * 256 + a[len + 1];
    static const unsigned char loopback6[16] = {[15] = 1};
    bool ok = true;
    if (p[3] == 3) {
        memcpy(host, a, len);
        host[len] = 0;
        note_name(host);
        ok = target_of(&target, host, port);
    } else if (p[3] == 1) {
        snprintf(host, sizeof host, "%d.%d.%d.%d", a[0], a[1], a[2], a[3]);
        ok = target_of(&target, host, port);
    } else {
        target.port = (uint16_t)port;
        ok = memcmp(a, loopback6, 16) == 0;
    }
    bool named = p[3] == 3, command = p[1] == 1;
    bytes_drop(&r->in, at + len + 2);
    if (!command)
        reply(r, REPLY_NO_COMMAND);
    else if (!ok)
        reply(r, named ? REPLY_NO_HOST : REPLY_NOT_ALLOWED);
    else
        relay_connect(r, &target);
    return true;
}

bool socks_advance(struct relay *r)
{
    if (r->client.ended && r->server.ended)
        return false;
    switch (r->phase) {
    case RELAY_SOCKS_HELLO:
        return take_hello(r);
    case RELAY_SOCKS_AUTH:
        return take_credentials(r);
    case RELAY_SOCKS_REQUEST:
        return take_connect(r);
    case RELAY_TUNNEL:
        bytes_add(&r->server.out, r->in.data, r->in.len);
        r->in.len = 0;
        return false;
    default: /* RELAY_CONNECTING */
        return false;
    }
}
