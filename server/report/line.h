/* line.h - a line of the log, as text or as a JSON object: never longer than a pipe takes whole,
 * whatever its values are.
 *
 *     2026-01-02T03:04:05.678Z info ready dictionaries=3 engine=native
 *     {"time":"2026-01-02T03:04:05.678Z","level":"info","event":"ready","dictionaries":3,...}
 *
 * ASCII alone, one line feed, at its end. Text values with blanks, quotes or control bytes are
 * quoted and escaped; JSON strings have \uXXXX for what is not ASCII, and U+FFFD for what is no
 * UTF-8. Pure functions, any thread. Called by log.c. */
#ifndef SAED_LINE_H
#define SAED_LINE_H

#include "server/report/log.h"

#include <time.h>

#define SAED_LINE_BYTES 1024

struct saed_line {
    char text[SAED_LINE_BYTES];
    size_t n;
    bool is_cut; /* something did not fit: nothing more is added but the tail */
};

/* dropped: lines that were lost before this one; 0: nothing is said of them. */
void saed_line_print(struct saed_line *l, enum saed_log_format format, const struct timespec *time,
                     enum saed_log_level level, const char *event, const struct saed_field *fields,
                     unsigned long long dropped);

#endif
