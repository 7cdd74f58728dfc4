/* types.h - the plain words that the wire and the engines share: operation, form, shape, rows.
 *
 * No functions with state, no ownership of its own. lib and proto include it. */
#ifndef SAE_TYPES_H
#define SAE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row each in proto/ops.def. Those that ride in batches come first. */
enum sae_op {
    SAE_OP_ENCODE,
    SAE_OP_DECODE,
    SAE_OP_FORWARD,
    SAE_N_ROW_OPS,
    SAE_OP_WEIGHTS = SAE_N_ROW_OPS,
    SAE_OP_LABELS,
    SAE_N_OPS
};
/* Of queues and GEMMs: operations that begin alike share one. */
enum sae_side { SAE_SIDE_ENCODE, SAE_SIDE_DECODE, SAE_N_SIDES, SAE_SIDE_NONE = SAE_N_SIDES };

/* The options of the operations, as bits: a row each in proto/options.def. */
enum {
    SAE_OPT_SPARSE = 1 << 0,
    SAE_OPT_TOP_K = 1 << 1,
    SAE_OPT_FEATURES = 1 << 2,
    SAE_OPT_RETURN_GATE = 1 << 3,
    SAE_OPT_OUTPUT_PRE_JUMP = 1 << 4,
    SAE_OPT_OUTPUT_FEATURES = 1 << 5,
    SAE_OPT_GHOST_MASK = 1 << 6,
    SAE_OPT_INPUT_STATE = 1 << 7,
    SAE_OPT_LABELS = 1 << 9,       /* of a source that states them */
    SAE_OPT_GHOST_UNREAD = 1 << 8, /* of a class: takes a ghost_mask and does not look at it */
};

/* How pre-activations become features: a row of the table of units (lib/dict/unit.h). */
enum sae_unit_id {
    SAE_UNIT_IDENTITY,
    SAE_UNIT_RELU,
    SAE_UNIT_GATED,
    SAE_UNIT_JUMP,
    SAE_UNIT_THRESHOLD,
    SAE_UNIT_LINEAR,
    SAE_UNIT_THRESHOLD_SIGNED,
    SAE_N_UNITS
};
#define SAE_MAX_PARAMS 3 /* vectors [F] that a unit has, at most */

/* What a dictionary computes with, as weights gives it: a row each in proto/weights.def. */
enum sae_weight {
    SAE_WEIGHT_DECODER, /* rows of features: ... */
    SAE_WEIGHT_ENCODER,
    SAE_N_ROW_WEIGHTS, /* ... up to here; whole ones: */
    SAE_WEIGHT_B_DEC = SAE_N_ROW_WEIGHTS,
    SAE_WEIGHT_B_ENC,
    SAE_WEIGHT_GATE_BIAS,
    SAE_WEIGHT_MAG_BIAS,
    SAE_WEIGHT_R, /* exp(r_mag) */
    SAE_WEIGHT_THRESHOLD,
    SAE_WEIGHT_JUMP,
    SAE_WEIGHT_NORMS,
    SAE_WEIGHT_LOG_SPARSITY,
    SAE_WEIGHT_CENTRE,
    SAE_WEIGHT_SKIP,
    SAE_N_WEIGHTS
};

/* How a feature tensor is returned. */
enum sae_form {
    SAE_FORM_DENSE,  /* [rows][F], or [rows][n_features] with `features` */
    SAE_FORM_SPARSE, /* the entries that are not zero, ids ascending */
    SAE_FORM_TOP     /* the k largest of those, values descending (NaN first, ties: lower id) */
};

/* Leading dimensions of a tensor; the last one (its width) is kept apart. A single vector has
 * none. At most 8 dimensions in all. */
#define SAE_MAX_DIMS 8
struct sae_lead {
    unsigned n;
    uint64_t dim[SAE_MAX_DIMS];
};

/* What is asked of the rows of one request. Borrowed arrays live as long as the task. */
struct sae_query {
    enum sae_op op;
    bool want_f;     /* encode: always; forward: when asked */
    bool want_state; /* encode, forward: the rows' own numbers of the input scaling */
    bool want_aux;   /* gate (Gated) or pre_jump (Jump), in f's form */
    enum sae_form form;
    uint64_t top_k; /* SAE_FORM_TOP: 1 or more; above F means F */
    bool has_features;
    const uint32_t
        *features; /* each < F; as asked, repeats allowed. Dense: columns in this order */
    size_t n_features;
    bool has_ghost;          /* forward of a class that takes a ghost mask */
    const float *ghost_mask; /* entry (row, j) is at row * ghost_row + j * ghost_col */
    size_t ghost_row, ghost_col;
};

/* One row of a sparse tensor; the arrays are borrowed from whoever made the row. */
struct sae_sparse_row {
    const uint32_t *ids;
    const float *values;
    size_t n;
};

#endif
