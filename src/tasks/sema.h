/* A counting semaphore with a strict FIFO line. Grants are made in release, in one step with
 * leaving the line, so that a permit is never free while someone waits for it. */
#pragma once

#include "tasks/task.h"

struct sema {
    int64_t limit;
    int64_t available; /* negative after a resize below what is held */
    struct list line;  /* tasks by wait.node */
};

void sema_init(struct sema *s, int64_t limit);
/* True: a permit was taken. Never overtakes the line. */
bool sema_try(struct sema *s);
/* Joins the line; task_park's begin. The task is woken when it has the permit. */
void sema_join(struct sema *s, struct task *t);
/* The task's wait is cancelled or timed out: leaves the line, or passes a granted permit on. */
void sema_leave(struct sema *s, struct task *t);
/* False: every permit was back already. */
bool sema_release(struct sema *s);
void sema_resize(struct sema *s, int64_t limit);
size_t sema_waiting(const struct sema *s);
