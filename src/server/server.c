#include "server/server.h"

void server_init(struct server *s, const struct server_config *config)
{
    *s = (struct server){.mem = config->mem,
                         .log = config->log,
                         .max_body = config->max_body,
                         .events = config->events,
                         .owner = config->owner,
                         .refs = 1};
    list_init(&s->requests);
    list_init(&s->line);
}

void server_hold(struct server *s)
{
    s->refs++;
}

void server_release(struct server *s)
{
    if (--s->refs == 0)
        mem_free(s->mem, s);
}

void server_log_lost(struct server *s)
{
    log_write(s->log, LOG_ERROR, "serve: a request cannot be served: not enough memory");
}
