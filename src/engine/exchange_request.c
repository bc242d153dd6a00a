#include "engine/exchange_request.h"
#include "engine/exchange_types.h"
#include <string.h>
#include <strings.h>

enum { RESENDS_MAX = 1 };

bool exchange_sends_body(const struct exchange *x)
{
    if (x->drop_body || strcmp(x->method, "HEAD") == 0)
        return false;
    return x->transfer->spec.body || x->transfer->spec.upload || strcmp(x->method, "POST") == 0 ||
           strcmp(x->method, "PUT") == 0 || strcmp(x->method, "PATCH") == 0;
}

bool exchange_idempotent(const struct exchange *x)
{
    return transfer_idempotent_as(x->transfer, x->method);
}

const char *exchange_connect_to(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    const char *line = spec->connect_to;
    size_t host_len = strlen(g->host);
    for (size_t i = 0; i < spec->connect_to_count; i++, line += strlen(line) + 1) {
        if (strncasecmp(line, g->host, host_len) != 0 || line[host_len] != ':')
            continue;
        const char *port = line + host_len + 1;
        if (*port == ':' || (unsigned)strtoul(port, NULL, 10) == g->port)
            return line;
    }
    return NULL;
}

const char *exchange_proxy(const struct exchange *x)
{
    const struct transfer_spec *spec = &x->transfer->spec;
    const struct origin *g = x->url->origin;
    if (spec->unix_socket)
        return NULL;
    const char *proxy =
        spec->proxy ? spec->proxy : proxy_for(&x->engine->proxy_env, g->https, g->host);
    return proxy && *proxy ? proxy : NULL;
}

bool exchange_may_share(const struct exchange *x)
{
    enum http_version version = x->transfer->spec.http_version;
    return x->url->origin->https ? version != HTTP_VERSION_1_1 : version == HTTP_VERSION_2_PRIOR;
}

bool exchange_is_tunnel(const struct exchange *x)
{
    return x->url->origin->https || exchange_connect_to(x);
}

bool exchange_asks_proxy(const struct exchange *x)
{
    return x->proxy && proxy_kind_of(x->proxy) == PROXY_HTTP && !exchange_is_tunnel(x);
}

bool exchange_is_securing(const struct exchange *x)
{
    const struct exchange *dials = list_linked(&x->wait_node) ? x->pool->dialing : x;
    return dials && dials->dial.is_securing;
}

bool exchange_may_resend(const struct exchange *x)
{
    return x->reused && !x->transfer->spec.upload && x->relaunches < RESENDS_MAX &&
           exchange_idempotent(x) && !x->transfer->spec.once;
}
