/* files.c - see files.h. */
#include "tests/support/files.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void put_file(const char *dir, const char *path, const char *text)
{
    char full[600], *slash;
    FILE *f;

    snprintf(full, sizeof full, "%s/%s", dir, path);
    for (slash = full + strlen(dir) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}
