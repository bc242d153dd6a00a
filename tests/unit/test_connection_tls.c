#include "tls_rig.h"

TEST(bytes_go_both_ways_over_tls_and_the_records_are_counted)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    CHECK(!e.c.is_reused_session);
    CHECK_STR(e.c.protocol, "");
    uint64_t before = e.c.bytes_out;
    CHECK(before > 100);
    CHECK_EQ(end_send(&e, "hello", &n), IO_DONE);
    CHECK_EQ(n, 5);
    CHECK_EQ(e.c.bytes_out, before + 5 + 22); /* a record's head, type and tag */
    CHECK_EQ(SSL_read(e.server, got, sizeof got), 5);
    CHECK_EQ(SSL_write(e.server, "answer", 6), 6);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 6);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(a_clean_end_of_tls_differs_from_a_cut_connection)
{
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    for (int orderly = 0; orderly < 2; orderly++) {
        struct end e;
        char got[16];
        size_t n;
        end_connect(&e, &r, server);
        CHECK_EQ(SSL_write(e.server, "last", 4), 4);
        if (orderly)
            SSL_shutdown(e.server);
        end_close_server(&e);
        CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
        CHECK_EQ(n, 4);
        CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), orderly ? IO_END : IO_CUT);
        CHECK_EQ(n, 0);
        end_close(&e);
    }
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(records_arrive_whole_and_in_order_through_a_slow_reader)
{
    struct rig r;
    struct end e;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    end_pour(&e, 2 * 1000 * 1000);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(small_parts_go_into_one_record)
{
    struct rig r;
    struct end e;
    char got[16 * 1024 + 100];
    static const char body[20000];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    struct iovec parts[] = {{.iov_base = (void *)(uintptr_t) "head", .iov_len = 4},
                            {.iov_base = NULL, .iov_len = 0},
                            {.iov_base = (void *)(uintptr_t)body, .iov_len = sizeof body}};
    CHECK_EQ(connection_write(&e.c, parts, 3, &n), IO_DONE);
    CHECK_EQ(n, 20004);
    CHECK_EQ(SSL_read(e.server, got, sizeof got), 16 * 1024);
    CHECK_EQ(SSL_read(e.server, got, sizeof got), 20004 - 16 * 1024);
    CHECK_EQ(connection_write(&e.c, parts, 0, &n), IO_DONE);
    CHECK_EQ(connection_write(&e.c, parts + 1, 1, &n), IO_DONE);
    CHECK_EQ(n, 0);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(what_lies_in_openssl_is_reported_in_the_next_turn)
{
    struct rig r;
    struct end e;
    char got[3];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    connection_want(&e.c, true, false);
    CHECK_EQ(SSL_write(e.server, "12345", 5), 5);
    CHECK_EQ(SSL_write(e.server, "678", 3), 3);
    loop_turn(&r.loop, false);
    int before = e.calls;
    CHECK(before > 0);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 3);
    CHECK(connection_has_more(&e.c));
    /* The socket is empty: OpenSSL has both records. */
    CHECK_EQ(recv(e.c.fd, got, 1, MSG_PEEK), -1);
    connection_again(&e.c);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before + 1);
    CHECK(e.can_read);
    /* To want it is enough. */
    connection_want(&e.c, false, false);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before + 1);
    connection_want(&e.c, true, false);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before + 2);
    while (connection_read(&e.c, got, sizeof got, &n) == IO_DONE)
        CHECK(n > 0);
    CHECK(!connection_has_more(&e.c));
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(half_a_record_keeps_no_turn_busy)
{
    struct rig r;
    struct end e;
    char record[200], got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    while (connection_read(&e.c, got, sizeof got, &n) == IO_DONE)
        CHECK(n > 0);
    /* The server's record goes by way of the test, which holds its last byte back. */
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    BIO *bio = BIO_new_socket(fds[0], BIO_CLOSE);
    SSL_set0_wbio(e.server, bio);
    CHECK_EQ(SSL_write(e.server, "12345", 5), 5);
    ssize_t len = read(fds[1], record, sizeof record);
    CHECK(len > 5);
    connection_want(&e.c, true, false);
    CHECK_EQ(write(e.fd, record, (size_t)len - 1), len - 1);
    loop_turn(&r.loop, false);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    CHECK(!connection_has_more(&e.c));
    connection_want(&e.c, true, false);
    int before = e.calls;
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before);
    CHECK_EQ(write(e.fd, record + len - 1, 1), 1);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before + 1);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 5);
    end_close(&e);
    close(fds[1]);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(what_came_with_the_handshake_is_reported_when_reading_is_wanted)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_max_proto_version(server, TLS1_3_VERSION);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    end_secure(&e, &r, &settings, server, "rig.test");
    /* A server of TLS 1.3 may speak before the client's Finished. */
    CHECK_EQ(connection_handshake(&e.c, &e.err), IO_WAIT);
    size_t early = 0;
    CHECK_EQ(SSL_read_early_data(e.server, got, sizeof got, &early), SSL_READ_EARLY_DATA_FINISH);
    CHECK_EQ(SSL_write_early_data(e.server, "early", 5, &early), 1);
    e.is_shaking = true;
    loop_turn(&r.loop, false);
    CHECK_EQ(e.shaken, IO_DONE);
    int before = e.calls;
    connection_want(&e.c, true, false);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, before + 1);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 5);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(late_tickets_and_key_updates_are_no_data)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT); /* the tickets of the handshake */
    CHECK_EQ(SSL_new_session_ticket(e.server), 1);
    CHECK_EQ(SSL_do_handshake(e.server), 1);
    CHECK(recv(e.c.fd, got, 1, MSG_PEEK) == 1);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT);
    CHECK_EQ(recv(e.c.fd, got, 1, MSG_PEEK), -1);
    CHECK_EQ(SSL_key_update(e.server, SSL_KEY_UPDATE_REQUESTED), 1);
    CHECK_EQ(SSL_do_handshake(e.server), 1);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT);
    /* Both directions work with the new keys. */
    CHECK_EQ(end_send(&e, "question", &n), IO_DONE);
    CHECK_EQ(SSL_read(e.server, got, sizeof got), 8);
    CHECK_EQ(SSL_write(e.server, "answer", 6), 6);
    CHECK_EQ(connection_probe(&e.c), IO_DONE);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 6);
    SSL_shutdown(e.server);
    CHECK_EQ(connection_probe(&e.c), IO_END);
    end_close(&e);
    end_connect(&e, &r, server);
    end_close_server(&e);
    CHECK_EQ(connection_probe(&e.c), IO_CUT);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(an_old_entry_in_the_error_queue_breaks_no_other_connection)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    end_secure(&e, &r, &settings, server, "rig.test");
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    CHECK_EQ(connection_handshake(&e.c, &e.err), IO_WAIT);
    CHECK_EQ(end_shake(&e), IO_DONE);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT); /* tickets: they clear it, too */
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    CHECK_EQ(connection_probe(&e.c), IO_WAIT);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    static const char lump[1000000];
    struct iovec part = {.iov_base = (void *)(uintptr_t)lump, .iov_len = sizeof lump};
    CHECK_EQ(connection_write(&e.c, &part, 1, &n), IO_DONE);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    CHECK_EQ(connection_write(&e.c, &part, 1, &n), IO_WAIT);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

