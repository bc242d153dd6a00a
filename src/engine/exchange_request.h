/* What an exchange asks for in this hop, and which way leads there: questions, nothing changes. */
#pragma once

#include "ground/base.h"

struct exchange;

/* The request has a body, even if it is empty. */
bool exchange_sends_body(const struct exchange *x);
/* transfer_idempotent for this hop's method. */
bool exchange_idempotent(const struct exchange *x);
/* True if Leat may send the hop a second time after its connection was lost. */
bool exchange_may_resend(const struct exchange *x);

/* The line of spec.connect_to that leads the hop elsewhere; NULL: none. */
const char *exchange_connect_to(const struct exchange *x);
/* The URL of the proxy on the way; NULL: none. */
const char *exchange_proxy(const struct exchange *x);
/* True if a proxy on the way would only pass bytes on (CONNECT). */
bool exchange_is_tunnel(const struct exchange *x);
/* True if a proxy is asked for the whole URL (plain http through an HTTP proxy). */
bool exchange_asks_proxy(const struct exchange *x);
/* True if the hop may use HTTP/2. */
bool exchange_may_share(const struct exchange *x);
/* True while the TLS handshake is under way that the hop waits for. */
bool exchange_is_securing(const struct exchange *x);
