#include "lua/lua_request_options.h"

#include "ground/secret.h"
#include "lua/lua_aux.h"
#include <arpa/inet.h>
#include <math.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_REDIRECTS_DEFAULT = 5,
};

enum scope { IN_REQUEST = 1, IN_CLIENT = 2, IN_BOTH = 3 };

/* What values an option takes, and which field of struct transfer_spec stores them. */
enum kind {
    OBEYED_BY_LUA, /* no field; only the name and the type are checked */
    BOOLEAN,       /* bool */
    TEXT,          /* char *, freed by transfer.c */
    COUNT,         /* unsigned, from `min` to `max` */
    BYTES,         /* size_t, from `min` to `max` */
    WORD,          /* unsigned: 1 for the first of `words`, 2 for the second, and so on */
    OWN,           /* any: `set` reads it, `copy` copies it */
};

enum { MAX_WORDS = 4 };

struct option {
    const char *name;
    enum scope scope;
    enum kind kind;
    size_t offset; /* of the field; see enum kind */
    int64_t min, max;
    const char *words[MAX_WORDS];
    bool names_file; /* of the host: a sandboxed script must not use the option */
    /* The rest is for OBEYED_BY_LUA and OWN. */
    int type;    /* of Lua; LUA_TNIL: any, because the type is checked elsewhere */
    bool merged; /* the client's value is read, too, where the request has one; `set` joins both */
    enum err_kind (*set)(struct request_reader *r, int index, struct err *err);
    /* Copies a client's value. NULL: request_apply does it, or the value exists only in requests.
     */
    enum err_kind (*copy)(struct request_reader *r, const struct transfer_spec *from,
                          struct err *err);
};

static enum err_kind out_of_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "not enough memory for the request");
}

enum err_kind request_set_string(struct request_reader *r, int index, const char *what,
                                 char **field, struct err *err)
{
    size_t len;
    const char *s = lua_tolstring(r->L, index, &len);
    if (memchr(s, '\0', len))
        return err_set(err, ERR_INVALID, "%s: %s holds a NUL byte", r->who, what);
    char *copy = mem_strndup(r->t->mem, s, len);
    if (!copy)
        return out_of_memory(err);
    mem_free(r->t->mem, *field);
    *field = copy;
    return ERR_NONE;
}

