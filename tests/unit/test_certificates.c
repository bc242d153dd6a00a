/* Which servers are trusted. Each case is tried with a connection of ours and with the `curl`
 * program, on the same server: the two must agree, or the test says why not. */
#include "tls_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/wait.h>

/* ---- A server on a thread of its own: one request for each connection, one after the other. */

struct server {
    SSL_CTX *ctx;
    int listener;
    unsigned port;
    pthread_t thread;
    void (*before_answer)(SSL *ssl); /* NULL: nothing */
    pthread_mutex_t lock;
    char asked_for[300]; /* by SNI, the last one; "": nobody; under the lock */
};

static void note_asked(struct server *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->asked_for, sizeof s->asked_for, "%s", name ? name : "");
    pthread_mutex_unlock(&s->lock);
}

static void check_asked(struct server *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    CHECK_STR(s->asked_for, name);
    pthread_mutex_unlock(&s->lock);
}

static void serve_one(struct server *s, int fd)
{
    char request[4096];
    int len = 0, n;
    const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    SSL *ssl = SSL_new(s->ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        note_asked(s, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
        while (!memmem(request, (size_t)len, "\r\n\r\n", 4) &&
               (n = SSL_read(ssl, request + len, (int)sizeof request - len)) > 0)
            len += n;
        if (memmem(request, (size_t)len, "\r\n\r\n", 4)) {
            if (s->before_answer)
                s->before_answer(ssl);
            SSL_write(ssl, answer, sizeof answer - 1);
            SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
    close(fd);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    for (int fd; (fd = accept(s->listener, NULL, NULL)) >= 0;)
        serve_one(s, fd);
    return NULL;
}

static void server_start(struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    pthread_mutex_init(&s->lock, NULL);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(s->listener, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_EQ(listen(s->listener, 16), 0);
    CHECK_EQ(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    CHECK_EQ(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    shutdown(s->listener, SHUT_RDWR); /* ends its accept */
    pthread_join(s->thread, NULL);
    close(s->listener);
    pthread_mutex_destroy(&s->lock);
    SSL_CTX_free(s->ctx);
}

/* ---- The two clients. True: a whole answer of a server that was found good. */

static bool curl_accepts(const struct server *s, const char *host,
                         const struct tls_settings *settings)
{
    char command[1024];
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(command, sizeof command,
             "env -u SSL_CERT_FILE -u SSL_CERT_DIR LC_ALL=C.UTF-8 curl -q -s -o /dev/null -m 20 "
             "--noproxy '*' --connect-to '::127.0.0.1:%u' --http1.1 --cacert '%s' %s %s %s "
             "'https://%s%s%s:%u/'",
             s->port, settings->ca_file, settings->insecure ? "-k" : "",
             settings->cert ? "--cert" : "", settings->cert ? settings->cert : "",
             is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", s->port);
    int status = system(command);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 127);
    return status == 0;
}

struct asker {
    struct end e;
    bool over, accepted;
};

static void on_answer(struct connection *c, bool can_read, bool can_write)
{
    struct asker *a = CONTAINER_OF(CONTAINER_OF(c, struct end, c), struct asker, e);
    char got[256];
    size_t n;
    UNUSED(can_write);
    if (a->e.is_shaking) {
        a->e.shaken = connection_handshake(c, &a->e.err);
        a->e.is_shaking = a->e.shaken == IO_WAIT;
        a->over = a->e.shaken == IO_FAILED;
        if (a->e.shaken == IO_DONE) {
            a->over = end_send(&a->e, "GET / HTTP/1.1\r\nHost: rig\r\n\r\n", &n) != IO_DONE;
            connection_want(c, true, false);
        }
        return;
    }
    if (!can_read)
        return;
    enum io_state state = IO_DONE;
    while (state == IO_DONE) {
        state = connection_read(c, got, sizeof got, &n);
        if (state == IO_DONE && n > 2 && memcmp(got + n - 2, "ok", 2) == 0)
            a->accepted = true;
    }
    a->over = state != IO_WAIT;
}

static bool leat_accepts(struct rig *r, const struct server *s, const char *host,
                         const struct tls_settings *settings, struct err *err)
{
    struct asker a = {.e = {.rig = r}};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)s->port)};
    struct tls_context *context;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(connection_open(&a.e.c, r->poller, &r->mem, fd, on_answer, err), ERR_NONE);
    CHECK_EQ(tls_context_take(&r->tls, settings, &context, err), ERR_NONE);
    CHECK_EQ(connection_secure(&a.e.c, context, host, s->port, err), ERR_NONE);
    tls_context_drop(context);
    a.e.is_shaking = true;
    on_answer(&a.e.c, true, true);
    while (!a.over)
        loop_turn(&r->loop, true);
    *err = a.e.err;
    connection_close(&a.e.c);
    return a.accepted;
}

/* ---- The cases. */

struct world {
    struct rig r;
    struct server s;
    struct tls_settings settings; /* the rig's CA is trusted */
};

static void world_use(struct world *w, const struct identity *id)
{
    CHECK_EQ(SSL_CTX_use_certificate(w->s.ctx, id->cert), 1);
    CHECK_EQ(SSL_CTX_use_PrivateKey(w->s.ctx, id->key), 1);
}

/* `id`: the server's; NULL: world_use will say. */
static void world_open(struct world *w, const struct identity *id)
{
    memset(w, 0, sizeof *w);
    rig_init(&w->r);
    w->settings.ca_file = w->r.ca_file;
    w->settings.alpn = TLS_ALPN_HTTP1;
    w->s.ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_security_level(w->s.ctx, 0); /* whatever is weak is for the client to refuse */
    SSL_CTX_set_min_proto_version(w->s.ctx, 0);
    SSL_CTX_set_session_id_context(w->s.ctx, (const unsigned char *)"w", 1);
    if (id)
        world_use(w, id);
}

/* With the rig's own certificate, which is good. */
static void world_open_good(struct world *w)
{
    world_open(w, NULL);
    world_use(w, &w->r.server);
}

static void world_close(struct world *w)
{
    server_stop(&w->s);
    rig_fini(&w->r);
}

static void expect(struct world *w, const char *host, bool ours, bool curls)
{
    struct err err;
    CHECK_EQ(leat_accepts(&w->r, &w->s, host, &w->settings, &err), ours);
    CHECK_EQ(curl_accepts(&w->s, host, &w->settings), curls);
}

/* A server whose certificate is `spec`, signed by the rig's CA unless it says otherwise. Both
 * clients give the same verdict. */
static void check_spec(struct cert_spec spec, const char *host, bool ours, bool curls)
{
    struct world w;
    world_open(&w, NULL);
    if (!spec.issuer)
        spec.issuer = &w.r.ca;
    struct identity id = identity_new(&spec);
    world_use(&w, &id);
    server_start(&w.s);
    expect(&w, host, ours, curls);
    world_close(&w);
    identity_free(&id);
}

enum { REFUSED, ACCEPTED };

#define ALIKE(verdict) verdict, verdict

TEST(a_good_certificate_is_accepted)
{
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test"}, "rig.test",
               ALIKE(ACCEPTED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test"}, "RIG.Test",
               ALIKE(ACCEPTED));
}

TEST(a_certificate_out_of_its_time_is_refused)
{
    struct cert_spec spec = {.name = "rig", .alt_names = "DNS:rig.test"};
    spec.from_days = -20;
    spec.to_days = -10;
    check_spec(spec, "rig.test", ALIKE(REFUSED));
    spec.from_days = 10;
    spec.to_days = 20;
    check_spec(spec, "rig.test", ALIKE(REFUSED));
}

TEST(a_self_signed_certificate_is_accepted_only_if_it_is_named)
{
    struct world w;
    char path[128];
    struct identity id =
        identity_new(&(struct cert_spec){.name = "self", .alt_names = "DNS:rig.test"});
    world_open(&w, &id);
    server_start(&w.s);
    expect(&w, "rig.test", ALIKE(REFUSED));
    w.settings.ca_file = rig_pem("self.pem", &id, false, false, path);
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    expect(&w, "other.test", ALIKE(REFUSED));
    world_close(&w);
    identity_free(&id);
}

TEST(an_unknown_ca_is_refused_even_with_the_name_of_a_known_one)
{
    struct identity unknown = identity_new(&(struct cert_spec){.name = "rig ca", .is_ca = true});
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .issuer = &unknown},
               "rig.test", ALIKE(REFUSED));
    identity_free(&unknown);
}

TEST(a_certificate_that_is_named_itself_is_accepted_without_its_ca)
{
    struct world w;
    char path[128];
    world_open_good(&w);
    server_start(&w.s);
    w.settings.ca_file = rig_pem("leaf.pem", &w.r.server, false, false, path);
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    expect(&w, "other.test", ALIKE(REFUSED));
    world_close(&w);
}

/* A CA that got a new key, or a new certificate for the old one, has several under one name. */
TEST(among_cas_of_one_name_the_right_one_is_found)
{
    struct identity twin = identity_new(&(struct cert_spec){.name = "rig ca", .is_ca = true});
    struct identity old = identity_new(
        &(struct cert_spec){.name = "rig ca", .is_ca = true, .from_days = -9, .to_days = -1});
    for (int place = 0; place < 3; place++) {
        struct world w;
        char path[128];
        world_open_good(&w);
        const struct identity *order[3] = {&twin, &old, &old};
        order[place] = &w.r.ca;
        for (int i = 0; i < 3; i++)
            w.settings.ca_file = rig_pem("cas.pem", order[i], false, i > 0, path);
        server_start(&w.s);
        expect(&w, "rig.test", ALIKE(ACCEPTED));
        world_close(&w);
    }
    identity_free(&twin);
    identity_free(&old);
}

/* `middle` is completed with the rig's CA as its issuer. */
static void check_middle(struct cert_spec middle, bool sends, bool trusts, bool ours, bool curls)
{
    struct world w;
    char path[128];
    world_open(&w, NULL);
    middle.name = "middle";
    middle.issuer = &w.r.ca;
    struct identity between = identity_new(&middle);
    struct identity id = identity_new(
        &(struct cert_spec){.name = "leaf", .alt_names = "DNS:rig.test", .issuer = &between});
    world_use(&w, &id);
    if (sends)
        CHECK_EQ(SSL_CTX_add1_chain_cert(w.s.ctx, between.cert), 1);
    if (trusts)
        w.settings.ca_file = rig_pem("middle.pem", &between, false, false, path);
    server_start(&w.s);
    expect(&w, "rig.test", ours, curls);
    world_close(&w);
    identity_free(&between);
    identity_free(&id);
}

TEST(an_intermediate_certificate_must_be_sent_or_trusted)
{
    check_middle((struct cert_spec){.is_ca = true}, false, false, ALIKE(REFUSED));
    check_middle((struct cert_spec){.is_ca = true}, true, false, ALIKE(ACCEPTED));
    check_middle((struct cert_spec){.is_ca = true}, false, true, ALIKE(ACCEPTED));
}

TEST(an_intermediate_certificate_must_be_valid_and_a_ca)
{
    check_middle((struct cert_spec){.is_ca = false}, true, false, ALIKE(REFUSED));
    check_middle((struct cert_spec){.is_ca = true, .from_days = -20, .to_days = -10}, true, false,
                 ALIKE(REFUSED));
    check_middle((struct cert_spec){.is_ca = true, .rules = "NC:permitted;DNS:other.test"}, true,
                 false, ALIKE(REFUSED));
    check_middle((struct cert_spec){.is_ca = true, .rules = "NC:permitted;DNS:rig.test"}, true,
                 false, ALIKE(ACCEPTED));
}

TEST(a_certificate_for_another_host_is_refused)
{
    const struct cert_spec spec = {.name = "rig.test", .alt_names = "DNS:other.test"};
    check_spec(spec, "rig.test", ALIKE(REFUSED)); /* the list of names counts, not the CN */
    check_spec(spec, "xother.test", ALIKE(REFUSED));
    check_spec(spec, "other.test.", ALIKE(ACCEPTED)); /* the dot is the root's */
}

TEST(a_common_name_counts_where_there_is_no_list_of_names)
{
    check_spec((struct cert_spec){.name = "rig.test"}, "rig.test", ALIKE(ACCEPTED));
    check_spec((struct cert_spec){.name = "rig.test"}, "other.test", ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "*.rig.test"}, "a.rig.test", ALIKE(ACCEPTED));
    /* OpenSSL looks at the CN if no DNS name is in the list, libcurl if the list is empty. */
    check_spec((struct cert_spec){.name = "rig.test", .alt_names = "IP:127.0.0.1"}, "rig.test",
               ACCEPTED, REFUSED);
}

