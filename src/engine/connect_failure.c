#include "engine/connect_failure.h"
#include "engine/proxy.h"
#include "ground/redact.h"
#include <errno.h>
#include <string.h>

/* The proxy's URL; NULL: the connection is made without one. */
static const char *proxy_of(const struct connect_failure *f)
{
    const char *url = f->to->proxy;
    return url && *url && !f->to->unix_socket ? url : NULL;
}

static const char *origin_text(const struct connect_failure *f, char out[static 160])
{
    const struct connect_target *to = f->to;
    snprintf(out, 160, "%s://%.120s:%u", to->https ? "https" : "http", to->host, to->port);
    return out;
}

/* Names what libcurl had to connect to: the origin, or what leads to it. */
static const char *peer_text(const struct connect_failure *f, char out[static 160])
{
    char shown[120];
    const char *proxy = proxy_of(f);
    if (f->to->unix_socket) {
        redact_path(shown, sizeof shown, f->to->unix_socket);
        snprintf(out, 160, "the unix socket %s", shown);
    } else if (proxy) {
        redact_url(shown, sizeof shown, proxy, strlen(proxy));
        snprintf(out, 160, "the proxy %s", shown);
    } else {
        origin_text(f, out);
    }
    return out;
}

static void set_denied(const struct connect_failure *f, struct err *err)
{
    char origin[160];
    err_set(err, ERR_DENIED, "the address of %s may not be connected to", origin_text(f, origin));
    err_reason(err, "target");
}

static void set_connect(const struct connect_failure *f, struct err *err)
{
    long os = 0;
    char detail[128], peer[160];
    curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &os);
    if (f->os)
        os = f->os;
    bool too_many = os == EMFILE || os == ENFILE;
    enum err_kind kind = too_many ? ERR_IO : os == ENOMEM ? ERR_MEMORY : ERR_CONNECT;
    const char *why = os ? strerror_r((int)os, detail, sizeof detail) : "no connection";
    err_set(err, kind, "cannot connect to %s: %s", peer_text(f, peer), why);
    err->retryable = true;
    err->phase = PHASE_CONNECT;
    if (too_many)
        err_reason(err, "too_many_files");
    else if (proxy_of(f))
        err_reason(err, "proxy");
    else if (os == ECONNREFUSED)
        err_reason(err, "refused");
}

/* If the path of a unix socket is too long, libcurl reports only this code. */
static void set_resolve(const struct connect_failure *f, struct err *err)
{
    char peer[160];
    if (f->to->unix_socket) {
        err_set(err, ERR_CONNECT, "cannot connect to %s: its path is too long", peer_text(f, peer));
        err->phase = PHASE_CONNECT;
        return;
    }
    bool proxy = proxy_of(f) != NULL;
    err_set(err, ERR_DNS, "no address for %s", proxy ? peer_text(f, peer) : f->to->host);
    err->phase = PHASE_DNS;
    if (proxy)
        err_reason(err, "proxy");
}

static void set_proxy(const struct connect_failure *f, const char *how, bool retryable,
                      struct err *err)
{
    char origin[160], proxy[160];
    err_set(err, ERR_CONNECT, "cannot connect to %.80s: %s %s", origin_text(f, origin),
            peer_text(f, proxy), how);
    err_reason(err, "proxy");
    err->phase = PHASE_CONNECT;
    err->retryable = retryable;
}

/* A CONNECT that was answered by something else than 200. */
static void set_status(const struct connect_failure *f, long status, struct err *err)
{
    char how[64];
    if (status == 407)
        snprintf(how, sizeof how, "wants other credentials (407)");
    else
        snprintf(how, sizeof how, "answered %ld", status);
    set_proxy(f, how, status == 408 || status == 429 || status >= 500, err);
}

static void set_socks(const struct connect_failure *f, struct err *err)
{
    long why = CURLPX_OK;
    curl_easy_getinfo(f->easy, CURLINFO_PROXY_ERROR, &why);
    switch (why) {
    case CURLPX_NO_AUTH:
    case CURLPX_USER_REJECTED:
    case CURLPX_IDENTD:
    case CURLPX_IDENTD_DIFFER:
        set_proxy(f, "wants other credentials", false, err);
        break;
    case CURLPX_LONG_USER:
    case CURLPX_LONG_PASSWD:
        set_proxy(f, "cannot receive credentials of more than 255 bytes", false, err);
        break;
    case CURLPX_LONG_HOSTNAME:
        set_proxy(f, "cannot receive a name of more than 255 bytes", false, err);
        break;
    case CURLPX_REPLY_NOT_ALLOWED:
        set_proxy(f, "does not allow it", false, err);
        break;
    case CURLPX_BAD_VERSION:
    case CURLPX_BAD_ADDRESS_TYPE:
    case CURLPX_UNKNOWN_MODE:
        set_proxy(f, "does not speak this kind of SOCKS", false, err);
        break;
    case CURLPX_REPLY_ADDRESS_TYPE_NOT_SUPPORTED:
    case CURLPX_REPLY_COMMAND_NOT_SUPPORTED:
        set_proxy(f, "does not support such a target", false, err);
        break;
    case CURLPX_REPLY_CONNECTION_REFUSED:
        set_proxy(f, "was refused by the target", true, err);
        break;
    case CURLPX_RESOLVE_HOST:
        set_proxy(f, "needs an address, and there is none for the name", true, err);
        break;
    case CURLPX_CLOSED:
    case CURLPX_RECV_ADDRESS:
    case CURLPX_RECV_AUTH:
    case CURLPX_RECV_CONNECT:
    case CURLPX_RECV_REQACK:
    case CURLPX_SEND_AUTH:
    case CURLPX_SEND_CONNECT:
    case CURLPX_SEND_REQUEST:
        set_proxy(f, "closed the connection", true, err);
        break;
    default:
        set_proxy(f, "does not reach it", true, err);
    }
}

