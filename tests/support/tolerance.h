/* tolerance.h - is this answer near enough to the formula in f64?
 *
 * The rule of the numbers contract: |got - want| <= 1e-6 * (1 + |want|) + 4e-6 * S, where want is
 * the class's formula in double on the same f32 weights and inputs, and S the sum of the absolute
 * terms, biases included, carried through the products:
 *
 *     pre-activation   S = sum |x - centre| |w| + |bias|
 *     Gated f          S = r * S_p + |mag_bias|           gate: S_p + |gate_bias|
 *     Jump f           S = S_pre + |jump|
 *     rescaled f       both want and S times the decoder column's norm
 *     scaled input     (|x| + |mu|) / (sd + 1e-5) + |centre| stands for |x - centre|
 *     x_hat            S = sum |f| |w| + |bias|, of the f that was got; divided or multiplied by
 *                      the output as x_hat is, + |mu|; + sum |x| |w| of a skip
 *     x_ghost          S = sum exp(p) |mask| |w| (1 + S_p)
 *
 * A feature whose pre-activation lies within its own tolerance of a threshold at which the formula
 * jumps (Gated's gate, Jump) may have either side's value. Values that are not finite compare by
 * class: NaN with NaN, an infinity with its own sign; a want that f32 cannot hold allows infinity.
 *
 * Use: tol_*() fills a struct tol for one row, tol_check() compares a row with it, tol_free(). */
#ifndef TESTS_SUPPORT_TOLERANCE_H
#define TESTS_SUPPORT_TOLERANCE_H

#include "lib/dict/dict.h"

/* The truth of one row. */
struct tol {
    size_t n;
    double *want;
    double *alt; /* the value on the other side of a threshold that is near; else = want */
    double *tol; /* for whichever of the two is larger */
};

void tol_free(struct tol *t); /* a zeroed one is allowed */

/* f of encode (scaled: of forward, times the decoder's norms) and aux (gate, pre_jump) from one
 * row x [d]. Either out pointer may be NULL. What *f and *aux held is overwritten, not freed. */
void tol_encode(const struct sae_dict *d, const float *x, bool scaled, struct tol *f,
                struct tol *aux);
/* x_hat [d_out] from the f [F] that was got, not from the f that should have been. x: the row, for
 * what the output undoes and for the skip; NULL: neither is done. */
void tol_decode(const struct sae_dict *d, const float *f, const float *x, struct tol *x_hat);
/* x_ghost [d]; mask element j at mask[j * mask_col]. */
void tol_ghost(const struct sae_dict *d, const float *x, const float *mask, size_t mask_col,
               struct tol *x_ghost);

/* True when all of got [t->n] is within tolerance. Else *bad is the first that is not. */
bool tol_check(const struct tol *t, const float *got, size_t *bad);
/* One value of column i against t. */
bool tol_near(const struct tol *t, size_t i, float got);

/* ck_assert for a row; for files that include check.h. `label` names row and tensor. */
#define ck_assert_tol(t, got, label)                                                             \
    do {                                                                                         \
        size_t tol_bad_;                                                                         \
        if (!tol_check((t), (got), &tol_bad_))                                                   \
            ck_abort_msg("%s[%zu] = %.9g, want %.17g (or %.17g) within %.3g", (label), tol_bad_, \
                         (double)(got)[tol_bad_], (t)->want[tol_bad_], (t)->alt[tol_bad_],       \
                         (t)->tol[tol_bad_]);                                                    \
    } while (0)

#endif
