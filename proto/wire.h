/* wire.h - a decoded request and an answer to be printed, as plain structs; the codecs' table.
 *
 * bytes -> codec -> struct sae_request -> (routes, scheduler, engine) -> struct sae_answer -> codec
 * -> bytes. No HTTP library, no engine. Nothing here has threads: each struct is owned by the one
 * request it belongs to. Spec sections 1 (options) and 3. */
#ifndef SAE_WIRE_H
#define SAE_WIRE_H

#include "lib/base.h"
#include "lib/dtype.h"
#include "lib/types.h"

enum sae_media {
    SAE_MEDIA_JSON,        /* application/json */
    SAE_MEDIA_RAW,         /* application/octet-stream */
    SAE_MEDIA_SAFETENSORS, /* application/x-safetensors */
    SAE_MEDIA_NPY,         /* application/x-npy */
    SAE_N_MEDIA
};

/* Which form a sparse tensor of an answer has: as the options ask for it, or as the media type's
 * `layout` names it. */
enum sae_wire_sparse { SAE_WIRE_USUAL, SAE_WIRE_CSR, SAE_WIRE_TOP, SAE_N_WIRE_SPARSE };

/* A form of bodies, with what its media type's parameters say. */
struct sae_media_type {
    enum sae_media media;
    bool has_dtype;              /* it is named */
    enum sae_dtype dtype;        /* of floats; F32 unless it is named */
    enum sae_wire_sparse sparse; /* of an answer */
};

/* ---- operations (ops.def) ------------------------------------------------------------------ */

enum sae_takes { SAE_TAKES_X, SAE_TAKES_F, SAE_TAKES_WEIGHTS, SAE_TAKES_LABELS };
enum sae_gives { SAE_GIVES_NEVER, SAE_GIVES_ASKED, SAE_GIVES_ALWAYS };

struct sae_op_def {
    const char *name;
    enum sae_takes takes;
    enum sae_gives gives_f;
    bool decodes; /* the decoder is needed */
    enum sae_side side;
};
extern const struct sae_op_def sae_op_defs[SAE_N_OPS];

/* The tensor that an operation takes; of one that takes no rows, a name of what it takes. */
struct sae_input {
    const char *name;       /* "x" */
    const char *pointer;    /* "/x", in JSON */
    const char *width_name; /* "activation_dim" */
};
const struct sae_input *sae_op_input(enum sae_op op);
/* The one of a dictionary's widths that is its. */
uint64_t sae_op_width(enum sae_op op, uint64_t activation_dim, uint64_t dict_size);

/* ---- requests ------------------------------------------------------------------------------ */

/* The dictionary and operation that a request is for. Filled by routes, borrowed by codecs. */
struct sae_target {
    enum sae_op op;
    const char *dictionary; /* its name */
    const char *class_name;
    uint64_t activation_dim, dict_size;
    uint64_t state_width;       /* of input_state; 0: the dictionary has none */
    bool wants_state, wants_x;  /* decode: these beside f */
    unsigned class_options;     /* SAE_OPT_* of the class (sae_dict_info.options) */
    struct sae_media_type type; /* of the body */
    const char *shape;          /* the Saed-Shape header or NULL: for forms without dimensions */
    uint64_t max_bytes; /* cap on what the decoded request may allocate (max_inflight_bytes) */
    /* From now on the decoder holds `bytes` in all: count them among the bytes in flight, or say
     * why not (SAE_E_OVERLOADED, SAE_E_BODY_TOO_LARGE). NULL: nobody counts. */
    enum sae_status (*hold)(void *arg, uint64_t bytes, struct sae_err *err);
    void *hold_arg;
};

/* Options as given. `seen` has every option that was named (query or body), for doubles;
 * `asked` those that ask for something (not false, not null). */
