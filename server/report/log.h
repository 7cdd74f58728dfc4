/* log.h - one line an event on stderr: time level event key=value ... No payloads, no secrets.
 *
 * Any thread may log. A line is one write(2) of at most 1 KB to a non-blocking-safe stderr: when it
 * cannot be written at once it is dropped and counted, so that logging never blocks serving.
 * Values with blanks, quotes or control bytes are quoted and escaped. */
#ifndef SAED_LOG_H
#define SAED_LOG_H

#include "lib/base.h"

enum saed_log_level { SAED_DEBUG, SAED_INFO, SAED_WARN, SAED_ERROR };

void saed_log_init(enum saed_log_level min); /* main, before threads */
/* saed_log(SAED_INFO, "ready", "dictionaries", "%zu", n, "engine", "%s", name, NULL): after the
 * event come triples key, format with ONE conversion, value; the formats allowed are %s %zu %d %llu
 * %.3f. */
void saed_log(enum saed_log_level level, const char *event, ...) __attribute__((sentinel));

#endif
