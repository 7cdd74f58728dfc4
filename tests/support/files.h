/* files.h - small files that a test writes. */
#ifndef TEST_FILES_H
#define TEST_FILES_H

#include <stddef.h>

/* Write `text` into dir/path; the folders of `path` are made. */
void put_file(const char *dir, const char *path, const char *text);
/* The same of n bytes. */
void put_bytes(const char *dir, const char *path, const void *bytes, size_t n);
/* Put them behind what is there. */
void add_bytes(const char *dir, const char *path, const void *bytes, size_t n);

#endif
