/* Duplicates of descriptors. */
#pragma once

/* The lowest free number that is at least `least`, closed on exec. -1: errno says why. */
int fd_duplicate(int fd, int least);
