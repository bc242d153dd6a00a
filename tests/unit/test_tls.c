/* Contexts, kept sessions, and the words of a handshake that fails. */
#include "tls_rig.h"
#include <sys/stat.h>

static enum err_kind take(struct rig *r, const struct tls_settings *settings,
                          struct tls_context **out, struct err *err)
{
    *out = NULL;
    return tls_context_take(&r->tls, settings, out, err);
}

TEST(the_same_settings_share_one_context)
{
    struct rig r;
    struct err err;
    struct tls_context *a, *b, *c;
    char copy[128];
    rig_init(&r);
    snprintf(copy, sizeof copy, "%s", r.ca_file);
    CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = r.ca_file}, &a, &err), ERR_NONE);
    CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = copy}, &b, &err), ERR_NONE);
    CHECK(a == b);
    const struct tls_settings others[] = {{.ca_file = r.ca_file, .alpn = TLS_ALPN_HTTP1},
                                          {.ca_file = r.ca_file, .insecure = true}};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        CHECK_EQ(take(&r, &others[i], &c, &err), ERR_NONE);
        CHECK(c != a);
        /* The certificates are read once. */
        CHECK(others[i].insecure ? c->store == NULL : c->store == a->store);
        tls_context_drop(c);
    }
    tls_context_drop(a);
    tls_context_drop(b);
    rig_fini(&r);
}

TEST(contexts_that_nobody_uses_are_forgotten_beyond_the_limit)
{
    struct rig r;
    struct err err;
    struct tls_context *first, *c;
    char name[32], path[128];
    rig_init(&r);
    CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = r.ca_file}, &first, &err), ERR_NONE);
    for (int i = 0; i < TLS_CONTEXTS_MAX + 10; i++) {
        snprintf(name, sizeof name, "ca-%d.pem", i);
        rig_pem(name, &r.ca, false, false, path);
        CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = path}, &c, &err), ERR_NONE);
        tls_context_drop(c);
    }
    CHECK_EQ(r.tls.count, TLS_CONTEXTS_MAX);
    CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = r.ca_file}, &c, &err), ERR_NONE);
    CHECK(c == first); /* it was in use */
    tls_context_drop(c);
    tls_context_drop(first);
    rig_fini(&r);
}

/* What matters to whoever replaces a file: its size or its time is another. */
static void replace(const char *path, const struct identity *id, bool key)
{
    char other[128];
    rig_pem("new.pem", id, key, false, other);
    CHECK_EQ(rename(other, path), 0);
}

TEST(a_ca_file_that_was_replaced_holds_from_the_next_connection_on)
{
    struct rig r;
    struct end e;
    char path[128];
    rig_init(&r);
    struct identity other = identity_new(&(struct cert_spec){.name = "other ca", .is_ca = true});
    SSL_CTX *server = rig_server(&r.server);
    rig_pem("changing.pem", &r.ca, false, false, path);
    const struct tls_settings settings = {.ca_file = path};
    for (int i = 0; i < 2; i++) {
        size_t n;
        end_secure(&e, &r, &settings, server, "rig.test");
        CHECK_EQ(end_shake(&e), IO_DONE);
        CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &n), IO_WAIT);
        CHECK_EQ(e.c.is_reused_session, i == 1);
        end_close(&e);
    }
    replace(path, &other, false);
    /* No kept session may stand in for the check. */
    end_secure(&e, &r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(&e), IO_FAILED);
    CHECK_STR(e.err.reason, "verify");
    end_close(&e);
    replace(path, &r.ca, false);
    end_secure(&e, &r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(&e), IO_DONE);
    /* A connection that is open goes on with what it began with. */
    replace(path, &other, false);
    struct tls_context *c;
    CHECK_EQ(take(&r, &settings, &c, &e.err), ERR_NONE);
    tls_context_drop(c);
    size_t n;
    CHECK_EQ(end_send(&e, "still", &n), IO_DONE);
    end_close(&e);
    SSL_CTX_free(server);
    identity_free(&other);
    rig_fini(&r);
}

static int any_client(int ok, X509_STORE_CTX *ctx)
{
    UNUSED(ok);
    UNUSED(ctx);
    return 1;
}

