/* What an exchange reports of itself: events for the caller, times, and counts. */
#pragma once

#include "ground/base.h"

struct exchange;

/* Queues events for the caller. */
void exchange_tell(struct exchange *x, unsigned events);
/* The request goes out now. */
void exchange_sending(struct exchange *x);
/* Fills result.timing, except its total. */
void exchange_note_timing(struct exchange *x);
/* From one moment to a later one. */
double exchange_seconds(uint64_t from_ns, uint64_t to_ns);
