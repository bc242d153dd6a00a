#include "test.h"

#include "loop/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>

/* A look-up function under the test's control: names that begin with "hang" wait for the gate. */
struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int running, most, calls, ended;
    int rc, os_error;
    bool signals_blocked;
    char order[64][16];
};

struct fixture {
    struct mem mem;
    struct loop loop;
    struct resolver *resolver;
    struct fake *fake; /* outlives the rest where a look-up is left hanging */
};

struct probe {
    struct resolver_wait wait;
    int calls;
    bool failed;
    struct err err;
    char addresses[256];
    struct fixture *asks_again; /* looks the same name up from within the callback */
    struct probe *next;
};

static int fake_lookup(const char *name, char *out, size_t out_size, void *arg)
{
    struct fake *fake = arg;
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    pthread_mutex_lock(&fake->lock);
    fake->signals_blocked = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGPROF) == 1;
    if (fake->calls < 64)
        snprintf(fake->order[fake->calls], sizeof(fake->order[0]), "%.15s", name);
    fake->calls++;
    fake->running++;
    fake->most = MAX(fake->most, fake->running);
    pthread_cond_broadcast(&fake->changed);
    while (strncmp(name, "hang", 4) == 0 && !fake->open)
        pthread_cond_wait(&fake->changed, &fake->lock);
    int rc = fake->rc;
    fake->running--;
    fake->ended++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    if (rc == 0)
        snprintf(out, out_size, "10.0.0.1,[::1]");
    errno = fake->os_error;
    return rc;
}

static void gate(struct fake *fake, bool open)
{
    pthread_mutex_lock(&fake->lock);
    fake->open = open;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static void wait_running(struct fake *fake, int n)
{
    pthread_mutex_lock(&fake->lock);
    while (fake->running < n)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
}

static int calls(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    int n = fake->calls;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

static bool setup(struct fixture *f, struct fake *fake, bool is_virtual)
{
    memset(f, 0, sizeof(*f));
    mem_init(&f->mem, 0);
    f->fake = fake;
    if (fake != NULL) {
        memset(fake, 0, sizeof(*fake));
        pthread_mutex_init(&fake->lock, NULL);
        pthread_cond_init(&fake->changed, NULL);
    }
    struct err err;
    bool ok = loop_init(&f->loop, &f->mem, NULL, is_virtual, &err) == ERR_NONE &&
              resolver_new(&f->resolver, &f->loop, &f->mem, fake != NULL ? fake_lookup : NULL, fake,
                           &err) == ERR_NONE;
    CHECK(ok);
    return ok;
}

static void teardown(struct fixture *f)
{
    resolver_free(f->resolver);
    CHECK_EQ(f->loop.busy, 0);
    loop_fini(&f->loop);
    CHECK_EQ(f->mem.blocks, 0);
    CHECK_EQ(f->mem.used_bytes, 0);
}

static void on_answer(struct resolver_wait *w, const char *addresses, const struct err *err)
{
    struct probe *p = CONTAINER_OF(w, struct probe, wait);
    p->calls++;
    p->failed = addresses == NULL;
    p->err = *err;
    snprintf(p->addresses, sizeof(p->addresses), "%s", addresses != NULL ? addresses : "");
    if (p->asks_again != NULL)
        CHECK_EQ(resolver_lookup(p->asks_again->resolver, "again", &p->next->wait, NULL), ERR_NONE);
}

static void probe_init(struct probe *p)
{
    *p = (struct probe){.wait = {.fn = on_answer}};
}

static void wait_answer(struct fixture *f, const struct probe *p)
{
    while (p->calls == 0)
        loop_turn(&f->loop, true);
}

TEST(askers_of_one_name_share_one_look_up_and_later_ones_its_answer)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p[3], late;
    for (int i = 0; i < 3; i++) {
        probe_init(&p[i]);
        CHECK_EQ(
            resolver_lookup(f.resolver, i == 1 ? "HANG.example" : "hang.example", &p[i].wait, NULL),
            ERR_NONE);
    }
    CHECK_EQ(resolver_busy(f.resolver), 1);
    gate(&fake, true);
    for (int i = 0; i < 3; i++) {
        wait_answer(&f, &p[i]);
        CHECK_EQ(p[i].calls, 1);
        CHECK_STR(p[i].addresses, "10.0.0.1,[::1]");
    }
    CHECK_EQ(resolver_busy(f.resolver), 0);
    CHECK_EQ(f.loop.busy, 0);
    probe_init(&late);
    CHECK_EQ(resolver_lookup(f.resolver, "hang.EXAMPLE", &late.wait, NULL), ERR_NONE);
    CHECK_EQ(late.calls, 1);
    CHECK_STR(late.addresses, "10.0.0.1,[::1]");
    CHECK_EQ(calls(&fake), 1);
    CHECK(fake.signals_blocked);
    teardown(&f);
}

TEST(an_answer_is_forgotten_after_thirty_seconds)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, true));
    struct probe p;
    for (int i = 0; i < 3; i++) {
        probe_init(&p);
        CHECK_EQ(resolver_lookup(f.resolver, "a", &p.wait, NULL), ERR_NONE);
        wait_answer(&f, &p);
        f.loop.virtual_ns += i == 0 ? 29 * NS_PER_S : NS_PER_S;
    }
    CHECK_EQ(calls(&fake), 2);
    teardown(&f);
}