static void check_client(struct end *e, struct rig *r, const struct tls_settings *settings,
                         SSL_CTX *server, const struct identity *client)
{
    end_secure(e, r, settings, server, "rig.test");
    CHECK_EQ(end_shake(e), IO_DONE);
    X509 *seen = SSL_get1_peer_certificate(e->server);
    CHECK(client ? seen && X509_cmp(seen, client->cert) == 0 : !seen);
    X509_free(seen);
    end_close(e);
}

TEST(a_client_certificate_is_sent_and_read_again_when_it_was_renewed)
{
    struct rig r;
    struct end e;
    char path[128], cert[128], key[128];
    rig_init(&r);
    struct identity old = identity_new(&(struct cert_spec){.name = "old", .issuer = &r.ca});
    struct identity renewed = identity_new(&(struct cert_spec){.name = "new", .issuer = &r.ca});
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER, any_client);
    rig_pem("client.pem", &old, true, false, path);
    struct tls_settings settings = {.ca_file = r.ca_file, .cert = path, .key = path};
    check_client(&e, &r, &settings, server, &old);
    settings.key = NULL; /* it is in the same file */
    check_client(&e, &r, &settings, server, &old);
    replace(path, &renewed, true);
    check_client(&e, &r, &settings, server, &renewed);
    settings.cert = NULL;
    check_client(&e, &r, &settings, server, NULL);
    /* The certificate of the one and the key of the other. */
    rig_pem("cert.pem", &old, false, false, cert);
    rig_pem("key.pem", &renewed, true, false, key);
    struct tls_context *c;
    settings.cert = cert;
    settings.key = key;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(take(&r, &settings, &c, &e.err), ERR_TLS);
        CHECK_EQ(e.err.phase, PHASE_TLS);
        CHECK_EQ(e.err.code, 58);
        CHECK(strstr(e.err.message, "cert= or key= cannot be used") != NULL);
    }
    CHECK(!e.err.retryable);
    replace(key, &old, true); /* a failure is not remembered */
    CHECK_EQ(take(&r, &settings, &c, &e.err), ERR_NONE);
    tls_context_drop(c);
    SSL_CTX_free(server);
    identity_free(&old);
    identity_free(&renewed);
    rig_fini(&r);
}

TEST(a_key_with_a_password_is_refused_and_nobody_is_asked)
{
    struct rig r;
    struct err err;
    char path[128];
    struct tls_context *c;
    rig_init(&r);
    FILE *file = fopen(rig_path("locked.pem", path), "w");
    CHECK(PEM_write_X509(file, r.server.cert) &&
          PEM_write_PrivateKey(file, r.server.key, EVP_aes_128_cbc(),
                               (const unsigned char *)"secret", 6, NULL, NULL));
    fclose(file);
    CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = r.ca_file, .cert = path}, &c, &err),
             ERR_TLS);
    rig_fini(&r);
}

TEST(a_ca_file_that_cannot_be_used_is_named)
{
    struct rig r;
    struct err err;
    char path[128];
    struct tls_context *c;
    rig_init(&r);
    fclose(fopen(rig_path("empty.pem", path), "w"));
    char broken[128];
    FILE *file = fopen(rig_path("broken.pem", broken), "w");
    fputs("-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    const char *const files[] = {path, broken, "/nowhere/ca.pem", "/etc/hostname", rig_folder};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct tls_settings settings = {.ca_file = files[i]};
        CHECK_EQ(take(&r, &settings, &c, &err), ERR_TLS);
        CHECK_EQ(err.phase, PHASE_TLS);
        CHECK_EQ(err.code, 77);
        CHECK(!err.retryable);
        CHECK(strstr(err.message, files[i]) != NULL);
        settings.insecure = true; /* it is not read then */
        CHECK_EQ(take(&r, &settings, &c, &err), ERR_NONE);
        tls_context_drop(c);
    }
    rig_fini(&r);
}

static void system_is(struct rig *r, const char *file, const char *folder)
{
    struct err err;
    tls_fini(&r->tls);
    file ? setenv("SSL_CERT_FILE", file, 1) : unsetenv("SSL_CERT_FILE");
    folder ? setenv("SSL_CERT_DIR", folder, 1) : unsetenv("SSL_CERT_DIR");
    CHECK_EQ(tls_init(&r->tls, &r->mem, &err), ERR_NONE);
}

