#include "engine/opener.h"
#include "engine/proxy.h"
#include <string.h>

void opener_init(struct opener *o, unsigned number)
{
    *o = (struct opener){.number = number};
    list_init(&o->node);
}

void opener_fini(struct opener *o)
{
    curl_easy_cleanup(o->easy);
    o->easy = NULL;
}

/* The body and the headers of a proxy's answer to CONNECT must not go to the standard output. */
static size_t swallow(char *data, size_t size, size_t count, void *arg)
{
    UNUSED(data);
    UNUSED(arg);
    return size * count;
}

/* Sets the options that are the same for all connections. */
static CURLcode set_base(struct opener *o, curl_opensocket_callback on_socket)
{
    CURL *c = o->easy;
    CURLcode code = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http");
    if (!code) /* with these two, nothing of the environment is read */
        code = curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_NOPROXY, "");
    if (code)
        return code;
    curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 1024L); /* else the larger part of a handle */
    curl_easy_setopt(c, CURLOPT_PRIVATE, o);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, o->words);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a cancel does not wait for a look-up */
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, swallow);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, swallow);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, o);
    return CURLE_OK;
}

/* The address in "host:port:address:". */
static const char *mapped_address(const char *line, size_t *len)
{
    const char *host_end = strchr(line, ':');
    const char *port_end = host_end ? strchr(host_end + 1, ':') : NULL;
    const char *address = port_end ? port_end + 1 : line;
    *len = strlen(address);
    if (*len > 0 && address[*len - 1] == ':')
        --*len;
    return address;
}

/* Several addresses reach libcurl only through its address book. */
static bool needs_book(const struct connect_target *to)
{
    return to->addresses && strchr(to->addresses, ',') && !to->unix_socket && !to->connect_to;
}

/* If the addresses are known, libcurl does not need the name of the origin. With a name for each
 * opener, the address book has at most one entry for each. */
static void own_name(const struct opener *o, char out[static 24])
{
    snprintf(out, 24, "leat-%u", o->number);
}

static bool goes_by_proxy(const struct connect_target *to)
{
    return to->proxy && *to->proxy && !to->unix_socket;
}

static size_t proxy_line_size(const struct connect_target *to)
{
    return goes_by_proxy(to) && to->proxy_addresses ? strlen(to->proxy_addresses) + 280 : 0;
}

static size_t origin_line_size(const struct connect_target *to)
{
    return needs_book(to) ? strlen(to->addresses) + 40 : 0;
}

size_t opener_line_size(const struct connect_target *to)
{
    return proxy_line_size(to) + origin_line_size(to);
}

static enum err_kind set_url(const struct opener *o, const struct connect_target *to,
                             CURLcode *code, struct err *err)
{
    char url[400], name[24];
    const char *host = to->host;
    size_t len;
    if (needs_book(to)) {
        own_name(o, name);
        host = name;
    } else if (to->addresses && !to->unix_socket) {
        host = to->addresses;
    }
    len = strlen(host);
    if (to->connect_to)
        host = mapped_address(to->connect_to, &len);
    int n = snprintf(url, sizeof url, "http://%.*s:%u/", (int)MIN(len, sizeof url), host, to->port);
    if (n < 0 || (size_t)n >= sizeof url)
        return err_set(err, ERR_INVALID, "url: the host is too long");
    *code = curl_easy_setopt(o->easy, CURLOPT_URL, url);
    return ERR_NONE;
}

/* Fills the list that follows `list`, and returns all. libcurl keeps an entry for as long as the
 * multi lives. */
static struct curl_slist *learn_origin(struct opener *o, const struct connect_target *to,
                                       char *line, struct curl_slist *list)
{
    char name[24];
    size_t size = origin_line_size(to);
    if (size == 0)
        return list;
    own_name(o, name);
    snprintf(line, size, "%s:%u:%s", name, to->port, to->addresses);
    o->learn = (struct curl_slist){.data = line, .next = list};
    list = &o->learn;
    if (o->named && o->named_port != to->port) {
        snprintf(o->forget_text, sizeof o->forget_text, "-%s:%u", name, o->named_port);
        o->forget = (struct curl_slist){.data = o->forget_text, .next = list};
        list = &o->forget;
    }
    o->named = true;
    o->named_port = to->port;
    return list;
}