TEST(a_failed_look_up_names_the_host_and_is_not_kept)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p;
    static const int codes[] = {EAI_NONAME, EAI_AGAIN};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        fake.rc = codes[i];
        probe_init(&p);
        CHECK_EQ(resolver_lookup(f.resolver, "no.example", &p.wait, NULL), ERR_NONE);
        wait_answer(&f, &p);
        CHECK(p.failed);
        CHECK_EQ(p.err.kind, ERR_DNS);
        CHECK_EQ(p.err.phase, PHASE_DNS);
        CHECK_EQ(p.err.code, codes[i]);
        CHECK_EQ(p.err.retryable, codes[i] == EAI_AGAIN);
        CHECK(strstr(p.err.message, "no.example") != NULL);
    }
    CHECK_EQ(calls(&fake), 2);
    fake.os_error = EMFILE; /* whatever the name service makes of it */
    probe_init(&p);
    CHECK_EQ(resolver_lookup(f.resolver, "no.example", &p.wait, NULL), ERR_NONE);
    wait_answer(&f, &p);
    CHECK_EQ(p.err.kind, ERR_IO);
    CHECK_STR(p.err.reason, "too_many_files");
    CHECK(p.err.retryable);
    teardown(&f);
}

TEST(sixteen_look_ups_run_at_once_and_the_rest_in_order)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p[40];
    char name[16];
    for (int i = 0; i < 40; i++) {
        probe_init(&p[i]);
        snprintf(name, sizeof(name), "%s%d", i < 16 ? "hang" : "n", i);
        CHECK_EQ(resolver_lookup(f.resolver, name, &p[i].wait, NULL), ERR_NONE);
    }
    wait_running(&fake, 16);
    CHECK_EQ(calls(&fake), 16);
    CHECK_EQ(resolver_busy(f.resolver), 40);
    gate(&fake, true);
    for (int i = 0; i < 40; i++)
        wait_answer(&f, &p[i]);
    CHECK_EQ(fake.most, 16);
    CHECK_EQ(fake.calls, 40);
    teardown(&f);
}