struct sae_options {
    unsigned seen, asked; /* SAE_OPT_* */
    uint64_t top_k;
    uint32_t *features; /* owned */
    size_t n_features;
    float *ghost_mask; /* owned: n_ghost_mask values; booleans as 0 and 1 */
    size_t n_ghost_mask;
    struct sae_lead ghost_shape; /* all its dimensions, the last included */
    /* set by sae_request_check: entry (row, j) is ghost_mask[row * ghost_row + j * ghost_col] */
    size_t ghost_row, ghost_col;
};

/* Sparse f of a decode request, CSR. ids ascend inside a row after sae_request_check. */
struct sae_csr {
    uint64_t *indptr; /* owned, [n_rows + 1]; NULL: no row has entries */
    uint32_t *ids;    /* owned */
    float *values;    /* owned */
    size_t nnz;
};

/* Dense tensors that decode takes beside f, for dictionaries that want them. */
enum { SAE_BESIDE_STATE, SAE_BESIDE_X, SAE_N_BESIDE };
struct sae_beside {
    float *values; /* owned; NULL: not given, not looked at, or no rows */
    size_t n;
    bool is_given;
    struct sae_lead shape; /* all its dimensions, the last included */
};

/* What weights is asked for (weights.c). */
struct sae_weights {
    unsigned seen;                    /* bits of keys that were named (sae_weights_key) */
    bool in_query;                    /* vectors was, there */
    unsigned asked;                   /* 1 << SAE_WEIGHT_* */
    uint32_t *ids[SAE_N_ROW_WEIGHTS]; /* owned */
    size_t n_ids[SAE_N_ROW_WEIGHTS];
};

struct sae_request {
    struct sae_weights weights; /* weights: that, and no rows; the others: not this */
    struct sae_lead lead;       /* leading dimensions; none: a single vector */
    size_t n_rows;              /* their product (1 for a single vector) */
    float *values;              /* owned, 64-byte aligned: [n_rows][activation_dim or dict_size];
                                   NULL for sparse f or no rows */
    bool is_sparse;
    struct sae_csr csr; /* is_sparse: decode's f; its `f.shape` has been checked */
    struct sae_beside beside[SAE_N_BESIDE];
    struct sae_options opt;
    uint64_t held_bytes; /* of what it owns, with the room that arrays have beyond their items */
};

/* What the engine is asked: of a request that was checked; borrows its options. */
struct sae_query sae_request_query(const struct sae_request *r, const struct sae_target *t);
/* Frees what a request owns. Safe on a zeroed one and after a failed parse. */
void sae_request_fini(struct sae_request *r);

/* Decode a body for `t` into *r, which the caller zeroed; r->opt may already hold query options
 * (sae_query_parse), and r->held_bytes what those take. Every length is checked before use. Errors:
 * SAE_E_MALFORMED_JSON / MALFORMED_BODY (not the format at all: wins over what follows),
 * UNSUPPORTED_MEDIA_TYPE (raw: a file of another type), BAD_SHAPE, BAD_NUMBER, BAD_OPTION, NOMEM,
 * those of sae_target_hold. Ends with sae_request_check. On failure *r holds what sae_request_fini
 * frees.
 */
typedef enum sae_status sae_parse_fn(struct sae_request *r, const struct sae_target *t,
                                     const void *body, size_t n, struct sae_err *err);
sae_parse_fn sae_json_parse SAE_MUST_USE;
sae_parse_fn sae_raw_parse SAE_MUST_USE;
sae_parse_fn sae_safetensors_parse SAE_MUST_USE;
sae_parse_fn sae_npy_parse SAE_MUST_USE;
/* The same for a body from sae_alloc, whose memory may become r->values: *body is NULL then. */
typedef enum sae_status sae_keep_fn(struct sae_request *r, const struct sae_target *t, void **body,
                                    size_t n, struct sae_err *err);
sae_keep_fn sae_raw_keep SAE_MUST_USE;
sae_keep_fn sae_npy_keep SAE_MUST_USE;

/* raw.c asks: is a body of rows wholly a file of another type? What it is and how to send it, for a
 * message; NULL: it is not. */
const char *sae_foreign_type(const void *body, size_t n);