/* The way out, which the test can shut. */
static bool shut;
static ssize_t (*way_out)(struct tls_carrier *carrier, const void *data, size_t size);

static ssize_t write_if_open(struct tls_carrier *carrier, const void *data, size_t size)
{
    if (!shut)
        return way_out(carrier, data, size);
    errno = EAGAIN;
    return -1;
}

TEST(a_read_that_must_write_is_called_when_it_can)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    end_secure(&e, &r, &settings, server, "rig.test");
    CHECK_EQ(end_shake(&e), IO_DONE);
    connection_want(&e.c, true, false);
    way_out = e.c.carrier.write;
    e.c.carrier.write = write_if_open;
    shut = true;
    CHECK_EQ(SSL_renegotiate(e.server), 1);
    CHECK_EQ(SSL_do_handshake(e.server), 1); /* asks for it */
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    CHECK_EQ(e.c.watch.registered, EPOLLOUT);
    shut = false;
    loop_turn(&r.loop, false);
    CHECK(e.can_read && !e.can_write);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    CHECK_EQ(e.c.watch.registered, EPOLLIN);
    /* While it runs, a write needs what the server has to say. */
    connection_want(&e.c, false, true);
    CHECK_EQ(end_send(&e, "question", &n), IO_WAIT);
    CHECK_EQ(e.c.watch.registered, EPOLLIN);
    for (int i = 0; i < 20; i++) {
        SSL_read(e.server, got, sizeof got);
        ERR_clear_error();
        e.can_write = false;
        loop_turn(&r.loop, false);
        if (e.can_write && end_send(&e, "question", &n) == IO_DONE)
            break;
    }
    CHECK_EQ(n, 8);
    CHECK_EQ(e.c.watch.registered, EPOLLOUT);
    CHECK_EQ(SSL_read(e.server, got, sizeof got), 8);
    CHECK(memcmp(got, "question", 8) == 0);
    CHECK_EQ(SSL_num_renegotiations(e.server), 1);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(new_keys_amid_full_buffers_lose_nothing)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    static char out[5000000], in[100000];
    size_t sent = 0, taken = 0;
    bool wrong = false, asked = false;
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = rig_byte_at(i);
    for (int i = 0; i < 10000 && taken < sizeof out; i++) {
        struct iovec part = {.iov_base = out + sent, .iov_len = sizeof out - sent};
        enum io_state state = IO_WAIT;
        if (sent < sizeof out)
            state = connection_write(&e.c, &part, 1, &n);
        CHECK(state == IO_DONE || state == IO_WAIT);
        sent += state == IO_DONE ? n : 0;
        if (state == IO_WAIT && !asked) { /* full: half a record is written */
            asked = true;
            CHECK_EQ(SSL_key_update(e.server, SSL_KEY_UPDATE_REQUESTED), 1);
            CHECK_EQ(SSL_do_handshake(e.server), 1);
            CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
        }
        int len = SSL_read(e.server, in, sizeof in);
        for (int k = 0; k < len; k++)
            wrong = wrong || in[k] != rig_byte_at(taken + (size_t)k);
        taken += len > 0 ? (size_t)len : 0;
        ERR_clear_error();
    }
    CHECK(asked);
    CHECK_EQ(taken, sizeof out);
    CHECK(!wrong);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(http2_is_chosen_where_both_sides_offer_it)
{
    static const unsigned char h2[] = "\x02h2\x08http/1.1";
    static const char *const expected[TLS_ALPN_COUNT][3] = {
        /* the server knows: nothing, http/1.1, h2 and http/1.1 */
        [TLS_ALPN_NONE] = {"", "", ""},
        [TLS_ALPN_HTTP1] = {"", "http/1.1", "http/1.1"},
        [TLS_ALPN_HTTP2] = {"", "http/1.1", "h2"},
    };
    struct rig r;
    rig_init(&r);
    for (int mine = 0; mine < TLS_ALPN_COUNT; mine++) {
        for (int theirs = 0; theirs < 3; theirs++) {
            struct end e;
            SSL_CTX *server = rig_server(&r.server);
            rig_knows[0] = theirs == 2 ? h2 : h2 + 3;
            rig_knows_len = theirs == 2 ? sizeof h2 - 1 : sizeof h2 - 4;
            if (theirs)
                SSL_CTX_set_alpn_select_cb(server, rig_select, NULL);
            const struct tls_settings settings = {.ca_file = r.ca_file,
                                                  .alpn = (enum tls_alpn)mine};
            end_secure(&e, &r, &settings, server, "rig.test");
            CHECK_EQ(end_shake(&e), IO_DONE);
            CHECK_STR(e.c.protocol, expected[mine][theirs]);
            end_close(&e);
            SSL_CTX_free(server);
        }
    }
    rig_fini(&r);
}

