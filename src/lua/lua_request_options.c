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

struct option {
    const char *name;
    enum scope scope;
    int type; /* LUA_TNONE: the setter, or Lua before it, checks the type */
    /* NULL: the value is copied to the field at `offset`; offset 0 means no field (that of url,
     * which is never set this way). */
    enum err_kind (*set)(struct request_reader *r, int index, struct err *err);
    size_t offset;
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

static enum err_kind set_http_version(struct request_reader *r, int index, struct err *err)
{
    UNUSED(err);
    const char *s = lua_type(r->L, index) == LUA_TSTRING ? lua_tostring(r->L, index) : "";
    if (strcmp(s, "1.1") == 0) {
        r->t->spec.http_version = HTTP_VERSION_1_1;
    } else if (strcmp(s, "2") == 0) {
        r->t->spec.http_version = HTTP_VERSION_2;
    } else if (strcmp(s, "2-prior") == 0) {
        r->t->spec.http_version = HTTP_VERSION_2_PRIOR;
    } else {
        char given[AUX_PICTURE_SIZE];
        aux_raise(r->L, "%s: option 'http_version' must be '1.1', '2' or '2-prior', got %s", r->who,
                  aux_picture(r->L, index, NULL, given, sizeof given));
    }
    return ERR_NONE;
}

static int64_t integer(struct request_reader *r, int index, const char *name, int64_t min,
                       int64_t max)
{
    char what[64];
    snprintf(what, sizeof what, "%s: option '%s'", r->who, name);
    return aux_check_integer(r->L, index, what, min, max);
}

static enum err_kind set_max_body(struct request_reader *r, int index, struct err *err)
{
    UNUSED(err);
    r->t->spec.max_body_bytes = (size_t)integer(r, index, "max_body", 0, INT64_C(1) << 53);
    return ERR_NONE;
}

static enum err_kind set_max_redirects(struct request_reader *r, int index, struct err *err)
{
    UNUSED(err);
    r->t->spec.max_redirects = (unsigned)integer(r, index, "max_redirects", 0, 100);
    return ERR_NONE;
}

static enum err_kind set_max_per_host(struct request_reader *r, int index, struct err *err)
{
    UNUSED(err);
    r->t->spec.max_per_host = (unsigned)integer(r, index, "max_per_host", 1, 1000000);
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

static void set_limit(struct request_reader *r, size_t i, int index, const char *what)
{
    double s = aux_check_seconds(r->L, index, what);
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
        snprintf(what, sizeof what, "%s: option 'timeout'", r->who);
        r->plain_timeout = r->plain_timeout || !((r->seen >> (FIRST_LIMIT_BIT + TOTAL_LIMIT)) & 1);
        set_limit(r, TOTAL_LIMIT, index, what);
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
        snprintf(what, sizeof what, "%s: timeout.%s", r->who, key);
        set_limit(r, i, value, what);
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

#define FIELD(f) offsetof(struct transfer_spec, f)

/* Sorted by name. Options that the Lua side converts (the URL, the body) are listed only so that
 * their names are known. */
static const struct option options[] = {
    {"auth", IN_BOTH, LUA_TTABLE, NULL, 0},
    {"base_url", IN_CLIENT, LUA_TSTRING, NULL, 0},
    {"body", IN_REQUEST, LUA_TNONE, set_own_body, 0},
    {"ca_file", IN_BOTH, LUA_TSTRING, NULL, FIELD(ca_file)},
    {"cert", IN_BOTH, LUA_TSTRING, NULL, FIELD(cert)},
    {"compressed", IN_BOTH, LUA_TBOOLEAN, NULL, FIELD(compressed)},
    {"cookies", IN_CLIENT, LUA_TBOOLEAN, NULL, 0},
    {"expect", IN_BOTH, LUA_TNONE, NULL, 0},
    {"follow", IN_BOTH, LUA_TBOOLEAN, NULL, FIELD(follow)},
    {"form", IN_REQUEST, LUA_TTABLE, NULL, 0},
    {"headers", IN_BOTH, LUA_TTABLE, set_headers, 0},
    {"http_version", IN_BOTH, LUA_TNONE, set_http_version, 0},
    {"idempotent", IN_BOTH, LUA_TBOOLEAN, NULL, FIELD(idempotent)},
    {"insecure", IN_BOTH, LUA_TBOOLEAN, NULL, FIELD(insecure)},
    {"json", IN_REQUEST, LUA_TNONE, NULL, 0},
    {"key", IN_BOTH, LUA_TSTRING, NULL, FIELD(key)},
    {"max_body", IN_BOTH, LUA_TNONE, set_max_body, 0},
    {"max_per_host", IN_BOTH, LUA_TNONE, set_max_per_host, 0},
    {"max_redirects", IN_BOTH, LUA_TNONE, set_max_redirects, 0},
    {"method", IN_REQUEST, LUA_TSTRING, request_set_method, 0},
    {"multipart", IN_REQUEST, LUA_TTABLE, NULL, 0},
    {"proxy", IN_BOTH, LUA_TSTRING, NULL, FIELD(proxy)},
    {"query", IN_BOTH, LUA_TTABLE, NULL, 0},
    {"resolve", IN_BOTH, LUA_TTABLE, set_resolve, 0},
    {"sink", IN_REQUEST, LUA_TSTRING, set_sink, 0},
    {"stream", IN_REQUEST, LUA_TBOOLEAN, NULL, FIELD(stream)},
    {"timeout", IN_BOTH, LUA_TNONE, set_timeout, 0},
    {"unix_socket", IN_BOTH, LUA_TSTRING, NULL, FIELD(unix_socket)},
    {"url", IN_REQUEST, LUA_TSTRING, NULL, 0},
};

_Static_assert(ARRAY_LEN(options) <= FIRST_LIMIT_BIT, "bits of request_reader.seen");
_Static_assert(offsetof(struct transfer_spec, url) == 0, "offset 0 stands for no field");

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

/* Pushes the names of the options in `scope`, for a message. */
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

static enum err_kind set_field(struct request_reader *r, const struct option *o, int index,
                               struct err *err)
{
    void *field = (char *)&r->t->spec + o->offset;
    if (o->set)
        return o->set(r, index, err);
    if (o->offset == 0)
        return ERR_NONE;
    if (o->type == LUA_TSTRING)
        return request_set_string(r, index, o->name, field, err);
    *(bool *)field = lua_toboolean(r->L, index);
    return ERR_NONE;
}

/* These setters check the type themselves. */
static bool repeats(const struct option *o)
{
    return o->set == set_headers || o->set == set_timeout;
}

/* A sandboxed script must not reach any file of the host, nor a socket file. */
static bool names_a_file(const struct option *o)
{
    return strcmp(o->name, "ca_file") == 0 || strcmp(o->name, "cert") == 0 ||
           strcmp(o->name, "key") == 0 || strcmp(o->name, "unix_socket") == 0;
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
        if (o->type != LUA_TNONE && lua_type(L, value) != o->type) {
            aux_raise(L, "%s: option '%s' must be a %s, got %s", r->who, o->name,
                      lua_typename(L, o->type),
                      aux_picture(L, value, o->name, given, sizeof given));
        }
        if (rt_of(L)->restricted && names_a_file(o)) {
            rc = err_set(err, ERR_DENIED, "%s: option '%s' is not allowed in the sandbox", r->who,
                         o->name);
            err_reason(err, "sandbox");
            break;
        }
        uint64_t bit = UINT64_C(1) << (o - options);
        if (!(r->seen & bit) || repeats(o))
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
    struct transfer_spec *to = &r->t->spec;
    if (o->set == set_http_version) {
        to->http_version = from->http_version;
    } else if (o->set == set_max_body) {
        to->max_body_bytes = from->max_body_bytes;
    } else if (o->set == set_max_redirects) {
        to->max_redirects = from->max_redirects;
    } else if (o->set == set_max_per_host) {
        to->max_per_host = from->max_per_host;
    } else if (o->set == set_resolve && from->connect_to) {
        const char *end = from->connect_to; /* lines, each ended by a NUL */
        for (size_t i = 0; i < from->connect_to_count; i++)
            end += strlen(end) + 1;
        size_t len = (size_t)(end - from->connect_to);
        to->connect_to = mem_alloc(r->t->mem, len);
        if (!to->connect_to)
            return out_of_memory(err);
        memcpy(to->connect_to, from->connect_to, len);
        to->connect_to_count = from->connect_to_count;
    } else if (!o->set && o->offset && o->type == LUA_TSTRING) {
        char *const *source = (const void *)((const char *)from + o->offset);
        return copy_string(r, source, (char **)(void *)((char *)to + o->offset), err);
    } else if (!o->set && o->offset) {
        *(bool *)((char *)to + o->offset) = *(const bool *)((const char *)from + o->offset);
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