/* Options of the query string (raw, after '?', still percent-encoded) into *opt.
 * SAE_E_BAD_OPTION: unknown, doubled, wrong value, bad encoding; names the parameter. */
enum sae_status sae_query_parse(struct sae_options *opt, const char *query,
                                struct sae_err *err) SAE_MUST_USE;
/* Its parameters to `take`, decoded (value NULL: it has none). */
typedef enum sae_status sae_parameter_fn(void *arg, const char *name, const char *value,
                                         struct sae_err *err);
enum sae_status sae_query_each(const char *query, sae_parameter_fn *take, void *arg,
                               struct sae_err *err) SAE_MUST_USE;

/* The features that labels are asked of, for sae_query_each; arg: struct sae_options. Other
 * parameters are not looked at. */
sae_parameter_fn sae_labels_query SAE_MUST_USE;

/* ---- weights (weights.def, weights.c)
 * ------------------------------------------------------------ */

struct sae_weight_def {
    const char *name;
    const char *pointer; /* "/name", in JSON */
    const char *of;      /* the reading's field by which a dictionary has it */
};
extern const struct sae_weight_def sae_weight_defs[SAE_N_WEIGHTS];

/* What a part that is no rows of features is asked by. */
#define SAE_WEIGHTS_VECTORS SAE_N_ROW_WEIGHTS
#define SAE_WEIGHTS_VECTORS_NAME "vectors"
/* SAE_WEIGHT_DECODER, SAE_WEIGHT_ENCODER or SAE_WEIGHTS_VECTORS; -1: weights has no such key. */
int sae_weights_key(const char *name, size_t n);
/* The key is named now: SAE_E_BAD_OPTION if it was before. */
enum sae_status sae_weights_seen(struct sae_weights *p, int key, struct sae_err *err) SAE_MUST_USE;
/* A vector is asked for, by name; again: once. SAE_E_BAD_OPTION lists those that there are. */
enum sae_status sae_weights_vector(struct sae_weights *p, const char *name, size_t n,
                                   struct sae_err *err) SAE_MUST_USE;
/* A parameter of weights, for sae_query_each; arg: struct sae_request. */
sae_parameter_fn sae_weights_query SAE_MUST_USE;
/* Of sae_request_check: something is asked for, and ids are below dict_size. */
enum sae_status sae_weights_check(const struct sae_weights *p, const struct sae_target *t,
                                  struct sae_err *err) SAE_MUST_USE;

/* ---- options (options.def, options.c) ------------------------------------------------------ */

enum sae_option_kind {
    SAE_OPTION_BOOL,
    SAE_OPTION_TOP_K,
    SAE_OPTION_FEATURES,
    SAE_OPTION_GHOST_MASK,
    SAE_N_OPTION_KINDS
};
enum { SAE_IN_QUERY = 1 << 0, SAE_IN_TENSOR = 1 << 1 };
enum { SAE_SHAPES_F = 1 << 0, SAE_RETURNS_F = 1 << 1, SAE_RETURNS_AUX = 1 << 2 };

struct sae_option_def {
    unsigned bit; /* SAE_OPT_* */
    const char *name;
    const char *pointer; /* "/name", in JSON */
    enum sae_option_kind kind;
    unsigned ops;    /* 1 << SAE_OP_* of those that have it */
    unsigned in;     /* SAE_IN_* */
    unsigned of_f;   /* SAE_SHAPES_F, SAE_RETURNS_* */
    const char *aux; /* SAE_RETURNS_AUX: the tensor's name; else NULL */
};
enum {
#define SAE_OPTION(id, name, kind, ops, in, of_f, aux) SAE_OPTION_ROW_##id,
#include "proto/options.def"
#undef SAE_OPTION
    SAE_N_OPTIONS
};
extern const struct sae_option_def sae_option_defs[SAE_N_OPTIONS];

/* NULL: no option has this name. */
const struct sae_option_def *sae_option_by_name(const char *name, size_t n);
/* The row of the option with which an answer has a tensor of this name beside f; -1: none. Decode
 * does not look at it. */
