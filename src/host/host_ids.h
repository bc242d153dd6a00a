/* Numbers for what a host may name later: found, added and removed in constant time, never given
 * twice. Of malloc, like mailboxes; the caller sees to locking. Zeroed it is empty. */
#pragma once

#include "ground/base.h"

struct host_ids {
    void **items;      /* by place; NULL: the place is free, and in `free_places` */
    uint64_t *numbers; /* of the items */
    uint32_t *free_places;
    size_t room, free_count;
    uint64_t given; /* so far */
};

/* The number of a new item, more than 0; 0: no memory. */
NODISCARD uint64_t host_ids_add(struct host_ids *ids, void *item);
/* NULL: nothing has that number any more. */
void *host_ids_get(const struct host_ids *ids, uint64_t number);
void host_ids_remove(struct host_ids *ids, uint64_t number);
void host_ids_fini(struct host_ids *ids);
