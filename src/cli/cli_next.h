/* A repair of LuaJIT, for the leat program alone. Before April 2022, LuaJIT on x86-64 sometimes
 * loses the upper half of an address in the compiled code of a loop over `pairs` or `next`, and the
 * process crashes. Debian 12 has such a LuaJIT. The linker gives the function below to all callers
 * of lj_vm_next, which only compiled code calls (`--wrap` in CMakeLists.txt). */
#pragma once

void __wrap_lj_vm_next(void);
