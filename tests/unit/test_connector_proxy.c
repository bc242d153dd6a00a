/* Connections through proxies. */
#include "peer.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/wait.h>

static void echo(int client)
{
    char bytes[256];
    for (ssize_t n; (n = read(client, bytes, sizeof bytes)) > 0;)
        CHECK_EQ(write(client, bytes, (size_t)n), n);
}

static void serve_echo(struct peer *p, int client)
{
    UNUSED(p);
    echo(client);
}

/* One byte goes through and comes back. */
static void check_echo(int fd)
{
    char byte = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(poll(&p, 1, -1), 1);
    CHECK_EQ(read(fd, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
}

/* ---- HTTP */

static const char connected[] = "HTTP/1.1 200 Connection established\r\n\r\n";

/* Answers each CONNECT with p->reply; NULL: never. */
static void serve_http(struct peer *p, int client)
{
    if (!peer_read_head(p, client, "\r\n\r\n"))
        return;
    const char *reply = p->reply; /* the test may set the next one as soon as it has this one */
    int code = p->code;
    p->step++;
    if (reply) {
        peer_say(client, reply);
        if (strncmp(reply, connected, 12) != 0 || !strstr(reply, "\r\n\r\n")) {
            shutdown(client, SHUT_WR);
            peer_wait_end(client);
            return;
        }
    }
    if (code)
        return; /* ends the connection with its answer */
    echo(client);
}

static const char *proxy_url(const struct peer *p, const char *before, char out[static 96])
{
    snprintf(out, 96, "%s127.0.0.1:%u", before, p->port);
    return out;
}

struct fixture {
    struct connect_rig r;
    struct waiter x;
    struct peer p; /* the proxy */
    char url[96];  /* its URL, once proxy_url was called */
};

static void begin(struct fixture *f, void (*serve)(struct peer *p, int client))
{
    rig_open(&f->r, 4);
    peer_open(&f->p, serve);
}

static void end(struct fixture *f)
{
    peer_close(&f->p);
    rig_close(&f->r);
}

TEST(plain_http_gets_a_connection_to_the_proxy)
{
    struct fixture f;
    begin(&f, serve_http);
    struct connect_target to = {
        .host = "named.test", .port = 80, .proxy = proxy_url(&f.p, "http://u:s@", f.url)};
    connect_to(&f.r, &f.x, &to);
    CHECK_EQ(f.x.got.peer_port, f.p.port);
    CHECK_EQ(f.p.step, 0); /* nothing is said to it */
    peer_say(f.x.got.fd, "GET http://named.test/ HTTP/1.1\r\n\r\n");
    while (f.p.step == 0)
        sched_yield();
    check_echo(f.x.got.fd);
    close(f.x.got.fd);
    end(&f);
}

TEST(a_tunnel_is_asked_for_by_name_and_with_credentials)
{
    struct fixture f;
    begin(&f, serve_http);
    f.p.reply = connected;
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .user_agent = "tester/1",
                                .proxy = proxy_url(&f.p, "http://u:p%3Ass@", f.url)};
    for (int i = 0; i < 3; i++) {
        connect_to(&f.r, &f.x, &to);
        CHECK_EQ(f.x.got.peer_port, f.p.port);
        check_echo(f.x.got.fd);
        close(f.x.got.fd);
        CHECK(strncmp(f.p.head, "CONNECT named.test:443 HTTP/1.1\r\n", 33) == 0);
        CHECK(strstr(f.p.head, "\r\nHost: named.test:443\r\n"));
        CHECK(strstr(f.p.head, "\r\nProxy-Authorization: Basic dTpwOnNz\r\n"));
        CHECK(strstr(f.p.head, "\r\nUser-Agent: tester/1\r\n"));
    }
    to.host = "[::1]";
    to.proxy = proxy_url(&f.p, "", f.url);
    connect_to(&f.r, &f.x, &to);
    close(f.x.got.fd);
    CHECK(strncmp(f.p.head, "CONNECT [::1]:443 HTTP/1.1\r\n", 28) == 0);
    CHECK(!strstr(f.p.head, "Authorization"));
    to.host = "named.test";
    to.connect_to = "named.test::127.0.0.9:";
    connect_to(&f.r, &f.x, &to);
    close(f.x.got.fd);
    CHECK(strncmp(f.p.head, "CONNECT 127.0.0.9:443 HTTP/1.1\r\n", 32) == 0);
    end(&f);
}

TEST(bytes_that_come_with_the_proxys_answer_are_not_lost)
{
    struct fixture f;
    char bytes[6] = "";
    begin(&f, serve_http);
    f.p.reply = "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello";
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .proxy = proxy_url(&f.p, "http://", f.url)};
    connect_to(&f.r, &f.x, &to);
    struct pollfd wait = {.fd = f.x.got.fd, .events = POLLIN};
    CHECK_EQ(poll(&wait, 1, -1), 1);
    CHECK_EQ(read(f.x.got.fd, bytes, 5), 5);
    CHECK_STR(bytes, "hello");
    close(f.x.got.fd);
    end(&f);
}