TEST(a_queue_behind_hanging_look_ups_is_served_in_order)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p[15], last[3];
    char name[16];
    for (int i = 0; i < 15; i++) {
        probe_init(&p[i]);
        snprintf(name, sizeof(name), "hang%d", i);
        CHECK_EQ(resolver_lookup(f.resolver, name, &p[i].wait, NULL), ERR_NONE);
    }
    wait_running(&fake, 15);
    /* One thread is left: what it does has one order. */
    static const char *const names[] = {"x", "y", "z"};
    for (int i = 0; i < 3; i++) {
        probe_init(&last[i]);
        CHECK_EQ(resolver_lookup(f.resolver, names[i], &last[i].wait, NULL), ERR_NONE);
        wait_answer(&f, &last[i]);
        CHECK_STR(fake.order[15 + i], names[i]);
    }
    gate(&fake, true);
    for (int i = 0; i < 15; i++)
        wait_answer(&f, &p[i]);
    teardown(&f);
}

TEST(a_cancelled_wait_is_not_called_and_a_queued_look_up_not_made)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p[16], queued, other;
    char name[16];
    for (int i = 0; i < 16; i++) {
        probe_init(&p[i]);
        snprintf(name, sizeof(name), "hang%d", i);
        CHECK_EQ(resolver_lookup(f.resolver, name, &p[i].wait, NULL), ERR_NONE);
    }
    wait_running(&fake, 16);
    probe_init(&queued);
    probe_init(&other);
    resolver_cancel(&queued.wait); /* never linked: harmless */
    CHECK_EQ(resolver_lookup(f.resolver, "queued", &queued.wait, NULL), ERR_NONE);
    CHECK_EQ(resolver_lookup(f.resolver, "hang0", &other.wait, NULL), ERR_NONE);
    CHECK_EQ(resolver_busy(f.resolver), 17);
    resolver_cancel(&queued.wait);
    resolver_cancel(&queued.wait);
    CHECK_EQ(resolver_busy(f.resolver), 16);
    for (int i = 0; i < 16; i++)
        resolver_cancel(&p[i].wait);
    CHECK_EQ(f.loop.busy, 1); /* `other` still waits for hang0 */
    gate(&fake, true);
    wait_answer(&f, &other);
    while (resolver_busy(f.resolver) > 0)
        loop_turn(&f.loop, true);
    for (int i = 0; i < 16; i++)
        CHECK_EQ(p[i].calls, 0);
    CHECK_EQ(queued.calls, 0);
    CHECK_EQ(calls(&fake), 16);
    /* The answers were kept, though nobody waited for them. */
    CHECK_EQ(resolver_lookup(f.resolver, "hang5", &p[5].wait, NULL), ERR_NONE);
    CHECK_EQ(p[5].calls, 1);
    teardown(&f);
}

TEST(a_name_cancelled_while_it_hangs_can_be_waited_for_again)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p;
    probe_init(&p);
    CHECK_EQ(resolver_lookup(f.resolver, "hang", &p.wait, NULL), ERR_NONE);
    wait_running(&fake, 1);
    resolver_cancel(&p.wait);
    CHECK_EQ(f.loop.busy, 0);
    CHECK_EQ(resolver_lookup(f.resolver, "hang", &p.wait, NULL), ERR_NONE);
    CHECK_EQ(f.loop.busy, 1);
    gate(&fake, true);
    wait_answer(&f, &p);
    CHECK_EQ(p.calls, 1);
    CHECK_EQ(calls(&fake), 1);
    teardown(&f);
}

TEST(closing_does_not_wait_for_a_look_up_that_hangs)
{
    static struct fake fake; /* threads may still be leaving it when the test has ended */
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p[20];
    char name[16];
    for (int i = 0; i < 20; i++) {
        probe_init(&p[i]);
        snprintf(name, sizeof(name), "hang%d", i);
        CHECK_EQ(resolver_lookup(f.resolver, name, &p[i].wait, NULL), ERR_NONE);
    }
    wait_running(&fake, 16);
    teardown(&f); /* hangs if it waits: the gate is shut */
    for (int i = 0; i < 20; i++)
        CHECK_EQ(p[i].calls, 0);
    gate(&fake, true);
    pthread_mutex_lock(&fake.lock);
    while (fake.ended < 16)
        pthread_cond_wait(&fake.changed, &fake.lock);
    CHECK_EQ(fake.calls, 16);
    pthread_mutex_unlock(&fake.lock);
}