TEST(a_wildcard_stands_for_one_whole_label)
{
    const struct cert_spec spec = {.name = "rig", .alt_names = "DNS:*.rig.test"};
    check_spec(spec, "a.rig.test", ALIKE(ACCEPTED));
    check_spec(spec, "rig.test", ALIKE(REFUSED));
    check_spec(spec, "a.b.rig.test", ALIKE(REFUSED));
    check_spec(spec, "arig.test", ALIKE(REFUSED));
    const char *const partial[] = {"DNS:w*.rig.test",
                                   "DNS:*w.rig.test",
                                   "DNS:w*w.rig.test",
                                   "DNS:www.*.test",
                                   "DNS:*.*.test",
                                   "DNS:*.test",
                                   "DNS:*"};
    for (size_t i = 0; i < ARRAY_LEN(partial); i++)
        check_spec((struct cert_spec){.name = "rig", .alt_names = partial[i]},
                   i < 5 ? "www.rig.test" : "rig.test", ALIKE(REFUSED));
}

TEST(an_address_must_be_in_the_list_as_an_address)
{
    check_spec((struct cert_spec){.name = "rig", .alt_names = "IP:127.0.0.1"}, "127.0.0.1",
               ALIKE(ACCEPTED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "IP:127.0.0.2"}, "127.0.0.1",
               ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "IP:::1"}, "::1", ALIKE(ACCEPTED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "IP:::2"}, "::1", ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:127.0.0.1"}, "127.0.0.1",
               ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:*.0.0.1"}, "127.0.0.1",
               ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "127.0.0.1", .alt_names = "DNS:rig.test"}, "127.0.0.1",
               ALIKE(REFUSED));
    /* libcurl takes an address from the CN; RFC 6125 and browsers do not. */
    check_spec((struct cert_spec){.name = "127.0.0.1"}, "127.0.0.1", REFUSED, ACCEPTED);
}

