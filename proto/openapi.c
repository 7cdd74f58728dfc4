/* openapi.c - proto/openapi.json as bytes in the program: the file is the one source of the
 * contract.
 *
 * The assembler reads it at build, from the root of the tree, where make runs; the Makefile says
 * that this object is made of it. Called by routes. Constant data, any thread. */
#include "proto/wire.h"

__asm__(".pushsection .rodata\n"
        ".balign 8\n"
        ".globl sae_openapi_json, sae_openapi_bytes\n"
        ".hidden sae_openapi_json, sae_openapi_bytes\n"
        "sae_openapi_bytes:\n"
        "    .quad 1f - sae_openapi_json\n"
        "sae_openapi_json:\n"
        "    .incbin \"proto/openapi.json\"\n"
        "1:\n"
        "    .popsection\n");
