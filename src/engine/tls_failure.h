/* Why TLS failed: the error that a script sees. All are of kind ERR_TLS and phase PHASE_TLS. The
 * reason of a certificate that is refused is "verify". */
#pragma once

#include "engine/tls_settings.h"
#include "ground/err.h"

struct ssl_st;

/* `code` is libcurl's number of this failure, as scripts know it. */
enum err_kind tls_failure_ca_file(const char *path, struct err *err);
enum err_kind tls_failure_client_certificate(const struct tls_settings *settings, struct err *err);

struct tls_failed_handshake {
    const struct ssl_st *ssl;
    const struct tls_settings *settings;
    const char *host;
    unsigned port;
    int os_error;  /* of the descriptor; 0: none */
    bool ended;    /* the peer has closed */
    bool answered; /* the peer has spoken TLS before: no word of plain HTTP */
};

/* Reads OpenSSL's error queue. The message has no request in it, and ends without a full stop.
 * Retryable is what was cut off. */
enum err_kind tls_failure_handshake(const struct tls_failed_handshake *f, struct err *err);
