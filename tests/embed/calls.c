/* A host and its scripts calling each other: values, host functions, calls from other threads,
 * misuse. Prints the verdict that tests/run.sh reads. */
#include <leat.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (cond) {                                                                                \
            passed++;                                                                              \
        } else {                                                                                   \
            failed++;                                                                              \
            printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #cond);                                 \
        }                                                                                          \
    } while (0)

struct seen {
    int calls;
    enum leat_status status;
    size_t count;
    double number;
    char text[512], kind[16];
    leat_runtime *rt;
    enum leat_next stepped;
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct seen *s = arg;
    (void)id;
    s->calls++;
    s->status = status;
    s->count = count;
    s->number = count > 0 ? leat_to_number(results[0], -1) : -1;
    const char *text = count > 0 ? leat_to_string(results[0], NULL) : NULL;
    snprintf(s->text, sizeof s->text, "%s", err ? err->message : text ? text : "");
    snprintf(s->kind, sizeof s->kind, "%s", err ? err->kind : "");
    if (s->rt) { /* what a callback may not do is refused */
        s->stepped = leat_step(s->rt, 100);
        leat_free(s->rt);
    }
}

static leat_runtime *new_runtime(const struct leat_config *config)
{
    struct leat_error err;
    leat_runtime *rt = leat_new(config, &err);
    if (!rt) {
        printf("leat_new: %s\n", err.message);
        exit(1);
    }
    return rt;
}

static struct seen eval(leat_runtime *rt, const char *source)
{
    struct seen s = {.calls = 0};
    struct leat_error err = {"", ""};
    if (!leat_eval(rt, "=test", source, SIZE_MAX, NULL, 0, on_done, &s, &err)) {
        snprintf(s.text, sizeof s.text, "%s", err.message);
        snprintf(s.kind, sizeof s.kind, "%s", err.kind);
        return s;
    }
    leat_run(rt);
    return s;
}

/* ---- values */

static void test_values(void)
{
    leat_value *t = leat_table();
    CHECK(leat_append(t, leat_number(1.5)) && leat_append(t, leat_boolean(false)));
    CHECK(leat_set(t, "name", leat_string("a\0b", 3)));
    CHECK(leat_set(t, "name", leat_string("again", SIZE_MAX)));
    CHECK(leat_length(t) == 2 && leat_field_count(t) == 1);
    CHECK(strcmp(leat_to_string(leat_field(t, "name"), NULL), "again") == 0);
    CHECK(strcmp(leat_field_name(t, 0), "name") == 0 && !leat_field_name(t, 1));
    CHECK(!leat_append(t, NULL) && !leat_append(NULL, leat_number(1)));
    CHECK(leat_at(t, 7) == NULL && leat_type_of(NULL) == LEAT_NIL);
    CHECK(!leat_to_boolean(NULL) && leat_to_boolean(leat_at(t, 0)));
    leat_value_free(t);
}

/* ---- host functions that answer at once */

static leat_value *sum(void *arg, const leat_value *const *args, size_t count,
                       struct leat_error *err)
{
    double *factor = arg, total = 0;
    if (count == 0) {
        snprintf(err->kind, sizeof err->kind, "invalid");
        snprintf(err->message, sizeof err->message, "nothing to add");
        return NULL;
    }
    for (size_t i = 0; i < leat_length(args[0]); i++)
        total += leat_to_number(leat_at(args[0], i), 0);
    leat_value *t = leat_table();
    leat_set(t, "total", leat_number(total * *factor));
    leat_set(t, "echo", leat_string(leat_to_string(leat_field(args[0], "tag"), NULL), SIZE_MAX));
    return t;
}

/* How many items came, how many of them are nil, and the field "50256". */
static leat_value *parts(void *arg, const leat_value *const *args, size_t count,
                         struct leat_error *err)
{
    (void)arg;
    (void)count;
    (void)err;
    size_t n = leat_length(args[0]), nils = 0;
    for (size_t i = 0; i < n; i++)
        nils +=
            leat_type_of(leat_at(args[0], i)) == LEAT_NIL && !leat_to_boolean(leat_at(args[0], i));
    char text[64];
    snprintf(text, sizeof text, "%zu items, %zu nil, %g", n, nils,
             leat_to_number(leat_field(args[0], "50256"), 0));
    return leat_string(text, SIZE_MAX);
}