static const struct {
    const char *reply, *words;
    bool retryable;
} refusals[] = {
    {"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"a\"\r\nContent-Length: 2\r\n\r\nno",
     "wants other credentials (407)", false},
    {"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "wants other credentials (407)", false},
    {"HTTP/1.1 403 Forbidden\r\n\r\nforbidden", "answered 403", false},
    {"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "answered 502", true},
    {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "answered 302", false},
    {"HTTP/1.1 429 Slow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "answered 429", true},
    {"", "closed the connection", true},
    {"HTTP/1.1 200 OK\r\nX: y\r\n", "closed the connection", true},
    {"220 mail.test ESMTP\r\n\r\n", "", false},
    {"\1\2\3\4\r\n\r\n", "", false},
    {"HTTP/1.1 403 Forbidden\r\n folded: x\r\n\r\n", "", false},
};

TEST(a_tunnel_that_is_refused_is_a_failure_that_names_the_proxy_and_no_secret)
{
    struct fixture f;
    begin(&f, serve_http);
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .proxy = proxy_url(&f.p, "http://me:hidden@", f.url)};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        f.p.reply = refusals[i].reply;
        connect_to(&f.r, &f.x, &to);
        CHECK_FAILED(&f.x, ERR_CONNECT, "proxy");
        CHECK_EQ(f.x.err.phase, PHASE_CONNECT);
        CHECK(strstr(f.x.err.message,
                     "cannot connect to https://named.test:443: the proxy http://***@127.0.0.1:"));
        CHECK(!strstr(f.x.err.message, "hidden"));
        if (strstr(f.x.err.message, refusals[i].words) &&
            (!refusals[i].words[0] || f.x.err.retryable == refusals[i].retryable))
            continue;
        printf("  %.20s: %s (%d)\n", refusals[i].reply, f.x.err.message, f.x.err.retryable);
        CHECK(false);
    }
    end(&f);
}

TEST(the_error_names_a_proxy_that_is_unreachable_or_invalid)
{
    struct connect_rig r;
    struct waiter x;
    char url[96];
    rig_open(&r, 4);
    struct connect_target to = {.host = "named.test", .port = 80, .proxy = url};
    snprintf(url, sizeof url, "http://me:hidden@127.0.0.1:%u", peer_dead_port());
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "proxy");
    CHECK(strstr(x.err.message, "cannot connect to the proxy http://***@127.0.0.1:"));
    CHECK(strstr(x.err.message, "Connection refused"));
    CHECK(x.err.retryable);
    to.proxy = "http://nosuchproxy.invalid:3128";
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_DNS, "proxy");
    CHECK_EQ(x.err.phase, PHASE_DNS);
    CHECK_STR(x.err.message, "no address for the proxy http://nosuchproxy.invalid:3128");
    static const char *const bad[] = {"ftp://127.0.0.1", "http://", "http://127.0.0.1:99999",
                                      "gopher://me:hidden@p"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        to.proxy = bad[i];
        to.proxy_of_environment = i % 2;
        connect_to(&r, &x, &to);
        CHECK_FAILED(&x, ERR_INVALID, "proxy");
        CHECK(strstr(x.err.message, "cannot be used"));
        CHECK(!strstr(x.err.message, "hidden"));
        CHECK_EQ(strstr(x.err.message, "which the environment names") != NULL, i % 2);
    }
    rig_close(&r);
}

