/* golden.h - reads the fixtures that tests/golden/make_golden.py wrote with PyTorch.
 *
 * A case is two files in tests/golden/data: NAME.pt, a state dict as torch.save writes it, and
 * NAME.gold, the same weights as f32 with inputs and PyTorch's float32 answers. NAME.gold is
 * little-endian: "saegold1", class name [32], u32 d, F, number of arrays; then each array:
 * name [32], u32 ndim, u32 dim [4], f32 values row-major.
 *
 * Arrays (N rows; the last of them are a zero row, one of -0 and denormals, one with a NaN, one
 * with an infinity, one with both infinities, so n_finite rows stand before those three):
 *     w:KEY            every tensor of the state dict in the file's orientation (KEY as there)
 *     x      [N,d]     input of encode and forward
 *     f      [N,F]     encode(x); also forward's f where it is not scaled
 *     aux    [N,F]     gate or pre_jump, where the class has one
 *     x_hat  [N,d]     forward(x)
 *     f_fwd  [N,F]     forward's f (rescaled for Gated and AutoEncoderNew)
 *     dec_f  [M,F], dec_x_hat [M,d]   decode of arbitrary f, negative and non-finite included
 *     mask   [F] and mask2 [N,F], x_ghost, x_ghost2 [N,d]   AutoEncoder's ghost mode
 *
 * Plain C memory, owned by the caller; no state. Used by tests/golden and the engine's tests. */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include "lib/dict/dict.h"

struct golden_array {
    char name[32];
    unsigned ndim;
    size_t dim[4];
    size_t n; /* product of dim */
    float *v; /* owned by the case; 64-byte aligned, SAE_OVERREAD readable bytes behind */
};

struct golden {
    char name[64];     /* the case: "gated_33x70_bf16" */
    char pt_path[128]; /* its state dict, relative to the repository's root; "" for identity */
    char class_name[32];
    size_t d, F;
    size_t n_rows;   /* N */
    size_t n_finite; /* rows of x before the three that are not finite */
    size_t n_arrays;
    struct golden_array *arrays;
};

#define GOLDEN_DIR "tests/golden/data"

/* How many cases there are, and the i-th (sorted by name). golden_load prints why and returns NULL
 * when a fixture cannot be read. golden_count is 0 when the directory is missing: test for it. */
size_t golden_count(void);
struct golden *golden_load(size_t i);
void golden_free(struct golden *g);

/* NULL: the case has no such array. */
const struct golden_array *golden_array(const struct golden *g, const char *name);

/* A sealed dictionary from the case's w: arrays, without the loader; owned (sae_dict_free). */
struct sae_dict *golden_dict(const struct golden *g);

#endif
