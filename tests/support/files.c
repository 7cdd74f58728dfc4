/* files.c - see files.h. */
#include "tests/support/files.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void write_bytes(const char *full, const char *mode, const void *bytes, size_t n)
{
    FILE *f = fopen(full, mode);

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

void put_bytes(const char *dir, const char *path, const void *bytes, size_t n)
{
    char full[600], *slash;

    snprintf(full, sizeof full, "%s/%s", dir, path);
    for (slash = full + strlen(dir) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    write_bytes(full, "w", bytes, n);
}

void put_file(const char *dir, const char *path, const char *text)
{
    put_bytes(dir, path, text, strlen(text));
}

void add_bytes(const char *dir, const char *path, const void *bytes, size_t n)
{
    char full[600];

    snprintf(full, sizeof full, "%s/%s", dir, path);
    write_bytes(full, "a", bytes, n);
}