static enum io_state shake_with_system(struct rig *r, SSL_CTX *server)
{
    struct end e;
    const struct tls_settings settings = {.alpn = TLS_ALPN_HTTP1};
    end_secure(&e, r, &settings, server, "rig.test");
    enum io_state state = end_shake(&e);
    end_close(&e);
    return state;
}

TEST(the_environment_names_the_certificates_of_the_system)
{
    struct rig r;
    char folder[128], name[32], path[128];
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    system_is(&r, NULL, NULL);
    CHECK_EQ(shake_with_system(&r, server), IO_FAILED);
    system_is(&r, r.ca_file, NULL);
    CHECK_EQ(shake_with_system(&r, server), IO_DONE);
    system_is(&r, "/nowhere/ca.pem", NULL);
    CHECK_EQ(shake_with_system(&r, server), IO_FAILED);
    snprintf(name, sizeof name, "hashed/%08lx.0",
             X509_NAME_hash_ex(X509_get_subject_name(r.ca.cert), NULL, NULL, NULL));
    CHECK_EQ(mkdir(rig_path("hashed", folder), 0700), 0);
    rig_pem(name, &r.ca, false, false, path);
    system_is(&r, NULL, folder);
    CHECK_EQ(shake_with_system(&r, server), IO_DONE);
    system_is(&r, "/nowhere/ca.pem", folder);
    CHECK_EQ(shake_with_system(&r, server), IO_DONE);
    SSL_CTX_free(server);
    rig_fini(&r);
}

static void free_all(STACK_OF(X509) * certs)
{
    sk_X509_pop_free(certs, X509_free);
}

/* Without OpenSSL's own reader of such files, ours must find the same in them. */
TEST(every_certificate_of_the_systems_bundle_is_found)
{
    const char *file = "/etc/ssl/certs/ca-certificates.crt";
    struct rig r;
    int count = 0;
    if (access(file, R_OK) != 0)
        return;
    rig_init(&r);
    system_is(&r, file, NULL);
    struct tls_context *context;
    struct err err;
    CHECK_EQ(take(&r, &(struct tls_settings){.alpn = TLS_ALPN_NONE}, &context, &err), ERR_NONE);
    X509_STORE *ours = SSL_CTX_get_cert_store(context->ctx), *whole = X509_STORE_new();
    CHECK_EQ(X509_STORE_load_file(whole, file), 1);
    STACK_OF(X509) *all = X509_STORE_get1_all_certs(whole);
    for (int i = 0; i < sk_X509_num(all); i++) {
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        CHECK_EQ(X509_STORE_CTX_init(ctx, ours, NULL, NULL), 1);
        STACK_OF(X509) *named =
            X509_STORE_CTX_get1_certs(ctx, X509_get_subject_name(sk_X509_value(all, i)));
        for (int k = 0; named && k < sk_X509_num(named); k++)
            count += X509_cmp(sk_X509_value(named, k), sk_X509_value(all, i)) == 0;
        free_all(named);
        X509_STORE_CTX_free(ctx);
    }
    CHECK(count > 50);
    CHECK_EQ(count, sk_X509_num(all));
    free_all(all);
    X509_STORE_free(whole);
    tls_context_drop(context);
    rig_fini(&r);
}

/* ---- Sessions. */

/* One connection to `host`; its tickets are taken in. */
static bool resumes(struct rig *r, const struct tls_settings *settings, SSL_CTX *server,
                    const char *host, unsigned port)
{
    struct end e;
    size_t n;
    struct tls_context *context;
    end_open(&e, r);
    CHECK_EQ(tls_context_take(&r->tls, settings, &context, &e.err), ERR_NONE);
    CHECK_EQ(connection_secure(&e.c, context, host, port, &e.err), ERR_NONE);
    tls_context_drop(context);
    e.server = SSL_new(server);
    SSL_set_fd(e.server, e.fd);
    SSL_set_accept_state(e.server);
    CHECK_EQ(end_shake(&e), IO_DONE);
    CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &n), IO_WAIT);
    bool reused = e.c.is_reused_session;
    CHECK_EQ(SSL_session_reused(e.server), reused);
    end_close(&e);
    return reused;
}