TEST(an_international_name_is_compared_as_ascii)
{
    const struct cert_spec spec = {.name = "rig", .alt_names = "DNS:xn--bcher-kva.test"};
    check_spec(spec, "xn--bcher-kva.test", ALIKE(ACCEPTED));
    check_spec(spec, "xn--bcher-kva2.test", ALIKE(REFUSED));
    const struct cert_spec any = {.name = "rig", .alt_names = "DNS:*.xn--bcher-kva.test"};
    check_spec(any, "www.xn--bcher-kva.test", ALIKE(ACCEPTED));
    const struct cert_spec partial = {.name = "rig", .alt_names = "DNS:xn--b*.test"};
    check_spec(partial, "xn--bcher-kva.test", ALIKE(REFUSED));
    /* The `curl` program turns the name into ASCII; a connection gets it so. */
    check_spec(spec,
               "b\xc3\xbc"
               "cher.test",
               REFUSED, ACCEPTED);
}

TEST(a_certificate_for_other_purposes_is_refused)
{
    check_spec(
        (struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .rules = "EKU:clientAuth"},
        "rig.test", ALIKE(REFUSED));
    check_spec(
        (struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .rules = "EKU:serverAuth"},
        "rig.test", ALIKE(ACCEPTED));
    /* An extension that says it must be understood, and is not. */
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .rules = "UNKNOWN:"},
               "rig.test", ALIKE(REFUSED));
}

