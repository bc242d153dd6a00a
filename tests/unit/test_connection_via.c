/* Connections through an HTTPS proxy: they stay with libcurl. */
#include "peer.h"
#include "tls_rig.h"

/* More than the buffers of the sockets take. */
enum { ECHOED = 20 * 1000 * 1000 };

struct proxy {
    struct peer peer;
    SSL_CTX *ctx;
    bool inner_tls;
};

static void echo(SSL *ssl)
{
    static char bytes[16384];
    for (int n; (n = SSL_read(ssl, bytes, sizeof bytes)) > 0;) {
        if (bytes[n - 1] == '\n') /* the last of it */
            break;
        if (SSL_write(ssl, bytes, n) <= 0)
            return;
    }
    SSL_write(ssl, "bye", 3);
    SSL_shutdown(ssl);
}

/* Says yes to CONNECT, and is the origin itself: all comes back until a line ends. */
static void serve_proxy(struct peer *p, int client)
{
    struct proxy *x = CONTAINER_OF(p, struct proxy, peer);
    char head[4096];
    int len = 0, n;
    SSL *outer = SSL_new(x->ctx);
    SSL_set_fd(outer, client);
    if (SSL_accept(outer) == 1) {
        while (!memmem(head, (size_t)len, "\r\n\r\n", 4) &&
               (n = SSL_read(outer, head + len, (int)sizeof head - len)) > 0)
            len += n;
        SSL_write(outer, "HTTP/1.1 200 OK\r\n\r\n", 19);
        if (x->inner_tls) {
            SSL *inner = SSL_new(x->ctx);
            BIO *bio = BIO_new(BIO_f_ssl());
            BIO_set_ssl(bio, outer, BIO_NOCLOSE);
            SSL_set_bio(inner, bio, bio);
            if (SSL_accept(inner) == 1)
                echo(inner);
            SSL_free(inner);
        } else {
            echo(outer);
        }
        SSL_shutdown(outer);
    }
    SSL_free(outer);
}

struct client {
    struct connect_rig r;
    struct proxy proxy;
    struct tls tls;
    struct identity ca, server;
    char ca_file[128];
    struct end e;
};

static void release(void *arg, void *easy)
{
    connector_release(arg, easy);
}

static void client_open(struct client *c, bool inner_tls)
{
    struct waiter x;
    char url[64];
    memset(c, 0, sizeof *c);
    rig_open(&c->r, 4);
    c->ca = identity_new(&(struct cert_spec){.name = "via ca", .is_ca = true});
    c->server = identity_new(&(struct cert_spec){
        .name = "via", .alt_names = "DNS:rig.test,IP:127.0.0.1", .issuer = &c->ca});
    rig_pem("via-ca.pem", &c->ca, false, false, c->ca_file);
    c->proxy.ctx = rig_server(&c->server);
    SSL_CTX_set_mode(c->proxy.ctx, SSL_MODE_AUTO_RETRY);
    c->proxy.inner_tls = inner_tls;
    peer_open(&c->proxy.peer, serve_proxy);
    CHECK_EQ(tls_init(&c->tls, &c->r.mem, &c->e.err), ERR_NONE);
    snprintf(url, sizeof url, "https://127.0.0.1:%u", c->proxy.peer.port);
    const struct connect_target to = {.host = "rig.test",
                                      .port = 443,
                                      .https = true,
                                      .addresses = "127.0.0.1",
                                      .proxy = url,
                                      .tunnel = true,
                                      .ca_file = c->ca_file,
                                      .connect_ms = 20000};
    connect_to(&c->r, &x, &to);
    CHECK(x.got.held != NULL);
    const struct connection_via via = {
        .easy = x.got.held, .release = release, .arg = c->r.connector};
    CHECK_EQ(connection_open_via(&c->e.c, c->r.poller, &c->r.mem, x.got.fd, &via, rig_on_event,
                                 &c->e.err),
             ERR_NONE);
    CHECK_EQ(connector_held(c->r.connector), 1);
}

static void client_close(struct client *c)
{
    connection_close(&c->e.c);
    CHECK_EQ(connector_held(c->r.connector), 0);
    peer_close(&c->proxy.peer);
    SSL_CTX_free(c->proxy.ctx);
    tls_fini(&c->tls);
    identity_free(&c->ca);
    identity_free(&c->server);
    rig_close(&c->r);
}

/* Waits until reading (or writing) is worth a try. */
static void wait_for(struct client *c, bool read, bool write)
{
    int before = c->e.calls;
    connection_want(&c->e.c, read, write);
    while (c->e.calls == before)
        loop_turn(&c->r.loop, true);
}

