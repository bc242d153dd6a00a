#include "engine/proxy.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

/* The first of these variables that has a value. */
static const char *first_of(const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return value;
    }
    return NULL;
}

static char *copy(struct mem *mem, const char *text, bool *failed)
{
    char *made = text ? mem_strndup(mem, text, strlen(text)) : NULL;
    *failed = *failed || (text && !made);
    return made;
}

enum err_kind proxy_env_init(struct proxy_env *p, struct mem *mem, struct err *err)
{
    /* HTTP_PROXY in capitals may come from a request's header (CGI): curl ignores it, too. */
    static const char *const http[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    static const char *const https[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    static const char *const bypass[] = {"no_proxy", "NO_PROXY"};
    bool failed = false;
    *p = (struct proxy_env){.mem = mem};
    p->http = copy(mem, first_of(http, ARRAY_LEN(http)), &failed);
    p->https = copy(mem, first_of(https, ARRAY_LEN(https)), &failed);
    p->bypass = copy(mem, first_of(bypass, ARRAY_LEN(bypass)), &failed);
    if (!failed)
        return ERR_NONE;
    proxy_env_fini(p);
    return err_set(err, ERR_MEMORY, "no memory for the proxies of the environment");
}

void proxy_env_fini(struct proxy_env *p)
{
    mem_free(p->mem, p->http);
    mem_free(p->mem, p->https);
    mem_free(p->mem, p->bypass);
    *p = (struct proxy_env){.mem = p->mem};
}

const char *proxy_for(const struct proxy_env *p, bool https, const char *host)
{
    const char *url = https ? p->https : p->http;
    return url && !(p->bypass && proxy_bypassed(p->bypass, host)) ? url : NULL;
}

/* What is asked for: a name, or an address. */
struct subject {
    int family; /* AF_UNSPEC: a name */
    unsigned char bytes[16];
    const char *name;
    size_t len; /* without the root's point at the end */
};

static bool read_subject(struct subject *s, const char *host)
{
    char bare[64];
    size_t len = strlen(host);
    *s = (struct subject){.family = AF_UNSPEC, .name = host, .len = len};
    if (len == 0)
        return false;
    if (host[0] == '[') {
        len = strcspn(host + 1, "]");
        if (len >= sizeof bare)
            return false;
        memcpy(bare, host + 1, len);
        bare[len] = '\0';
        s->family = AF_INET6;
        return inet_pton(AF_INET6, bare, s->bytes) == 1;
    }
    if (inet_pton(AF_INET, host, s->bytes) == 1)
        s->family = AF_INET;
    else if (host[len - 1] == '.')
        s->len--;
    return true;
}

static bool same_bits(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* "10.0.0.1", "10.0.0.0/8", "fc00::/7". */
static bool word_has_address(const char *word, size_t len, const struct subject *s)
{
    char text[64];
    unsigned char bytes[16];
    unsigned width = s->family == AF_INET ? 32 : 128, bits = width;
    if (len >= sizeof text)
        return false;
    memcpy(text, word, len);
    text[len] = '\0';
    char *slash = strchr(text, '/');
    if (slash) {
        *slash = '\0';
        unsigned long given = strtoul(slash + 1, NULL, 10);
        if (given > width)
            return false;
        bits = given == 0 ? width : (unsigned)given; /* curl takes "/0" for no length */
    }
    return inet_pton(s->family, text, bytes) == 1 && same_bits(s->bytes, bytes, bits);
}

/* "example.com" and ".example.com": the host itself, and all beneath it. */
static bool word_has_name(const char *word, size_t len, const struct subject *s)
{
    if (len > 0 && word[len - 1] == '.')
        len--;
    if (len > 0 && word[0] == '.') {
        word++;
        len--;
    }
    if (len == s->len)
        return strncasecmp(word, s->name, len) == 0;
    return len > 0 && len < s->len && s->name[s->len - len - 1] == '.' &&
           strncasecmp(word, s->name + (s->len - len), len) == 0;
}

bool proxy_bypassed(const char *list, const char *host)
{
    struct subject s;
    if (!read_subject(&s, host))
        return false;
    if (strcmp(list, "*") == 0)
        return true;
    while (*(list += strspn(list, ", \t"))) {
        size_t len = strcspn(list, ", \t");
        if (s.family == AF_UNSPEC ? word_has_name(list, len, &s) : word_has_address(list, len, &s))
            return true;
        list += len;
    }
    return false;
}

static const struct {
    const char *scheme;
    enum proxy_kind kind;
} schemes[] = {
    {"http", PROXY_HTTP},       {"https", PROXY_HTTPS},   {"socks", PROXY_SOCKS_IP},
    {"socks4", PROXY_SOCKS_IP}, {"socks4a", PROXY_SOCKS}, {"socks5", PROXY_SOCKS_IP},
    {"socks5h", PROXY_SOCKS},
};

enum proxy_kind proxy_kind_of(const char *url)
{
    const char *end = strstr(url, "://");
    size_t len = end ? (size_t)(end - url) : 0;
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (strlen(schemes[i].scheme) == len && strncasecmp(url, schemes[i].scheme, len) == 0)
            return schemes[i].kind;
    }
    return PROXY_HTTP;
}

/* NULL: no memory, or *code says what is wrong. */
static CURLU *parse(const char *url, CURLUcode *code)
{
    CURLU *u = curl_url();
    *code = CURLUE_OUT_OF_MEMORY;
    if (!u)
        return NULL;
    *code = curl_url_set(u, CURLUPART_URL, url, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME);
    if (*code == CURLUE_OK)
        return u;
    curl_url_cleanup(u);
    return NULL;
}

const char *proxy_unusable(const char *url)
{
    char *scheme = NULL;
    CURLUcode code;
    CURLU *u = parse(url, &code);
    if (!u)
        return code == CURLUE_OUT_OF_MEMORY ? NULL : curl_url_strerror(code);
    const char *why = NULL;
    if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK) {
        why = "its scheme is not http, https, socks4, socks4a, socks5 or socks5h";
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
            why = why && strcasecmp(scheme, schemes[i].scheme) == 0 ? NULL : why;
    }
    curl_free(scheme);
    curl_url_cleanup(u);
    return why;
}

bool proxy_place(const char *url, char host[static 256], unsigned *port)
{
    char *name = NULL, *number = NULL;
    CURLUcode code;
    CURLU *u = parse(url, &code);
    if (!u)
        return false;
    bool good = curl_url_get(u, CURLUPART_HOST, &name, 0) == CURLUE_OK && strlen(name) < 256;
    if (good)
        snprintf(host, 256, "%s", name);
    *port = proxy_kind_of(url) == PROXY_HTTPS ? 443 : 1080;
    if (curl_url_get(u, CURLUPART_PORT, &number, 0) == CURLUE_OK)
        *port = (unsigned)strtoul(number, NULL, 10);
    curl_free(name);
    curl_free(number);
    curl_url_cleanup(u);
    return good;
}

enum err_kind proxy_credentials(const char *url, struct mem *mem, char **out, struct err *err)
{
    char *user = NULL, *password = NULL;
    CURLUcode code;
    CURLU *u = parse(url, &code);
    *out = NULL;
    if (u) {
        code = curl_url_get(u, CURLUPART_USER, &user, CURLU_URLDECODE);
        if (code == CURLUE_OK || code == CURLUE_NO_USER)
            code = curl_url_get(u, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
    }
    bool no_memory = code == CURLUE_OUT_OF_MEMORY;
    if (user || password) {
        size_t size = (user ? strlen(user) : 0) + (password ? strlen(password) : 0) + 2;
        *out = mem_alloc(mem, size);
        no_memory = no_memory || !*out;
        if (*out)
            snprintf(*out, size, "%s:%s", user ? user : "", password ? password : "");
    }
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(u);
    if (!no_memory)
        return ERR_NONE;
    mem_free(mem, *out);
    *out = NULL;
    return err_set(err, ERR_MEMORY, "no memory for the proxy's credentials");
}