/* Leat has no option for revocation lists. One in the file of ca_file= is read, and not obeyed, as
 * OpenSSL and the `curl` program have it without --crlfile. */
TEST(a_revoked_certificate_is_accepted_because_no_list_is_asked)
{
    struct world w;
    world_open_good(&w);
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *later = X509_gmtime_adj(NULL, 86400);
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(w.r.ca.cert));
    X509_CRL_set1_lastUpdate(crl, now);
    X509_CRL_set1_nextUpdate(crl, later);
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(w.r.server.cert));
    X509_REVOKED_set_revocationDate(entry, now);
    X509_CRL_add0_revoked(crl, entry);
    CHECK(X509_CRL_sign(crl, w.r.ca.key, EVP_sha256()) > 0);
    FILE *file = fopen(w.r.ca_file, "a");
    CHECK(PEM_write_X509_CRL(file, crl));
    fclose(file);
    server_start(&w.s);
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    world_close(&w);
    X509_CRL_free(crl);
    ASN1_TIME_free(now);
    ASN1_TIME_free(later);
}

TEST(weak_keys_and_signatures_are_refused)
{
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .rsa_bits = 1024},
               "rig.test", ALIKE(REFUSED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .rsa_bits = 2048},
               "rig.test", ALIKE(ACCEPTED));
    check_spec((struct cert_spec){.name = "rig", .alt_names = "DNS:rig.test", .digest = "SHA1"},
               "rig.test", ALIKE(REFUSED));
    struct world w; /* only RSA can sign a digest of MD5 */
    char path[128];
    struct identity ca =
        identity_new(&(struct cert_spec){.name = "rsa ca", .is_ca = true, .rsa_bits = 2048});
    for (int weak = 0; weak < 2; weak++) {
        struct identity id = identity_new(&(struct cert_spec){.name = "rig",
                                                              .alt_names = "DNS:rig.test",
                                                              .issuer = &ca,
                                                              .digest = weak ? "MD5" : NULL});
        world_open(&w, &id);
        w.settings.ca_file = rig_pem("rsa-ca.pem", &ca, false, false, path);
        server_start(&w.s);
        expect(&w, "rig.test", !weak, !weak);
        world_close(&w);
        identity_free(&id);
    }
    identity_free(&ca);
}