static void read_all(struct client *c, char *out, size_t size, size_t *len)
{
    for (*len = 0; *len < size;) {
        size_t n;
        enum io_state state = connection_read(&c->e.c, out + *len, size - *len, &n);
        *len += n;
        if (state == IO_WAIT)
            wait_for(c, true, false);
        else if (state != IO_DONE)
            return;
    }
}

/* All that is sent comes back. It is read only when nothing more can be written, so that writing
 * has to wait, and the bytes lie elsewhere when they are offered again. */
static void check_echo(struct client *c, size_t total)
{
    enum { CHUNK = 50000 };
    static char out[CHUNK], in[CHUNK];
    size_t sent = 0, got = 0, n;
    bool wrong = false;
    int waits = 0;
    while (got < total) {
        size_t len = MIN(total - sent, (size_t)CHUNK - 7), head = len / 3;
        char *at = out + waits % 7;
        for (size_t i = 0; i < len; i++)
            at[i] = (char)('a' + (sent + i) % 23);
        const struct iovec parts[] = {{.iov_base = at, .iov_len = head},
                                      {.iov_base = at + head, .iov_len = len - head}};
        enum io_state wrote = connection_write(&c->e.c, parts, 2, &n);
        CHECK(wrote == IO_DONE || wrote == IO_WAIT);
        sent += n;
        if (wrote == IO_DONE && n > 0)
            continue;
        waits += wrote == IO_WAIT;
        enum io_state read = connection_read(&c->e.c, in, sizeof in, &n);
        CHECK(read == IO_DONE || read == IO_WAIT);
        if ((wrote != IO_DONE && wrote != IO_WAIT) || (read != IO_DONE && read != IO_WAIT))
            return;
        for (size_t i = 0; i < n; i++)
            wrong = wrong || in[i] != (char)('a' + (got + i) % 23);
        got += n;
        if (read == IO_WAIT && (wrote == IO_WAIT || sent == total) && got < total)
            wait_for(c, true, sent < total);
    }
    CHECK(!wrong);
    CHECK_EQ(got, total);
    CHECK(waits > 0);
}

static void check_end(struct client *c)
{
    char got[16];
    size_t n;
    CHECK_EQ(connection_probe(&c->e.c), IO_WAIT);
    CHECK_EQ(end_send(&c->e, "\n", &n), IO_DONE);
    wait_for(c, true, false);
    while (connection_probe(&c->e.c) == IO_WAIT)
        wait_for(c, true, false);
    CHECK_EQ(connection_probe(&c->e.c), IO_DONE);
    CHECK(connection_has_more(&c->e.c));
    read_all(c, got, 3, &n);
    CHECK_EQ(n, 3);
    CHECK(memcmp(got, "bye", 3) == 0);
    read_all(c, got, 1, &n);
    CHECK_EQ(n, 0);
    CHECK_EQ(connection_read(&c->e.c, got, 1, &n), IO_END);
}

TEST(tls_to_the_origin_goes_within_tls_to_the_proxy)
{
    struct client c;
    struct tls_context *context;
    client_open(&c, true);
    const struct tls_settings settings = {.ca_file = c.ca_file, .alpn = TLS_ALPN_HTTP1};
    CHECK_EQ(tls_context_take(&c.tls, &settings, &context, &c.e.err), ERR_NONE);
    CHECK_EQ(connection_secure(&c.e.c, context, "rig.test", 443, &c.e.err), ERR_NONE);
    tls_context_drop(context);
    c.e.shaken = connection_handshake(&c.e.c, &c.e.err);
    c.e.is_shaking = c.e.shaken == IO_WAIT;
    while (c.e.is_shaking)
        loop_turn(&c.r.loop, true);
    CHECK_EQ(c.e.shaken, IO_DONE);
    check_echo(&c, ECHOED);
    CHECK(c.e.c.bytes_out > ECHOED);
    check_end(&c);
    client_close(&c);
}

TEST(plain_bytes_go_within_tls_to_the_proxy)
{
    struct client c;
    client_open(&c, false);
    check_echo(&c, ECHOED);
    CHECK_EQ(c.e.c.bytes_out, ECHOED);
    check_end(&c);
    client_close(&c);
}

TEST(a_connection_through_a_proxy_may_be_closed_at_once)
{
    struct client c;
    client_open(&c, true);
    client_close(&c);
}

TEST_MAIN
