/* A host's session: a script with a journal, requests, and a function of the host's that a thread
 * of its own completes.
 *     syscalls_host SCRIPT ADDRESS NETWORK_THREADS
 * Standard error gets what the host is told. Status 1: the script did not end well; 3: no runtime;
 * 4: descriptors are left open. */
#include "leat.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct job {
    leat_mailbox *box;
    uint64_t call;
    double number;
};

static void *work(void *arg)
{
    struct job *job = arg;
    leat_complete(job->box, job->call, leat_number(2 * job->number), NULL);
    leat_mailbox_release(job->box);
    free(job);
    return NULL;
}

static void start_double(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    pthread_t thread;
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    *job = (struct job){.box = arg, .call = call, .number = count ? leat_to_number(args[0], 0) : 0};
    leat_mailbox_retain(job->box);
    if (pthread_create(&thread, NULL, work, job) == 0)
        pthread_detach(thread);
    else
        work(job);
}

static void log_line(void *arg, enum leat_log_level level, const char *line)
{
    (void)arg;
    if (level >= LEAT_LOG_WARN)
        fprintf(stderr, "log: %s\n", line);
}

struct ending {
    int calls;
    enum leat_status status;
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct ending *e = arg;
    (void)id;
    (void)results;
    (void)count;
    e->calls++;
    e->status = status;
    if (err)
        fprintf(stderr, "host: %s: %s\n", err->kind, err->message);
}

/* Without pipes: libuv keeps one for the process, for signals. */
static int descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char target[64] = "";
        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) > 0)
            n += strncmp(target, "pipe:", 5) != 0;
    }
    if (dir)
        closedir(dir);
    return n;
}

/* As a game does, which polls between its frames. */
static void run_in_steps(leat_runtime *rt)
{
    struct pollfd fd = {.fd = leat_backend_fd(rt), .events = POLLIN};
    for (;;) {
        enum leat_next next = leat_step(rt, 1000);
        if (next == LEAT_DONE || next == LEAT_REFUSED)
            return;
        if (next == LEAT_IDLE)
            poll(&fd, 1, leat_timeout_ms(rt));
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct leat_error err = {"", ""};
    int before = descriptors();
    unsigned threads = (unsigned)atoi(argv[3]);
    leat_runtime *rt =
        leat_new(&(struct leat_config){.network_threads = threads, .log = log_line}, &err);
    if (!rt) {
        fprintf(stderr, "host: no runtime: %s: %s\n", err.kind, err.message);
        return descriptors() == before ? 3 : 4;
    }
    struct ending ending = {.status = LEAT_FAILED};
    const char *const args[] = {argv[2], NULL};
    const struct leat_script script = {.path = argv[1], .args = args};
    if (!leat_register_async(rt, "host.double", start_double, NULL, leat_mailbox_of(rt), &err) ||
        leat_start_script(rt, &script, on_done, &ending, &err) == 0)
        fprintf(stderr, "host: not started: %s: %s\n", err.kind, err.message);
    else if (threads > 0)
        run_in_steps(rt);
    else
        leat_run(rt);
    bool started = ending.calls > 0;
    leat_free(rt);
    if (started && ending.calls != 1)
        fprintf(stderr, "host: %d ends of one script\n", ending.calls);
    int left = descriptors() - before;
    if (left > 0) {
        fprintf(stderr, "host: %d descriptors are left open\n", left);
        return 4;
    }
    return ending.status == LEAT_OK ? 0 : 1;
}
