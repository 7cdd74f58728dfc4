/* json_scan.h - the words of JSON text (blanks, strings) and the grammar of a whole one.
 *
 * What jansson 2.14 accepts is accepted and what it refuses is refused, but for two things: numbers
 * may have any size, and a NUL byte is never let through. Called by the JSON parser, by
 * safetensors.c for its header, by the reader of configs, and by problem.c. Pure functions, any
 * thread, no allocation, no recursion. */
#ifndef SAE_JSON_SCAN_H
#define SAE_JSON_SCAN_H

#include "lib/base.h"
#include "lib/num.h"

/* A value inside this many open lists and objects less one is the deepest (jansson 2.14's
 * JSON_PARSER_MAX_DEPTH; the value itself counts). */
#define SAE_JSON_MAX_DEPTH 2048

/* A grammar fault: what was wanted or wrong ("expected a value"), and where. */
struct sae_json_fault {
    const char *what; /* static */
    const char *at;   /* in the text, or its end */
};

/* A string's decoded beginning: whole unless cut. No NUL behind it. */
struct sae_json_text {
    char s[64];
    size_t n;
    bool cut;
};

static inline const char *sae_json_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Read a string whose opening quote is just before p, into *text (NULL: only check it). Returns the
 * byte behind the closing quote, or NULL with *fault filled. */
const char *sae_json_scan_string(const char *p, const char *end, struct sae_json_text *text,
                                 struct sae_json_fault *fault);

/* The same, with the whole of the decoded string copied to dst, which has room for its text (it is
 * never longer decoded than it was). *n bytes, no NUL behind them and none in them. */
const char *sae_json_copy_string(const char *p, const char *end, char *dst, size_t *n,
                                 struct sae_json_fault *fault);

/* Read an integer without sign, point or exponent at p; above 64 bits it is UINT64_MAX. Returns the
 * byte behind it, or NULL: there is none. */
const char *sae_json_scan_uint(const char *p, const char *end, uint64_t *out);

/* The byte behind the number that begins at p, or NULL with *fault filled. */
const char *sae_json_scan_number(const char *p, const char *end, struct sae_json_fault *fault);

/* What stands where a fault is, for its message: "'x'", "byte 0xff", "a zero byte", "the end". */
struct sae_json_found {
    char s[16];
};
struct sae_json_found sae_json_found_at(const struct sae_json_fault *fault, const char *end);

/* The byte behind the value at p (blanks allowed before it), or NULL with *fault filled. */
const char *sae_json_scan_value(const char *p, const char *end, struct sae_json_fault *fault);

/* Is this one JSON value, and nothing else? *fault is filled when not. */
bool sae_json_check(const char *text, size_t n, struct sae_json_fault *fault);

/* The same by other limits; texts are static. */
struct sae_json_limits {
    unsigned max_depth;   /* at most SAE_JSON_MAX_DEPTH */
    const char *too_deep; /* the fault that it is deeper: "nested deeper than 64" */
    uint64_t max_values;  /* in all */
    const char *too_many;
    bool python; /* NaN, Infinity and -Infinity are values, as Python's json writes them */
};
bool sae_json_check_by(const struct sae_json_limits *limits, const char *text, size_t n,
                       struct sae_json_fault *fault);

#endif
