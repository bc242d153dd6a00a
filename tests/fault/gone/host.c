/* A host without a handler for SIGPIPE, whose peers go away while it writes to them.
 *     gone_host ADDRESS CERTIFICATE NETWORK_THREADS
 * Prints each failure that is not as it must be; status 1: there was one. */
#include "leat.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char script[] =
    "local url, ca, bad = arg[1], arg[2], 0\n"
    "local function check(what, res, err)\n"
    "    if res or err.kind ~= 'closed' then\n"
    "        bad = bad + 1\n"
    "        print(what, res and res.status, err)\n"
    "    end\n"
    "end\n"
    "local block = ('x'):rep(65536)\n"
    "local bodies = { text = function() return block:rep(64) end, steps = function()\n"
    "    local n = 0\n"
    "    return function() n = n + 1 sleep(0.001) return n < 100 and block or nil end\n"
    "end }\n"
    "for _, route in ipairs { '/upload-gone?how=reset', '/upload-gone?how=close' } do\n"
    "    for name, body in pairs(bodies) do\n"
    "        leat.each({ 1, 2, 3, 4, 5, 6 }, function()\n"
    "            check(route .. ' ' .. name, request { url = url .. route, method = 'POST',\n"
    "                body = body(), ca_file = ca, timeout = 30 })\n"
    "        end)\n"
    "    end\n"
    "end\n"
    /* Connections that are kept, and gone when they are to be closed properly. */
    "leat.each({ 1, 2, 3, 4 }, function()\n"
    "    local res, err = request { url = url .. '/close-idle', ca_file = ca, timeout = 30 }\n"
    "    if not res then check('/close-idle', res, err) end\n"
    "end)\n"
    "sleep(0.05)\n"
    "assert(request { url = url .. '/ok', ca_file = ca, timeout = 30 })\n"
    "return bad\n";

struct ending {
    enum leat_status status;
    double bad;
};

static void on_done(void *arg, uint64_t id, enum leat_status status,
                    const leat_value *const *results, size_t count, const struct leat_error *err)
{
    struct ending *e = arg;
    (void)id;
    e->status = status;
    e->bad = count > 0 ? leat_to_number(results[0], 1) : 1;
    if (err)
        printf("%s: %s\n", err->kind, err->message);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_DFL); /* whoever started this may have ignored it */
    if (argc != 4)
        return 2;
    struct leat_error err = {"", ""};
    struct ending ending = {.status = LEAT_FAILED, .bad = 1};
    leat_runtime *rt =
        leat_new(&(struct leat_config){.network_threads = (unsigned)atoi(argv[3])}, &err);
    const char *const args[] = {argv[1], argv[2], NULL};
    const struct leat_script it = {
        .name = "=gone", .source = script, .len = sizeof script - 1, .args = args};
    if (!rt || leat_start_script(rt, &it, on_done, &ending, &err) == 0)
        printf("%s: %s\n", err.kind, err.message);
    else
        leat_run(rt);
    leat_free(rt);
    struct sigaction now;
    sigaction(SIGPIPE, NULL, &now);
    bool ours = now.sa_handler == SIG_DFL;
    if (!ours)
        printf("the host's SIGPIPE is not what it was\n");
    return ending.status == LEAT_OK && ending.bad == 0 && ours ? 0 : 1;
}