TEST(the_rules_hold_for_a_proxy_of_the_scripts_own_and_not_for_the_environments)
{
    struct fixture f;
    struct err err;
    struct connect_rules *rules;
    begin(&f, serve_http);
    f.p.reply = connected;
    CHECK_EQ(connect_rules_new(&rules, &f.r.mem, "public", &err), ERR_NONE);
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .proxy = proxy_url(&f.p, "http://", f.url),
                                .rules = rules};
    connect_to(&f.r, &f.x, &to);
    CHECK_FAILED(&f.x, ERR_DENIED, "target");
    to.proxy_of_environment = true;
    connect_to(&f.r, &f.x, &to);
    CHECK(f.x.got.fd >= 0);
    close(f.x.got.fd);
    connect_rules_free(rules);
    end(&f);
}

/* ---- SOCKS */

static bool read_text(int client, char *out, size_t size)
{
    for (size_t at = 0; at + 1 < size; at++) {
        if (!peer_read(client, out + at, 1))
            return false;
        if (out[at] == '\0')
            return true;
    }
    return false;
}

/* Notes "VERSION HOST:PORT USER:PASSWORD" in p->head, answers with p->code, then echoes. */
static void serve_socks4(struct peer *p, int client)
{
    unsigned char head[6], answer[8] = {0, (unsigned char)(p->code ? p->code : 90)};
    char user[300], name[300];
    if (!peer_read(client, head, 6) || !read_text(client, user, sizeof user))
        return;
    bool named = head[2] == 0 && head[3] == 0 && head[4] == 0 && head[5] != 0;
    if (!named)
        snprintf(name, sizeof name, "%d.%d.%d.%d", head[2], head[3], head[4], head[5]);
    else if (!read_text(client, name, sizeof name))
        return;
    snprintf(p->head, sizeof p->head, "4 %s:%d %s:", name, head[0] << 8 | head[1], user);
    CHECK_EQ(write(client, answer, 8), 8);
    if (answer[1] == 90)
        echo(client);
}

static bool read_credentials(int client, char *user, char *password)
{
    unsigned char len[2];
    if (!peer_read(client, len, 2) || !peer_read(client, user, len[1]))
        return false;
    user[len[1]] = '\0';
    if (!peer_read(client, len, 1) || !peer_read(client, password, len[0]))
        return false;
    password[len[0]] = '\0';
    return true;
}

/* The first byte of a request is 5. */
static void serve_socks5(struct peer *p, int client, const unsigned char *first)
{
    unsigned char methods[256], request[4], port[2], len = 0, address[16];
    char user[256] = "", password[256] = "", name[300] = "";
    bool with_password = false;
    if (!peer_read(client, methods, first[1]))
        return;
    for (int i = 0; i < first[1]; i++)
        with_password = with_password || methods[i] == 2;
    unsigned char method = p->reply && !with_password ? 0xff : p->reply ? 2 : 0;
    unsigned char choice[] = {5, method};
    CHECK_EQ(write(client, choice, 2), 2);
    if (method == 2) {
        if (!read_credentials(client, user, password))
            return;
        snprintf(p->head, sizeof p->head, "%s:%s", user, password);
        unsigned char verdict[] = {1, strcmp(p->head, p->reply) != 0};
        CHECK_EQ(write(client, verdict, 2), 2);
    }
    p->step++;
    if (!peer_read(client, request, 4))
        return;
    if (request[3] == 3) {
        if (!peer_read(client, &len, 1) || !peer_read(client, name, len))
            return;
    } else {
        bool v4 = request[3] == 1;
        if (!peer_read(client, address, v4 ? 4 : 16))
            return;
        inet_ntop(v4 ? AF_INET : AF_INET6, address, name, sizeof name);
    }
    if (!peer_read(client, port, 2))
        return;
    snprintf(p->head, sizeof p->head, "5 %s:%d %s:%s", name, port[0] << 8 | port[1], user,
             password);
    unsigned char answer[10] = {5, (unsigned char)p->code, 0, 1};
    CHECK_EQ(write(client, answer, 10), 10);
    if (answer[1] == 0)
        echo(client);
}

/* p->reply: the credentials that it wants ("user:password"); NULL: none. p->code 999: it never
 * answers. */
static void serve_socks(struct peer *p, int client)
{
    unsigned char first[2];
    if (!peer_read(client, first, 1))
        return;
    if (p->code == 999) {
        p->step++;
        peer_wait_end(client);
    } else if (first[0] == 4 && peer_read(client, first + 1, 1)) {
        serve_socks4(p, client);
    } else if (first[0] == 5 && peer_read(client, first + 1, 1)) {
        serve_socks5(p, client, first);
    }
}