TEST(a_hundred_connections_need_few_whole_handshakes)
{
    struct rig r;
    rig_init(&r);
    const struct tls_settings settings = {.ca_file = r.ca_file, .alpn = TLS_ALPN_HTTP2};
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        int resumed = 0;
        SSL_CTX *server = rig_server(&r.server);
        SSL_CTX_set_max_proto_version(server, version);
        SSL_CTX_set_min_proto_version(server, version);
        for (int i = 0; i < 100; i++)
            resumed += resumes(&r, &settings, server, "rig.test", 443);
        CHECK(resumed >= 95);
        SSL_CTX_free(server);
    }
    rig_fini(&r);
}

TEST(many_connections_at_once_are_resumed_when_they_come_back)
{
    enum { AT_ONCE = 16 };
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    for (int round = 0; round < 4; round++) {
        struct end e[AT_ONCE];
        int resumed = 0;
        size_t n;
        for (int i = 0; i < AT_ONCE; i++)
            end_connect(&e[i], &r, server);
        for (int i = 0; i < AT_ONCE; i++) {
            CHECK_EQ(connection_read(&e[i].c, (char[8]){0}, 8, &n), IO_WAIT);
            resumed += e[i].c.is_reused_session;
            end_close(&e[i]);
        }
        CHECK(round == 0 ? resumed == 0 : resumed == AT_ONCE);
    }
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(a_session_of_a_connection_that_broke_can_be_resumed)
{
    struct rig r;
    rig_init(&r);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *server = rig_server(&r.server);
        SSL_CTX_set_max_proto_version(server, version);
        for (int i = 0; i < 5; i++) {
            struct end e;
            size_t n;
            end_connect(&e, &r, server);
            CHECK_EQ(e.c.is_reused_session, i > 0);
            CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &n), IO_WAIT);
            end_close_server(&e);
            CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &n), IO_CUT);
            end_close(&e);
        }
        tls_sessions_fini(&r.tls.sessions);
        SSL_CTX_free(server);
    }
    rig_fini(&r);
}

TEST(sessions_are_not_shared_where_trust_differs)
{
    struct rig r;
    char path[128];
    rig_init(&r);
    struct identity client = identity_new(&(struct cert_spec){.name = "me", .issuer = &r.ca});
    rig_pem("me.pem", &client, true, false, path);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *server = rig_server(&r.server);
        SSL_CTX_set_max_proto_version(server, version);
        const struct tls_settings open = {.ca_file = r.ca_file, .insecure = true};
        const struct tls_settings checked = {.ca_file = r.ca_file};
        const struct tls_settings mine = {.ca_file = r.ca_file, .cert = path};
        CHECK(!resumes(&r, &open, server, "rig.test", 443));
        CHECK(resumes(&r, &open, server, "rig.test", 443));
        CHECK(!resumes(&r, &checked, server, "rig.test", 443));
        CHECK(!resumes(&r, &mine, server, "rig.test", 443));
        CHECK(!resumes(&r, &checked, server, "rig.test", 444));
        CHECK(!resumes(&r, &checked, server, "127.0.0.1", 443));
        CHECK(resumes(&r, &checked, server, "rig.test", 443));
        CHECK(resumes(&r, &mine, server, "rig.test", 443));
        tls_sessions_fini(&r.tls.sessions);
        SSL_CTX_free(server);
    }
    identity_free(&client);
    rig_fini(&r);
}

