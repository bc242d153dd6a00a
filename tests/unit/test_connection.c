#include "tls_rig.h"

/* ---- Plain. */

TEST(bytes_go_both_ways_and_are_counted)
{
    struct rig r;
    struct end e;
    char got[16];
    size_t n;
    rig_init(&r);
    end_open(&e, &r);
    CHECK_EQ(end_send(&e, "hello", &n), IO_DONE);
    CHECK_EQ(n, 5);
    CHECK_EQ(read(e.fd, got, sizeof got), 5);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
    connection_want(&e.c, true, false);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 0);
    CHECK_EQ(write(e.fd, "answer", 6), 6);
    loop_turn(&r.loop, false);
    CHECK_EQ(e.calls, 1);
    CHECK(e.can_read && !e.can_write);
    CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_DONE);
    CHECK_EQ(n, 6);
    CHECK(memcmp(got, "answer", 6) == 0);
    CHECK_EQ(e.c.bytes_in, 6);
    CHECK_EQ(e.c.bytes_out, 5);
    CHECK(!connection_has_more(&e.c));
    end_close(&e);
    CHECK(!e.c.open);
    connection_close(&e.c);
    rig_fini(&r);
}

/* ---- TLS. */

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

TEST(the_end_of_tls_is_told_from_a_cut)
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

TEST(a_hundred_connections_need_few_whole_handshakes)
{
    struct rig r;
    rig_init(&r);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        int resumed = 0;
        SSL_CTX *server = rig_server(&r.server);
        SSL_CTX_set_max_proto_version(server, version);
        SSL_CTX_set_min_proto_version(server, version);
        for (int i = 0; i < 100; i++) {
            struct end e;
            char got[16];
            size_t n;
            end_connect(&e, &r, server);
            CHECK_EQ(SSL_version(e.server), version);
            CHECK_EQ(connection_read(&e.c, got, sizeof got, &n), IO_WAIT);
            CHECK_EQ(SSL_session_reused(e.server), e.c.is_reused_session);
            resumed += e.c.is_reused_session;
            if (i % 2)
                connection_close(&e.c);
            end_close(&e);
        }
        CHECK(resumed >= 95);
        SSL_CTX_free(server);
    }
    rig_fini(&r);
}

TEST_MAIN