enum err_kind request_set_method(struct request_reader *r, int index, struct err *err)
{
    static const char *const usual[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    enum err_kind rc = request_set_string(r, index, "the method", &r->t->spec.method, err);
    for (size_t i = 0; rc == ERR_NONE && i < ARRAY_LEN(usual); i++) {
        if (strcasecmp(usual[i], r->t->spec.method) == 0)
            memcpy(r->t->spec.method, usual[i], strlen(usual[i]));
    }
    return rc;
}

enum err_kind request_set_post(struct request_reader *r, struct err *err)
{
    r->t->spec.method = mem_strndup(r->t->mem, "POST", 4);
    return r->t->spec.method ? ERR_NONE : out_of_memory(err);
}

enum err_kind request_set_body(struct request_reader *r, int index, struct err *err)
{
    struct transfer_spec *spec = &r->t->spec;
    size_t len;
    const char *s = lua_tolstring(r->L, index, &len);
    char *copy = mem_strndup(r->t->mem, s, len);
    if (!copy)
        return out_of_memory(err);
    mem_free(r->t->mem, spec->body);
    spec->body = copy;
    spec->body_len = len;
    return ERR_NONE;
}

/* A body that is not a string is fed by the Lua side, which has checked it. */
static enum err_kind set_own_body(struct request_reader *r, int index, struct err *err)
{
    return lua_type(r->L, index) == LUA_TSTRING ? request_set_body(r, index, err) : ERR_NONE;
}

static enum err_kind set_sink(struct request_reader *r, int index, struct err *err)
{
    UNUSED(index);
    UNUSED(err);
    r->sink = true;
    return ERR_NONE;
}

/* Adds a line in the engine's format from an address and "host" or "host:port". */
static enum err_kind add_mapping(struct request_reader *r, struct buf *lines, const char *host,
                                 const char *address, struct err *err)
{
    unsigned char bytes[16];
    size_t host_len = strcspn(host, ":"), len = strlen(address);
    bool v6 = inet_pton(AF_INET6, address, bytes) == 1;
    const char *port = host[host_len] ? host + host_len + 1 : "";
    bool good = host_len > 0 && strspn(port, "0123456789") == strlen(port) && strlen(port) <= 5 &&
                strcspn(host, "[]/@ ") == strlen(host);
    if (!good)
        return err_set(err, ERR_INVALID, "%s: resolve: '%.100s' is not a host or host:port", r->who,
                       secret_hidden(host));
    if (!v6 && inet_pton(AF_INET, address, bytes) != 1)
        return err_set(err, ERR_INVALID, "%s: resolve: '%.100s' is not an address", r->who,
                       secret_hidden(address));
    enum err_kind rc = buf_printf(lines, v6 ? "%.*s:%s:[%.*s]:" : "%.*s:%s:%.*s:", (int)host_len,
                                  host, port, (int)len, address);
    if (rc == ERR_NONE)
        rc = buf_append(lines, "", 1);
    return rc == ERR_NONE ? rc : out_of_memory(err);
}

static enum err_kind set_resolve(struct request_reader *r, int index, struct err *err)
{
    lua_State *L = r->L;
    struct transfer_spec *spec = &r->t->spec;
    struct buf lines;
    enum err_kind rc = ERR_NONE;
    char given[AUX_PICTURE_SIZE];
    lua_pushnil(L);
    while (lua_next(L, index)) { /* checked before anything is allocated that a raise would leak */
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            aux_raise(L,
                      "%s: resolve must be a table such as {[\"host:443\"] = \"10.1.2.3\"}, got %s",
                      r->who, aux_picture(L, -1, "resolve", given, sizeof given));
        lua_pop(L, 1);
    }
    buf_init(&lines, r->t->mem, 64 * 1024);
    spec->connect_to_count = 0;
    lua_pushnil(L);
    while (rc == ERR_NONE && lua_next(L, index)) {
        rc = add_mapping(r, &lines, lua_tostring(L, -2), lua_tostring(L, -1), err);
        spec->connect_to_count += rc == ERR_NONE;
        lua_pop(L, 1);
    }
    size_t len;
    mem_free(r->t->mem, spec->connect_to);
    spec->connect_to = buf_detach(&lines, &len);
    return rc;
}

static enum err_kind copy_resolve(struct request_reader *r, const struct transfer_spec *from,
                                  struct err *err)
{
    struct transfer_spec *to = &r->t->spec;
    if (!from->connect_to)
        return ERR_NONE;
    const char *end = from->connect_to; /* lines, each ended by a NUL */
    for (size_t i = 0; i < from->connect_to_count; i++)
        end += strlen(end) + 1;
    size_t len = (size_t)(end - from->connect_to);
    to->connect_to = mem_alloc(r->t->mem, len);
    if (!to->connect_to)
        return out_of_memory(err);
    memcpy(to->connect_to, from->connect_to, len);
    to->connect_to_count = from->connect_to_count;
    return ERR_NONE;
}

/* ---- limits */

static const struct limit_option {
    const char *name;
    size_t offset; /* of an uint64_t in struct transfer_limits */
} limits[] = {
    {"connect", offsetof(struct transfer_limits, connect_ms)},
    {"first_byte", offsetof(struct transfer_limits, first_byte_ms)},
    {"idle", offsetof(struct transfer_limits, idle_ms)},
    {"queue", offsetof(struct transfer_limits, queue_ms)},
    {"total", offsetof(struct transfer_limits, total_ms)},
};

enum { FIRST_LIMIT_BIT = 48, TOTAL_LIMIT = 4 };

/* `part`: the name of the limit in a table; NULL: the value is the option itself. */
static double seconds(struct request_reader *r, int index, const char *part)
{
    char what[64];
    double s = lua_type(r->L, index) == LUA_TNUMBER ? lua_tonumber(r->L, index) : -1;
    if (s >= 0 && s < 1e6)
        return s; /* the usual case needs no text for a message */
    if (part)
        snprintf(what, sizeof what, "%s: timeout.%s", r->who, part);
    else
        snprintf(what, sizeof what, "%s: option 'timeout'", r->who);
    return aux_check_seconds(r->L, index, what);
}

static void set_limit(struct request_reader *r, size_t i, int index, const char *part)
{
    double s = seconds(r, index, part);
    uint64_t bit = UINT64_C(1) << (FIRST_LIMIT_BIT + i);
    if (r->seen & bit)
        return;
    r->seen |= bit;
    /* Rounds up, and never returns 0 for a limit, because 0 means "none". */
    uint64_t ms = isinf(s) ? 0 : MAX((uint64_t)ceil(s * 1e3), (uint64_t)1);
    *(uint64_t *)(void *)((char *)&r->t->spec.limits + limits[i].offset) = ms;
}

static enum err_kind set_timeout(struct request_reader *r, int index, struct err *err)
{
    lua_State *L = r->L;
    char what[64];
    UNUSED(err);
    if (lua_type(L, index) != LUA_TTABLE) {
        r->plain_timeout = r->plain_timeout || !((r->seen >> (FIRST_LIMIT_BIT + TOTAL_LIMIT)) & 1);
        set_limit(r, TOTAL_LIMIT, index, NULL);
        return ERR_NONE;
    }
    lua_pushnil(L);
    while (lua_next(L, index)) { // key value
        int value = lua_gettop(L);
        const char *key = lua_type(L, value - 1) == LUA_TSTRING ? lua_tostring(L, value - 1) : "";
        size_t i = 0;
        while (i < ARRAY_LEN(limits) && strcmp(limits[i].name, key) != 0)
            i++;
        if (i == ARRAY_LEN(limits)) {
            snprintf(what, sizeof what, "%s: timeout", r->who);
            aux_raise_unknown(L, what, value - 1, "connect first_byte idle queue total");
        }
        set_limit(r, i, value, key);
        lua_pop(L, 1);
    }
    return ERR_NONE;
}

/* ---- headers */

static bool has_own(const struct request_reader *r, const char *name, size_t len)
{
    const struct headers *h = &r->t->spec.headers;
    for (size_t i = 0; i < r->own_headers; i++) {
        if (h->rows[i].name_len == len && strncasecmp(headers_name(h, i), name, len) == 0)
            return true;
    }
    return false;
}

static enum err_kind add_header(struct request_reader *r, const char *name, size_t name_len,
                                const char *value, size_t len, struct err *err)
{
    if (has_own(r, name, name_len))
        return ERR_NONE;
    enum err_kind rc = headers_add(&r->t->spec.headers, name, name_len, value, len);
    if (rc == ERR_TOO_LARGE)
        return err_set(err, ERR_INVALID, "%s: too many or too large headers", r->who);
    return rc == ERR_NONE ? rc : out_of_memory(err);
}

enum err_kind request_add_header(struct request_reader *r, const char *name, const char *value,
                                 size_t len, struct err *err)
{
    r->own_headers = r->t->spec.headers.count;
    return add_header(r, name, strlen(name), value, len, err);
}

/* Adds the string or number at `index`. Numbers are formatted here, because lua_tolstring would
 * change the script's own value. */
static enum err_kind add_value(struct request_reader *r, const char *name, size_t name_len,
                               int index, struct err *err)
{
    lua_State *L = r->L;
    char text[AUX_PICTURE_SIZE];
    size_t len;
    if (lua_type(L, index) == LUA_TSTRING) {
        const char *value = lua_tolstring(L, index, &len);
        return add_header(r, name, name_len, value, len, err);
    }
    if (lua_type(L, index) != LUA_TNUMBER) {
        aux_raise(L, "%s: header '%s' must be a string, a number or a list of them, got %s", r->who,
                  secret_hidden(name), aux_picture(L, index, "header", text, sizeof text));
    }
    double d = lua_tonumber(L, index);
    bool whole = d == floor(d) && fabs(d) < 0x1p53;
    snprintf(text, sizeof text, whole ? "%.0f" : "%.14g", d);
    return add_header(r, name, name_len, text, strlen(text), err);
}

static enum err_kind set_headers(struct request_reader *r, int index, struct err *err)
{
    lua_State *L = r->L;
    char given[AUX_PICTURE_SIZE];
    enum err_kind rc = ERR_NONE;
    lua_pushnil(L);
    while (rc == ERR_NONE && lua_next(L, index)) { // name value
        int value = lua_gettop(L);
        if (lua_type(L, value - 1) != LUA_TSTRING) {
            aux_raise(L, "%s: the name of a header must be a string, got %s", r->who,
                      aux_picture(L, value - 1, "headers", given, sizeof given));
        }
        size_t len;
        const char *name = lua_tolstring(L, value - 1, &len);
        if (lua_type(L, value) == LUA_TTABLE) {
            char what[128];
            snprintf(what, sizeof what, "%s: header '%.80s'", r->who, secret_hidden(name));
            size_t n = aux_check_list(L, value, what);
            for (size_t i = 1; rc == ERR_NONE && i <= n; i++) {
                lua_rawgeti(L, value, (int)i); // name values value
                rc = add_value(r, name, len, lua_gettop(L), err);
                lua_pop(L, 1);
            }
        } else {
            rc = add_value(r, name, len, value, err);
        }
        lua_pop(L, 1);
    }
    return rc;
}

/* ---- the table */

#define FIELD(f) .offset = offsetof(struct transfer_spec, f)

/* Sorted by name. ARCHITECTURE.md says what else a new option needs. The Lua side converts some
 * options (the URL, the body) and compares others with the response (expect). Of these, only the
 * name and the type are in this table. */
static const struct option options[] = {
    {"auth", IN_BOTH, OBEYED_BY_LUA, .type = LUA_TTABLE},
    {"base_url", IN_CLIENT, OBEYED_BY_LUA, .type = LUA_TSTRING},
    {"body", IN_REQUEST, OWN, .set = set_own_body},
    {"ca_file", IN_BOTH, TEXT, FIELD(ca_file), .names_file = true},
    {"cert", IN_BOTH, TEXT, FIELD(cert), .names_file = true},
    {"compressed", IN_BOTH, BOOLEAN, FIELD(compressed)},
    {"cookies", IN_CLIENT, OBEYED_BY_LUA, .type = LUA_TBOOLEAN},
    {"expect", IN_BOTH, OBEYED_BY_LUA, .type = LUA_TNIL},
    {"follow", IN_BOTH, BOOLEAN, FIELD(follow)},
    {"form", IN_REQUEST, OBEYED_BY_LUA, .type = LUA_TTABLE},
    {"headers", IN_BOTH, OWN, .type = LUA_TTABLE, .merged = true, .set = set_headers},
    {"http_version", IN_BOTH, WORD, FIELD(http_version), .words = {"1.1", "2", "2-prior"}},
    {"idempotent", IN_BOTH, BOOLEAN, FIELD(idempotent)},
    {"insecure", IN_BOTH, BOOLEAN, FIELD(insecure)},
    {"json", IN_REQUEST, OBEYED_BY_LUA, .type = LUA_TNIL},
    {"key", IN_BOTH, TEXT, FIELD(key), .names_file = true},
    {"max_body", IN_BOTH, BYTES, FIELD(max_body_bytes), .max = INT64_C(1) << 53},
    {"max_per_host", IN_BOTH, COUNT, FIELD(max_per_host), .min = 1, .max = 1000000},
    {"max_redirects", IN_BOTH, COUNT, FIELD(max_redirects), .max = 100},
    {"method", IN_REQUEST, OWN, .type = LUA_TSTRING, .set = request_set_method},
    {"multipart", IN_REQUEST, OBEYED_BY_LUA, .type = LUA_TTABLE},
    {"proxy", IN_BOTH, TEXT, FIELD(proxy)},
    {"query", IN_BOTH, OBEYED_BY_LUA, .type = LUA_TTABLE},
    {"resolve", IN_BOTH, OWN, .type = LUA_TTABLE, .set = set_resolve, .copy = copy_resolve},
    {"sink", IN_REQUEST, OWN, .names_file = true, .type = LUA_TSTRING, .set = set_sink},
    {"stream", IN_REQUEST, BOOLEAN, FIELD(stream)},
    {"timeout", IN_BOTH, OWN, .merged = true, .set = set_timeout},
    {"unix_socket", IN_BOTH, TEXT, FIELD(unix_socket), .names_file = true},
    {"url", IN_REQUEST, OBEYED_BY_LUA, .type = LUA_TSTRING},
};

_Static_assert(ARRAY_LEN(options) <= FIRST_LIMIT_BIT, "bits of request_reader.seen");
_Static_assert(HTTP_VERSION_1_1 == 1 && HTTP_VERSION_2 == 2 && HTTP_VERSION_2_PRIOR == 3,
               "http_version is the number of its word");
_Static_assert(sizeof(enum http_version) == sizeof(unsigned), "the field of a WORD");

bool request_options_sorted(void)
{
    for (size_t i = 1; i < ARRAY_LEN(options); i++) {
        if (strcmp(options[i - 1].name, options[i].name) >= 0)
            return false;
    }
    return true;
}

static const struct option *find_option(const char *name)
{
    size_t low = 0, high = ARRAY_LEN(options);
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, options[middle].name);
        if (order == 0)
            return &options[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Pushes the names of the options in `scope`, separated by spaces. */
static const char *push_names(lua_State *L, enum scope scope)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (options[i].scope & scope) {
            luaL_addstring(&b, options[i].name);
            luaL_addchar(&b, ' ');
        }
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

void request_push_names(lua_State *L, bool client)
{
    push_names(L, client ? IN_CLIENT : IN_REQUEST);
}

/* The Lua type that a value must have; LUA_TNIL: any. */
static int type_of(const struct option *o)
{
    switch (o->kind) {
    case BOOLEAN:
        return LUA_TBOOLEAN;
    case TEXT:
        return LUA_TSTRING;
    default:
        return o->type;
    }
}

static int64_t integer(struct request_reader *r, const struct option *o, int index)
{
    char what[64];
    double d = lua_type(r->L, index) == LUA_TNUMBER ? lua_tonumber(r->L, index) : -1;
    if (d >= (double)o->min && d <= (double)o->max && d == floor(d))
        return (int64_t)d;
    snprintf(what, sizeof what, "%s: option '%s'", r->who, o->name);
    return aux_check_integer(r->L, index, what, o->min, o->max);
}

static void raise_other_word(struct request_reader *r, const struct option *o, int index)
{
    char words[128], given[AUX_PICTURE_SIZE];
    size_t n = 0;
    for (size_t i = 0; i < MAX_WORDS && o->words[i] && n < sizeof words; i++) {
        bool last = i + 1 == MAX_WORDS || !o->words[i + 1];
        const char *before = i == 0 ? "" : last ? " or " : ", ";
        n += (size_t)snprintf(words + n, sizeof words - n, "%s'%s'", before, o->words[i]);
    }
    aux_raise(r->L, "%s: option '%s' must be %s, got %s", r->who, o->name, words,
              aux_picture(r->L, index, NULL, given, sizeof given));
}

/* The number of the word at `index`. */
static unsigned word(struct request_reader *r, const struct option *o, int index)
{
    const char *s = lua_type(r->L, index) == LUA_TSTRING ? lua_tostring(r->L, index) : "";
    for (unsigned i = 0; i < MAX_WORDS && o->words[i]; i++) {
        if (strcmp(o->words[i], s) == 0)
            return i + 1;
    }
    raise_other_word(r, o, index);
    return 0;
}

static enum err_kind set_field(struct request_reader *r, const struct option *o, int index,
                               struct err *err)
{
    void *field = (char *)&r->t->spec + o->offset;
    switch (o->kind) {
    case OBEYED_BY_LUA:
        break;
    case BOOLEAN:
        *(bool *)field = lua_toboolean(r->L, index);
        break;
    case TEXT:
        return request_set_string(r, index, o->name, field, err);
    case COUNT:
        *(unsigned *)field = (unsigned)integer(r, o, index);
        break;
    case BYTES:
        *(size_t *)field = (size_t)integer(r, o, index);
        break;
    case WORD:
        *(unsigned *)field = word(r, o, index);
        break;
    case OWN:
        return o->set(r, index, err);
    }
    return ERR_NONE;
}

enum err_kind request_read(struct request_reader *r, int index, struct err *err)
{
    lua_State *L = r->L;
    enum scope scope = r->client ? IN_CLIENT : IN_REQUEST;
    enum err_kind rc = ERR_NONE;
    char given[AUX_PICTURE_SIZE];
    r->own_headers = r->t->spec.headers.count;
    lua_pushnil(L);
    while (rc == ERR_NONE && lua_next(L, index)) { // key value
        int value = lua_gettop(L);
        const struct option *o = NULL;
        if (lua_type(L, value - 1) == LUA_TSTRING)
            o = find_option(lua_tostring(L, value - 1));
        if (!o || !(o->scope & scope)) {
            aux_raise_unknown(L, r->who, value - 1, push_names(L, scope));
        }
        int type = type_of(o);
        if (type != LUA_TNIL && lua_type(L, value) != type) {
            aux_raise(L, "%s: option '%s' must be a %s, got %s", r->who, o->name,
                      lua_typename(L, type), aux_picture(L, value, o->name, given, sizeof given));
        }
        if (o->names_file && rt_of(L)->restricted) {
            rc = err_set(err, ERR_DENIED, "%s: option '%s' is not allowed in the sandbox", r->who,
                         o->name);
            err_reason(err, "sandbox");
            break;
        }
        uint64_t bit = UINT64_C(1) << (o - options);
        if (!(r->seen & bit) || o->merged)
            rc = set_field(r, o, value, err);
        r->seen |= bit;
        lua_pop(L, 1);
    }
    return rc;
}

static enum err_kind copy_string(struct request_reader *r, char *const *from, char **to,
                                 struct err *err)
{
    char *copy = *from ? mem_strndup(r->t->mem, *from, strlen(*from)) : NULL;
    if (*from && !copy)
        return out_of_memory(err);
    mem_free(r->t->mem, *to);
    *to = copy;
    return ERR_NONE;
}

static enum err_kind copy_field(struct request_reader *r, const struct option *o,
                                const struct transfer_spec *from, struct err *err)
{
    const void *source = (const char *)from + o->offset;
    void *field = (char *)&r->t->spec + o->offset;
    switch (o->kind) {
    case OBEYED_BY_LUA:
        break;
    case BOOLEAN:
        *(bool *)field = *(const bool *)source;
        break;
    case TEXT:
        return copy_string(r, source, field, err);
    case COUNT:
    case WORD:
        *(unsigned *)field = *(const unsigned *)source;
        break;
    case BYTES:
        *(size_t *)field = *(const size_t *)source;
        break;
    case OWN:
        return o->copy ? o->copy(r, from, err) : ERR_NONE;
    }
    return ERR_NONE;
}

enum err_kind request_apply(struct request_reader *r, const struct prepared *p, struct err *err)
{
    const struct transfer_spec *from = &p->t->spec;
    const struct headers *h = &from->headers;
    enum err_kind rc = ERR_NONE;
    uint64_t fields = p->seen & ~r->seen;
    for (size_t i = 0; rc == ERR_NONE && i < ARRAY_LEN(options); i++) {
        if (fields >> i & 1)
            rc = copy_field(r, &options[i], from, err);
    }
    bool had_total = r->seen >> (FIRST_LIMIT_BIT + TOTAL_LIMIT) & 1;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (fields >> (FIRST_LIMIT_BIT + i) & 1)
            *(uint64_t *)(void *)((char *)&r->t->spec.limits + limits[i].offset) =
                *(const uint64_t *)(const void *)((const char *)&from->limits + limits[i].offset);
    }
    r->plain_timeout = r->plain_timeout || (p->plain_timeout && !had_total);
    r->seen |= p->seen;
    r->own_headers = r->t->spec.headers.count;
    for (size_t i = 0; rc == ERR_NONE && i < h->count; i++)
        rc = add_header(r, headers_name(h, i), h->rows[i].name_len, headers_value(h, i),
                        h->rows[i].value_len, err);
    return rc;
}

static bool was_set(const struct request_reader *r, const char *name)
{
    return (r->seen >> (find_option(name) - options)) & 1;
}

static bool limit_was_set(const struct request_reader *r, const char *name)
{
    size_t i = 0;
    while (strcmp(limits[i].name, name) != 0)
        i++;
    return (r->seen >> (FIRST_LIMIT_BIT + i)) & 1;
}

void request_set_defaults(struct request_reader *r)
{
    struct transfer_spec *spec = &r->t->spec;
    const char *method = spec->method;
    if (!was_set(r, "follow"))
        spec->follow = !method || strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (!was_set(r, "max_redirects"))
        spec->max_redirects = MAX_REDIRECTS_DEFAULT;
    /* A part (range) of compressed data cannot be decompressed. */
    if (!was_set(r, "compressed"))
        spec->compressed = !headers_get(&spec->headers, "range", NULL, NULL);
    if (!spec->stream && !r->sink)
        return;
    if (!was_set(r, "max_body"))
        spec->max_body_bytes = 0;
    /* A stream may run for ever, so a plain timeout limits only the time without data. */
    struct transfer_limits *l = &spec->limits;
    if (spec->stream && r->plain_timeout) {
        l->head_ms = l->total_ms;
        if (!limit_was_set(r, "idle"))
            l->idle_ms = l->total_ms;
        l->total_ms = 0;
    }
    spec->stream = true;
}
