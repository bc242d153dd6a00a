#include "engine/tls_link.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

/* A record and its frame are a little more than 16 KB. */
enum { AHEAD_BYTES = 17 * 1024 };

/* ---- The BIO. SSL_set_fd would write with write(), and SIGPIPE would end the host. */

static bool is_later(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

/* OpenSSL asks for the head of a record, then for the rest of it. So a read takes what there is, of
 * many records if they are small. (OpenSSL's own read-ahead moves all that is left to the front of
 * its buffer for each record.) A link that waits holds no buffer. */
static bool open_ahead(struct tls_link *link)
{
    struct tls *t = link->context->tls;
    link->ahead = t->spare ? t->spare : mem_alloc(t->mem, AHEAD_BYTES);
    t->spare = NULL;
    link->ahead_at = link->ahead_end = 0;
    return link->ahead != NULL;
}

static void close_ahead(struct tls_link *link)
{
    struct tls *t = link->context->tls;
    if (t->spare)
        mem_free(t->mem, link->ahead);
    else
        t->spare = link->ahead;
    link->ahead = NULL;
}

static ssize_t read_on(struct tls_link *link, char *out, size_t size)
{
    struct tls_carrier *carrier = link->carrier;
    if (!link->ahead) {
        if (size >= AHEAD_BYTES / 2 || !open_ahead(link))
            return carrier->read(carrier, out, size);
        ssize_t n = carrier->read(carrier, link->ahead, AHEAD_BYTES);
        if (n <= 0) {
            int code = errno;
            close_ahead(link);
            errno = code;
            return n;
        }
        link->ahead_end = (size_t)n;
    }
    size_t len = MIN(size, link->ahead_end - link->ahead_at);
    memcpy(out, link->ahead + link->ahead_at, len);
    link->ahead_at += len;
    if (link->ahead_at == link->ahead_end)
        close_ahead(link);
    return (ssize_t)len;
}

static int carrier_read(BIO *bio, char *out, int size)
{
    struct tls_link *link = BIO_get_data(bio);
    struct tls_carrier *carrier = link->carrier;
    BIO_clear_retry_flags(bio);
    ssize_t n = read_on(link, out, (size_t)size);
    if (n < 0 && is_later(errno))
        BIO_set_retry_read(bio);
    if (n == 0)
        carrier->ended = true;
    return (int)n;
}

static int carrier_write(BIO *bio, const char *data, int size)
{
    const struct tls_link *link = BIO_get_data(bio);
    struct tls_carrier *carrier = link->carrier;
    BIO_clear_retry_flags(bio);
    ssize_t n = carrier->write(carrier, data, (size_t)size);
    if (n < 0 && is_later(errno))
        BIO_set_retry_write(bio);
    return (int)n;
}

static long carrier_ctrl(BIO *bio, int command, long number, void *arg)
{
    UNUSED(number);
    UNUSED(arg);
    const struct tls_link *link = BIO_get_data(bio);
    if (command == BIO_CTRL_EOF)
        return link && link->carrier->ended && !link->ahead;
    return command == BIO_CTRL_FLUSH;
}

/* One for each engine. Not a type of its own from BIO_get_new_index: there are only 128 of them in
 * a process. */
static BIO_METHOD *method_of(struct tls *t)
{
    if (t->carrier)
        return t->carrier;
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "leat");
    if (!m)
        return NULL;
    BIO_meth_set_read(m, carrier_read);
    BIO_meth_set_write(m, carrier_write);
    BIO_meth_set_ctrl(m, carrier_ctrl);
    return t->carrier = m;
}

/* ---- Opening. */

struct bare_host {
    char text[256];
    bool is_address;
};

/* Without brackets, the zone of an address, and the dot that ends a name. False: no certificate can
 * be for it. To OpenSSL an empty name means any certificate, and a dot in front any name below. */
static bool strip(const char *host, struct bare_host *out)
{
    size_t len = strlen(host);
    unsigned char binary[16];
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof out->text || host[0] == '.')
        return false;
    memcpy(out->text, host, len);
    out->text[len] = '\0';
    char *zone = strchr(out->text, ':') ? strchr(out->text, '%') : NULL;
    if (zone)
        *zone = '\0';
    else if (len > 1 && out->text[len - 1] == '.')
        out->text[len - 1] = '\0';
    out->is_address =
        inet_pton(AF_INET, out->text, binary) == 1 || inet_pton(AF_INET6, out->text, binary) == 1;
    return true;
}

/* Sets whom the certificate must be for, and whom the hello asks for. */
static bool name_peer(SSL *ssl, const struct bare_host *host)
{
    if (host->is_address)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host->text) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host->text) == 1 && SSL_set_tlsext_host_name(ssl, host->text) == 1;
}