static leat_value *status_of(void *arg, const leat_value *const *args, size_t count,
                             struct leat_error *err)
{
    (void)arg;
    (void)count;
    (void)err;
    bool has_ok = leat_type_of(leat_field(args[0], "ok")) == LEAT_BOOLEAN;
    return leat_number(has_ok ? leat_to_number(leat_field(args[0], "status"), 0) : -1);
}

static void test_functions(void)
{
    double factor = 2;
    struct leat_error err;
    leat_runtime *rt = new_runtime(&(struct leat_config){.user = &factor});
    CHECK(leat_user(rt) == &factor);
    CHECK(leat_register(rt, "game.sum", sum, &factor, &err));
    CHECK(leat_register(rt, "sum", sum, &factor, &err));
    CHECK(!leat_register(rt, "a.b.c", sum, &factor, &err) && strcmp(err.kind, "invalid") == 0);
    CHECK(!leat_register(rt, "print.x", sum, &factor, &err));
    CHECK(leat_register(rt, "parts", parts, NULL, &err));
    CHECK(leat_register(rt, "status_of", status_of, NULL, &err));
    struct seen s = eval(rt, "local r = game.sum { 1, 2, 3, tag = 'x' } return r.total, r.echo");
    CHECK(s.calls == 1 && s.status == LEAT_OK && s.count == 2 && s.number == 12);
    s = eval(
        rt,
        "local server = leat.simulate('http://s.test', function() return { status = 404 } end)\n"
        "local seen\n"
        "leat.pipeline():each({ 1 }, function()\n"
        "    seen = status_of(request 'http://s.test/')\n"
        "    return true\n"
        "end)\n"
        "server:close()\n"
        "return seen");
    CHECK(s.status == LEAT_OK && s.number == 404);
    s = eval(rt, "local v, err = sum() return err.kind .. ': ' .. err.message");
    CHECK(strcmp(s.text, "invalid: nothing to add") == 0);
    const char *bad[] = {
        "sum(print)",        "local t = {} t.t = t sum(t)", "sum { 1, nil, 3 }",
        "sum { [2.5] = 1 }", "sum { ['a\\0b'] = 1 }",       "sum(unpack({}, 1, 65))"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        s = eval(rt, bad[i]);
        CHECK(s.status == LEAT_RAISED && strstr(s.text, "sum: "));
    }
    s = eval(rt, "return parts(json.object { [50256] = -100, [1] = 1 })");
    CHECK(strcmp(s.text, "0 items, 0 nil, -100") == 0);
    s = eval(rt, "return parts(leat.map({ 1, 2, 3 }, function(x) return x < 2 and x or nil end))");
    CHECK(strcmp(s.text, "3 items, 2 nil, 0") == 0);
    s = eval(rt, "return parts { json.null, 1 }");
    CHECK(strcmp(s.text, "2 items, 1 nil, 0") == 0);
    s = eval(rt, "return parts(leat.map({}, print))");
    CHECK(strcmp(s.text, "0 items, 0 nil, 0") == 0);
    leat_free(rt);
}

/* ---- calls of script functions */

