/* The configuration of a runtime by its host, and simple queries. */
#include "host/runtime.h"
#include "host/runtime_guard.h"
#include "host/runtime_hosted.h"
#include <string.h>

#ifndef LEAT_VERSION
#define LEAT_VERSION "0.0.0"
#endif

/* Valid sizes of a leat_config: at least that of the first version, at most a generous maximum. */
#define CONFIG_FIRST (offsetof(struct leat_config, user) + sizeof(void *))
#define CONFIG_MAX 4096

/* Padding at the end would hold random bytes, which a later version would read as its next field.
 */
_Static_assert(sizeof(struct leat_config) ==
                   offsetof(struct leat_config, lua_state) + sizeof(void *),
               "leat_config ends with its last field");

const char *leat_version(void)
{
    return LEAT_VERSION;
}

void *leat_user(leat_runtime *r)
{
    RUNTIME_CHECK(r);
    return r ? r->config.user : NULL;
}

/* ---- the config, which may be that of an older leat.h, or of a newer one */

static enum err_kind read_config(struct leat_config *out, const void *given, size_t size,
                                 struct err *e)
{
    memset(out, 0, sizeof *out);
    if (!given)
        return ERR_NONE;
    if (size < CONFIG_FIRST || size > CONFIG_MAX)
        return err_set(e, ERR_INVALID,
                       "leat_new_sized: %zu is not the size of a leat_config: pass "
                       "sizeof(struct leat_config)",
                       size);
    const unsigned char *bytes = given;
    for (size_t i = sizeof *out; i < size; i++)
        if (bytes[i] != 0)
            return err_set(
                e, ERR_INVALID,
                "leat_new: this program was built with a newer leat.h (leat_config has %zu "
                "bytes there, %zu in leat %s) and uses what is new in it: install the "
                "leat that it was built with, or build it with this one's leat.h",
                size, sizeof *out, LEAT_VERSION);
    memcpy(out, given, MIN(size, sizeof *out));
    if (out->sandbox != LEAT_SANDBOX_FULL && out->sandbox != LEAT_SANDBOX_RESTRICTED)
        return err_set(e, ERR_INVALID,
                       "leat_config.sandbox: %d is not a value of enum leat_sandbox",
                       (int)out->sandbox);
    if (out->loop && out->virtual_time)
        return err_set(e, ERR_INVALID, "leat_config.loop: virtual time needs a loop of its own");
    return ERR_NONE;
}

leat_runtime *leat_new_sized(const struct leat_config *config, size_t size, struct leat_error *err)
{
    struct err e;
    err_clear(&e);
    struct leat_config own;
    struct leat_runtime *r = NULL;
    struct mem boot;
    mem_init(&boot, 0);
    if (read_config(&own, config, size, &e) != ERR_NONE)
        goto fail;
    if (own.lua_state) {
        r = runtime_new_seated(&own, &e);
        runtime_unearth(r);
        if (r)
            return r;
        goto fail;
    }
    mem_set_host(&boot, own.alloc, own.alloc_arg);
    r = mem_calloc(&boot, sizeof *r);
    if (!r) {
        err_set(&e, ERR_MEMORY, "not enough memory for a runtime");
        goto fail;
    }
    r->config = own;
    runtime_unearth(r);
    if (runtime_open(r, NULL, &e) == ERR_NONE)
        return r;
fail:
    mem_free(&boot, r);
    runtime_set_error(err, err_kind_name(e.kind), e.message);
    return NULL;
}

void leat_get_stats_sized(leat_runtime *r, struct leat_stats *out, size_t size)
{
    RUNTIME_CHECK(r);
    const char *why;
    if (!out)
        return;
    memset(out, 0, size);
    if (!runtime_usable(runtime_host(r), true, &why))
        return;
    struct engine_stats stats;
    engine_glance(r->rt.engine, &stats);
    const struct leat_stats all = {
        .tasks = r->rt.sched.live,
        .queued = stats.queued,
        .active = stats.active,
        .lua_bytes = r->rt.mem.lua_bytes,
        .bytes = r->rt.mem.used_bytes + r->rt.mem.lua_bytes,
        .peak = r->rt.mem.peak_bytes,
        .requests_done = stats.succeeded + stats.failed + stats.cancelled,
    };
    memcpy(out, &all, MIN(size, sizeof all));
}
