/* numtext.h - bulk numbers and their text, over std::from_chars and std::to_chars. Pure functions.
 */
#ifndef SAE_NUMTEXT_H
#define SAE_NUMTEXT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum sae_num_result {
    SAE_NUM_OK,       /* *out holds the value; an underflow is a zero of its sign */
    SAE_NUM_OVERFLOW, /* a number, but f32 cannot hold it */
    SAE_NUM_SYNTAX    /* not the JSON grammar of a number */
};

/* Room that sae_num_print needs. Its texts are a byte shorter ("-1.17549435e-38" and the like), so
 * that a number and its comma take no more. No NUL. */
#define SAE_NUM_TEXT_MAX 16

/* Read a JSON number at p (p < end) as the correctly rounded double, rounded to f32.
 * *next is the first byte after it (after the longest valid prefix; SYNTAX: where it went wrong).
 */
enum sae_num_result sae_num_read(const char *p, const char *end, float *out, const char **next);

/* Shortest text that sae_num_read reads back to the same f32; negative zero is "-0.0"; NaN and the
 * infinities are the JSON strings "NaN", "Infinity", "-Infinity" with quotes. Plain or scientific
 * as std::to_chars chooses, but never with more digits ("2147483600"). Returns the length; the rest
 * of the room may have been written to. */
size_t sae_num_print(char *dst, float v);

#ifdef __cplusplus
}
#endif
#endif
