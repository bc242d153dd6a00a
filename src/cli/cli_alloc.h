/* A faster allocator for libcurl, which asks for some fifty small blocks per request. For the leat
 * program alone: a library must not decide such a thing for its whole process. */
#pragma once

/* Call once, before anything else touches libcurl. */
void cli_alloc_install(void);
