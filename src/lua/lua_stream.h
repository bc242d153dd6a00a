/* A transfer that the script holds in its hand: one whose response is read as it comes, or whose
 * body is fed piece by piece. Private to the request binding. */
#pragma once

#include "engine/transfer.h"
#include "ground/lines.h"
#include "ground/sse.h"
#include "lua/lua_rt.h"

enum stream_form { STREAM_BYTES, STREAM_LINES, STREAM_EVENTS };

/* Lives in a userdata ("leat.stream"), whose environment table keeps the error that the script's
 * own side of an upload ended with. */
struct stream {
    struct list node; /* rt->streams, while it has a transfer */
    struct rt *rt;
    struct transfer *t; /* NULL: not begun, or over and let go */
    bool begun, head, done, closed;
    bool broken; /* an error struck between the parser and the script */
    bool failed; /* `err` says how: everything after it gives the same */
    enum { STREAM_GOING, STREAM_BROKEN_OFF, STREAM_WHOLE, STREAM_UNKNOWN } complete;
    struct err err;
    struct task *opener, *reader, *feeder; /* who waits: NULL nobody */
    struct task *owner;                    /* whose end closes it; NULL: nobody's */
    struct task_hook owner_hook;
    struct task_hook feeding_hook; /* of the task that sends the body */
    bool fed;                      /* it has said how that ended */
    const void *response; /* the table that stands for it, to find it among a task's results */
    enum stream_form form;
    size_t asked; /* what the parked reader called read with; 0: for whatever is there */
    union {
        struct sse sse;
        struct lines lines;
    };
};

/* The stream at `index`; raises if it is none. */
struct stream *stream_check(lua_State *L, int index);
/* Parks the running task until the head of the response is there or, without spec.stream, all of
 * it. The transfer is rt->draft, the userdata is at `index`. */
int stream_park(lua_State *L, struct rt *rt, int index);
/* Something new from the engine. */
void stream_event(struct rt *rt, struct transfer *t, unsigned events);
/* Aborts what is under way and frees the transfer. Runs no Lua. */
void stream_close(struct stream *s);
/* Streams that wait for nobody but a reader who is not there. */
size_t stream_count_unread(struct rt *rt);
/* What a task that waits on a stream waits for. */
void stream_describe(struct task *task, char *out, size_t size);
void stream_register(lua_State *L, struct rt *rt);