TEST(with_http2_the_server_cannot_renegotiate)
{
    static const unsigned char h2[] = "\x02h2";
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    rig_knows[0] = h2;
    rig_knows_len = sizeof h2 - 1;
    SSL_CTX_set_alpn_select_cb(server, rig_select, NULL);
    end_connect(&e, &r, server);
    CHECK_STR(e.c.protocol, "h2");
    CHECK_EQ(SSL_renegotiate(e.server), 1);
    CHECK_EQ(SSL_do_handshake(e.server), 1);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    /* It is told "no renegotiation", and gives up. */
    CHECK(SSL_read(e.server, got, sizeof got) <= 0);
    CHECK_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(with_http2_no_certificate_may_be_asked_for_later)
{
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    SSL_CTX_set_alpn_select_cb(server, rig_select, NULL);
    for (int http2 = 0; http2 < 2; http2++) {
        struct end e;
        char got[16];
        size_t n;
        rig_knows[0] = protocols + (http2 ? 0 : 3);
        rig_knows_len = http2 ? 12 : 9;
        end_connect(&e, &r, server);
        CHECK_STR(e.c.protocol, http2 ? "h2" : "http/1.1");
        SSL_set_verify(e.server, SSL_VERIFY_PEER, NULL);
        CHECK_EQ(SSL_verify_client_post_handshake(e.server), 1);
        CHECK_EQ(SSL_do_handshake(e.server), 1);
        CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), http2 ? IO_FAILED : IO_WAIT);
        CHECK(!http2 || e.c.tls_error != NULL);
        end_close(&e);
    }
    SSL_CTX_free(server);
    rig_fini(&r);
}

