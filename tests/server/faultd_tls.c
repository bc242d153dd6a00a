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

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static void identity_free(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
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

/* A fresh key and its certificate, signed by `issuer` (NULL: by itself). A name and a serial of its
 * own for each, or OpenSSL would look up the wrong one among the trusted. */
static struct identity make_identity(const char *cn, long serial, const char *alt_names,
                                     bool expired, const struct identity *issuer)
{
    struct identity id = {EVP_EC_gen("P-256"), X509_new()};
    must(id.key && id.cert, "key generation");
    X509_set_version(id.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial);
    long day = 86400;
    X509_gmtime_adj(X509_getm_notBefore(id.cert), expired ? -30 * day : -day);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), expired ? -day : 30 * day);
    X509_NAME *name = X509_get_subject_name(id.cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(id.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
    X509_set_pubkey(id.cert, id.key);
    add_extension(id.cert, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (alt_names)
        add_extension(id.cert, NID_subject_alt_name, alt_names);
    must(X509_sign(id.cert, issuer ? issuer->key : id.key, EVP_sha256()), "X509_sign");
    return id;
}

SSL_CTX *tls_context(enum cert_kind kind, FILE *ca)
{
    static const char *const names[] = {"leat test", "leat test, expired", "leat test, other host",
                                        "leat test, mutual"};
    const char *alt_names =
        kind == CERT_WRONG_HOST ? "DNS:other.test" : "IP:127.0.0.1,DNS:localhost,DNS:lo.test";
    struct identity id =
        make_identity(names[kind], (long)kind + 1, alt_names, kind == CERT_EXPIRED, NULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    must(ctx && SSL_CTX_use_certificate(ctx, id.cert) == 1 &&
             SSL_CTX_use_PrivateKey(ctx, id.key) == 1,
         "SSL_CTX");
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (ca)
        must(PEM_write_X509(ca, id.cert), "writing the CA file");
    identity_free(&id);
    return ctx;
}

static FILE *open_file(const char *path)
{
    FILE *file = fopen(path, "w");
    must(file, path);
    return file;
}

SSL_CTX *tls_context_mutual(FILE *ca, const char *cert_path, const char *key_path)
{
    struct identity authority = make_identity("leat test, client authority", 10, NULL, false, NULL);
    struct identity client = make_identity("leat test client", 11, NULL, false, &authority);
    if (cert_path) {
        FILE *file = open_file(cert_path);
        must(PEM_write_X509(file, client.cert) && fclose(file) == 0, cert_path);
    }
    if (key_path) {
        FILE *file = open_file(key_path);
        must(PEM_write_PrivateKey(file, client.key, NULL, NULL, 0, NULL, NULL) && fclose(file) == 0,
             key_path);
    }
    SSL_CTX *ctx = tls_context(CERT_MTLS, ca);
    must(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority.cert) == 1 &&
             SSL_CTX_add_client_CA(ctx, authority.cert) == 1 &&
             /* without which a resumed session is refused */
             SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"mtls", 4) == 1,
         "client verification");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    identity_free(&client);
    identity_free(&authority);
    return ctx;
}

const char *tls_peer_name(SSL *ssl, char *out, size_t size)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    if (!cert ||
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, (int)size) < 0)
        return NULL;
    return out;
}