static const struct {
    const char *scheme, *host, *addresses, *wants, *saw;
} ways[] = {
    {"socks5h://", "named.test", NULL, NULL, "5 named.test:80 :"},
    {"socks5h://", "127.0.0.9", NULL, NULL, "5 127.0.0.9:80 :"},
    {"socks5h://u:p%3Ass@", "named.test", NULL, "u:p:ss", "5 named.test:80 u:p:ss"},
    {"socks5://u:s@", "named.test", "127.0.0.9", "u:s", "5 127.0.0.9:80 u:s"},
    {"socks5://", "named.test", "127.0.0.9,127.0.0.1", NULL, "5 127.0.0.9:80 :"},
    {"socks5://", "named.test", "[::1]", NULL, "5 ::1:80 :"},
    {"socks5://", "[::1]", NULL, NULL, "5 ::1:80 :"},
    {"socks4://", "named.test", "127.0.0.9", NULL, "4 127.0.0.9:80 :"},
    {"socks4://me@", "127.0.0.9", NULL, NULL, "4 127.0.0.9:80 me:"},
    {"socks4a://me@", "named.test", NULL, NULL, "4 named.test:80 me:"},
};

TEST(each_kind_of_socks_leads_to_the_origin)
{
    struct fixture f;
    begin(&f, serve_socks);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct connect_target to = {.host = ways[i].host,
                                    .port = 80,
                                    .addresses = ways[i].addresses,
                                    .proxy = proxy_url(&f.p, ways[i].scheme, f.url)};
        f.p.reply = ways[i].wants;
        connect_to(&f.r, &f.x, &to);
        CHECK_STR(f.p.head, ways[i].saw);
        CHECK_STR(f.x.err.message, "");
        if (f.x.got.fd < 0)
            continue;
        CHECK_EQ(f.x.got.peer_port, f.p.port);
        check_echo(f.x.got.fd);
        close(f.x.got.fd);
    }
    end(&f);
}

static const struct {
    const char *scheme, *wants;
    int code;
    const char *words;
    bool retryable;
} socks_refusals[] = {
    {"socks5h://", NULL, 1, "does not reach it", true},
    {"socks5h://", NULL, 2, "does not allow it", false},
    {"socks5h://", NULL, 4, "does not reach it", true},
    {"socks5h://", NULL, 5, "was refused by the target", true},
    {"socks5h://", NULL, 7, "does not support such a target", false},
    {"socks5h://", "u:s", 0, "wants other credentials", false},
    {"socks5h://u:hidden@", "u:s", 0, "wants other credentials", false},
    {"socks4a://", NULL, 91, "does not reach it", true},
    {"socks4a://", NULL, 93, "wants other credentials", false},
};

TEST(the_error_says_what_a_socks_proxy_refused)
{
    struct fixture f;
    begin(&f, serve_socks);
    for (size_t i = 0; i < ARRAY_LEN(socks_refusals); i++) {
        struct connect_target to = {.host = "named.test",
                                    .port = 80,
                                    .proxy = proxy_url(&f.p, socks_refusals[i].scheme, f.url)};
        f.p.reply = socks_refusals[i].wants;
        f.p.code = socks_refusals[i].code;
        connect_to(&f.r, &f.x, &to);
        CHECK_FAILED(&f.x, ERR_CONNECT, "proxy");
        CHECK_EQ(f.x.err.code, CURLE_PROXY);
        CHECK(!strstr(f.x.err.message, "hidden"));
        CHECK_EQ(f.x.err.retryable, socks_refusals[i].retryable);
        if (strstr(f.x.err.message, socks_refusals[i].words))
            continue;
        printf("  %d: %s\n", socks_refusals[i].code, f.x.err.message);
        CHECK(false);
    }
    end(&f);
}

static void serve_words(struct peer *p, int client)
{
    peer_say(client, p->reply);
    peer_wait_end(client);
}

TEST(a_server_that_is_no_socks_proxy_is_a_failure)
{
    struct fixture f;
    begin(&f, serve_words);
    static const char *const schemes[] = {"socks5h://", "socks4a://"};
    static const char *const words[] = {"HTTP/1.1 400 Bad\r\n\r\n", "220 mail.test ESMTP\r\n"};
    for (int i = 0; i < 4; i++) {
        struct connect_target to = {
            .host = "named.test", .port = 80, .proxy = proxy_url(&f.p, schemes[i % 2], f.url)};
        f.p.reply = words[i / 2];
        connect_to(&f.r, &f.x, &to);
        CHECK_FAILED(&f.x, ERR_CONNECT, "proxy");
        CHECK(strstr(f.x.err.message, "does not speak this kind of SOCKS"));
    }
    end(&f);
}