/* Closes after `steps` steps of the handshake, each side by turns. */
TEST(a_connection_may_be_closed_in_every_phase)
{
    struct rig r;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    const struct tls_settings settings = {.ca_file = r.ca_file};
    for (int steps = 0; steps < 8; steps++) {
        struct end e;
        end_secure(&e, &r, &settings, server, "rig.test");
        for (int i = 0; i < steps && e.is_shaking; i++) {
            if (i % 2 == 0) {
                e.shaken = connection_handshake(&e.c, &e.err);
                e.is_shaking = e.shaken == IO_WAIT;
            } else {
                SSL_do_handshake(e.server);
                ERR_clear_error();
            }
        }
        connection_close(&e.c);
        loop_turn(&r.loop, false);
        end_close(&e);
    }
    struct end e;
    end_open(&e, &r); /* without a handshake */
    end_close(&e);
    end_connect(&e, &r, server); /* amid a record */
    CHECK_EQ(end_fill(&e), IO_WAIT);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(the_peer_is_notified_of_a_close)
{
    struct rig r;
    struct end e;
    char got[16];
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    end_connect(&e, &r, server);
    connection_close(&e.c);
    int n = SSL_read(e.server, got, sizeof got);
    CHECK_EQ(SSL_get_error(e.server, n), SSL_ERROR_ZERO_RETURN);
    end_close(&e);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST(one_broken_peer_leaves_the_others_as_they_are)
{
    struct rig r;
    struct end e[4];
    char got[16];
    size_t n;
    rig_init(&r);
    SSL_CTX *server = rig_server(&r.server);
    for (int i = 0; i < 4; i++)
        end_connect(&e[i], &r, server);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(write(e[2].fd,
                       "\x17\x03\x03\x00\x20"
                       "0123456789abcdef0123456789abcdef",
                       37),
                 37);
        for (int i = 0; i < 4; i++) {
            if (i == 2) {
                CHECK_EQ(connection_read(&e[i].c, got, sizeof got, &n), IO_FAILED);
                CHECK(e[i].c.tls_error != NULL);
                continue;
            }
            CHECK_EQ(connection_read(&e[i].c, got, sizeof got, &n), IO_WAIT);
            CHECK_EQ(SSL_write(e[i].server, "fine", 4), 4);
            CHECK_EQ(connection_read(&e[i].c, got, sizeof got, &n), IO_DONE);
            CHECK_EQ(n, 4);
        }
        end_close(&e[2]);
        end_connect(&e[2], &r, server);
    }
    for (int i = 0; i < 4; i++)
        end_close(&e[i]);
    SSL_CTX_free(server);
    rig_fini(&r);
}

TEST_MAIN
