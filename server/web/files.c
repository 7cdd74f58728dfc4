/* files.c - see files.h.
 *
 * The assembler reads the files at build, from the root of the tree, where make runs; the Makefile
 * says that this object is made of them. Called by api/web.c. Constant data, any thread. */
#include "server/web/files.h"

#include "lib/base.h"

#include <string.h>

#define SAED_WEB_FILE(id, route, file, type)                   \
    extern const char saed_web_##id[], saed_web_##id##_end[];  \
    __asm__(".pushsection .rodata\n"                           \
            ".globl saed_web_" #id ", saed_web_" #id "_end\n"  \
            ".hidden saed_web_" #id ", saed_web_" #id "_end\n" \
            "saed_web_" #id ":\n"                              \
            "    .incbin \"" file "\"\n"                       \
            "saed_web_" #id "_end:\n"                          \
            "    .popsection\n");
#include "server/web/files.def"
#undef SAED_WEB_FILE

static const struct saed_web_file files[] = {
#define SAED_WEB_FILE(id, route, file, type) {route, type, saed_web_##id, saed_web_##id##_end},
#include "server/web/files.def"
#undef SAED_WEB_FILE
};

const struct saed_web_file *saed_web_find(const char *path)
{
    for (size_t i = 0; i < SAE_COUNTOF(files); i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}