/* ---- an HTTP proxy over TLS */

/* A certificate for `address` that signs itself, for `ctx` and in `file`. */
static void make_certificate(SSL_CTX *ctx, const char *address, const char *file)
{
    char names[64];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    snprintf(names, sizeof names, "IP:%s", address);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"proxy", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_add_ext(x, san, -1);
    X509_sign(x, key, EVP_sha256());
    FILE *out = fopen(file, "w");
    CHECK(out && PEM_write_X509(out, x) == 1);
    fclose(out);
    CHECK_EQ(SSL_CTX_use_certificate(ctx, x), 1);
    CHECK_EQ(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_EXTENSION_free(san);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* As serve_http, over TLS with the context in p->tls. */
static void serve_https(struct peer *p, int client)
{
    SSL *ssl = SSL_new(p->tls);
    int len = 0, n;
    SSL_set_fd(ssl, client);
    const char *reply = p->reply;
    if (SSL_accept(ssl) == 1) {
        while (!strstr(p->head, "\r\n\r\n") &&
               (n = SSL_read(ssl, p->head + len, (int)sizeof p->head - 1 - len)) > 0)
            p->head[len += n] = '\0';
        SSL_write(ssl, reply, (int)strlen(reply));
        char bytes[256];
        while (reply == connected && (n = SSL_read(ssl, bytes, sizeof bytes)) > 0)
            SSL_write(ssl, bytes, n);
    }
    p->head[0] = '\0';
    SSL_free(ssl);
    ERR_clear_error();
}

static void check_held_echo(const struct connected *got)
{
    char byte = 0;
    size_t n = 0;
    CURLcode code;
    CHECK_EQ(curl_easy_send(got->held, "x", 1, &n), CURLE_OK);
    CHECK_EQ(n, 1);
    while ((code = curl_easy_recv(got->held, &byte, 1, &n)) == CURLE_AGAIN) {
        struct pollfd wait = {.fd = got->fd, .events = POLLIN};
        CHECK_EQ(poll(&wait, 1, -1), 1);
    }
    CHECK_EQ(code, CURLE_OK);
    CHECK_EQ(byte, 'x');
}

TEST(behind_an_https_proxy_libcurl_holds_the_connection)
{
    struct connect_rig r;
    struct waiter x, other;
    struct peer p;
    char url[96], ca[64];
    unsigned port = 0;
    rig_open(&r, 4);
    snprintf(ca, sizeof ca, "/tmp/leat_proxy_ca_%d.pem", (int)getpid());
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    make_certificate(tls, "127.0.0.1", ca);
    peer_open(&p, serve_https);
    p.tls = tls;
    p.reply = connected;
    int listener = peer_listen("127.0.0.1", &port, 256);
    struct connect_target plain = {.host = "127.0.0.1", .port = port};
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .ca_file = ca,
                                .proxy = proxy_url(&p, "https://u:hidden@", url)};
    connect_to(&r, &x, &to);
    CHECK_STR(x.err.message, "");
    REQUIRE(x.got.held);
    CHECK_EQ(x.got.peer_port, p.port);
    CHECK_EQ(connector_held(r.connector), 1);
    CHECK_EQ(connector_busy(r.connector), 0);
    for (int i = 0; i < 200; i++) { /* others through the same multi harm nothing */
        check_held_echo(&x.got);
        connect_to(&r, &other, &plain);
        CHECK(other.got.fd >= 0 && !other.got.held);
        close(other.got.fd);
    }
    check_held_echo(&x.got);
    close(x.got.fd);
    connector_release(r.connector, x.got.held);
    CHECK_EQ(connector_held(r.connector), 0);

    p.reply = "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n";
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_CONNECT, "proxy");
    CHECK(strstr(x.err.message, "wants other credentials (407)"));
    to.ca_file = NULL;
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_TLS, "verify");
    CHECK_EQ(x.err.phase, PHASE_TLS);
    CHECK(!x.err.retryable);
    CHECK(strstr(x.err.message, "the certificate of the proxy https://***@127.0.0.1:"));
    to.ca_file = ca;
    snprintf(url, sizeof url, "https://localhost:%u", p.port);
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_TLS, "verify");
    CHECK(strstr(x.err.message, "it is for other names"));
    peer_close(&p);
    peer_open(&p, serve_words);
    p.reply = "HTTP/1.1 400 Bad\r\n\r\n";
    to.proxy = proxy_url(&p, "https://", url);
    connect_to(&r, &x, &to);
    CHECK_FAILED(&x, ERR_TLS, "");
    CHECK(strstr(x.err.message, "it does not speak TLS; if it is an HTTP proxy, write http://"));
    peer_close(&p);
    close(listener);
    unlink(ca);
    SSL_CTX_free(tls);
    rig_close(&r);
}

