/* What carries one hop of an exchange: HTTP/1.1 or HTTP/2. The exchange calls it through this
 * table. It calls the functions of response.h while it carries the hop, and the
 * engine's upcall hop_done as the last. */
#pragma once

#include "ground/base.h"

struct exchange;

struct transport {
    /* The reader has room again, or the upload has bytes again. False: that has ended the hop. */
    bool (*go_on)(struct exchange *x);
    /* The hop is over for the exchange: nothing more is reported. Closes what is not complete. */
    void (*leave)(struct exchange *x);
    /* When the response counts as complete although its end has not come; NEVER_NS: it does not.
     * NULL is allowed. */
    uint64_t (*end_due)(const struct exchange *x);
};

/* How a hop ended. */
enum hop_end {
    HOP_DONE,    /* the response is complete */
    HOP_STOPPED, /* by the exchange: it has the reason */
    HOP_UNSENT,  /* the connection was gone before a byte of the request was sent */
    HOP_LOST,    /* the connection ended before a byte of the response */
    HOP_REFUSED, /* the peer has not processed the request, and says so (HTTP/2) */
    HOP_CUT,     /* the connection ended within the response */
    HOP_RESET,   /* it was broken off within the response */
    HOP_FAILED,  /* for a reason that comes with it */
};
