/* trace.h - the W3C's traceparent header: which trace a request belongs to.
 *
 * Trace Context, https://www.w3.org/TR/trace-context/ 3.2: version "-" trace-id "-" parent-id "-"
 * flags, lower-case hexadecimal. Of a version later than 00 the same begin is read, whatever stands
 * behind it; one that is not so is as if it had not been sent. Pure, any thread. */
#ifndef SAED_TRACE_H
#define SAED_TRACE_H

#include "lib/base.h"

#define SAED_TRACE_ID 32

/* The trace-id; false: there is none. */
bool saed_trace_parse(const char *traceparent, char id[SAED_TRACE_ID + 1]);

#endif
