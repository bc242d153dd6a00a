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

struct connect_rules;

/* ERR_INVALID (the message names the rule) or ERR_MEMORY. */
NODISCARD enum err_kind connect_rules_new(struct connect_rules **out, struct mem *mem,
                                          const char *rules, struct err *err);
void connect_rules_free(struct connect_rules *t);
/* `host` as in a URL: lower case, IPv6 in brackets. `t` NULL: everything is allowed. */
bool connect_rules_allow_host(const struct connect_rules *t, const char *host, unsigned port);
bool connect_rules_allow_address(const struct connect_rules *t, const struct sockaddr *address);
/* True if anything is forbidden. */
bool connect_rules_restrict(const struct connect_rules *t);
/* True if the address decides, whatever name led to it. */
bool connect_rules_restrict_addresses(const struct connect_rules *t);
