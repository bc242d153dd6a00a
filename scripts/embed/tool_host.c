/* A tool that runs a user's pipeline script: with limits, in the sandbox, and with one slow
 * function of its own.
 *
 *     cc tool_host.c $(pkg-config --cflags --libs leat) -lpthread -o tool_host && ./tool_host
 * pipeline.lua
 */
#include <leat.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job {
    leat_mailbox *box;
    uint64_t call;
    char word[64];
};

/* On a thread of its own, as slow as it likes; the script's other tasks go on meanwhile. */
static void *look_up(void *arg)
{
    struct job *job = arg;
    char answer[96];
    snprintf(answer, sizeof answer, "%s: %zu letters", job->word, strlen(job->word));
    leat_complete(job->box, job->call, leat_string(answer, SIZE_MAX), NULL);
    leat_mailbox_release(job->box);
    free(job);
    return NULL;
}

static void start_look_up(void *arg, uint64_t call, const leat_value *const *args, size_t count)
{
    const char *word = count > 0 ? leat_to_string(args[0], NULL) : NULL;
    struct job *job = malloc(sizeof *job);
    pthread_t thread;
    struct leat_error err = {.kind = "invalid", .message = "tool.look_up takes a word"};
    if (job && word) {
        *job = (struct job){.box = arg, .call = call};
        snprintf(job->word, sizeof job->word, "%s", word);
        leat_mailbox_retain(job->box);
        if (pthread_create(&thread, NULL, look_up, job) == 0) {
            pthread_detach(thread);
            return;
        }
        leat_mailbox_release(job->box);
    }
    free(job);
    leat_complete(arg, call, NULL, &err);
}

int main(int argc, char **argv)
{
    struct leat_error err = {.message = "usage: tool_host script.lua"};
    struct leat_config limits = {
        .memory_limit = 64u << 20, .time_limit_ms = 2000, .sandbox = LEAT_SANDBOX_RESTRICTED};
    leat_runtime *rt = argc > 1 ? leat_new(&limits, &err) : NULL;
    bool ok =
        rt &&
        leat_register_async(rt, "tool.look_up", start_look_up, NULL, leat_mailbox_of(rt), &err) &&
        leat_start_file(rt, argv[1], NULL, &err);
    if (!ok)
        fprintf(stderr, "tool_host: %s\n", err.message);
    else if (leat_run(rt) != LEAT_OK)
        fprintf(stderr, "tool_host: %s\n", leat_report(rt));
    ok = ok && leat_result(rt) == LEAT_OK;
    leat_free(rt);
    return ok ? 0 : 1;
}
