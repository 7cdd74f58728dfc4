/* numtext.h - numbers and their text, singly and in lists: read by numtext.cc, printed by
 * numprint.c. Pure functions, any thread. */
#ifndef SAE_NUMTEXT_H
#define SAE_NUMTEXT_H

#include <stddef.h>
#include <stdint.h>

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

/* Read numbers that have a comma behind them (blanks allowed before both) into out, from p, at most
 * cap of them. Returns how many; *next is behind the last comma. It stops before what is no number
 * of f32, at the last number of a list, and at cap. out[n] may have been written to (n < cap). */
size_t sae_num_read_list(const char *p, const char *end, float *out, size_t cap, const char **next);

/* Shortest text that sae_num_read reads back to the same f32; negative zero is "-0.0"; NaN and the
 * infinities are the JSON strings "NaN", "Infinity", "-Infinity" with quotes. Plain or scientific
 * as std::to_chars chooses, but never with more digits ("2147483600"). Returns the length. */
size_t sae_num_print(char *dst, float v);

/* Print n numbers, each with a comma behind it, until all are printed or p is beyond limit; so much
 * behind limit may be written to. Returns the end of the text. */
#define SAE_NUM_SLACK 32
char *sae_num_print_list(char *p, const char *limit, const float *v, size_t n);
char *sae_num_print_ids(char *p, const char *limit, const uint32_t *ids, size_t n);

#ifdef __cplusplus
}
#endif
#endif
