/* What went wrong between us and a proxy, or by a proxy's doing. */
#include "engine/exchange.h"
#include "ground/redact.h"
#include <string.h>
#include <strings.h>

/* Whether libcurl's words for a connection that failed name another host than the target. */
static bool went_elsewhere(const struct exchange *x)
{
    static const char words[] = "Failed to connect to ";
    const char *host = x->url->origin->host, *at = strstr(x->curl_text, words);
    if (!at)
        return false;
    at += sizeof words - 1;
    size_t len = strcspn(host += host[0] == '[', "]");
    return strncasecmp(at, host, len) != 0 || strncmp(at + len, " port ", 6) != 0;
}

/* The proxy's URL; NULL: the connection is made without one. */
static const char *proxy_of(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    if (spec->unix_socket || !exchange_proxied(x))
        return NULL;
    if (spec->proxy)
        return spec->proxy;
    /* libcurl does not tell whether no_proxy let this one past the environment's proxy. */
    bool may_pass = getenv("no_proxy") || getenv("NO_PROXY");
    const struct origin *g = x->url->origin;
    bool passed = may_pass && x->connect_port == g->port && !went_elsewhere(x);
    return passed ? NULL : exchange_environment_proxy(g->https);
}

static bool begins(const char *url, const char *scheme)
{
    return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

const char *failure_proxy_text(const struct exchange *x, char out[static 160])
{
    const char *url = proxy_of(x);
    if (!url)
        return NULL;
    char shown[120];
    redact_url(shown, sizeof shown, url, strlen(url));
    snprintf(out, 160, "the proxy %s", shown);
    return out;
}

bool failure_proxy_is_peer(const struct exchange *x)
{
    const char *url = proxy_of(x);
    return url && !x->url->origin->https && !begins(url, "socks");
}

static void set_proxy(const struct exchange *x, const char *how, bool retryable, struct err *err)
{
    char proxy[160];
    err_set(err, ERR_CONNECT, "cannot connect to %s: %s %s", x->url->origin->key,
            failure_proxy_text(x, proxy) ? proxy : "the proxy", how);
    err_reason(err, "proxy");
    err->phase = PHASE_CONNECT;
    err->retryable = retryable;
}

/* A CONNECT that was answered by something else than 200. */
static void set_status(const struct exchange *x, long status, struct err *err)
{
    char how[64];
    if (status == 407)
        snprintf(how, sizeof how, "wants other credentials (407)");
    else
        snprintf(how, sizeof how, "answered %ld", status);
    set_proxy(x, how, status == 408 || status == 429 || status >= 500, err);
}

/* SOCKS: what libcurl noted. */
static void set_socks(const struct exchange *x, struct err *err)
{
    long why = CURLPX_OK;
    curl_easy_getinfo(x->easy, CURLINFO_PROXY_ERROR, &why);
    switch (why) {
    case CURLPX_NO_AUTH:
    case CURLPX_USER_REJECTED:
    case CURLPX_IDENTD:
    case CURLPX_IDENTD_DIFFER:
        set_proxy(x, "wants other credentials", false, err);
        break;
    case CURLPX_LONG_USER:
    case CURLPX_LONG_PASSWD:
        set_proxy(x, "cannot receive credentials of more than 255 bytes", false, err);
        break;
    case CURLPX_LONG_HOSTNAME:
        set_proxy(x, "cannot receive a name of more than 255 bytes", false, err);
        break;
    case CURLPX_REPLY_NOT_ALLOWED:
        set_proxy(x, "does not allow it", false, err);
        break;
    case CURLPX_BAD_VERSION:
    case CURLPX_BAD_ADDRESS_TYPE:
    case CURLPX_UNKNOWN_MODE:
        set_proxy(x, "does not speak this kind of SOCKS", false, err);
        break;
    case CURLPX_REPLY_ADDRESS_TYPE_NOT_SUPPORTED:
    case CURLPX_REPLY_COMMAND_NOT_SUPPORTED:
        set_proxy(x, "does not support such a target", false, err);
        break;
    case CURLPX_REPLY_CONNECTION_REFUSED:
        set_proxy(x, "was refused by the target", true, err);
        break;
    case CURLPX_RESOLVE_HOST:
        set_proxy(x, "needs an address, and there is none for the name", true, err);
        break;
    case CURLPX_CLOSED:
    case CURLPX_RECV_ADDRESS:
    case CURLPX_RECV_AUTH:
    case CURLPX_RECV_CONNECT:
    case CURLPX_RECV_REQACK:
    case CURLPX_SEND_AUTH:
    case CURLPX_SEND_CONNECT:
    case CURLPX_SEND_REQUEST:
        set_proxy(x, "closed the connection", true, err);
        break;
    default:
        set_proxy(x, "does not reach it", true, err);
    }
}

bool failure_tls_to_proxy(const struct exchange *x)
{
    const char *url = proxy_of(x);
    long connected = 0;
    curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &connected);
    return url && begins(url, "https:") && connected == 0;
}

/* Why no connection to a proxy of this URL can be tried; NULL: it can. */
static const char *unusable(const char *url)
{
    static const char *const schemes[] = {"http",    "https",  "socks",  "socks4",
                                          "socks4a", "socks5", "socks5h"};
    char *scheme = NULL;
    CURLU *u = curl_url();
    if (!u)
        return NULL;
    CURLUcode rc =
        curl_url_set(u, CURLUPART_URL, url, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME);
    const char *why = rc == CURLUE_OK || rc == CURLUE_OUT_OF_MEMORY ? NULL : curl_url_strerror(rc);
    if (rc == CURLUE_OK && curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK) {
        why = "its scheme is not http, https, socks4, socks4a, socks5 or socks5h";
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
            why = why && strcasecmp(scheme, schemes[i]) == 0 ? NULL : why;
    }
    curl_free(scheme);
    curl_url_cleanup(u);
    return why;
}

static void set_unusable(const struct exchange *x, const char *why, struct err *err)
{
    char proxy[160];
    err_set(err, ERR_INVALID, "%s%s cannot be used: %s",
            failure_proxy_text(x, proxy) ? proxy : "the proxy",
            x->transfer->spec.proxy ? "" : ", which the environment names,", why);
    err_reason(err, "proxy");
}

bool failure_from_proxy(const struct exchange *x, CURLcode code, struct err *err)
{
    long status = 0;
    const char *url = x->hop_attempts == 0 ? proxy_of(x) : NULL;
    if (!url)
        return false;
    curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (status >= 300) {
        set_status(x, status, err);
        return true;
    }
    bool tunnel = x->url->origin->https || begins(url, "socks");
    const char *why;
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_URL_MALFORMAT:
        why = unusable(url);
        if (why)
            set_unusable(x, why, err);
        return why != NULL;
    case CURLE_PROXY:
        set_socks(x, err);
        return true;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        if (tunnel && status == 0)
            set_proxy(x, "closed the connection", true, err);
        return tunnel && status == 0;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        if (tunnel && status == 0)
            set_proxy(x, "sent something that is not HTTP", false, err);
        return tunnel && status == 0;
    default:
        return false;
    }
}
