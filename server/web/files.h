/* files.h - the page of GET / as bytes in the program: a row of files.def a file. */
#ifndef SAED_FILES_H
#define SAED_FILES_H

struct saed_web_file {
    const char *path, *content_type;
    const char *begin, *end;
};

/* The file of a route's path, constant; NULL: none is there. */
const struct saed_web_file *saed_web_find(const char *path);

#endif
