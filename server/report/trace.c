/* trace.c - see trace.h. */
#include "server/report/trace.h"

#include "lib/scan.h"

#include <string.h>

static const char form[] = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
#define FORM_BYTES (sizeof form - 1)
#define TRACE_AT 3
#define PARENT_AT (TRACE_AT + SAED_TRACE_ID + 1)
#define PARENT_BYTES 16

static bool is_hex(char c)
{
    return sae_is_digit(c) || (c >= 'a' && c <= 'f');
}

static bool has_form(const char *s)
{
    for (size_t i = 0; i < FORM_BYTES; i++)
        if (form[i] == 'h' ? !is_hex(s[i]) : s[i] != form[i])
            return false;
    return true;
}

static bool is_zero(const char *s, size_t n)
{
    return strspn(s, "0") >= n;
}

bool saed_trace_parse(const char *traceparent, char id[SAED_TRACE_ID + 1])
{
    if (!traceparent || !has_form(traceparent) || strncmp(traceparent, "ff", 2) == 0)
        return false;
    /* 00 ends here; later versions may say more behind another dash */
    if (traceparent[FORM_BYTES] != '\0' &&
        (strncmp(traceparent, "00", 2) == 0 || traceparent[FORM_BYTES] != '-'))
        return false;
    if (is_zero(traceparent + TRACE_AT, SAED_TRACE_ID) ||
        is_zero(traceparent + PARENT_AT, PARENT_BYTES))
        return false;
    memcpy(id, traceparent + TRACE_AT, SAED_TRACE_ID);
    id[SAED_TRACE_ID] = '\0';
    return true;
}