int sae_aux_by_name(const char *name, size_t n);
/* The option is named now: SAE_E_BAD_OPTION if it was before. */
enum sae_status sae_option_seen(struct sae_options *opt, const struct sae_option_def *def,
                                struct sae_err *err) SAE_MUST_USE;
/* Options that `t`'s class takes in `t`'s operation (spec's table; "with f asked" not looked at).
 */
unsigned sae_options_of(const struct sae_target *t);
/* The options with these of SAE_SHAPES_F, SAE_RETURNS_*. */
unsigned sae_options_about(unsigned of_f);
/* Of sae_request_check: class and operation have what is asked, and f is returned where it is
 * shaped. */
enum sae_status sae_options_check(const struct sae_options *opt, const struct sae_target *t,
                                  struct sae_err *err) SAE_MUST_USE;

/* ---- helpers of the codecs (wire.c) -------------------------------------------------------- */

/* The width of t's operation. */
static inline uint64_t sae_target_width(const struct sae_target *t)
{
    return sae_op_width(t->op, t->activation_dim, t->dict_size);
}
/* The width that t's operation takes against `got`: SAE_E_BAD_SHAPE, and err->width. */
enum sae_status sae_width_check(const struct sae_target *t, uint64_t got,
                                struct sae_err *err) SAE_MUST_USE;
/* Item i of `name`, an id: below dict_size. Codecs turn what is above 32 bits into UINT32_MAX,
 * which no dictionary has. SAE_E_BAD_OPTION. */
enum sae_status sae_id_check(const char *name, size_t i, uint32_t id, const struct sae_target *t,
                             struct sae_err *err) SAE_MUST_USE;
/* A codec is about to hold `bytes` of its own in all: within max_bytes (SAE_E_BODY_TOO_LARGE names
 * the option), and counted by t->hold. */
enum sae_status sae_target_hold(const struct sae_target *t, uint64_t bytes,
                                struct sae_err *err) SAE_MUST_USE;
/* Those of decode beside f, as JSON pointers: "/NAME". */
extern const char *const sae_beside_pointers[SAE_N_BESIDE];
/* Which of them has this name, -1: none. */
int sae_beside_by_name(const char *name, size_t n);
/* One is given: *reads when the dictionary wants it; SAE_E_BAD_OPTION when it has no use for it. */
enum sae_status sae_beside_given(struct sae_request *r, const struct sae_target *t, int which,
                                 bool *reads, struct sae_err *err) SAE_MUST_USE;
/* decode is given an answer's f_units beside f: SAE_E_BAD_OPTION unless it is as encode gives it.
 */
enum sae_status sae_f_units_check(const char *units, size_t n, struct sae_err *err) SAE_MUST_USE;
/* What all forms check alike once parsed: options against class and operation, feature ids below
 * dict_size, ghost mask's shape, csr ids in range, none twice, sorted. */
enum sae_status sae_request_check(struct sae_request *r, const struct sae_target *t,
                                  struct sae_err *err) SAE_MUST_USE;

/* ---- answers ------------------------------------------------------------------------------ */

/* One tensor of an answer; data is borrowed from the request's task. */
struct sae_out_tensor {
    const char *name;                  /* "f", "gate", "pre_jump", "x_hat", ... */
    enum sae_form form;                /* SAE_FORM_DENSE for x_hat and x_ghost */
    uint64_t width;                    /* last dimension: dict_size also for sparse forms */
    const struct sae_lead *own_lead;   /* DENSE: leading dimensions that are not the answer's */
    const float *data;                 /* DENSE: [n_rows][width] */
    const struct sae_sparse_row *rows; /* SPARSE, TOP: [n_rows] */
    uint64_t nnz;                      /* SPARSE, TOP: entries of all rows */
    uint64_t top_width; /* TOP: columns of the rectangular form, min(k, F or distinct candidates) */
    const uint32_t *candidates; /* TOP with `features`: distinct ids ascending, fillers come from
                                   here; NULL: from all ids */
    size_t n_candidates;
};

