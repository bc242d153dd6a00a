#include "faultd.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "faultd: %s failed\n", what);
        exit(2);
    }
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    must(ext && X509_add_ext(cert, ext, -1), "X509_add_ext");
    X509_EXTENSION_free(ext);
}

SSL_CTX *tls_context(enum cert_kind kind, FILE *ca)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    must(key && cert, "key generation");
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)kind + 1);
    long day = 86400;
    X509_gmtime_adj(X509_getm_notBefore(cert), kind == CERT_EXPIRED ? -30 * day : -day);
    X509_gmtime_adj(X509_getm_notAfter(cert), kind == CERT_EXPIRED ? -day : 30 * day);
    /* A subject of its own for each, or OpenSSL would look up the wrong one among the trusted. */
    static const char *const names[] = {"leat test", "leat test, expired", "leat test, other host"};
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)names[kind], -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(cert, NID_subject_alt_name,
                  kind == CERT_WRONG_HOST ? "DNS:other.test"
                                          : "IP:127.0.0.1,DNS:localhost,DNS:lo.test");
    must(X509_sign(cert, key, EVP_sha256()), "X509_sign");

    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    must(ctx && SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1,
         "SSL_CTX");
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (ca)
        must(PEM_write_X509(ca, cert), "writing the CA file");
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}
