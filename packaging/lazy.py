#!/usr/bin/env python3
"""Writes a C file that stands for a shared library: lazy.py LIBRARY.so.N STATUS < NAMES > FILE.c

Linked in place of the library, a program starts where the library is not. The first call of any of its functions opens it, from
where the loader looks and from /usr/local/cuda/lib64; without it, or without that function in it, the call returns STATUS, and
stderr has been told why. Arguments pass through untouched, whatever they are. For x86-64.
"""

import re
import sys

HEAD = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

static const char *const names[] = {{{names}}};
static void *found[{count}];
/* The assembly's name for it. */
void **const glimpse_found_{tag} __attribute__((visibility("hidden"))) = found;

static long missing(void) {{ return {status}; }}

__attribute__((visibility("hidden"), used)) void glimpse_open_{tag}(void) {{
    void *library = dlopen("{library}", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {{
        const char *reason = dlerror();
        char said[512];
        snprintf(said, sizeof said, "%s", reason ? reason : "");
        library = dlopen("/usr/local/cuda/lib64/{library}", RTLD_NOW | RTLD_GLOBAL);
        if (!library) fprintf(stderr, "glimpse: no {library}: %s\\n", said);
    }}
    for (int i = 0; i < {count}; i++) {{
        void *function = library ? dlsym(library, names[i]) : 0;
        __atomic_store_n(&found[i], function ? function : (void *)missing, __ATOMIC_RELEASE);
    }}
}}

/* Saves what a function is given, and aligns the stack for the call: at its start that is off by two return addresses. */
__asm__(
    ".text\\n"
    ".type glimpse_resolve_{tag}, @function\\n"
    "glimpse_resolve_{tag}:\\n"
    "    push %rdi\\n    push %rsi\\n    push %rdx\\n    push %rcx\\n    push %r8\\n    push %r9\\n    push %rax\\n"
    "    sub $136, %rsp\\n"
    "    movups %xmm0, (%rsp)\\n    movups %xmm1, 16(%rsp)\\n    movups %xmm2, 32(%rsp)\\n    movups %xmm3, 48(%rsp)\\n"
    "    movups %xmm4, 64(%rsp)\\n    movups %xmm5, 80(%rsp)\\n    movups %xmm6, 96(%rsp)\\n    movups %xmm7, 112(%rsp)\\n"
    "    call glimpse_open_{tag}\\n"
    "    movups (%rsp), %xmm0\\n    movups 16(%rsp), %xmm1\\n    movups 32(%rsp), %xmm2\\n    movups 48(%rsp), %xmm3\\n"
    "    movups 64(%rsp), %xmm4\\n    movups 80(%rsp), %xmm5\\n    movups 96(%rsp), %xmm6\\n    movups 112(%rsp), %xmm7\\n"
    "    add $136, %rsp\\n"
    "    pop %rax\\n    pop %r9\\n    pop %r8\\n    pop %rcx\\n    pop %rdx\\n    pop %rsi\\n    pop %rdi\\n"
    "    ret\\n");
"""

FUNCTION = """\
__asm__(
    ".globl {name}\\n.type {name}, @function\\n"
    "{name}:\\n"
    "    mov glimpse_found_{tag}(%rip), %r11\\n"
    "    cmpq $0, {offset}(%r11)\\n"
    "    jne 1f\\n"
    "    call glimpse_resolve_{tag}\\n"
    "    mov glimpse_found_{tag}(%rip), %r11\\n"
    "1:  jmp *{offset}(%r11)\\n");
"""


def stand_in(library: str, status: int, names: list[str]) -> str:
    tag = re.sub(r"\W", "_", library)
    quoted = ", ".join(f'"{name}"' for name in names)
    head = HEAD.format(library=library, tag=tag, status=status, names=quoted, count=len(names))
    return head + "".join(FUNCTION.format(name=name, tag=tag, offset=8 * at) for at, name in enumerate(names))


if __name__ == "__main__":
    sys.stdout.write(stand_in(sys.argv[1], int(sys.argv[2]), sorted(set(sys.stdin.read().split()))))
