/* A host in C that knows Leat only as it is installed: a script calls a function of the host's and
 * returns a value to it. Prints "4 letters". */
#include <leat.h>
#include <stdio.h>
#include <string.h>

static leat_value *letters(void *arg, const leat_value *const *args, size_t count,
                           struct leat_error *err)
{
    (void)arg;
    size_t len = 0;
    if (count != 1 || !leat_to_string(args[0], &len)) {
        snprintf(err->kind, sizeof err->kind, "invalid");
        snprintf(err->message, sizeof err->message, "letters takes a word");
        return NULL;
    }
    return leat_number((double)len);
}

static void done(void *arg, uint64_t id, enum leat_status status, const leat_value *const *results,
                 size_t count, const struct leat_error *err)
{
    (void)id;
    if (status == LEAT_OK && count == 1)
        *(double *)arg = leat_to_number(results[0], -1);
    else
        fprintf(stderr, "the script: %s\n", err ? err->message : "no result");
}

int main(void)
{
    struct leat_error err = {"", ""};
    leat_runtime *rt = leat_new(&(struct leat_config){.sandbox = LEAT_SANDBOX_RESTRICTED}, &err);
    leat_value *word = leat_string("leat", SIZE_MAX);
    const leat_value *args[] = {word};
    const char *source = "return letters(...)";
    double answer = -1;
    if (rt && leat_register(rt, "letters", letters, NULL, &err) &&
        leat_eval(rt, "=host", source, strlen(source), args, 1, done, &answer, &err))
        leat_run(rt);
    else
        fprintf(stderr, "%s: %s\n", err.kind, err.message);
    leat_value_free(word);
    leat_free(rt);
    if (answer < 0)
        return 1;
    printf("%g letters\n", answer);
}
