/* A faster allocator for libcurl, which allocates some fifty small blocks per request. Only for the
 * leat program: a library must not decide this for its whole process. */
#pragma once

/* Call once, before anything else touches libcurl. */
void cli_alloc_install(void);