TEST(a_session_is_not_taken_to_a_name_that_its_certificate_is_not_for)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    CHECK(!resumes(&r, &settings, server, "rig.test", 443));
    end_secure(&e, &r, &settings, server, "other.test");
    CHECK_EQ(end_shake(&e), IO_FAILED);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(kept_sessions_are_bounded_and_the_oldest_goes)
{
    struct rig r;
    char host[32];
    rig_init(&r);
    struct identity any = identity_new(
        &(struct cert_spec){.name = "any", .alt_names = "DNS:*.rig.test", .issuer = &r.ca});
    SSL_CTX *server = rig_server(&any);
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    for (int i = 0; i <= TLS_SESSIONS_MAX; i++) {
        snprintf(host, sizeof host, "h%d.rig.test", i);
        CHECK(!resumes(&r, &settings, server, host, 443));
    }
    CHECK_EQ(r.tls.sessions.count, TLS_SESSIONS_MAX);
    CHECK(resumes(&r, &settings, server, "h1.rig.test", 443));
    CHECK(!resumes(&r, &settings, server, "h0.rig.test", 443));
    SSL_CTX_free(server);
    server = rig_server(&any);
    for (int i = 0; i < 2 * TLS_SESSIONS_PER_ORIGIN; i++) { /* two tickets each */
        struct end e;
        end_secure(&e, &r, &settings, server, "many.rig.test");
        CHECK_EQ(end_shake(&e), IO_DONE);
        CHECK_EQ(SSL_new_session_ticket(e.server), 1);
        CHECK_EQ(SSL_do_handshake(e.server), 1);
        CHECK_EQ(connection_probe(&e.c), IO_WAIT);
        end_close(&e);
    }
    unsigned own = 0;
    for (int i = 0; i < 4 * TLS_SESSIONS_PER_ORIGIN; i++) {
        struct end e; /* takes one, and lets none in */
        end_secure(&e, &r, &settings, server, "many.rig.test");
        CHECK_EQ(end_shake(&e), IO_DONE);
        own += e.c.is_reused_session;
        end_close(&e);
    }
    CHECK_EQ(own, TLS_SESSIONS_PER_ORIGIN);
    SSL_CTX_free(server);
    identity_free(&any);
    rig_fini(&r);
}

/* ---- The words of failures. */

/* The peer says `answer` and closes. */
static void fails_with(struct rig *r, const char *answer, bool answered, const char *words,
                       bool retryable)
{
    struct end e;
    struct tls_context *context;
    const struct tls_settings settings = {.ca_file = r->ca_file, .alpn = TLS_ALPN_HTTP2};
    end_open(&e, r);
    CHECK_EQ(take(r, &settings, &context, &e.err), ERR_NONE);
    CHECK_EQ(connection_secure(&e.c, context, "rig.test", 8443, &e.err), ERR_NONE);
    tls_context_drop(context);
    e.c.answered = answered;
    CHECK_EQ(write(e.fd, answer, strlen(answer)), (ssize_t)strlen(answer));
    shutdown(e.fd, SHUT_WR);
    CHECK_EQ(end_shake(&e), IO_FAILED);
    CHECK_EQ(e.err.kind, ERR_TLS);
    CHECK_EQ(e.err.phase, PHASE_TLS);
    CHECK_EQ(e.err.code, 35);
    CHECK_EQ(e.err.retryable, retryable);
    CHECK_STR(e.err.reason, "");
    CHECK_STR(e.err.message, words);
    end_close(&e);
}

TEST(the_error_says_that_a_peer_does_not_speak_tls)
{
    struct rig r;
    rig_init(&r);
    fails_with(&r, "HTTP/1.1 400 Bad Request\r\n\r\n", false,
               "TLS failed with https://rig.test:8443: it does not speak TLS; if it speaks plain "
               "HTTP, write http://",
               false);
    fails_with(&r, "", false,
               "TLS failed with https://rig.test:8443: it broke off the handshake; if it speaks "
               "plain HTTP, write http://",
               true);
    fails_with(&r, "\x16\x03\x03\x01", false,
               "TLS failed with https://rig.test:8443: it broke off the handshake; if it speaks "
               "plain HTTP, write http://",
               true);
    fails_with(&r, "\x16\x03", true,
               "TLS failed with https://rig.test:8443: it broke off the handshake", true);
    rig_fini(&r);
}

TEST(the_error_shows_the_alert_of_a_peer)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    const struct tls_settings settings = {.ca_file = r.ca_file, .alpn = TLS_ALPN_HTTP1};
    end_secure(&e, &r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(&e), IO_FAILED);
    CHECK(!e.err.retryable);
    /* OpenSSL 3.0 calls it an alert of sslv3, OpenSSL 3.5 one of ssl/tls. */
    CHECK(strncmp(e.err.message, "TLS failed with https://rig.test:443: ssl", 41) == 0);
    const char *alert = strstr(e.err.message, " alert ");
    CHECK_STR(alert ? alert : e.err.message, " alert handshake failure: it may want a client "
                                             "certificate (cert= and key=)");
    end_close(&e);
    /* With TLS 1.3 it comes after the handshake. */
    SSL_CTX_set_max_proto_version(server, 0);
    size_t n;
    end_secure(&e, &r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(&e), IO_DONE);
    CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &n), IO_FAILED);
    CHECK_STR(e.c.tls_error, "tlsv13 alert certificate required");
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