#define SAE_MAX_OUT SAE_N_WEIGHTS
/* The label of a feature as a JSON string, n bytes; NULL: it has none. */
typedef const char *sae_label_fn(const void *arg, uint32_t id, size_t *n);

struct sae_answer {
    struct sae_lead lead;
    size_t n_rows;
    unsigned n_tensors;
    struct sae_out_tensor tensors[SAE_MAX_OUT]; /* the main tensor first (f, or x_hat) */
    const char *f_units;                        /* "encode", "decoder_norm", or NULL */
    enum sae_dtype dtype;                       /* of its floats where they are bytes */
    sae_label_fn *label;                        /* sparse tensors have their labels; or NULL */
    const void *label_arg;
};

/* The leading dimensions of a tensor, and their product; UINT64_MAX: it passes 64 bits. */
const struct sae_lead *sae_out_lead(const struct sae_answer *a, const struct sae_out_tensor *t);
uint64_t sae_out_rows(const struct sae_answer *a, const struct sae_out_tensor *t);

/* A printed body. Owned by the caller (sae_body_fini). */
struct sae_body {
    char *data;
    size_t n;
    char shape[SAE_MAX_DIMS * 21 + 1]; /* raw: value of the answer's Saed-Shape; else "" */
};
void sae_body_fini(struct sae_body *b);

/* Upper bound of the body's bytes, known before compute for dense answers (JSON: 16 a number; the
 * others: exact, by dtype); sparse tensors count with their nnz, so call again after selection.
 * UINT64_MAX on overflow. */
typedef uint64_t sae_bound_fn(const struct sae_answer *a);
sae_bound_fn sae_json_bound, sae_dense_bytes, sae_safetensors_bound, sae_npy_bound;

/* Print. SAE_E_NOMEM; SAE_E_RESPONSE_TOO_LARGE when more than max_bytes. */
typedef enum sae_status sae_print_fn(struct sae_body *out, const struct sae_answer *a,
                                     size_t max_bytes, struct sae_err *err);
sae_print_fn sae_json_print SAE_MUST_USE;
sae_print_fn sae_raw_print SAE_MUST_USE;
sae_print_fn sae_safetensors_print SAE_MUST_USE;
sae_print_fn sae_npy_print SAE_MUST_USE;

/* ---- arrays of plain numbers (floats.c) ---------------------------------------------------- */

/* Room for n values as r->values, held by t beside what r holds by now. */
enum sae_status sae_values_alloc(struct sae_request *r, const struct sae_target *t, uint64_t n,
                                 struct sae_err *err) SAE_MUST_USE;
/* SAE_E_BAD_NUMBER: f32 cannot hold one of these n doubles of tensor `name`. */
enum sae_status sae_f64_check(const char *name, const void *src, uint64_t n,
                              struct sae_err *err) SAE_MUST_USE;
/* Whether a form that cannot name tensors carries the answer: one, and dense. Its values are
 * sae_dense_bytes. */
bool sae_dense_can(const struct sae_answer *a);
/* Print n_head bytes and those values. */
enum sae_status sae_dense_print(struct sae_body *out, const void *head, size_t n_head,
                                const struct sae_answer *a, size_t max_bytes,
                                struct sae_err *err) SAE_MUST_USE;

/* ---- the codec table (codecs.c) ------------------------------------------------------------ */

/* When several forms have the same q: the range in Accept named them, or left it to us. */
enum sae_rank { SAE_RANK_NAMED, SAE_RANK_LEFT, SAE_N_RANKS };

