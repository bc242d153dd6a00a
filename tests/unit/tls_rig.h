/* For tests of connections: certificates that are made on the spot, a TLS server on the other end
 * of a socket pair, and a loop that both share. Nothing here waits: each side is moved in turn. */
#pragma once

#include "test.h"

#include "engine/connection.h"
#include "loop/loop.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Certificates. */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

struct cert_spec {
    const char *name;              /* CN */
    const char *alt_names;         /* "DNS:a,IP:127.0.0.1"; NULL: none */
    const struct identity *issuer; /* NULL: itself */
    bool is_ca;
    long from_days, to_days; /* from now; both 0: yesterday to next month */
    int rsa_bits;            /* 0: P-256 */
    const char *digest;      /* NULL: SHA256 */
    const char *rules; /* "EKU:serverAuth", "NC:permitted;DNS:a", "UNKNOWN:": a critical one */
};

static void rig_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(ext && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
}

__attribute__((unused)) static struct identity identity_new(const struct cert_spec *spec)
{
    static long serial;
    const long day = 86400;
    struct identity id = {
        spec->rsa_bits ? EVP_RSA_gen((unsigned)spec->rsa_bits) : EVP_EC_gen("P-256"), X509_new()};
    bool usual = spec->from_days == 0 && spec->to_days == 0;
    X509_set_version(id.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), (usual ? -1 : spec->from_days) * day);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), (usual ? 30 : spec->to_days) * day);
    X509_NAME *name = X509_get_subject_name(id.cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)spec->name, -1, -1,
                               0);
    X509_set_issuer_name(id.cert, spec->issuer ? X509_get_subject_name(spec->issuer->cert) : name);
    X509_set_pubkey(id.cert, id.key);
    X509 *issuer = spec->issuer ? spec->issuer->cert : id.cert;
    rig_extend(id.cert, issuer, NID_subject_key_identifier, "hash");
    rig_extend(id.cert, issuer, NID_authority_key_identifier, "keyid");
    rig_extend(id.cert, issuer, NID_basic_constraints,
               spec->is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (spec->alt_names)
        rig_extend(id.cert, issuer, NID_subject_alt_name, spec->alt_names);
    if (spec->rules && strncmp(spec->rules, "EKU:", 4) == 0)
        rig_extend(id.cert, issuer, NID_ext_key_usage, spec->rules + 4);
    else if (spec->rules && strncmp(spec->rules, "NC:", 3) == 0)
        rig_extend(id.cert, issuer, NID_name_constraints, spec->rules + 3);
    else if (spec->rules)
        rig_extend(id.cert, issuer, OBJ_create("1.2.3.4.5.6", "rigOnly", "known to nobody"),
                   "critical,DER:05:00");
    const EVP_MD *digest = spec->digest ? EVP_get_digestbyname(spec->digest) : EVP_sha256();
    CHECK(X509_sign(id.cert, spec->issuer ? spec->issuer->key : id.key, digest) > 0);
    return id;
}

__attribute__((unused)) static void identity_free(struct identity *id)
{
    X509_free(id->cert);
    EVP_PKEY_free(id->key);
}

/* ---- Files in a folder of the test's own. */

static char rig_folder[64];

__attribute__((unused)) static void rig_remove_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", rig_folder);
    CHECK_EQ(system(command), 0);
}

__attribute__((unused)) static const char *rig_path(const char *name, char out[static 128])
{
    if (!rig_folder[0]) {
        snprintf(rig_folder, sizeof rig_folder, "/tmp/leat-tls-XXXXXX");
        CHECK(mkdtemp(rig_folder) != NULL);
        atexit(rig_remove_folder);
    }
    snprintf(out, 128, "%s/%s", rig_folder, name);
    return out;
}