TEST(what_is_older_than_tls_1_2_is_refused)
{
    const int versions[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct world w;
        world_open_good(&w);
        CHECK_EQ(SSL_CTX_set_cipher_list(w.s.ctx, "ALL:@SECLEVEL=0"), 1);
        CHECK_EQ(SSL_CTX_set_max_proto_version(w.s.ctx, versions[i]), 1);
        CHECK_EQ(SSL_CTX_set_min_proto_version(w.s.ctx, versions[i]), 1);
        server_start(&w.s);
        expect(&w, "rig.test", versions[i] >= TLS1_2_VERSION, versions[i] >= TLS1_2_VERSION);
        world_close(&w);
    }
}

/* Reads until `done`; what is read may be a handshake. A peer that never gets there ends by the
 * time limit of the socket. */
static void read_until(SSL *ssl, bool (*done)(SSL *ssl))
{
    char byte;
    struct timeval limit = {.tv_sec = 20};
    setsockopt(SSL_get_fd(ssl), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    SSL_clear_mode(ssl, SSL_MODE_AUTO_RETRY); /* return after each record */
    for (int i = 0; i < 20 && !done(ssl); i++) {
        if (SSL_peek(ssl, &byte, 1) > 0)
            return;
    }
}

static bool is_renegotiated(SSL *ssl)
{
    return !SSL_renegotiate_pending(ssl) && SSL_is_init_finished(ssl);
}

static void renegotiate(SSL *ssl)
{
    CHECK_EQ(SSL_renegotiate(ssl), 1);
    CHECK_EQ(SSL_do_handshake(ssl), 1);
    read_until(ssl, is_renegotiated);
    CHECK(is_renegotiated(ssl));
}

TEST(a_server_may_renegotiate_before_it_answers)
{
    struct world w;
    world_open_good(&w);
    CHECK_EQ(SSL_CTX_set_max_proto_version(w.s.ctx, TLS1_2_VERSION), 1);
    w.s.before_answer = renegotiate;
    server_start(&w.s);
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    world_close(&w);
}

static bool has_certificate(SSL *ssl)
{
    X509 *cert = SSL_get1_peer_certificate(ssl);
    X509_free(cert);
    return cert != NULL;
}

/* The server closes without an answer if no certificate comes. */
static void ask_for_certificate(SSL *ssl)
{
    SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    CHECK_EQ(SSL_verify_client_post_handshake(ssl), 1);
    CHECK_EQ(SSL_do_handshake(ssl), 1);
    read_until(ssl, has_certificate);
    if (!has_certificate(ssl))
        shutdown(SSL_get_fd(ssl), SHUT_RDWR);
}

TEST(a_server_may_ask_for_a_certificate_later)
{
    struct world w;
    char path[128];
    world_open_good(&w);
    struct identity client = identity_new(&(struct cert_spec){.name = "client", .issuer = &w.r.ca});
    CHECK_EQ(SSL_CTX_load_verify_file(w.s.ctx, w.r.ca_file), 1);
    w.s.before_answer = ask_for_certificate;
    server_start(&w.s);
    w.settings.cert = rig_pem("client.pem", &client, true, false, path);
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    w.settings.cert = NULL;
    expect(&w, "rig.test", ALIKE(REFUSED));
    world_close(&w);
    identity_free(&client);
}

TEST(a_server_may_want_a_client_certificate)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct world w;
        char path[128];
        world_open_good(&w);
        struct identity client =
            identity_new(&(struct cert_spec){.name = "client", .issuer = &w.r.ca});
        CHECK_EQ(SSL_CTX_set_max_proto_version(w.s.ctx, version), 1);
        CHECK_EQ(SSL_CTX_load_verify_file(w.s.ctx, w.r.ca_file), 1);
        SSL_CTX_set_verify(w.s.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        server_start(&w.s);
        expect(&w, "rig.test", ALIKE(REFUSED));
        w.settings.cert = rig_pem("client.pem", &client, true, false, path);
        expect(&w, "rig.test", ALIKE(ACCEPTED));
        world_close(&w);
        identity_free(&client);
    }
}