/* ---- cancels */

static void check_cancel_in_handshake(peer_fn serve, const char *scheme, int code)
{
    struct fixture f;
    begin(&f, serve);
    f.p.code = code;
    struct connect_target to = {.host = "named.test",
                                .port = 443,
                                .https = true,
                                .tunnel = true,
                                .proxy = proxy_url(&f.p, scheme, f.url)};
    start(&f.r, &f.x, &to);
    while (f.p.step == 0)
        loop_turn(&f.r.loop, false);
    connector_cancel(f.r.connector, &f.x.wait);
    CHECK_EQ(connector_busy(f.r.connector), 0);
    while (f.p.served == 0) /* its client has gone */
        loop_turn(&f.r.loop, false);
    CHECK_EQ(f.x.calls, 0);
    start(&f.r, &f.x, &to);
    while (f.p.step == 1)
        loop_turn(&f.r.loop, false);
    connector_free(f.r.connector); /* a cancel, too */
    f.r.connector = NULL;
    CHECK_EQ(f.x.calls, 0);
    end(&f);
}

TEST(a_cancel_while_the_proxy_answers_closes_the_connection_to_it)
{
    check_cancel_in_handshake(serve_http, "http://", 0);
    check_cancel_in_handshake(serve_socks, "socks5h://", 999);
    check_cancel_in_handshake(serve_socks, "socks4a://", 999);
}

TEST(a_proxys_name_leads_to_the_addresses_that_the_caller_has_found)
{
    struct fixture f;
    begin(&f, serve_socks);
    struct connect_target to = {.host = "named.test",
                                .port = 80,
                                .addresses = "127.0.0.9,127.0.0.10",
                                .proxy = f.url,
                                .proxy_addresses = "127.0.0.5,127.0.0.1"};
    snprintf(f.url, sizeof f.url, "socks5://P.Test:%u", f.p.port);
    connect_to(&f.r, &f.x, &to);
    CHECK_STR(f.x.err.message, "");
    CHECK_STR(f.x.got.peer, "127.0.0.1");
    CHECK_STR(f.p.head, "5 127.0.0.9:80 :");
    close(f.x.got.fd);
    to.proxy_addresses = "127.0.0.5"; /* what is said last holds */
    connect_to(&f.r, &f.x, &to);
    CHECK_FAILED(&f.x, ERR_CONNECT, "proxy");
    end(&f);
}

/* ---- real proxies, where they are installed */

static bool installed(const char *program)
{
    char command[64];
    snprintf(command, sizeof command, "command -v %s >/dev/null", program);
    return system(command) == 0;
}

struct real_proxy {
    pid_t pid;
    unsigned port;
    char file[64];
};

