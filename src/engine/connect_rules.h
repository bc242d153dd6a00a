/* Which hosts and addresses may be connected to. Rules are words in a list, by commas or spaces:
 *
 * - public: any address that is not private, loopback, link-local, multicast or reserved
 * - 10.0.0.0/8, ::1: an address, or a block of addresses
 * - api.example.com: a host by its name; *.example.com: the hosts beneath it; both may have a
 * ":port"
 * - any: everything
 *
 * If there are rules for names, the host of a URL must match one, unless it is an address that a
 * rule for addresses allows. If there are rules for addresses, the address that is really connected
 * to must match one, whatever name led to it; so no name passes where a proxy looks it up. */
#pragma once

#include "ground/err.h"
#include "ground/mem.h"
#include <sys/socket.h>

struct targets;

/* ERR_INVALID (the message names the rule) or ERR_MEMORY. */
NODISCARD enum err_kind targets_new(struct targets **out, struct mem *mem, const char *rules,
                                    struct err *err);
void targets_free(struct targets *t);
/* `host` as in a URL: lower case, IPv6 in brackets. `t` NULL: everything is allowed. */
bool targets_allow_host(const struct targets *t, const char *host, unsigned port);
bool targets_allow_address(const struct targets *t, const struct sockaddr *address);
/* True if anything is forbidden. */
bool targets_limit(const struct targets *t);
/* True if the address decides, whatever name led to it. */
bool targets_limit_addresses(const struct targets *t);