static bool said(const struct connect_failure *f, const char *words)
{
    return strstr(f->words, words) != NULL;
}

/* TLS to an HTTPS proxy. */
static void set_tls(const struct connect_failure *f, struct err *err)
{
    char proxy[160];
    bool verify = f->code == CURLE_PEER_FAILED_VERIFICATION;
    const char *detail = f->words[0] ? f->words : curl_easy_strerror(f->code);
    const char *fault = NULL;
    if (verify && (said(f, "issuer certificate") || said(f, "self-signed") ||
                   said(f, "self signed") || said(f, "unable to verify the first")))
        fault = said(f, "self") ? "it is self-signed and not trusted" : "its CA is not trusted";
    else if (verify && (said(f, "certificate subject name") || said(f, "does not match")))
        fault = "it is for other names";
    else if (said(f, "wrong version number") || said(f, "packet length too long") ||
             said(f, "http request"))
        fault = "it does not speak TLS; if it is an HTTP proxy, write http://";
    peer_text(f, proxy);
    if (fault)
        err_set(err, ERR_TLS, "%s %s: %s", verify ? "the certificate of" : "TLS failed with", proxy,
                fault);
    else
        err_set(err, ERR_TLS, "%s %s: %.70s",
                verify ? "the certificate is not valid for" : "TLS failed with", proxy, detail);
    err->phase = PHASE_TLS;
    if (verify)
        err_reason(err, "verify");
    /* A handshake that was cut off may work the next time; a refused certificate will not. */
    err->retryable = !verify && (said(f, "SYSCALL") || said(f, "reset"));
}

/* A proxy that can never be used is a mistake in its URL, whatever libcurl has failed with. */
static bool set_unusable(const struct connect_failure *f, const char *url, struct err *err)
{
    char proxy[160];
    const char *why = proxy_unusable(url);
    if (!why)
        return false;
    err_set(err, ERR_INVALID, "%s%s cannot be used: %s", peer_text(f, proxy),
            f->to->proxy_of_environment ? ", which the environment names," : "", why);
    err_reason(err, "proxy");
    return true;
}

static bool set_by_proxy(const struct connect_failure *f, struct err *err)
{
    long status = 0;
    const char *url = proxy_of(f);
    if (!url)
        return false;
    curl_easy_getinfo(f->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (status >= 300) {
        set_status(f, status, err);
        return true;
    }
    switch (f->code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        if (set_unusable(f, url, err))
            return true;
        if (f->code != CURLE_UNSUPPORTED_PROTOCOL)
            return false;
        set_proxy(f, "sent something that is not HTTP", false, err);
        return true;
    case CURLE_PROXY:
        set_socks(f, err);
        return true;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        set_proxy(f, "closed the connection", true, err);
        return true;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        set_proxy(f, "sent something that is not HTTP", false, err);
        return true;
    default:
        return false;
    }
}

static void set_by_code(const struct connect_failure *f, struct err *err)
{
    char peer[160];
    switch (f->code) {
    case CURLE_COULDNT_CONNECT:
        set_connect(f, err);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        set_resolve(f, err);
        break;
    case CURLE_OPERATION_TIMEDOUT: /* the caller's limit should have come before */
        err_set(err, ERR_TIMEOUT, "no connection to %s in time", peer_text(f, peer));
        err->phase = PHASE_CONNECT;
        err->retryable = true;
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED:
        set_tls(f, err);
        break;
    case CURLE_OUT_OF_MEMORY:
        err_set(err, ERR_MEMORY, "no memory for a connection");
        break;
    case CURLE_URL_MALFORMAT:
        err_set(err, ERR_INVALID, "url: not usable as a host: %.100s", f->to->host);
        break;
    default:
        err_set(err, ERR_INTERNAL, "libcurl failed to connect to %s: %.80s", peer_text(f, peer),
                f->words[0] ? f->words : curl_easy_strerror(f->code));
    }
}

void connect_failure_set(const struct connect_failure *f, struct err *err)
{
    err_clear(err);
    if (f->denied && f->code == CURLE_COULDNT_CONNECT)
        set_denied(f, err);
    else if (!set_by_proxy(f, err))
        set_by_code(f, err);
    err->code = (int)f->code;
}
