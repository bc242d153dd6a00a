#include "engine/tls_failure.h"
#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

static enum err_kind finish(struct err *err, CURLcode code)
{
    if (err) {
        err->phase = PHASE_TLS;
        err->code = (int)code;
    }
    return ERR_TLS;
}

enum err_kind tls_failure_ca_file(const char *path, struct err *err)
{
    err_set(err, ERR_TLS,
            "ca_file= names %.80s, which holds no certificates in PEM form, or cannot be read",
            path);
    return finish(err, CURLE_SSL_CACERT_BADFILE);
}

enum err_kind tls_failure_client_certificate(const struct tls_settings *settings, struct err *err)
{
    const char *cert = settings->cert, *key = settings->key;
    err_set(err, ERR_TLS, "cert= or key= cannot be used (%.50s%s%.50s): both must be PEM files",
            cert ? cert : "", cert && key ? ", " : "", key ? key : "");
    return finish(err, CURLE_SSL_CERTPROBLEM);
}

/* "https://host:port"; without the scheme where HTTP is not what is spoken. */
static const char *peer_text(const struct tls_failed_handshake *f, char out[static 160])
{
    bool is_ipv6 = strchr(f->host, ':') != NULL && f->host[0] != '[';
    snprintf(out, 160, "%s%s%.130s%s:%u", f->settings->alpn == TLS_ALPN_NONE ? "" : "https://",
             is_ipv6 ? "[" : "", f->host, is_ipv6 ? "]" : "", f->port);
    return out;
}

/* What is wrong with the server's certificate, and what to do. */
static enum err_kind set_verify(const struct tls_failed_handshake *f, long verdict, struct err *err)
{
    char peer[160];
    peer_text(f, peer);
    bool self_signed = verdict == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;
    switch (verdict) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        err_set(err, ERR_TLS, "the certificate of %s: %s %s", peer,
                self_signed ? "it is self-signed and not trusted:" : "its CA is not trusted:",
                f->settings->ca_file ? "its CA is not in the file that ca_file= names"
                                     : "name its CA with ca_file=");
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        err_set(err, ERR_TLS, "the certificate of %s: it is for other names than %.100s", peer,
                f->host);
        break;
    default:
        err_set(err, ERR_TLS, "the certificate is not valid for %s: %.70s", peer,
                X509_verify_cert_error_string(verdict));
        break;
    }
    if (err)
        err_reason(err, "verify");
    return finish(err, CURLE_PEER_FAILED_VERIFICATION);
}

static bool is_no_tls(int reason)
{
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_UNKNOWN_PROTOCOL ||
           reason == SSL_R_PACKET_LENGTH_TOO_LONG || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_HTTPS_PROXY_REQUEST;
}

static bool may_want_certificate(int reason)
{
    return reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE ||
           reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED;
}

static const char *detail_of(const struct tls_failed_handshake *f, unsigned long code,
                             char out[static 128])
{
    bool ended =
        f->ended && (code == 0 || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
    const char *words = code && !ended ? ERR_reason_error_string(code) : NULL;
    if (words)
        return words;
    if (f->os_error)
        return strerror_r(f->os_error, out, 128);
    return ended ? "it broke off the handshake" : "the handshake failed";
}

enum err_kind tls_failure_handshake(const struct tls_failed_handshake *f, struct err *err)
{
    char peer[160], text[128];
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    long verdict = SSL_get_verify_result(f->ssl);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        return set_verify(f, verdict, err);
    bool cut = reason == SSL_R_UNEXPECTED_EOF_WHILE_READING ||
               (code == 0 && (f->ended || f->os_error != 0));
    bool may_be_plain = f->settings->alpn != TLS_ALPN_NONE;
    const char *hint = may_be_plain ? "; if it speaks plain HTTP, write http://" : "";
    peer_text(f, peer);
    if (may_want_certificate(reason))
        err_set(err, ERR_TLS, "TLS failed with %s: %.70s%s", peer, detail_of(f, code, text),
                f->settings->cert ? "" : ": it may want a client certificate (cert= and key=)");
    else if (is_no_tls(reason))
        err_set(err, ERR_TLS, "TLS failed with %s: it does not speak TLS%s", peer, hint);
    else if (cut && !f->answered)
        err_set(err, ERR_TLS, "TLS failed with %s: it broke off the handshake%s", peer, hint);
    else
        err_set(err, ERR_TLS, "TLS failed with %s: %.70s", peer, detail_of(f, code, text));
    /* A handshake that was cut off may work the next time; a refused certificate will not. */
    if (err)
        err->retryable = cut;
    return finish(err, CURLE_SSL_CONNECT_ERROR);
}