static void test_calls(void)
{
    struct leat_error err;
    leat_runtime *rt = new_runtime(NULL);
    CHECK(eval(rt, "function greet(who, n) sleep(0.001) return 'hello ' .. who.name, n + 1 end "
                   "function fail() return nil, leat.error{kind='closed', message='gone'} end "
                   "npc = { bug = function() error 'a bug' end, odd = function() return print end,"
                   "hang = function() sleep(1000) end }")
              .status == LEAT_OK);
    leat_value *who = leat_table(), *n = leat_number(41);
    leat_set(who, "name", leat_string("you", SIZE_MAX));
    const leat_value *args[] = {who, n};
    struct seen s = {.rt = rt};
    CHECK(leat_call(rt, "greet", args, 2, on_done, &s, &err) > 0);
    leat_value_free(who); /* copied */
    leat_value_free(n);
    leat_run(rt);
    CHECK(s.calls == 1 && s.count == 2 && strcmp(s.text, "hello you") == 0);
    CHECK(s.stepped == LEAT_REFUSED);
    struct seen f = {.calls = 0}, b = {.calls = 0}, o = {.calls = 0}, h = {.calls = 0};
    leat_call(rt, "fail", NULL, 0, on_done, &f, &err);
    leat_call(rt, "npc.bug", NULL, 0, on_done, &b, &err);
    leat_call(rt, "npc.odd", NULL, 0, on_done, &o, &err);
    uint64_t id = leat_call(rt, "npc.hang", NULL, 0, on_done, &h, &err);
    leat_step(rt, 100000);
    CHECK(f.status == LEAT_FAILED && strcmp(f.kind, "closed") == 0 && strcmp(f.text, "gone") == 0);
    CHECK(b.status == LEAT_RAISED && strstr(b.text, "a bug"));
    CHECK(o.status == LEAT_FAILED && strstr(o.text, "cannot be passed"));
    CHECK(h.calls == 0 && leat_timeout_ms(rt) > 100000 && leat_backend_fd(rt) >= 0);
    CHECK(leat_cancel(rt, id) && leat_timeout_ms(rt) == 0);
    leat_run(rt);
    CHECK(h.calls == 1 && h.status == LEAT_CANCELLED && !leat_cancel(rt, id));
    CHECK(leat_call(rt, "nothing", NULL, 0, on_done, &h, &err) == 0 &&
          strstr(err.message, "nothing"));
    CHECK(leat_eval(rt, "=x", "x = = 1", SIZE_MAX, NULL, 0, NULL, NULL, &err) == 0);
    CHECK(strcmp(err.kind, "script") == 0);
    CHECK(leat_eval(rt, "=x", "\033LJ", SIZE_MAX, NULL, 0, NULL, NULL, &err) == 0);
    struct leat_stats stats;
    leat_get_stats(rt, &stats);
    CHECK(stats.tasks == 0 && stats.bytes > 0 && stats.peak >= stats.bytes);
    struct seen last = {.calls = 0};
    leat_call(rt, "npc.hang", NULL, 0, on_done, &last, &err);
    leat_step(rt, 1000);
    leat_free(rt); /* tells those that wait */
    CHECK(last.calls == 1 && last.status == LEAT_CANCELLED);
}

/* ---- host functions that take their time */

struct job {
    leat_mailbox *box;
    uint64_t call;
    double number;
};

struct worker {
    leat_mailbox *box;
    int started, cancelled;
    uint64_t last;
    bool hold; /* nobody completes it */
};

static void *work(void *arg)
{
    struct job *job = arg;
    struct leat_error err = {"", ""};
    if (job->number < 0) {
        snprintf(err.kind, sizeof err.kind, "io");
        snprintf(err.message, sizeof err.message, "the disk is gone");
    }
    leat_complete(job->box, job->call, leat_number(job->number * 2), &err);
    leat_complete(job->box, job->call, leat_number(0), NULL); /* twice: refused */
    leat_mailbox_release(job->box);
    free(job);
    return NULL;
}

static void start_work(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    struct worker *w = arg;
    w->started++;
    w->last = call;
    if (w->hold)
        return;
    struct job *job = malloc(sizeof *job);
    *job = (struct job){w->box, call, count > 0 ? leat_to_number(args[0], 0) : 0};
    leat_mailbox_retain(w->box);
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, work, job) != 0)
        abort();
    pthread_attr_destroy(&detached);
}

static void cancel_work(void *arg, uint64_t call)
{
    struct worker *w = arg;
    if (call > 0)
        w->cancelled++;
}