TEST(insecure_accepts_any_certificate)
{
    struct world w;
    struct identity id = identity_new(&(struct cert_spec){
        .name = "self", .alt_names = "DNS:other.test", .from_days = -20, .to_days = -10});
    world_open(&w, &id);
    server_start(&w.s);
    expect(&w, "rig.test", ALIKE(REFUSED));
    w.settings.insecure = true;
    expect(&w, "rig.test", ALIKE(ACCEPTED));
    world_close(&w);
    identity_free(&id);
}

TEST(the_hello_names_the_host_and_no_address)
{
    static const struct {
        const char *host, *asked_for;
    } cases[] = {
        {"rig.test", "rig.test"}, {"rig.test.", "rig.test"}, {"127.0.0.1", ""}, {"::1", ""}};
    struct world w;
    world_open_good(&w);
    w.settings.insecure = true;
    server_start(&w.s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err;
        CHECK(leat_accepts(&w.r, &w.s, cases[i].host, &w.settings, &err));
        check_asked(&w.s, cases[i].asked_for);
        note_asked(&w.s, "nothing yet");
        CHECK(curl_accepts(&w.s, cases[i].host, &w.settings));
        check_asked(&w.s, cases[i].asked_for);
    }
    world_close(&w);
}

TEST_MAIN
