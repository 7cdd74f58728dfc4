/* log.h - one line an event on stderr, as text or JSON (line.h). No payloads, no secrets.
 *
 * Any thread may log. A line is one write(2) of at most 1 KB to a non-blocking-safe stderr: when it
 * cannot be written at once it is dropped and counted, so that logging never blocks serving. */
#ifndef SAED_LOG_H
#define SAED_LOG_H

#include "lib/base.h"

/* Both in the order of their options' choices. */
enum saed_log_level { SAED_DEBUG, SAED_INFO, SAED_WARN, SAED_ERROR };
enum saed_log_format { SAED_LOG_TEXT, SAED_LOG_JSON };

void saed_log_init(enum saed_log_level min, enum saed_log_format as); /* main, before threads */

/* One key=value, made by saed_str and its like. Keys and texts are borrowed for the call. */
struct saed_field {
    const char *key; /* NULL: the end of a list */
    enum { SAED_FIELD_STR, SAED_FIELD_UINT, SAED_FIELD_INT, SAED_FIELD_REAL } kind;
    union {
        const char *s; /* NULL is printed as -, of JSON as null */
        uint64_t u;
        int64_t i;
        double real; /* with three digits behind the point */
    } value;
};

static inline struct saed_field saed_str(const char *key, const char *s)
{
    return (struct saed_field){.key = key, .kind = SAED_FIELD_STR, .value.s = s};
}

static inline struct saed_field saed_uint(const char *key, uint64_t u)
{
    return (struct saed_field){.key = key, .kind = SAED_FIELD_UINT, .value.u = u};
}

static inline struct saed_field saed_int(const char *key, int64_t i)
{
    return (struct saed_field){.key = key, .kind = SAED_FIELD_INT, .value.i = i};
}

static inline struct saed_field saed_real(const char *key, double real)
{
    return (struct saed_field){.key = key, .kind = SAED_FIELD_REAL, .value.real = real};
}

/* saed_log(SAED_INFO, "ready", saed_uint("dictionaries", n), saed_str("engine", name)); an event
 * without any has SAED_NO_FIELDS. */
#define SAED_NO_FIELDS ((struct saed_field){.key = NULL})
#define saed_log(level, event, ...) \
    saed_log_fields(level, event, (const struct saed_field[]){__VA_ARGS__, SAED_NO_FIELDS})
void saed_log_fields(enum saed_log_level level, const char *event, const struct saed_field *fields);

/* Why saed does not start, or ends: "saed: TEXT" where lines are text, whatever the least level is.
 * Waits for room up to a second, all such lines together. */
void saed_log_failure(const char *text);

#endif