static void test_async(void)
{
    struct leat_error err;
    leat_runtime *rt = new_runtime(NULL);
    struct worker w = {.box = leat_mailbox_of(rt)};
    CHECK(leat_register_async(rt, "host.double", start_work, cancel_work, &w, &err));
    struct seen s = eval(rt, "local r = assert(leat.map({1, 2, 3, 4, 5, 6, 7, 8}, function(x)"
                             " return host.double(x) end)) local n = 0 "
                             "for i = 1, 8 do n = n + r[i] end return n");
    CHECK(s.status == LEAT_OK && s.number == 72 && w.started == 8 && w.cancelled == 0);
    s = eval(rt, "local v, e = host.double(-1) return e.kind .. ': ' .. e.message");
    CHECK(strcmp(s.text, "io: the disk is gone") == 0);
    w.hold = true;
    s = eval(rt, "local v, e = wait_for(0.01, host.double, 1) return e.kind");
    CHECK(strcmp(s.text, "timeout") == 0 && w.cancelled == 1);
    CHECK(!leat_complete(w.box, w.last, leat_string("late", 4), NULL)); /* harmless */
    s = eval(rt, "local t = spawn(host.double, 1) sleep(0) t:cancel() return t:await() == nil");
    CHECK(w.cancelled == 2);
    s = eval(rt, "local t = spawn(host.double, 1) t:cancel() return t:await() == nil");
    CHECK(w.started == 11 && w.cancelled == 2); /* cancelled before it began */
    /* Completed before the wait: from within start. */
    struct seen open = {.calls = 0};
    leat_eval(rt, "=x", "return host.double(1)", SIZE_MAX, NULL, 0, on_done, &open, &err);
    leat_step(rt, 1000);
    leat_mailbox *box = w.box;
    leat_mailbox_retain(box);
    uint64_t call = w.last;
    leat_free(rt);
    CHECK(open.calls == 1 && open.status == LEAT_CANCELLED && w.cancelled == 3);
    CHECK(!leat_complete(box, call, leat_number(1), NULL)); /* the runtime is gone */
    leat_mailbox_release(box);
}

static void start_at_once(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    (void)args;
    (void)count;
    leat_complete(arg, call, leat_string("at once", SIZE_MAX), NULL);
}

static void test_completed_at_once(void)
{
    struct leat_error err;
    leat_runtime *rt = new_runtime(NULL);
    leat_register_async(rt, "now", start_at_once, NULL, leat_mailbox_of(rt), &err);
    struct seen s = eval(rt, "return now()");
    CHECK(s.status == LEAT_OK && strcmp(s.text, "at once") == 0);
    leat_free(rt);
    rt = new_runtime(&(struct leat_config){.sandbox = LEAT_SANDBOX_RESTRICTED});
    leat_register_async(rt, "tools.now", start_at_once, NULL, leat_mailbox_of(rt), &err);
    s = eval(rt, "return io == nil and tools.now() or 'no'");
    CHECK(strcmp(s.text, "at once") == 0);
    leat_free(rt);
}

/* ---- completions that meet cancels, limits and the end of the runtime */

enum { OPEN_CALLS = 1024, FINISHERS = 3, ROUNDS = 15 };

struct office {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job jobs[OPEN_CALLS];
    size_t count;
    bool closed;
    int started, told, taken, refused, twice, unheard; /* under the lock */
};

static void hand_out(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    struct office *o = arg;
    leat_mailbox *box = NULL;
    pthread_mutex_lock(&o->lock);
    o->started++;
    if (count > 0 && o->count < OPEN_CALLS)
        memcpy(&box, leat_to_string(args[0], NULL), sizeof box);
    if (box) {
        leat_mailbox_retain(box);
        o->jobs[o->count++] = (struct job){box, call, 1};
    } else {
        o->unheard++; /* wait_for ends it */
    }
    pthread_cond_signal(&o->more);
    pthread_mutex_unlock(&o->lock);
}

static void tell_off(void *arg, uint64_t call)
{
    struct office *o = arg;
    (void)call;
    pthread_mutex_lock(&o->lock);
    o->told++;
    pthread_mutex_unlock(&o->lock);
}

