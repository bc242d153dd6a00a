#include "h2d.h"

enum { LISTED = 20 };

static struct h2_stats stats;
static unsigned long effects, duplicates;
static char *listed[LISTED];

struct h2_stats *h2_stats(void)
{
    return &stats;
}

void effect(struct stream *s)
{
    if (s->id > s->session->processed)
        s->session->processed = s->id;
    const char *id = request_header(&s->req, "x-id");
    if (!id)
        return;
    effects++;
    if (seen_add(id) != 2)
        return;
    if (duplicates < LISTED) {
        listed[duplicates] = xmalloc(strlen(id) + 1);
        memcpy(listed[duplicates], id, strlen(id));
    }
    duplicates++;
}

void h2_stats_json(struct bytes *out)
{
    bytes_printf(out,
                 "{\"connections\":%lu,\"connections_open\":%lu,\"streams_open\":%lu,"
                 "\"peak_streams\":%lu,\"requests\":%lu,\"effects\":%lu,\"duplicates\":%lu,"
                 "\"duplicate_ids\":[",
                 stats.connections, stats.connections_open, stats.streams_open, stats.peak_streams,
                 stats.requests, effects, duplicates);
    for (unsigned long i = 0; i < LISTED && i < duplicates; i++) {
        bytes_printf(out, i ? "," : "");
        bytes_json(out, listed[i], strlen(listed[i]));
    }
    bytes_printf(out, "]}\n");
}

void h2_stats_reset(void)
{
    for (unsigned long i = 0; i < LISTED && i < duplicates; i++)
        free(listed[i]);
    effects = duplicates = 0;
    stats.connections = stats.requests = stats.peak_streams = 0;
    stats_reset();
}

/* What the parts shared with faultd ask for, and is of HTTP/1 and proxies alone. */

bool route_is_early(const char *path)
{
    (void)path;
    return false;
}

void proxy_stats_json(struct bytes *out)
{
    (void)out;
}

void proxy_stats_reset(void)
{
}