struct sae_codec {
    const char *name;       /* media type */
    const char *short_name; /* in control documents */
    /* In UTF-8: a charset may say so, other parameters mean nothing; --max-json-bytes is for it.
     * Any other form has those that are below. */
    bool is_text;
    unsigned body_dtypes; /* 1 << dtype: which Content-Type may name; 0: a body says it itself */
    const char *dtyped[SAE_DTYPE_F64 + 1]; /* media types of answers of other dtypes than F32 */
    bool has_sparse_forms;                 /* ... and whether it may name that of sparse tensors */
    unsigned rank[SAE_N_RANKS]; /* the lowest goes first; that of the request before all */
    /* Of a body: bytes of a number, beside those of a row, beside rows; what reading it takes. */
    unsigned number_bytes, row_bytes, frame_bytes, parser_bytes;
    bool grows; /* its arrays have an eighth more room than their items take */
    sae_parse_fn *parse;
    sae_keep_fn *keep;                       /* NULL: numbers are copied out of the body */
    bool (*can)(const struct sae_answer *a); /* NULL: it carries every answer */
    sae_bound_fn *bound;
    sae_print_fn *print;
};
extern const struct sae_codec sae_codecs[SAE_N_MEDIA];

/* Can a body of this form be a request of the operation? Parts have names: one tensor is too few.
 */
bool sae_media_takes(enum sae_media m, enum sae_op op);
/* Which forms can carry an answer of these tensors, bits 1 << media, and which forms its sparse
 * tensors may have. */
#define SAE_CAN_CSR (1u << 30)
#define SAE_CAN_TOP (1u << 31)
unsigned sae_media_can(const struct sae_answer *a);
/* The answer is to be printed so: its dtype, and its sparse tensors' form. */
void sae_answer_as(struct sae_answer *a, const struct sae_media_type *type);
/* The Content-Type of an answer: static. */
const char *sae_media_type_name(const struct sae_media_type *type);

/* ---- negotiation (negotiate.c) ------------------------------------------------------------- */

/* The request's form from Content-Type (NULL: absent = JSON). SAE_E_UNSUPPORTED_MEDIA_TYPE; for
 * application/x-www-form-urlencoded the text says to use curl's --json. Parameters: JSON's mean
 * nothing but for a charset, which is UTF-8; others have a dtype or none. */
enum sae_status sae_content_type(const char *value, struct sae_media_type *out,
                                 struct sae_err *err) SAE_MUST_USE;

/* Can a body of this form be a request of the operation? SAE_E_UNSUPPORTED_MEDIA_TYPE says which
 * can. */
enum sae_status sae_content_check(enum sae_media media, enum sae_op op,
                                  struct sae_err *err) SAE_MUST_USE;

/* The answer's form from Accept (NULL: absent), of those in `can` (sae_media_can). Absent or
 * all-wildcard: the request's form if it can, else safetensors for binary requests, JSON for JSON.
 * q-values, wildcards and q=0 as RFC 9110 12.5.1; among equals the request's form, then JSON,
 * safetensors, raw, npy; of one form what has parameters. F32 unless a dtype is named, whatever the
 * request had. SAE_E_NOT_ACCEPTABLE says which can. */
enum sae_status sae_accept(const char *value, enum sae_media request, unsigned can,
                           struct sae_media_type *out, struct sae_err *err) SAE_MUST_USE;

/* ---- the contract (openapi.c) --------------------------------------------------------------- */

/* proto/openapi.json as it was at build. */
extern const char sae_openapi_json[];
extern const uint64_t sae_openapi_bytes;

/* ---- errors --------------------------------------------------------------------------------- */

/* HTTP status, code and title of a status (errors.def); an unlisted one is 500 internal. */
struct sae_error_info {
    int http;
    const char *code, *title;
};
struct sae_error_info sae_error_info(enum sae_status st);

/* problem+json of an error (RFC 9457) into *out, `more` behind its text. */
enum sae_status sae_problem_print(struct sae_buf *out, const struct sae_err *err,
                                  const char *more) SAE_MUST_USE;
/* Append a JSON string literal, quotes included; invalid UTF-8 becomes U+FFFD. */
enum sae_status sae_json_string(struct sae_buf *out, const char *s, size_t n) SAE_MUST_USE;

#endif
