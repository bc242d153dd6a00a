#include "host/host_ids.h"

#include <stdlib.h>

/* The lower bits of a number are its index. So this many items may exist at once. */
enum { PLACE_BITS = 24 };

static size_t place_of(uint64_t number)
{
    return (size_t)(number & (((uint64_t)1 << PLACE_BITS) - 1));
}

/* If one array cannot grow, those that have grown stay: only `room` says how much of them is used.
 */
static bool grow(struct host_ids *ids)
{
    size_t room = ids->room ? ids->room * 2 : 16;
    if (room > (size_t)1 << PLACE_BITS)
        return false;
    void **items = realloc(ids->items, room * sizeof *items);
    if (!items)
        return false;
    ids->items = items;
    uint64_t *numbers = realloc(ids->numbers, room * sizeof *numbers);
    if (!numbers)
        return false;
    ids->numbers = numbers;
    uint32_t *places = realloc(ids->free_places, room * sizeof *places);
    if (!places)
        return false;
    ids->free_places = places;
    for (size_t i = room; i-- > ids->room;) {
        items[i] = NULL;
        numbers[i] = 0;
        places[ids->free_count++] = (uint32_t)i;
    }
    ids->room = room;
    return true;
}

uint64_t host_ids_add(struct host_ids *ids, void *item)
{
    if (ids->free_count == 0 && !grow(ids))
        return 0;
    uint32_t place = ids->free_places[--ids->free_count];
    ids->items[place] = item;
    return ids->numbers[place] = ++ids->given << PLACE_BITS | place;
}

void *host_ids_get(const struct host_ids *ids, uint64_t number)
{
    size_t place = place_of(number);
    return place < ids->room && ids->numbers[place] == number ? ids->items[place] : NULL;
}

void host_ids_remove(struct host_ids *ids, uint64_t number)
{
    if (!host_ids_get(ids, number))
        return;
    size_t place = place_of(number);
    ids->items[place] = NULL;
    ids->free_places[ids->free_count++] = (uint32_t)place;
}

void host_ids_fini(struct host_ids *ids)
{
    free(ids->items);
    free(ids->numbers);
    free(ids->free_places);
}
