/* Numbers for items that a host may name later. Finding, adding and removing take constant time,
 * and no number is given twice. Uses malloc, like mailboxes. The caller must lock. A zeroed struct
 * is empty. */
#pragma once

#include "ground/base.h"

struct host_ids {
    void **items;      /* by index; NULL: the index is free and in `free_places` */
    uint64_t *numbers; /* the number of each item */
    uint32_t *free_places;
    size_t room, free_count;
    uint64_t given; /* how many numbers were given so far */
};

/* Adds an item and returns its number, above 0; 0: out of memory. */
NODISCARD uint64_t host_ids_add(struct host_ids *ids, void *item);
/* NULL: no item has that number any more. */
void *host_ids_get(const struct host_ids *ids, uint64_t number);
void host_ids_remove(struct host_ids *ids, uint64_t number);
void host_ids_fini(struct host_ids *ids);
