/* formats.h - reads what is wanted of the fixtures of formats: tests/golden/formats, FAMILY.gold.
 *
 * tests/golden/make_formats.py wrote them, from the producers' formulae; formats_out.py has the
 * grammar. A case is a source, as it stands on the command line, with either what its dictionary
 * says and computes or how it is refused.
 *
 * Read once and kept, for the tests of one thread. A malformed file aborts with a message. */
#ifndef TESTS_SUPPORT_FORMATS_H
#define TESTS_SUPPORT_FORMATS_H

#include <stdbool.h>
#include <stddef.h>

#define FORMATS_DIR "tests/golden/formats/"
#define FORMATS_MAX_SAID 6

struct formats_case {
    char name[80], source[320];
    int refused; /* the exit status; 0: it is served */
    unsigned n_said;
    char said[FORMATS_MAX_SAID][120]; /* what the refusal holds */

    char class_name[64], format[32];
    char lines[600], notes[1600]; /* of the reading as --check prints it, with " | " between */
    size_t n, d, F, m;            /* rows; m 0: it does not decode */
    bool is_near;                 /* values are rounded; else exact */
    size_t n_state;               /* the rows' own numbers */
    float *x;                     /* [n][d] */
    double *f, *y, *s;            /* [n][F], [n][m], [n][n_state] */
};

/* All cases, by family and in its order. */
const struct formats_case *formats_cases(size_t *n);
/* Those that are served (refused: those that are not), as a list of borrowed pointers. */
const struct formats_case *const *formats_which(bool refused, size_t *n);
/* Is it the value that is wanted? NaN is NaN, an infinity has its sign. */
bool formats_equal(const struct formats_case *c, double want, float got);

#endif
