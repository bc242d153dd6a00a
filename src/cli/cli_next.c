#include "cli/cli_next.h"

/* lj_vm_next(table, index) returns in rax the address of two values, an item and its key, and in
 * edx the next index. In two slots at the stack pointer of its caller it may write these two
 * values. Compiled code that wants the results in each other's register runs `xchg eax, edx` (byte
 * 0x92) right after the call, which cuts the address to 32 bits.
 *
 * So this function looks at the code that it returns to. If that is the exchange, it exchanges all
 * 64 bits itself, and returns behind the exchange. It puts the two values into the slots of the
 * caller, because the original has written them into its own. Any other caller gets the original,
 * by a jump. */
__asm__(".text\n"
        ".globl __wrap_lj_vm_next\n"
        ".hidden __wrap_lj_vm_next\n"
        ".type __wrap_lj_vm_next, @function\n"
        "__wrap_lj_vm_next:\n"
        "    .cfi_startproc\n"
        "    movq (%rsp), %rax\n"
        "    cmpb $0x92, (%rax)\n"
        "    jne __real_lj_vm_next\n"
        "    subq $24, %rsp\n"
        "    .cfi_adjust_cfa_offset 24\n"
        "    call __real_lj_vm_next\n"
        "    addq $24, %rsp\n"
        "    .cfi_adjust_cfa_offset -24\n"
        "    movups (%rax), %xmm0\n"
        "    movups %xmm0, 8(%rsp)\n"
        "    movl %edx, %eax\n"
        "    leaq 8(%rsp), %rdx\n"
        "    incq (%rsp)\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size __wrap_lj_vm_next, . - __wrap_lj_vm_next\n");
