# The code inside a tracee: runs the calls at rdi, rsi of them, then stops. Position independent, no stack, no libc.
# Layout of a call: parasite/abi.h.
    .section .rodata
    .globl deltabox_blob_start
    .globl deltabox_blob_end
    .balign 16
deltabox_blob_start:
    mov %rdi, %r12
    mov %rsi, %r13
1:  test %r13, %r13
    jz 2f
    mov 0(%r12), %rax
    mov 8(%r12), %rdi
    mov 16(%r12), %rsi
    mov 24(%r12), %rdx
    mov 32(%r12), %r10
    mov 40(%r12), %r8
    mov 48(%r12), %r9
    syscall
    mov %rax, 56(%r12)
    add $64, %r12
    dec %r13
    jmp 1b
2:  int3
deltabox_blob_end:
    .section .note.GNU-stack, "", @progbits
