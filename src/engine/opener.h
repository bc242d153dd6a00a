/* An easy handle of libcurl that opens connections, one after the other, and what libcurl borrows
 * meanwhile. */
#pragma once

#include "engine/connect_target.h"
#include "ground/list.h"
#include <curl/curl.h>

struct connect_attempt;

struct opener {
    struct list node; /* the owner's */
    CURL *easy;       /* NULL: opener_prepare makes one */
    struct connect_attempt *attempt;
    unsigned number; /* unique in its multi */
    bool plain;      /* it was set up for a connection without a proxy or unix socket */
    bool named;      /* libcurl's address book has an entry of ours, for this port */
    unsigned named_port;
    struct curl_slist forget, learn, learn_proxy; /* of the address book */
    char forget_text[40];
    char words[CURL_ERROR_SIZE];
};

void opener_init(struct opener *o, unsigned number);
void opener_fini(struct opener *o);
/* How many bytes of `line` opener_prepare needs. */
size_t opener_line_size(const struct connect_target *to);
/* Sets the options of a connect. `to` and `line` must stay until opener_settle. ERR_MEMORY,
 * ERR_INVALID. `on_socket` gets the opener. */
NODISCARD enum err_kind opener_prepare(struct opener *o, const struct connect_target *to,
                                       char *line, curl_opensocket_callback on_socket,
                                       struct err *err);
/* The transfer was removed from the multi. Keeps the handle only if the next connect may use it. */
void opener_settle(struct opener *o);