TEST(a_callback_may_ask_for_the_next_name)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    struct probe p, next;
    probe_init(&p);
    probe_init(&next);
    p.asks_again = &f;
    p.next = &next;
    fake.rc = EAI_AGAIN; /* so the entry of "again" is gone when it asks */
    CHECK_EQ(resolver_lookup(f.resolver, "again", &p.wait, NULL), ERR_NONE);
    wait_answer(&f, &next);
    CHECK_EQ(p.calls, 1);
    CHECK_EQ(calls(&fake), 2);
    teardown(&f);
}

TEST(the_cache_does_not_grow_without_end)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    size_t used = 0;
    for (int i = 0; i < 1200; i++) {
        struct probe p;
        probe_init(&p);
        char name[16];
        snprintf(name, sizeof(name), "n%04d", i);
        CHECK_EQ(resolver_lookup(f.resolver, name, &p.wait, NULL), ERR_NONE);
        wait_answer(&f, &p);
        if (i == 1023)
            used = f.mem.used_bytes;
    }
    CHECK_EQ(f.mem.used_bytes, used);
    struct probe p;
    probe_init(&p);
    CHECK_EQ(resolver_lookup(f.resolver, "n1199", &p.wait, NULL), ERR_NONE);
    CHECK_EQ(p.calls, 1);
    teardown(&f);
}

TEST(what_cannot_be_a_host_name_is_refused)
{
    struct fake fake;
    struct fixture f;
    REQUIRE(setup(&f, &fake, false));
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *names[] = {"", "a b", "a\nb", long_name};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct probe p;
        struct err err;
        probe_init(&p);
        CHECK_EQ(resolver_lookup(f.resolver, names[i], &p.wait, &err), ERR_INVALID);
        CHECK_EQ(err.kind, ERR_INVALID);
        resolver_cancel(&p.wait);
    }
    CHECK_EQ(calls(&fake), 0);
    teardown(&f);
}

TEST(the_systems_own_look_up_knows_this_machine)
{
    struct fixture f;
    REQUIRE(setup(&f, NULL, false));
    struct probe p;
    static const char *const rows[][2] = {{"127.0.0.1", "127.0.0.1"}, {"::1", "[::1]"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        probe_init(&p);
        CHECK_EQ(resolver_lookup(f.resolver, rows[i][0], &p.wait, NULL), ERR_NONE);
        wait_answer(&f, &p);
        CHECK_STR(p.addresses, rows[i][1]);
    }
    probe_init(&p);
    CHECK_EQ(resolver_lookup(f.resolver, "localhost", &p.wait, NULL), ERR_NONE);
    wait_answer(&f, &p);
    CHECK(strstr(p.addresses, "127.0.0.1") != NULL || strstr(p.addresses, "[::1]") != NULL);
    teardown(&f);
}

TEST(any_failing_allocation_is_an_error_or_a_shorter_memory)
{
    for (long n = 0;; n++) {
        struct fake fake;
        struct fixture f;
        REQUIRE(setup(&f, &fake, false));
        resolver_free(f.resolver);
        f.mem.fail_in = n;
        struct err err;
        enum err_kind kind = resolver_new(&f.resolver, &f.loop, &f.mem, fake_lookup, &fake, &err);
        CHECK(kind == ERR_NONE || kind == ERR_MEMORY);
        for (int i = 0; kind == ERR_NONE && i < 2; i++) {
            struct probe p;
            probe_init(&p);
            enum err_kind asked = resolver_lookup(f.resolver, "a", &p.wait, &err);
            CHECK(asked == ERR_NONE || asked == ERR_MEMORY);
            if (asked != ERR_NONE)
                continue;
            wait_answer(&f, &p);
            CHECK_STR(p.addresses, "10.0.0.1,[::1]");
        }
        bool through = f.mem.fail_in >= 0;
        teardown(&f);
        if (through)
            break;
    }
}

TEST_MAIN
