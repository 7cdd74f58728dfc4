/* files.h - small files that a test writes. */
#ifndef TEST_FILES_H
#define TEST_FILES_H

/* Write `text` into dir/path; the folders of `path` are made. */
void put_file(const char *dir, const char *path, const char *text);

#endif
