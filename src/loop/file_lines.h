/* Lines that are being written to a file. One of libuv's threads writes an added line at once,
 * while the loop's thread continues. Lines that are added meanwhile are written together. The
 * thread writes whole lines only, so the file never ends with a part of a line. Does not know Lua.
 *
 * One thread adds lines (the loop's), one thread takes them, and there is no lock. Therefore, a
 * signal handler on the loop's thread can write the rest, wherever it interrupted that thread
 * (file_lines_rescue). */
#pragma once

#include "ground/err.h"
#include "ground/list.h"
#include "loop/loop.h"
#include <stdatomic.h>

struct file_chunk;

struct file_lines {
    struct list node;    /* for a list of the owner */
    struct list waiters; /* for the owner */
    void *owner;         /* for the owner; NULL: nobody adds lines any more */
    bool reported;       /* for the owner: somebody has received the failure */
    bool again;          /* for the owner: lines that failed may be written again */
    char *name;          /* for messages; owned by this struct */
    bool durable;        /* each line is synced to the disk */
    _Atomic uint64_t added, written, synced; /* read-only: bytes */
    _Atomic int
        error; /* read-only: a positive errno; 0: none. After an error nothing is written. */
    _Atomic bool syncing; /* read-only, with error: the sync failed, not the write */

    /* private */
    struct loop *loop;
    struct mem *mem;
    int fd;
    struct file_chunk *oldest, *newest; /* used by the adding thread */
    _Atomic(struct file_chunk *) head;  /* used by the taking thread, like `taken` */
    size_t taken;
    _Atomic uint64_t sync_to;  /* how many bytes must be synced to the disk */
    _Atomic bool working;      /* a thread takes lines, or will soon */
    _Atomic bool working_here; /* the adding thread writes lines itself */
    bool queued;               /* the loop has not yet handled the end of the last job */
    bool regular;              /* a regular file, not a pipe or device */
    uv_work_t work;
};

/* Takes over `fd`, even on failure (NULL: no memory). Before the result is freed, the loop must
 * turn until file_lines_idle. */
NODISCARD struct file_lines *file_lines_new(struct loop *loop, struct mem *mem, int fd,
                                            const char *name, bool durable);
/* Closes the descriptor, unless it is closed. Unwritten lines are lost. */
void file_lines_free(struct file_lines *o);

/* Adds a line, and a newline after it. ERR_MEMORY: nothing was added. */
NODISCARD enum err_kind file_lines_add(struct file_lines *o, const char *text, size_t len);
/* Syncs everything that was added so far to the disk. */
void file_lines_sync(struct file_lines *o);
/* Everything is written, and synced as far as that was requested. */
bool file_lines_done(const struct file_lines *o);
/* No thread works on it, and no job's end is still to be handled by the loop. */
bool file_lines_idle(const struct file_lines *o);
/* After a failed write: tries again to write what was not written. */
void file_lines_retry(struct file_lines *o);
typedef bool (*file_lines_piece_fn)(void *arg, const char *text, size_t len);
/* Passes the unwritten bytes to `fn`, piece by piece, until it returns false. Only when idle. */
void file_lines_rest(const struct file_lines *o, file_lines_piece_fn fn, void *arg);
/* Closes the descriptor. Returns 0 or an errno. Only when idle. */
int file_lines_close(struct file_lines *o);
/* For a signal handler on the loop's thread, before the process ends. If a thread is writing, waits
 * for it until `until_ns` (CLOCK_MONOTONIC). Then writes the rest. */
void file_lines_rescue(struct file_lines *o, uint64_t until_ns);