static void *finish_jobs(void *arg)
{
    struct office *o = arg;
    const struct leat_error gone = {"io", "gone"};
    pthread_mutex_lock(&o->lock);
    for (unsigned n = 0; !o->closed || o->count > 0; n++) {
        if (o->count == 0) {
            pthread_cond_wait(&o->more, &o->lock);
            continue;
        }
        size_t i = n * 7919 % o->count;
        struct job job = o->jobs[i];
        o->jobs[i] = o->jobs[--o->count];
        pthread_mutex_unlock(&o->lock);
        leat_value *result = leat_table();
        leat_append(result, leat_string("done", SIZE_MAX));
        bool taken = leat_complete(job.box, job.call, result, n % 3 == 0 ? &gone : NULL);
        bool twice = leat_complete(job.box, job.call, leat_number(0), NULL);
        leat_mailbox_release(job.box);
        pthread_mutex_lock(&o->lock);
        o->taken += taken;
        o->refused += !taken;
        o->twice += twice;
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

static void test_races(void)
{
    static struct office o = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    const char *source = "local box, n = ..., 0\n"
                         "leat.each(function() n = n + 1 return n < 300 and n or nil end,\n"
                         "    function(i) return wait_for(i % 7 * 1e-4, work, box, { i }) end,\n"
                         "    { limit = 20 })";
    pthread_t threads[FINISHERS];
    for (int i = 0; i < FINISHERS; i++) {
        if (pthread_create(&threads[i], NULL, finish_jobs, &o) != 0)
            abort();
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct leat_error err;
        leat_runtime *rt =
            new_runtime(&(struct leat_config){.network_threads = (unsigned)round % 2});
        leat_mailbox *box = leat_mailbox_of(rt);
        leat_value *where = leat_string((const char *)&box, sizeof box);
        const leat_value *args[] = {where};
        CHECK(leat_register_async(rt, "work", hand_out, tell_off, &o, &err));
        uint64_t ids[4];
        for (int i = 0; i < 4; i++)
            ids[i] = leat_eval(rt, "=race", source, SIZE_MAX, args, 1, NULL, NULL, &err);
        leat_value_free(where);
        for (int i = 0; i < 20 * round; i++) {
            leat_step(rt, 200);
            if (i % 50 == 49)
                leat_cancel(rt, ids[i / 50 % 4]);
        }
        leat_free(rt);
    }
    pthread_mutex_lock(&o.lock);
    o.closed = true;
    pthread_cond_broadcast(&o.more);
    pthread_mutex_unlock(&o.lock);
    for (int i = 0; i < FINISHERS; i++)
        pthread_join(threads[i], NULL);
    /* Each call ended in one way: the host was told, or its completion was taken. */
    CHECK(o.started > 0 && o.told + o.taken == o.started);
    CHECK(o.taken + o.refused + o.unheard == o.started && o.twice == 0);
}

/* ---- misuse */

static void *misuse(void *arg)
{
    leat_runtime *rt = arg;
    struct leat_error err;
    CHECK(leat_step(rt, 10) == LEAT_REFUSED);
    CHECK(leat_run(rt) == LEAT_MISUSE);
    CHECK(!leat_start_string(rt, "=x", "return 1", 8, NULL, &err));
    CHECK(strstr(err.message, "another thread") != NULL);
    CHECK(leat_call(rt, "print", NULL, 0, NULL, NULL, &err) == 0);
    leat_free(rt);
    return NULL;
}

static void test_misuse(void)
{
    leat_runtime *rt = new_runtime(NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, misuse, rt) != 0)
        abort();
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(leat_step(rt, 10) == LEAT_REFUSED ? 7 : 1);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(eval(rt, "return 5").number == 5); /* the parent's goes on */
    leat_free(rt);
}

static leat_value *all_given(void *arg, const leat_value *const *args, size_t count,
                             struct leat_error *err)
{
    (void)args;
    (void)count;
    (void)err;
    *(bool *)arg = true;
    return NULL;
}

/* Nobody closes the writer: leat_free writes its lines all the same, and waits until they are
 * written. */
static void test_lines(void)
{
    char path[] = "/tmp/leat-lines.XXXXXX", code[512];
    int fd = mkstemp(path), lines = 0;
    CHECK(fd >= 0);
    leat_runtime *rt = new_runtime(NULL);
    struct leat_error err;
    bool given = false;
    CHECK(leat_register(rt, "all_given", all_given, &given, &err));
    int len = snprintf(code, sizeof code,
                       "local w = assert(require 'leat'.jsonl.writer('%s')) "
                       "for i = 1, 20000 do assert(w:write { i = i }) end all_given() "
                       "sleep(1000)",
                       path);
    CHECK(leat_start_string(rt, "=lines", code, (size_t)len, NULL, &err));
    while (!given) {
        if (leat_step(rt, 100000) == LEAT_IDLE && !given)
            poll(&(struct pollfd){.fd = leat_backend_fd(rt), .events = POLLIN}, 1,
                 leat_timeout_ms(rt));
    }
    leat_free(rt);
    FILE *f = fdopen(fd, "r");
    for (int c = f ? getc(f) : EOF; c != EOF; c = getc(f))
        lines += c == '\n';
    CHECK(lines == 20000);
    if (f)
        fclose(f);
    unlink(path);
}

int main(void)
{
    test_lines();
    test_values();
    test_functions();
    test_calls();
    test_async();
    test_completed_at_once();
    test_races();
    test_misuse();
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
