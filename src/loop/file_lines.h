/* Lines on their way into a file. A line that was added is written at once by one of libuv's
 * threads, while the loop's thread goes on; lines that are added meanwhile go out together. The
 * thread takes whole lines only, so the file never ends with a part of one. Knows no Lua.
 *
 * One thread adds (the loop's) and one takes, without a lock: so a signal handler on the loop's
 * thread can write what is left, wherever it interrupted that thread (file_lines_rescue). */
#pragma once

#include "ground/err.h"
#include "ground/list.h"
#include "loop/loop.h"
#include <stdatomic.h>

struct file_chunk;

struct file_lines {
    struct list node;    /* the owner's list */
    struct list waiters; /* the owner's */
    void *owner;         /* the owner's; NULL: nobody adds any more */
    bool told;           /* the owner's: someone was given the failure */
    bool again;          /* the owner's: lines that failed may be tried again */
    char *name;          /* for messages; owned */
    bool durable;        /* each line goes to the disk, not only into the file */
    _Atomic uint64_t added, written, synced; /* read-only: bytes */
    _Atomic int error;    /* read-only: a positive errno; 0: none. Nothing is written after it. */
    _Atomic bool syncing; /* read-only, with error: it was the disk that failed, not the write */

    /* private */
    struct loop *loop;
    struct mem *mem;
    int fd;
    struct file_chunk *oldest, *newest; /* the adding thread's */
    _Atomic(struct file_chunk *) head;  /* the taking thread's; so is `taken` */
    size_t taken;
    _Atomic uint64_t sync_to;  /* what is to be on the disk */
    _Atomic bool working;      /* a thread takes, or is about to */
    _Atomic bool working_here; /* the adding thread takes by itself */
    bool queued;               /* the loop has not heard of its end yet */
    bool regular;              /* a file, no pipe or device */
    uv_work_t work;
};

/* Takes over `fd`, also where it fails (NULL: no memory). The loop must turn until file_lines_idle
 * before it is freed. */
NODISCARD struct file_lines *file_lines_new(struct loop *loop, struct mem *mem, int fd,
                                            const char *name, bool durable);
/* Closes the descriptor unless that is done. What was not written is lost. */
void file_lines_free(struct file_lines *o);

/* Adds a line; its end is added here. ERR_MEMORY: it was not. */
NODISCARD enum err_kind file_lines_add(struct file_lines *o, const char *text, size_t len);
/* Everything up to now is to go onto the disk. */
void file_lines_sync(struct file_lines *o);
/* Everything is written, and on the disk where that was asked for. */
bool file_lines_done(const struct file_lines *o);
/* No thread is at work and none is owed to the loop. */
bool file_lines_idle(const struct file_lines *o);
/* Begins again after a failed write, with what was not written. */
void file_lines_retry(struct file_lines *o);
typedef bool (*file_lines_piece_fn)(void *arg, const char *text, size_t len);
/* What is not written, piece by piece, until `fn` returns false. Only when idle. */
void file_lines_rest(const struct file_lines *o, file_lines_piece_fn fn, void *arg);
/* Closes the descriptor: 0 or an errno. Only when idle. */
int file_lines_close(struct file_lines *o);
/* From a signal handler on the loop's thread, before the process ends: waits until `until_ns` (by
 * CLOCK_MONOTONIC) for a thread that is at work, and writes the rest. */
void file_lines_rescue(struct file_lines *o, uint64_t until_ns);
