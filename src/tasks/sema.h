/* A counting semaphore, strictly first come, first served. sema_release grants a permit and removes
 * the task from the line in one step. So a permit is never free while a task waits for one. */
#pragma once

#include "tasks/task.h"

struct sema {
    int64_t limit;
    int64_t available; /* negative if a resize went below the number of permits in use */
    struct list line;  /* waiting tasks, linked by wait.node */
};

void sema_init(struct sema *s, int64_t limit);
/* Takes a permit if one is free. True: it was taken. It never overtakes waiting tasks. */
bool sema_try(struct sema *s);
/* Adds the task to the end of the line. For use as `begin` of task_park. The task is woken when it
 * has its permit. */
void sema_join(struct sema *s, struct task *t);
/* The task's wait was cancelled or timed out. Removes the task from the line. If it already has a
 * permit, that goes to the next task. */
void sema_leave(struct sema *s, struct task *t);
/* False: no permit was in use. */
bool sema_release(struct sema *s);
void sema_resize(struct sema *s, int64_t limit);
size_t sema_waiting(const struct sema *s);
