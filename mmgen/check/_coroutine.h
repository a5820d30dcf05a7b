/* Coroutines with stacks at fixed places, so that a copy of a stack's bytes and its stack pointer is a coroutine's whole state. */
#ifndef MMGEN_COROUTINE_H
#define MMGEN_COROUTINE_H
#include <stdint.h>
#include <string.h>

/* Keeps the caller's stack pointer in *from, its callee-saved registers on its stack, and goes on where `to` was left. */
void mm_coroutine_switch(void **from, void *to) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
#define MM_COROUTINES 1
#define MM_SAVED_WORDS 8        /* six registers, the address to return to, and one to align the stack as at a call */
#define MM_RETURN_WORD 6
__asm__(".text\n"
        "mm_coroutine_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n");
#elif defined(__aarch64__)
#define MM_COROUTINES 1
#define MM_SAVED_WORDS 20       /* x19 to x30, d8 to d15 */
#define MM_RETURN_WORD 11
__asm__(".text\n"
        "mm_coroutine_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n    stp d12, d13, [sp, #128]\n    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n    ldp d12, d13, [sp, #128]\n    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n");
#else
#define MM_COROUTINES 0         /* the module says so when it is imported */
#define MM_SAVED_WORDS 1
#define MM_RETURN_WORD 0
void mm_coroutine_switch(void **from, void *to) { (void)from; (void)to; }
#endif

/* The stack pointer of a coroutine that will begin in `entry`, which never returns. `top`: the end of its stack, a multiple of 16. */
static inline void *mm_coroutine_new(char *top, void (*entry)(void))
{
    void **sp = (void **)top - MM_SAVED_WORDS;
    memset(sp, 0, MM_SAVED_WORDS * sizeof(void *));
    sp[MM_RETURN_WORD] = (void *)(uintptr_t)entry;
    return sp;
}
#endif