/* The certificate of `id`, with its key if `key`; appended to the file if `more`. */
__attribute__((unused)) static const char *rig_pem(const char *name, const struct identity *id,
                                                   bool key, bool more, char path[static 128])
{
    FILE *file = fopen(rig_path(name, path), more ? "a" : "w");
    CHECK(file && PEM_write_X509(file, id->cert));
    if (key)
        CHECK(PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL));
    if (file)
        fclose(file);
    return path;
}

/* ---- A client's connection and its peer. */

struct rig;

struct end {
    struct connection c;
    struct rig *rig;
    SSL *server; /* NULL: plain */
    int fd;      /* the server's */
    int calls;
    bool can_read, can_write; /* of the last call */
    enum io_state shaken;     /* of the last handshake call */
    bool is_shaking;
    bool closes_in_call;
    struct err err;
};

struct rig {
    struct mem mem;
    struct loop loop;
    struct poller *poller;
    struct tls tls;
    struct identity ca, server;
    char ca_file[128];
};

__attribute__((unused)) static SSL_CTX *rig_server(const struct identity *id)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(SSL_CTX_use_certificate(ctx, id->cert) == 1);
    CHECK(SSL_CTX_use_PrivateKey(ctx, id->key) == 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"rig", 3);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return ctx;
}

/* What a server chooses from by ALPN. */
__attribute__((unused)) static const unsigned char *rig_knows[1];
__attribute__((unused)) static unsigned rig_knows_len;

__attribute__((unused)) static int rig_select(SSL *ssl, const unsigned char **out,
                                              unsigned char *len, const unsigned char *in,
                                              unsigned in_len, void *arg)
{
    UNUSED(ssl);
    UNUSED(arg);
    unsigned char *chosen;
    int rc = SSL_select_next_proto(&chosen, len, rig_knows[0], rig_knows_len, in, in_len);
    *out = chosen;
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

__attribute__((unused)) static void rig_init(struct rig *r)
{
    struct err err;
    memset(r, 0, sizeof *r);
    mem_init(&r->mem, 0);
    CHECK_EQ(loop_init(&r->loop, &r->mem, NULL, false, &err), ERR_NONE);
    CHECK_EQ(poller_new(&r->poller, &r->loop, &r->mem, &err), ERR_NONE);
    CHECK_EQ(tls_init(&r->tls, &r->mem, &err), ERR_NONE);
    r->ca = identity_new(&(struct cert_spec){.name = "rig ca", .is_ca = true});
    r->server = identity_new(&(struct cert_spec){
        .name = "rig", .alt_names = "DNS:rig.test,IP:127.0.0.1", .issuer = &r->ca});
    rig_pem("ca.pem", &r->ca, false, false, r->ca_file);
}

__attribute__((unused)) static void rig_fini(struct rig *r)
{
    tls_fini(&r->tls);
    poller_free(r->poller);
    loop_fini(&r->loop);
    identity_free(&r->ca);
    identity_free(&r->server);
    CHECK_EQ(r->mem.blocks, 0);
    CHECK_EQ(r->mem.used_bytes, 0);
    mem_fini(&r->mem);
}

static void rig_on_event(struct connection *c, bool can_read, bool can_write)
{
    struct end *e = CONTAINER_OF(c, struct end, c);
    e->calls++;
    e->can_read = can_read;
    e->can_write = can_write;
    if (e->is_shaking) {
        e->shaken = connection_handshake(c, &e->err);
        e->is_shaking = e->shaken == IO_WAIT;
    }
    if (e->closes_in_call)
        connection_close(c);
}

__attribute__((unused)) static void end_open(struct end *e, struct rig *r)
{
    int fds[2];
    memset(e, 0, sizeof *e);
    e->rig = r;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    e->fd = fds[1];
    CHECK_EQ(connection_open(&e->c, r->poller, &r->mem, fds[0], rig_on_event, &e->err), ERR_NONE);
}

__attribute__((unused)) static void end_close_server(struct end *e)
{
    SSL_free(e->server);
    e->server = NULL;
    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
}

__attribute__((unused)) static void end_close(struct end *e)
{
    connection_close(&e->c);
    end_close_server(e);
}

/* Opens both ends of TLS; nothing is sent yet. */
__attribute__((unused)) static void end_secure(struct end *e, struct rig *r,
                                               const struct tls_settings *settings, SSL_CTX *server,
                                               const char *host)
{
    struct tls_context *context;
    end_open(e, r);
    CHECK_EQ(tls_context_take(&r->tls, settings, &context, &e->err), ERR_NONE);
    CHECK_EQ(connection_secure(&e->c, context, host, 443, &e->err), ERR_NONE);
    tls_context_drop(context);
    e->is_shaking = true;
    e->server = SSL_new(server);
    SSL_set_fd(e->server, e->fd);
    SSL_set_accept_state(e->server);
}

/* Moves both sides until the client's handshake has ended. */
__attribute__((unused)) static enum io_state end_shake(struct end *e)
{
    e->shaken = connection_handshake(&e->c, &e->err);
    e->is_shaking = e->shaken == IO_WAIT;
    for (int i = 0; i < 100 && e->is_shaking; i++) {
        ERR_clear_error();
        if (e->server)
            SSL_do_handshake(e->server);
        loop_turn(&e->rig->loop, false);
    }
    ERR_clear_error();
    if (e->server && e->shaken == IO_DONE)
        SSL_do_handshake(e->server);
    return e->shaken;
}

/* Both in one; the settings trust the rig's CA. */
__attribute__((unused)) static void end_connect(struct end *e, struct rig *r, SSL_CTX *server)
{
    const struct tls_settings settings = {.ca_file = r->ca_file, .alpn = TLS_ALPN_HTTP2};
    end_secure(e, r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(e), IO_DONE);
}

__attribute__((unused)) static enum io_state end_send(struct end *e, const char *text, size_t *sent)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    return connection_write(&e->c, &part, 1, sent);
}

