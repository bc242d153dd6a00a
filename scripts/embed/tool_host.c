/* A tool that runs a user's script: within limits, in the sandbox, with a slow function of its own.
 *     cc tool_host.c $(pkg-config --cflags --libs leat) -lpthread && ./a.out pipeline.lua */
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
    struct job *job = word ? calloc(1, sizeof *job) : NULL;
    pthread_t thread;
    if (!job) {
        leat_complete(arg, call, NULL,
                      &(struct leat_error){"invalid", "tool.look_up takes a word"});
        return;
    }
    *job = (struct job){.box = arg, .call = call};
    snprintf(job->word, sizeof job->word, "%s", word);
    leat_mailbox_retain(job->box);
    if (pthread_create(&thread, NULL, look_up, job) == 0)
        pthread_detach(thread);
    else
        look_up(job);
}

int main(int argc, char **argv)
{
    struct leat_error err = {.message = "usage: tool_host script.lua"};
    struct leat_config limits = {
        .memory_limit = 64u << 20, .time_limit_ms = 2000, .sandbox = LEAT_SANDBOX_RESTRICTED};
    leat_runtime *rt = argc > 1 ? leat_new(&limits, &err) : NULL;
    leat_mailbox *box = leat_mailbox_of(rt);
    const char *said = err.message;
    enum leat_status status = LEAT_MISUSE;
    if (rt && leat_register_async(rt, "tool.look_up", start_look_up, NULL, box, &err) &&
        leat_start_file(rt, argv[1], NULL, &err)) {
        status = leat_run(rt);
        said = leat_report(rt);
    }
    if (status != LEAT_OK)
        fprintf(stderr, "tool_host: %s\n", said);
    leat_free(rt);
    return status != LEAT_OK;
}