/* `config`: a format for its file, which gets the port. */
static void real_start(struct real_proxy *p, const char *config, const char *const argv[])
{
    FILE *out = fopen(p->file, "w");
    CHECK(out != NULL);
    fputs(config, out);
    fclose(out);
    p->pid = fork();
    if (p->pid == 0) {
        int quiet = open("/dev/null", O_RDWR);
        dup2(quiet, 0);
        dup2(quiet, 1);
        dup2(quiet, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

static void real_stop(struct real_proxy *p)
{
    kill(p->pid, SIGTERM);
    CHECK_EQ(waitpid(p->pid, NULL, 0), p->pid);
    unlink(p->file);
}

/* Until it listens, it refuses. False: it has ended. */
static bool real_connect(struct connect_rig *r, struct real_proxy *p, struct waiter *x,
                         const struct connect_target *to)
{
    for (;;) {
        connect_to(r, x, to);
        if (x->got.fd >= 0 || !strstr(x->err.message, "Connection refused"))
            return true;
        if (waitpid(p->pid, NULL, WNOHANG) != 0)
            return false;
        sched_yield();
    }
}

TEST(tinyproxy_makes_tunnels)
{
    struct connect_rig r;
    struct waiter x;
    struct peer origin;
    struct real_proxy p = {.port = peer_dead_port()};
    char config[256], url[96];
    if (!installed("tinyproxy"))
        return;
    rig_open(&r, 4);
    peer_open(&origin, serve_echo);
    snprintf(config, sizeof config,
             "Port %u\nListen 127.0.0.1\nBasicAuth u secret\nConnectPort %u\nTimeout 60\n", p.port,
             origin.port);
    snprintf(p.file, sizeof p.file, "/tmp/leat_real_%d.conf", (int)getpid());
    real_start(&p, config, (const char *const[]){"tinyproxy", "-d", "-c", p.file, NULL});
    struct connect_target to = {
        .host = "127.0.0.1", .port = origin.port, .https = true, .tunnel = true, .proxy = url};
    snprintf(url, sizeof url, "http://u:secret@127.0.0.1:%u", p.port);
    if (real_connect(&r, &p, &x, &to)) {
        CHECK_STR(x.err.message, "");
        check_echo(x.got.fd);
        close(x.got.fd);
        to.port = peer_dead_port();
        connect_to(&r, &x, &to);
        CHECK_FAILED(&x, ERR_CONNECT, "proxy"); /* not a ConnectPort */
        CHECK(strstr(x.err.message, "answered 403"));
        snprintf(url, sizeof url, "http://u:wrong@127.0.0.1:%u", p.port);
        connect_to(&r, &x, &to);
        CHECK_FAILED(&x, ERR_CONNECT, "proxy");
        CHECK(strstr(x.err.message, "answered 401") || strstr(x.err.message, "(407)"));
    } else {
        CHECK(false);
    }
    real_stop(&p);
    peer_close(&origin);
    rig_close(&r);
}

TEST(dante_speaks_both_kinds_of_socks)
{
    struct connect_rig r;
    struct waiter x;
    struct peer origin;
    struct real_proxy p = {.port = peer_dead_port()};
    char config[512], url[96];
    if (!installed("danted"))
        return;
    rig_open(&r, 4);
    peer_open(&origin, serve_echo);
    snprintf(config, sizeof config,
             "internal: 127.0.0.1 port = %u\nexternal: 127.0.0.1\nsocksmethod: none\n"
             "clientmethod: none\nclient pass { from: 0/0 to: 0/0 }\n"
             "socks block { from: 0/0 to: 127.0.0.9/32 }\nsocks pass { from: 0/0 to: 0/0 }\n",
             p.port);
    snprintf(p.file, sizeof p.file, "/tmp/leat_real_%d.conf", (int)getpid());
    real_start(&p, config, (const char *const[]){"danted", "-f", p.file, "-p", "/dev/null", NULL});
    struct connect_target to = {.host = "127.0.0.1", .port = origin.port, .proxy = url};
    static const char *const schemes[] = {"socks5h", "socks5", "socks4"}; /* it knows no socks4a */
    bool runs = true;
    for (size_t i = 0; i < ARRAY_LEN(schemes) && runs; i++) {
        snprintf(url, sizeof url, "%s://127.0.0.1:%u", schemes[i], p.port);
        to.host = i == 0 ? "localhost" : "127.0.0.1"; /* a name that the proxy looks up */
        to.port = origin.port;
        runs = real_connect(&r, &p, &x, &to);
        if (!runs)
            break;
        CHECK_STR(x.err.message, "");
        if (x.got.fd < 0)
            continue;
        check_echo(x.got.fd);
        close(x.got.fd);
        to.port = peer_dead_port();
        connect_to(&r, &x, &to);
        CHECK_FAILED(&x, ERR_CONNECT, "proxy");
        CHECK(i > 1 || strstr(x.err.message, "was refused by the target"));
        to.host = "127.0.0.9";
        connect_to(&r, &x, &to);
        CHECK_FAILED(&x, ERR_CONNECT, "proxy");
        CHECK(i > 1 || strstr(x.err.message, "does not allow it"));
    }
    CHECK(runs);
    real_stop(&p);
    peer_close(&origin);
    rig_close(&r);
}

TEST_MAIN
