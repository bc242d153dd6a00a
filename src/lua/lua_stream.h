/* A transfer that the script controls: its response is read while it arrives, or its body is sent
 * piece by piece. Private to the request binding. */
#pragma once

#include "engine/transfer.h"
#include "ground/lines.h"
#include "ground/sse.h"
#include "lua/lua_rt.h"

enum stream_form { STREAM_BYTES, STREAM_LINES, STREAM_EVENTS };

/* Lives in a userdata ("leat.stream"). Its environment table holds the error of the script's own
 * side of an upload. */
struct stream {
    struct list node; /* rt->streams, while it has a transfer */
    struct rt *rt;
    struct transfer *t; /* NULL: not begun, or ended and released */
    bool begun, head, done, closed;
    bool broken; /* an error occurred between the parser and the script */
    bool failed; /* `err` has the reason; every later call fails with it */
    enum { STREAM_GOING, STREAM_BROKEN_OFF, STREAM_WHOLE, STREAM_UNKNOWN } complete;
    struct err err;
    struct task *opener, *reader, *feeder; /* the waiting tasks; NULL: none */
    struct task *owner;                    /* its end closes the stream; NULL: no owner */
    struct task_hook owner_hook;
    struct task_hook feeding_hook; /* of the task that sends the body */
    bool fed;                      /* that task has reported its result */
    const void *response;          /* the table that represents the stream in results */
    enum stream_form form;
    size_t asked; /* size of the parked read; 0: all available bytes */
    union {
        struct sse sse;
        struct lines lines;
    };
};

/* The stream at `index`; raises if it is none. */
struct stream *stream_check(lua_State *L, int index);
/* Parks the running task until the head of the response has arrived or, without spec.stream, the
 * whole response. The transfer is rt->draft, the userdata is at `index`. */
int stream_park(lua_State *L, struct rt *rt, int index);
/* Handles an event of the engine. */
void stream_event(struct rt *rt, struct transfer *t, unsigned events);
/* Aborts the transfer and frees it. Runs no Lua. */
void stream_close(struct stream *s);
/* Counts streams that have not ended and that no task reads. */
size_t stream_count_unread(struct rt *rt);
/* A description of what a task that waits on a stream waits for. */
void stream_describe(struct task *task, char *out, size_t size);
void stream_register(lua_State *L, struct rt *rt);