static void refuses(struct rig *r, const struct cert_spec *spec, const char *ca_file,
                    const char *host, const char *words)
{
    struct end e;
    struct identity id = identity_new(spec);
    SSL_CTX *server = rig_server(&id);
    const struct tls_settings settings = {.ca_file = ca_file, .alpn = TLS_ALPN_HTTP1};
    end_secure(&e, r, &settings, server, host);
    CHECK_EQ(end_shake(&e), IO_FAILED);
    CHECK_EQ(e.err.kind, ERR_TLS);
    CHECK_EQ(e.err.phase, PHASE_TLS);
    CHECK_EQ(e.err.code, 60);
    CHECK_STR(e.err.reason, "verify");
    CHECK(!e.err.retryable);
    CHECK_STR(e.err.message, words);
    end_close(&e);
    SSL_CTX_free(server);
    identity_free(&id);
}

TEST(the_error_says_what_is_wrong_with_a_certificate)
{
    struct rig r;
    rig_init(&r);
    refuses(&r, &(struct cert_spec){.name = "a", .alt_names = "DNS:rig.test", .issuer = &r.ca},
            r.ca_file, "127.0.0.1",
            "the certificate of https://127.0.0.1:443: it is for other names than 127.0.0.1");
    refuses(&r, &(struct cert_spec){.name = "a", .alt_names = "DNS:rig.test", .issuer = &r.ca},
            r.ca_file, "[::1]",
            "the certificate of https://[::1]:443: it is for other names than [::1]");
    refuses(&r,
            &(struct cert_spec){.name = "a",
                                .alt_names = "DNS:rig.test",
                                .issuer = &r.ca,
                                .from_days = -9,
                                .to_days = -1},
            r.ca_file, "rig.test",
            "the certificate is not valid for https://rig.test:443: certificate has expired");
    refuses(&r, &(struct cert_spec){.name = "a", .alt_names = "DNS:rig.test"}, r.ca_file,
            "rig.test",
            "the certificate of https://rig.test:443: it is self-signed and not trusted: its CA is "
            "not in the file that ca_file= names");
    refuses(&r, &(struct cert_spec){.name = "a", .alt_names = "DNS:rig.test", .issuer = &r.ca},
            NULL, "rig.test",
            "the certificate of https://rig.test:443: its CA is not trusted: name its CA with "
            "ca_file=");
    rig_fini(&r);
}

TEST(a_host_that_no_certificate_can_be_for_is_refused)
{
    struct rig r;
    struct end e;
    struct tls_context *context;
    char longest[300];
    rig_init(&r);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *const hosts[] = {"", ".", ".rig.test", "[]", "[%1:]", longest};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        end_open(&e, &r);
        CHECK_EQ(take(&r, &(struct tls_settings){.ca_file = r.ca_file}, &context, &e.err),
                 ERR_NONE);
        CHECK_EQ(connection_secure(&e.c, context, hosts[i], 443, &e.err), ERR_TLS);
        tls_context_drop(context);
        end_close(&e);
    }
    rig_fini(&r);
}

TEST(missing_memory_is_an_error_and_leaves_nothing)
{
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    bool ended = false;
    for (int n = 0; n < 20 && !ended; n++) {
        struct end e;
        struct tls_context *context = NULL;
        size_t len;
        char path[128];
        rig_pem("ca.pem", &r.ca, false, false, path); /* another file each time: read again */
        end_open(&e, &r);
        r.mem.fail_in = n;
        enum err_kind kind = take(&r, &settings, &context, &e.err);
        if (kind == ERR_NONE)
            kind = connection_secure(&e.c, context, "rig.test", 443, &e.err);
        if (kind == ERR_NONE) {
            e.server = SSL_new(server);
            SSL_set_fd(e.server, e.fd);
            SSL_set_accept_state(e.server);
            CHECK_EQ(end_shake(&e), IO_DONE); /* a session that cannot be kept is no failure */
            CHECK_EQ(connection_read(&e.c, (char[8]){0}, 8, &len), IO_WAIT);
        } else {
            CHECK_EQ(kind, ERR_MEMORY);
        }
        ended = r.mem.fail_in >= 0;
        r.mem.fail_in = -1;
        tls_context_drop(context);
        end_close(&e);
    }
    CHECK(ended);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST_MAIN
