/* What the engine's tests stand on: loop, engine and canned server, and the proof at the end that
 * nothing is left of any of them. */
#pragma once

#include "canned.h"
#include "engine/engine.h"
#include "test.h"
#include <dirent.h>

struct rig {
    struct mem mem;
    struct log log;
    struct loop loop;
    struct engine *engine;
    struct canned server;
    int files; /* open when it began */
};

__attribute__((unused)) static int rig_open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

__attribute__((unused)) static void rig_log(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    printf("  log: %s\n", line);
}

__attribute__((unused)) static bool rig_begin_with(struct rig *r, const struct canned_answer *table,
                                                   struct engine_config config)
{
    struct err err;
    mem_init(&r->mem, 0);
    /* libuv keeps two descriptors for the process from its first loop on. */
    if (loop_init(&r->loop, &r->mem, NULL, false, &err) != ERR_NONE)
        return false;
    loop_fini(&r->loop);
    r->files = rig_open_files();
    log_init(&r->log, rig_log, NULL, LOG_INFO);
    canned_start(&r->server, table);
    if (loop_init(&r->loop, &r->mem, NULL, false, &err) != ERR_NONE)
        return false;
    return engine_new(&r->engine, &r->loop, &r->mem, &r->log, &config, &err) == ERR_NONE;
}

__attribute__((unused)) static bool rig_begin(struct rig *r, const struct canned_answer *table)
{
    return rig_begin_with(r, table, (struct engine_config){0});
}

__attribute__((unused)) static void rig_check_idle(struct rig *r)
{
    struct engine_stats s;
    engine_stats(r->engine, &s);
    CHECK_EQ(s.queued, 0);
    CHECK_EQ(s.active, 0);
    CHECK_EQ(s.on_network, 0);
    CHECK_EQ(s.events_waiting, 0);
    CHECK_EQ(engine_pending(r->engine), 0);
    CHECK_EQ(s.submitted, s.succeeded + s.failed + s.cancelled);
}

__attribute__((unused)) static void rig_end(struct rig *r)
{
    rig_check_idle(r);
    engine_free(r->engine);
    loop_fini(&r->loop);
    canned_stop(&r->server);
    CHECK_EQ(r->loop.open_handles, 0);
    CHECK_EQ(r->mem.blocks, 0);
    CHECK_EQ(r->mem.used_bytes, 0);
    CHECK_EQ(rig_open_files(), r->files);
}

/* A transfer to the canned server, prepared. */
__attribute__((unused)) static struct transfer *rig_to(struct rig *r, const char *method,
                                                       const char *path, const char *body)
{
    char url[512];
    struct err err;
    if (strncmp(path, "http", 4) == 0)
        snprintf(url, sizeof url, "%s", path);
    else
        snprintf(url, sizeof url, "http://127.0.0.1:%d%s", r->server.port, path);
    struct transfer *t = transfer_new(&r->mem);
    if (!t)
        abort();
    t->spec.url = mem_strndup(&r->mem, url, strlen(url));
    t->spec.method = mem_strndup(&r->mem, method, strlen(method));
    if (body) {
        t->spec.body = mem_strndup(&r->mem, body, strlen(body));
        t->spec.body_len = strlen(body);
    }
    if (transfer_prepare(t, &err) != ERR_NONE) {
        printf("  prepare: %s\n", err.message);
        abort();
    }
    return t;
}

/* The next event; turns the loop until there is one. */
__attribute__((unused)) static struct transfer *rig_wait(struct rig *r)
{
    struct transfer *t;
    unsigned events;
    while (!(t = engine_next_event(r->engine, &events)))
        loop_turn(&r->loop, true);
    return t;
}

__attribute__((unused)) static struct transfer *rig_run(struct rig *r, struct transfer *t)
{
    engine_submit(r->engine, t);
    struct transfer *done = rig_wait(r);
    CHECK(done == t);
    return t;
}

__attribute__((unused)) static struct transfer *rig_get(struct rig *r, const char *path)
{
    return rig_run(r, rig_to(r, "GET", path, NULL));
}