/* The proxy keeps its own name, because its certificate must be for it. */
static struct curl_slist *learn_proxy(struct opener *o, const struct connect_target *to, char *line)
{
    char host[256];
    unsigned port;
    size_t size = proxy_line_size(to);
    if (size == 0 || !proxy_place(to->proxy, host, &port))
        return NULL;
    snprintf(line, size, "%s:%u:%s", host, port, to->proxy_addresses);
    o->learn_proxy = (struct curl_slist){.data = line};
    return &o->learn_proxy;
}

static CURLcode set_addresses(struct opener *o, const struct connect_target *to, char *line)
{
    struct curl_slist *list = learn_proxy(o, to, line);
    list = learn_origin(o, to, line + proxy_line_size(to), list);
    return curl_easy_setopt(o->easy, CURLOPT_RESOLVE, list);
}

static CURLcode set_proxy(CURL *c, const struct connect_target *to)
{
    CURLcode code = curl_easy_setopt(c, CURLOPT_PROXY, to->proxy);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_PROXY_CAINFO, to->ca_file);
    if (!code)
        code = curl_easy_setopt(c, CURLOPT_PROXY_CAPATH, to->ca_folder);
    if (!code && to->tunnel)
        code = curl_easy_setopt(c, CURLOPT_HTTPPROXYTUNNEL, 1L);
    if (!code && to->tunnel)
        code = curl_easy_setopt(c, CURLOPT_USERAGENT, to->user_agent);
    return code;
}

static CURLcode set_route(struct opener *o, const struct connect_target *to)
{
    bool proxy = goes_by_proxy(to);
    o->plain = !proxy && !to->unix_socket;
    if (to->unix_socket)
        return curl_easy_setopt(o->easy, CURLOPT_UNIX_SOCKET_PATH, to->unix_socket);
    return proxy ? set_proxy(o->easy, to) : CURLE_OK;
}

/* libcurl gives up by itself after 300 s if no limit is set. */
static CURLcode set_time(CURL *c, uint64_t connect_ms)
{
    uint64_t ms = connect_ms == 0 || connect_ms > 0x7fff0000 ? 0x7fff0000 : connect_ms;
    /* The caller's limit comes first. */
    return curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)ms + 1000);
}

enum err_kind opener_prepare(struct opener *o, const struct connect_target *to, char *line,
                             curl_opensocket_callback on_socket, struct err *err)
{
    CURLcode code = CURLE_OK;
    o->words[0] = '\0';
    if (!o->easy) {
        o->easy = curl_easy_init();
        code = o->easy ? set_base(o, on_socket) : CURLE_OUT_OF_MEMORY;
    }
    if (!code && set_url(o, to, &code, err) != ERR_NONE)
        return err->kind;
    if (!code)
        code = set_addresses(o, to, line);
    if (!code)
        code = set_route(o, to);
    if (!code)
        code = set_time(o->easy, to->connect_ms);
    if (code == CURLE_OK)
        return ERR_NONE;
    if (code == CURLE_OUT_OF_MEMORY)
        err_set(err, ERR_MEMORY, "no memory for a connection");
    else
        err_set(err, ERR_INTERNAL, "libcurl refused an option: %s", curl_easy_strerror(code));
    err->code = (int)code;
    return err->kind;
}

/* A handle that used a proxy is not used again. It has options that others must not have. And if a
 * proxy's answer begins with a folded line, libcurl before 8.1 appends that to the last header of
 * the handle's previous transfer, which it has freed. */
void opener_settle(struct opener *o)
{
    o->attempt = NULL;
    if (!o->plain)
        opener_fini(o);
}
