/* Numbers for what a host may name later: found, added and removed in constant time, never given
 * twice. Of malloc, like mailboxes; the caller sees to locking. Zeroed it is empty. */
#pragma once

#include "ground/base.h"

struct ids {
    void **items;      /* by place; NULL: the place is free, and in `free_places` */
    uint64_t *numbers; /* of the items */
    uint32_t *free_places;
    size_t room, free_count;
    uint64_t given; /* so far */
};

/* The number of a new item, more than 0; 0: no memory. */
NODISCARD uint64_t ids_add(struct ids *ids, void *item);
/* NULL: nothing has that number any more. */
void *ids_get(const struct ids *ids, uint64_t number);
void ids_remove(struct ids *ids, uint64_t number);
void ids_fini(struct ids *ids);
