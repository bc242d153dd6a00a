#include "engine/connect_rules.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Addresses are compared in their 16 byte form; IPv4 as ::ffff:a.b.c.d. */
struct block {
    unsigned char bytes[16];
    unsigned bits;
};

struct name {
    char text[256]; /* with a leading point: those beneath it */
    unsigned port;  /* 0: any */
};

struct connect_rules {
    struct mem *mem;
    bool any, public;
    struct block *blocks;
    struct name *names;
    size_t block_count, name_count;
};

/* IANA's special-purpose registries for IPv4 and IPv6, and what carries IPv4 inside. */
static const struct {
    const char *text;
    unsigned bits;
} not_public[] = {
    {"::ffff:0.0.0.0", 104},
    {"::ffff:10.0.0.0", 104},
    {"::ffff:100.64.0.0", 106},
    {"::ffff:127.0.0.0", 104},
    {"::ffff:169.254.0.0", 112},
    {"::ffff:172.16.0.0", 108},
    {"::ffff:192.0.0.0", 120},
    {"::ffff:192.0.2.0", 120},
    {"::ffff:192.88.99.0", 120},
    {"::ffff:192.168.0.0", 112},
    {"::ffff:198.18.0.0", 111},
    {"::ffff:198.51.100.0", 120},
    {"::ffff:203.0.113.0", 120},
    {"::ffff:224.0.0.0", 100},
    {"::ffff:240.0.0.0", 100},
    {"::", 96},           /* loopback, unspecified, IPv4-compatible */
    {"::ffff:0:0:0", 96}, /* IPv4-translated */
    {"64:ff9b::", 96},
    {"64:ff9b:1::", 48},
    {"100::", 64},
    {"100:0:0:1::", 64},
    {"2001::", 23},
    {"2001:db8::", 32},
    {"2002::", 16},
    {"3fff::", 20},
    {"5f00::", 16},
    {"fc00::", 7},
    {"fe80::", 10},
    {"fec0::", 10},
    {"ff00::", 8},
};

static bool in_block(const unsigned char a[16], const unsigned char b[16], unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

static bool is_public(const unsigned char a[16])
{
    for (size_t i = 0; i < ARRAY_LEN(not_public); i++) {
        unsigned char b[16];
        if (inet_pton(AF_INET6, not_public[i].text, b) == 1 && in_block(a, b, not_public[i].bits))
            return false;
    }
    return true;
}

/* "1.2.3.4", "::1" or "[::1]"; the family's own number of bits is in *width. */
static bool parse_address(const char *text, unsigned char out[16], unsigned *width)
{
    char bare[64];
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof bare)
        return false;
    memcpy(bare, text, len);
    bare[len] = '\0';
    if (inet_pton(AF_INET, bare, out + 12) == 1) {
        memset(out, 0, 10);
        out[10] = out[11] = 0xff;
        *width = 32;
        return true;
    }
    *width = 128;
    return inet_pton(AF_INET6, bare, out) == 1;
}

static bool parse_number(const char *text, unsigned max, unsigned *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long n = strtoul(text, &end, 10);
    *out = (unsigned)n;
    return *end == '\0' && n <= max;
}

static bool add_block(struct connect_rules *t, char *word, bool *is_block, bool *no_memory)
{
    struct block b;
    unsigned width;
    char *slash = strchr(word, '/');
    if (slash)
        *slash = '\0';
    *is_block = parse_address(word, b.bytes, &width);
    if (!*is_block)
        return slash == NULL; /* perhaps a name */
    b.bits = width;
    if (slash && !parse_number(slash + 1, width, &b.bits))
        return false;
    b.bits += 128 - width;
    struct block *more = mem_realloc(t->mem, t->blocks, (t->block_count + 1) * sizeof *more);
    *no_memory = !more;
    if (!more)
        return false;
    t->blocks = more;
    t->blocks[t->block_count++] = b;
    return true;
}

static bool name_is_good(const char *name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
    size_t len = strlen(name);
    return len > 0 && len < 254 && strspn(name, good) == len && strcmp(name, ".") != 0;
}