static bool set_carrier(struct tls_link *link)
{
    BIO_METHOD *method = method_of(link->context->tls);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!bio)
        return false;
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    SSL_set_bio(link->ssl, bio, bio);
    return true;
}

enum err_kind tls_link_open(struct tls_link *link, struct tls_context *context,
                            struct tls_carrier *carrier, const char *host, unsigned port,
                            struct err *err)
{
    enum err_kind kind;
    struct bare_host bare;
    *link = (struct tls_link){.context = context, .carrier = carrier};
    carrier->ended = false;
    ERR_clear_error();
    link->ssl = SSL_new(context->ctx);
    if (!link->ssl || !set_carrier(link)) {
        kind = err_set(err, ERR_MEMORY, "no memory for TLS");
        goto fail;
    }
    if (!strip(host, &bare) || !bare.text[0] || !name_peer(link->ssl, &bare)) {
        kind = err_set(err, ERR_TLS, "no certificate can be for the host \"%.100s\"", host);
        if (err)
            err->phase = PHASE_TLS;
        goto fail;
    }
    link->peer = (struct tls_peer){
        .sessions = &context->tls->sessions, .settings = context, .host = host, .port = port};
    tls_sessions_attach(link->ssl, &link->peer);
    SSL_set_connect_state(link->ssl);
    tls_context_keep(context);
    return ERR_NONE;
fail:
    SSL_free(link->ssl);
    link->ssl = NULL;
    ERR_clear_error();
    return kind;
}

/* ---- Speaking. */

static enum tls_result result_of(struct tls_link *link, int rc)
{
    switch (SSL_get_error(link->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    case SSL_ERROR_SYSCALL:
        link->broken = true;
        return link->carrier->ended ? TLS_CUT : TLS_FAILED;
    default:
        break;
    }
    unsigned long code = ERR_peek_error();
    link->broken = true;
    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return TLS_CUT;
    link->error = code ? ERR_reason_error_string(code) : NULL;
    if (!link->error)
        link->error = "the TLS connection is broken";
    return TLS_FAILED;
}

enum tls_result tls_link_handshake(struct tls_link *link)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(link->ssl);
    if (rc != 1) {
        enum tls_result r = result_of(link, rc);
        return r == TLS_END ? TLS_CUT : r;
    }
    char protocol[16];
    link->peer.established = true;
    tls_link_protocol(link, protocol);
    /* RFC 9113, 9.2.1. */
    if (strcmp(protocol, "h2") == 0)
        SSL_set_options(link->ssl, SSL_OP_NO_RENEGOTIATION);
    return TLS_DONE;
}

void tls_link_protocol(const struct tls_link *link, char out[static 16])
{
    const unsigned char *chosen = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(link->ssl, &chosen, &len);
    snprintf(out, 16, "%.*s", (int)len, len ? (const char *)chosen : "");
}

bool tls_link_is_resumed(const struct tls_link *link)
{
    return SSL_session_reused(link->ssl) == 1;
}

static enum tls_result noted(struct tls_link *link, int rc)
{
    enum tls_result r = rc == 1 ? TLS_DONE : result_of(link, rc);
    link->drained = r != TLS_DONE;
    return r;
}

enum tls_result tls_link_read(struct tls_link *link, void *out, size_t size, size_t *len)
{
    *len = 0;
    ERR_clear_error();
    return noted(link, SSL_read_ex(link->ssl, out, size, len));
}

enum tls_result tls_link_peek(struct tls_link *link)
{
    char byte;
    size_t len;
    ERR_clear_error();
    return noted(link, SSL_peek_ex(link->ssl, &byte, 1, &len));
}

enum tls_result tls_link_write(struct tls_link *link, const void *data, size_t size, size_t *sent)
{
    *sent = 0;
    ERR_clear_error();
    int rc = SSL_write_ex(link->ssl, data, size, sent);
    enum tls_result r = rc == 1 ? TLS_DONE : result_of(link, rc);
    link->write_pending = r == TLS_WANT_READ || r == TLS_WANT_WRITE;
    /* The next read reports how the peer has ended. */
    return r == TLS_END || r == TLS_CUT ? TLS_FAILED : r;
}

bool tls_link_has_more(const struct tls_link *link)
{
    return !link->drained && (link->ahead || SSL_has_pending(link->ssl) == 1);
}

void tls_link_close(struct tls_link *link)
{
    if (!link->ssl)
        return;
    ERR_clear_error();
    /* After half a record no alert can be sent: the record will never be whole. */
    if (link->peer.established && !link->broken && !link->write_pending)
        SSL_shutdown(link->ssl);
    SSL_set_app_data(link->ssl, NULL);
    SSL_free(link->ssl);
    link->ssl = NULL;
    if (link->ahead)
        close_ahead(link);
    tls_context_drop(link->context);
    link->context = NULL;
    ERR_clear_error();
}