__attribute__((unused)) static char rig_byte_at(size_t i)
{
    return (char)(i * 7 + i / 251);
}

/* Sends `total` bytes as parts of several sizes, and reads them at the other end as they come. */
__attribute__((unused)) static void end_pour(struct end *e, size_t total)
{
    enum { CHUNK = 100 * 1000 };
    static char out[CHUNK], in[CHUNK];
    size_t sent = 0, got = 0;
    bool wrong = false;
    for (int i = 0; i < 10000 && got < total; i++) {
        size_t len = MIN(total - sent, (size_t)CHUNK), n = 0;
        for (size_t k = 0; k < len; k++)
            out[k] = rig_byte_at(sent + k);
        size_t a = MIN(len, (size_t)90), b = MIN(len - a, (size_t)20000), c = len - a - b;
        struct iovec parts[] = {{.iov_base = out, .iov_len = a},
                                {.iov_base = out + a, .iov_len = 0},
                                {.iov_base = out + a, .iov_len = b},
                                {.iov_base = out + a + b, .iov_len = c}};
        enum io_state state = connection_write(&e->c, parts, 4, &n);
        CHECK(state == IO_DONE || state == IO_WAIT);
        CHECK(n <= len);
        sent += n;
        ssize_t r = e->server ? SSL_read(e->server, in, sizeof in) : read(e->fd, in, sizeof in);
        for (ssize_t k = 0; k < r; k++)
            wrong = wrong || in[k] != rig_byte_at(got + (size_t)k);
        got += r > 0 ? (size_t)r : 0;
        ERR_clear_error();
    }
    CHECK_EQ(got, total);
    CHECK(!wrong);
}

/* Writes until it fails. */
__attribute__((unused)) static enum io_state end_fill(struct end *e)
{
    static const char lump[100000];
    struct iovec part = {.iov_base = (void *)(uintptr_t)lump, .iov_len = sizeof lump};
    enum io_state state = IO_DONE;
    size_t n;
    for (int i = 0; i < 100 && state == IO_DONE; i++)
        state = connection_write(&e->c, &part, 1, &n);
    return state;
}