static bool add_name(struct connect_rules *t, char *word, bool *no_memory)
{
    struct name n = {.port = 0};
    char *colon = strchr(word, ':');
    if (colon) {
        *colon = '\0';
        if (!parse_number(colon + 1, 65535, &n.port) || n.port == 0)
            return false;
    }
    for (char *p = word; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    if (word[0] == '*' && word[1] == '.')
        word++;
    if (!name_is_good(word))
        return false;
    memcpy(n.text, word, strlen(word) + 1);
    struct name *more = mem_realloc(t->mem, t->names, (t->name_count + 1) * sizeof *more);
    *no_memory = !more;
    if (!more)
        return false;
    t->names = more;
    t->names[t->name_count++] = n;
    return true;
}

static enum err_kind add_rule(struct connect_rules *t, const char *text, size_t len,
                              struct err *err)
{
    char word[320];
    bool is_block = false, no_memory = false, good = len < sizeof word;
    if (good) {
        memcpy(word, text, len);
        word[len] = '\0';
        if (strcmp(word, "any") == 0)
            t->any = true;
        else if (strcmp(word, "public") == 0)
            t->public = true;
        else
            good = add_block(t, word, &is_block, &no_memory) &&
                   (is_block || add_name(t, word, &no_memory));
    }
    if (no_memory)
        return err_set(err, ERR_MEMORY, "no memory for the connect rules");
    if (!good)
        return err_set(err, ERR_INVALID,
                       "'%.*s' is not a valid connect rule (rules: any, public, an "
                       "address such as 10.0.0.0/8, a host such as *.example.com)",
                       (int)MIN(len, (size_t)80), text);
    return ERR_NONE;
}

enum err_kind connect_rules_new(struct connect_rules **out, struct mem *mem, const char *rules,
                                struct err *err)
{
    struct connect_rules *t = mem_calloc(mem, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "no memory for the connect rules");
    t->mem = mem;
    enum err_kind kind = ERR_NONE;
    while (kind == ERR_NONE && *(rules += strspn(rules, ", \t\n"))) {
        size_t len = strcspn(rules, ", \t\n");
        kind = add_rule(t, rules, len, err);
        rules += len;
    }
    if (kind != ERR_NONE) {
        connect_rules_free(t);
        return kind;
    }
    *out = t;
    return ERR_NONE;
}

void connect_rules_free(struct connect_rules *t)
{
    if (!t)
        return;
    mem_free(t->mem, t->blocks);
    mem_free(t->mem, t->names);
    mem_free(t->mem, t);
}

bool connect_rules_restrict(const struct connect_rules *t)
{
    return t && !t->any;
}

bool connect_rules_restrict_addresses(const struct connect_rules *t)
{
    return connect_rules_restrict(t) && (t->public || t->block_count > 0 || t->name_count == 0);
}

static bool allow_bytes(const struct connect_rules *t, const unsigned char a[16])
{
    if (t->public && is_public(a))
        return true;
    for (size_t i = 0; i < t->block_count; i++) {
        if (in_block(a, t->blocks[i].bytes, t->blocks[i].bits))
            return true;
    }
    return false;
}

static bool name_matches(const struct name *n, const char *host, unsigned port)
{
    size_t len = strlen(host), rule_len = strlen(n->text);
    if (n->port != 0 && n->port != port)
        return false;
    if (len > 0 && host[len - 1] == '.')
        len--; /* the root, spelled out */
    if (n->text[0] != '.')
        return len == rule_len && strncasecmp(host, n->text, len) == 0;
    return len > rule_len && strncasecmp(host + len - rule_len, n->text, rule_len) == 0;
}

bool connect_rules_allow_host(const struct connect_rules *t, const char *host, unsigned port)
{
    unsigned char bytes[16];
    unsigned width;
    if (!t || t->any)
        return true;
    if (parse_address(host, bytes, &width))
        return allow_bytes(t, bytes);
    if (t->name_count == 0)
        return connect_rules_restrict_addresses(t) && (t->public || t->block_count > 0);
    for (size_t i = 0; i < t->name_count; i++) {
        if (name_matches(&t->names[i], host, port))
            return true;
    }
    return false;
}

bool connect_rules_allow_address(const struct connect_rules *t, const struct sockaddr *address)
{
    unsigned char bytes[16] = {0};
    if (!t || t->any)
        return true;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        bytes[10] = bytes[11] = 0xff;
        memcpy(bytes + 12, &in->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        memcpy(bytes, &in6->sin6_addr, 16);
    } else {
        return false; /* a unix socket belongs to this machine */
    }
    return !connect_rules_restrict_addresses(t) || allow_bytes(t, bytes);
}
