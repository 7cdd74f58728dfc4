/* test_file.c - binding a weights file: the class from its keys, and what each refusal says.
 *
 * The loader is a fake: this program defines the functions of load.h itself, so the linker takes
 * none of lib/load from the archive. So a list of tensors is a line of a table here, shapes can be
 * larger than any file, and values are known by position. The loader's own side is tested in
 * tests/unit/load, both together in tests/golden. */
#include "lib/dict/spec.h"
#include "lib/load/load.h"
#include "lib/num.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the fake ---- */

#define MAX_TENSORS 300
struct sae_tensors {
    struct sae_tensor t[MAX_TENSORS];
    size_t n;
    struct sae_entry entries[MAX_TENSORS];
    struct sae_group group;
    const char *note;
    size_t fail_read; /* reading this tensor fails; SIZE_MAX: none */
    float r_mag;      /* value of every element of r_mag */
    size_t n_reads, n_integers;
    bool open;
};
static struct sae_tensors fake;

enum sae_status sae_load_open(struct sae_tensors **out, const char *path, struct sae_err *err)
{
    if (strcmp(path, "bad.pt") == 0)
        return sae_err_set(err, SAE_E_FORMAT, "file:12", "cannot read zip archive: no directory");
    ck_assert(!fake.open);
    fake.open = true;
    for (size_t i = 0; i < fake.n; i++) {
        snprintf(fake.entries[i].name, sizeof fake.entries[i].name, "%s", fake.t[i].name);
        fake.entries[i].kind = SAE_ENTRY_TENSOR;
        fake.entries[i].ndim = fake.t[i].ndim;
        memcpy(fake.entries[i].shape, fake.t[i].shape, sizeof fake.t[i].shape);
    }
    fake.group = (struct sae_group){.entries = fake.entries, .n = fake.n};
    *out = &fake;
    return SAE_OK;
}

void sae_load_close(struct sae_tensors *ts)
{
    if (ts)
        ts->open = false;
}

uint64_t sae_load_stamp(const struct sae_tensors *ts)
{
    return ts->open ? 17 : 0;
}

bool sae_load_is_torch_save(const struct sae_tensors *ts)
{
    (void)ts;
    return true;
}

const struct sae_facts *sae_load_facts(const struct sae_tensors *ts)
{
    (void)ts;
    return NULL;
}

enum sae_status sae_load_integers(struct sae_tensors *ts, size_t i, int64_t *dst, size_t n,
                                  struct sae_err *err)
{
    (void)ts, (void)i, (void)n, (void)err;
    *dst = 0;
    return SAE_OK;
}

size_t sae_load_n_groups(const struct sae_tensors *ts)
{
    (void)ts;
    return 1;
}

const struct sae_group *sae_load_group(const struct sae_tensors *ts, size_t g)
{
    ck_assert_uint_eq(g, 0);
    return &ts->group;
}

enum sae_status sae_load_narrow(struct sae_tensors *ts, const char *prefix, size_t *g,
                                struct sae_err *err)
{
    (void)ts, (void)g;
    return sae_err_set(err, SAE_E_FORMAT, "", "%s has not been faked", prefix);
}

const char *sae_load_note(const struct sae_tensors *ts)
{
    return ts->note;
}

/* As the loader does: a key that stands twice is refused, a prefix is dropped. */
enum sae_status sae_load_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                struct sae_err *err)
{
    ck_assert_uint_eq(g, 0);
    for (size_t i = 0; i < ts->n; i++) {
        snprintf(ts->t[i].name, sizeof ts->t[i].name, "%s", ts->entries[i].name + prefix);
        for (size_t k = 0; k < i; k++)
            if (strcmp(ts->t[i].name, ts->t[k].name) == 0)
                return sae_err_set(err, SAE_E_FORMAT, "data.pkl",
                                   "cannot read .pt file: its state dict has the key %s twice",
                                   ts->t[i].name);
    }
    return SAE_OK;
}

size_t sae_load_n_beside(const struct sae_tensors *ts)
{
    (void)ts;
    return 0;
}

size_t sae_load_count(const struct sae_tensors *ts)
{
    return ts->n;
}

const struct sae_tensor *sae_load_tensor(const struct sae_tensors *ts, size_t i)
{
    ck_assert_uint_lt(i, ts->n);
    return &ts->t[i];
}

enum sae_status sae_load_find(const struct sae_tensors *ts, const char *name, size_t *out,
                              struct sae_err *err)
{
    (void)err;
    for (*out = 0; *out < ts->n; ++*out)
        if (strcmp(ts->t[*out].name, name) == 0)
            return SAE_OK;
    *out = SIZE_MAX;
    return SAE_OK;
}

/* Element (r, c) of tensor i is 1000 i + 100 r + c, all by 2^-10; r_mag as the test says. */
static float value(size_t i, size_t r, size_t c)
{
    return strcmp(fake.t[i].name, "r_mag") == 0 ? fake.r_mag
                                                : (float)(1000 * i + 100 * r + c) * 0x1p-10f;
}

enum sae_status sae_load_read(struct sae_tensors *ts, size_t i, float *dst, bool transpose,
                              struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    size_t rows = t->ndim == 2 ? (size_t)t->shape[0] : 1, cols = (size_t)t->shape[t->ndim - 1];

    ts->n_reads++;
    if (i == ts->fail_read)
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot use tensor %s: its value at [0] is nan", t->name);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            dst[transpose ? c * rows + r : r * cols + c] = value(i, r, c);
    return SAE_OK;
}

enum sae_status sae_load_matrix(struct sae_tensors *ts, size_t i, const struct sae_matrix *dst,
                                size_t n_rows, bool transpose, struct sae_team *team,
                                struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    size_t n = (size_t)(t->shape[0] * (t->ndim == 2 ? t->shape[1] : 1));
    float *all = malloc(n * sizeof *all);
    enum sae_status st = sae_load_read(ts, i, all, transpose, err);

    (void)team;
    ck_assert(dst->dtype == SAE_DTYPE_F32 || dst->dtype == t->dtype);
    if (st == SAE_OK)
        sae_dtype_from_f32(dst->dtype, all, dst->values,
                           n_rows * dst->width < n ? n_rows * dst->width : n);
    free(all);
    return st;
}

enum sae_status sae_load_integer(struct sae_tensors *ts, size_t i, int64_t *out,
                                 struct sae_err *err)
{
    ts->n_integers++;
    if (sae_dtype_is_floating(ts->t[i].dtype) || ts->t[i].ndim > 0)
        return sae_err_set(err, SAE_E_WEIGHTS, ts->t[i].name, "cannot read tensor %s: no integer",
                           ts->t[i].name);
    *out = (int64_t)ts->entries[i].number;
    return SAE_OK;
}

/* "name:dtype:2,3 name:dtype=5 ..."; a shape or the value of a number; dtype one of f32 f16 bf16
 * f64 i64. */
static void fake_file(const char *text)
{
    static const char *const shorts[] = {"f32", "f16", "bf16", "f64", "i64"};
    static const char *const longs[] = {"float32", "float16", "bfloat16", "float64", "int64"};
    char line[2000], *save = NULL, *save2 = NULL;

    fake = (struct sae_tensors){.fail_read = SIZE_MAX};
    snprintf(line, sizeof line, "%s", text);
    for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        struct sae_tensor *t = &fake.t[fake.n++];
        struct sae_entry *e = &fake.entries[fake.n - 1];
        char *number = strchr(w, '=');
        char *name = strtok_r(w, ":", &save2), *dtype = strtok_r(NULL, ":=", &save2);

        snprintf(t->name, sizeof t->name, "%s", name);
        for (size_t i = 0; i < SAE_COUNTOF(shorts); i++)
            if (strcmp(dtype, shorts[i]) == 0) {
                t->dtype = (enum sae_dtype)i;
                snprintf(t->dtype_name, sizeof t->dtype_name, "%s", longs[i]);
            }
        if (number) {
            e->number = strtod(number + 1, NULL);
            e->has_number = sae_dtype_is_floating(t->dtype);
            continue;
        }
        for (char *n = strtok_r(NULL, ",", &save2); n; n = strtok_r(NULL, ",", &save2))
            t->shape[t->ndim++] = strtoull(n, NULL, 10);
    }
}

/* ---- what is taken ---- */

#define AE "bias:f32:2 encoder.weight:bf16:3,2 encoder.bias:f16:3 decoder.weight:f64:2,3"
#define GATED                                                                          \
    "decoder.weight:f32:2,3 mag_bias:f32:3 decoder_bias:f32:2 encoder.weight:f64:3,2 " \
    "gate_bias:f32:3 r_mag:f32:3"
#define JUMP AE " jump:f32:3"
#define NEW "encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3 decoder.bias:f32:2"
#define ROUNDED \
    "the producer computes in float16; differences of 1e-2 are its rounding" /* JUMP_RELU */
#define JUMP_RELU "W_enc:f16:2,3 W_dec:f16:3,2 b_enc:f16:3 b_dec:f16:2 threshold:f32:3"

#define TOP_K "encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3 b_dec:f32:2 "

static const struct {
    const char *file, *class_name, *dtype;
    uint64_t bytes, narrow; /* of f32; what matrices of 16 bits take less */
} goods[] = {
    {AE, "AutoEncoder", "bfloat16", 4 * (2 + 6 + 3 + 6), 2 * 6},
    {GATED, "GatedAutoEncoder", "float64", 4 * (2 + 6 + 9 + 6), 0},
    {JUMP, "JumpAutoEncoder", "bfloat16", 4 * (2 + 6 + 6 + 6), 2 * 6},
    {NEW, "AutoEncoderNew", "float32", 4 * (6 + 3 + 6 + 2), 0},
    {TOP_K "k:i64=3", "AutoEncoderTopK", "float32", 4 * (6 + 3 + 6 + 2), 0},
    {JUMP_RELU, "JumpReluAutoEncoder", "float16", 4 * (6 + 3 + 6 + 2 + 3), 2 * 12},
};

/* As a matrix of the dtype has it. */
static float kept(enum sae_dtype dtype, float v)
{
    uint64_t bits;

    sae_dtype_from_f32(dtype, &v, &bits, 1);
    sae_dtype_to_f32(dtype, &bits, &v, 1);
    return v;
}

/* Row by row, as it is, or turned. */
static void matrix_in_place(const struct sae_matrix *m, size_t i, bool turned)
{
    ck_assert_int_eq(m->dtype,
                     sae_dtype_bytes(fake.t[i].dtype) == 2 ? fake.t[i].dtype : SAE_DTYPE_F32);
    for (size_t r = 0; r < 3; r++)
        for (size_t c = 0; c < 2; c++)
            ck_assert(sae_matrix_value(m, r, c) ==
                      kept(m->dtype, turned ? value(i, c, r) : value(i, r, c)));
}

/* Each tensor lies where its role says, feature-major whatever its dims. */
static void tensors_in_place(const struct sae_dict *d)
{
    for (size_t i = 0; i < fake.n; i++)
        for (unsigned k = 0; k < d->layout->n_keys; k++) {
            const struct sae_layout_key *key = &d->layout->keys[k];
            const float *v = sae_dict_array((struct sae_dict *)d, key->role);

            if (strcmp(key->name, fake.t[i].name) != 0 || !sae_layout_is_kept(key))
                continue;
            if (key->role == SAE_ROLE_ENCODER || key->role == SAE_ROLE_DECODER) {
                matrix_in_place(key->role == SAE_ROLE_ENCODER ? &d->enc : &d->dec, i,
                                strcmp(key->dims, "d,F") == 0);
                continue;
            }
            for (size_t r = 0; r < 3; r++)
                for (size_t c = 0; c < 2; c++) {
                    if (key->dims[0] == 'd')
                        ck_assert(v[c] == value(i, 0, c));
                    else if (key->role != SAE_ROLE_R_MAG)
                        ck_assert(v[r] == value(i, 0, r));
                }
        }
}

START_TEST(binds)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file(goods[_i].file);
    fake.r_mag = 1.0f;
    ck_assert_msg(dicts_load(&d, "x.pt", NULL, &err) == SAE_OK, "%s", err.text);
    ck_assert(!fake.open);
    ck_assert_uint_eq(fake.n_reads + fake.n_integers, fake.n); /* each once */
    ck_assert_str_eq(sae_dict_info(d)->class_name, goods[_i].class_name);
    ck_assert_str_eq(sae_dict_info(d)->dtype, goods[_i].dtype);
    ck_assert_uint_eq(sae_dict_info(d)->bytes, goods[_i].bytes);
    ck_assert_uint_eq(d->formula.d_in, 2);
    ck_assert_uint_eq(d->formula.F, 3);
    tensors_in_place(d);
    ck_assert_uint_eq(d->formula.top_k, strcmp(goods[_i].class_name, "AutoEncoderTopK") ? 0 : 3);
    if (sae_dict_array(d, SAE_ROLE_R_MAG))
        ck_assert(sae_dict_array(d, SAE_ROLE_R_MAG)[0] == (float)exp(1.0) &&
                  sae_dict_array(d, SAE_ROLE_R_MAG)[2] == sae_dict_array(d, SAE_ROLE_R_MAG)[0]);
    sae_dict_free(d);
}
END_TEST

/* A draft knows what it will be before a value is read. */
START_TEST(describes)
{
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    const struct sae_dict_info *info;

    fake_file(goods[_i].file);
    ck_assert_msg(sae_draft_open(&t, "x.pt", &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(fake.n_reads, 0);
    ck_assert(fake.open);
    info = sae_draft_info(t);
    ck_assert_str_eq(info->class_name, goods[_i].class_name);
    ck_assert_str_eq(info->dtype, goods[_i].dtype);
    ck_assert_uint_eq(info->activation_dim, 2);
    ck_assert_uint_eq(info->dict_size, 3);
    ck_assert_uint_eq(info->bytes, goods[_i].bytes);
    ck_assert_uint_eq(info->resident_bytes, goods[_i].bytes - goods[_i].narrow + 4 * 3); /* norms */
    ck_assert_uint_ne(sae_draft_stamp(t), 0);
    ck_assert_int_eq(sae_draft_load(&d, t, NULL, &err), SAE_OK);
    sae_draft_close(t);
    ck_assert(!fake.open);
    ck_assert_uint_eq(fake.n_reads + fake.n_integers, fake.n); /* each once */
    ck_assert_uint_eq(sae_dict_info(d)->resident_bytes, goods[_i].bytes - goods[_i].narrow + 4 * 3);
    tensors_in_place(d);
    sae_dict_free(d);
}
END_TEST

/* resident=f32, and an engine that wants f32. */
START_TEST(widens)
{
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file(JUMP_RELU);
    for (int by_engine = 0; by_engine < 2; by_engine++) {
        ck_assert_msg(sae_draft_open(&t, by_engine ? "x.pt" : "x.pt:resident=f32", &err) == SAE_OK,
                      "%s", err.text);
        if (by_engine)
            sae_draft_widen(t);
        ck_assert_int_eq(sae_draft_load(&d, t, NULL, &err), SAE_OK);
        sae_draft_close(t);
        ck_assert_str_eq(sae_dict_info(d)->dtype, "float16");
        ck_assert_str_eq(sae_dict_info(d)->resident, "float32");
        ck_assert_uint_eq(sae_dict_info(d)->resident_bytes, 4 * (6 + 3 + 6 + 2 + 3 + 3));
        ck_assert_int_eq(d->enc.dtype, SAE_DTYPE_F32);
        ck_assert_int_eq(d->dec.dtype, SAE_DTYPE_F32);
        ck_assert(d->enc.f32[1] == value(0, 1, 0));
        ck_assert_uint_eq(sae_dict_info(d)->n_notes, by_engine ? 3 : 2);
        sae_dict_free(d);
    }
}
END_TEST

/* ---- what is stated ---- */

#define BARE "W_enc:f32:2,3 W_dec:f32:3,2 b_enc:f32:3 b_dec:f32:2 "
#define MINE "W:f32:2,3 V:f32:3,2 b:f32:3 c:f32:2 extra:f32:3"
#define GATED_KEYS "W:f32:3,2 V:f32:3,2 g:f32:3 r:f32:3 m:f32:3"

/* "field=text" of the reading, those that are not the default; the notes behind it. */
static void print_reading(const struct sae_dict_info *info, char *text, size_t room)
{
    static const char *const defaults[] = {"sae",  "none",  "none",      "none", "",    "all",
                                           "none", "value", "as_stored", "all",  "none"};
    size_t n = 0;

    text[0] = '\0';
    for (size_t f = 0; f < SAE_N_FIELDS; f++) {
        const struct sae_shown_field *shown = &info->reading[f];

        if (strcmp(shown->text, defaults[f]) != 0)
            n += (size_t)snprintf(text + n, room - n, "%s=%s%s ", shown->name, shown->text,
                                  shown->from == SAE_FROM_STATED ? "!" : "");
        if (shown->by_file[0])
            n += (size_t)snprintf(text + n, room - n, "(%s) ", shown->by_file);
    }
    for (unsigned k = 0; k < info->n_notes; k++)
        n += (size_t)snprintf(text + n, room - n, "; %s", info->notes[k]);
}

static const struct {
    const char *file, *source, *class_name, *reading;
    struct sae_formula f; /* of it: unit, top_k, F where it is not 3, centre and bias */
} stated[] = {
    {TOP_K "k:i64=2",
     "x.pt",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:2 "
     "; read as AutoEncoderTopK: BatchTopKSAE has the same keys",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2",
     "x.pt:k=1",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:1! (top_k:2) ",
     {.unit = SAE_UNIT_RELU, .top_k = 1, .has_centre = true, .adds_centre = true}},
    {TOP_K,
     "x.pt:k=1",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:1! ",
     {.unit = SAE_UNIT_RELU, .top_k = 1, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2 threshold:f32=0.5",
     "x.pt:activation=threshold",
     "AutoEncoderTopK",
     "centre=b_dec activation=threshold! (top_k:2) threshold=threshold ; k is not used under the "
     "stated reading",
     {.unit = SAE_UNIT_THRESHOLD, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2 threshold:f32=-1",
     "x.pt:threshold=0.25",
     "AutoEncoderTopK",
     "centre=b_dec activation=threshold! (top_k:2) threshold=0.25! ; k is not used under the "
     "stated "
     "reading; threshold is not used under the stated reading",
     {.unit = SAE_UNIT_THRESHOLD, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2 threshold:f32=0.5",
     "x.pt:k=3",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:3! (top_k:2) ; threshold is not used under the "
     "stated "
     "reading",
     {.unit = SAE_UNIT_RELU, .top_k = 3, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2",
     "x.pt:k=none:features=2",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu (top_k:2) features=2! ; k is not used under the stated reading",
     {.unit = SAE_UNIT_RELU, .F = 2, .has_centre = true, .adds_centre = true}},
    {TOP_K "k:i64=2",
     "x.pt:centre=none",
     "AutoEncoderTopK",
     "activation=relu select=top_k:2 ",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_dec_bias = true}},
    {TOP_K "k:i64=2",
     "x.pt:score=decoder_norm_folded",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:2 score=decoder_norm_folded! ",
     {.unit = SAE_UNIT_RELU,
      .top_k = 2,
      .score = SAE_SCORE_DECODER_NORM_FOLDED,
      .has_centre = true,
      .adds_centre = true}},
    {TOP_K "k:i64=2",
     "x.pt:parts=encoder",
     "AutoEncoderTopK",
     "centre=b_dec activation=relu select=top_k:2 ; read as AutoEncoderTopK: BatchTopKSAE has the "
     "same keys",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_centre = true, .encodes_only = true}},
    {TOP_K "k:i64=2",
     "x.pt:input=layer_norm:activation=linear",
     "AutoEncoderTopK",
     "input=layer_norm! output=follow centre=b_dec activation=linear! select=top_k:2 ",
     {.unit = SAE_UNIT_LINEAR,
      .top_k = 2,
      .input = SAE_SCALING_LAYER,
      .output = SAE_SCALING_LAYER,
      .has_centre = true,
      .adds_centre = true}},
    {JUMP_RELU,
     "x.pt:centre=b_dec",
     "JumpReluAutoEncoder",
     "centre=b_dec! activation=threshold threshold=threshold ; " ROUNDED,
     {.unit = SAE_UNIT_THRESHOLD, .has_centre = true, .adds_centre = true}},
    {JUMP_RELU,
     "x.pt:k=2",
     "JumpReluAutoEncoder",
     "activation=relu! select=top_k:2! ; " ROUNDED
     "; threshold is not used under the stated reading",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_dec_bias = true}},
    {JUMP_RELU,
     "x.pt:activation=relu",
     "JumpReluAutoEncoder",
     "activation=relu! ; " ROUNDED "; threshold is not used under the stated reading",
     {.unit = SAE_UNIT_RELU, .has_dec_bias = true}},
    {NEW,
     "x.pt:k=none",
     "AutoEncoderNew",
     "activation=relu ",
     {.unit = SAE_UNIT_RELU, .has_dec_bias = true, .scales_forward_f = true}},
    {NEW,
     "x.pt:k=2",
     "AutoEncoderNew",
     "activation=relu select=top_k:2! ",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_dec_bias = true}},
    {AE, "x.pt:centre=encoder.bias+encoder.bias", NULL, "\"encoder.bias\" has shape [3]", {0}},
    {BARE "threshold:f32=0.5",
     "x.pt:centre=b_dec:activation=threshold",
     "jumprelu",
     "centre=b_dec! activation=threshold! threshold=threshold ",
     {.unit = SAE_UNIT_THRESHOLD, .has_centre = true, .adds_centre = true}},
    {BARE "threshold:f32=0.5",
     "x.pt:centre=none:threshold=threshold",
     "jumprelu",
     "activation=threshold! threshold=threshold! ",
     {.unit = SAE_UNIT_THRESHOLD, .has_dec_bias = true}},
    {MINE,
     "x.pt:encoder=W:decoder=V:enc_bias=b:dec_bias=c:centre=c:k=2",
     "topk",
     "centre=c! activation=relu! select=top_k:2! ; activation = relu is implied by k=",
     {.unit = SAE_UNIT_RELU, .top_k = 2, .has_centre = true, .adds_centre = true}},
    {MINE,
     "x.pt:encoder=W:decoder=V:enc_bias=b:centre=c+c:activation=relu",
     "standard",
     "centre=c+c! activation=relu! ",
     {.unit = SAE_UNIT_RELU, .has_centre = true, .has_dec_bias = true}},
    {MINE,
     "x.pt:encoder=W@d,F:decoder=V@F,m:centre=none:threshold=extra",
     "jumprelu",
     "activation=threshold! threshold=extra! ",
     {.unit = SAE_UNIT_THRESHOLD, .has_dec_bias = true}},
    {MINE,
     "x.pt:encoder=W:decoder=V:centre=none:threshold=exp:extra",
     "jumprelu",
     "activation=threshold! threshold=exp:extra! ",
     {.unit = SAE_UNIT_THRESHOLD, .has_dec_bias = true}},
    {GATED_KEYS,
     "x.pt:encoder=W:decoder=V:centre=none:activation=gated:gate_bias=g:r_mag=r:mag_bias=m",
     "gated",
     "activation=gated! ",
     {.unit = SAE_UNIT_GATED, .has_dec_bias = true}},
};

START_TEST(a_statement_decides)
{
    const struct sae_formula *want = &stated[_i].f;
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char text[600];
    enum sae_status st;

    fake_file(stated[_i].file);
    fake.r_mag = 1.0f;
    st = sae_draft_open(&t, stated[_i].source, &err);
    if (!stated[_i].class_name) {
        ck_assert_int_ne(st, SAE_OK);
        ck_assert_msg(strstr(err.text, stated[_i].reading) != NULL, "%s", err.text);
        return;
    }
    ck_assert_msg(st == SAE_OK, "%s", err.text);
    ck_assert_msg(sae_draft_load(&d, t, NULL, &err) == SAE_OK, "%s", err.text);
    print_reading(sae_draft_info(t), text, sizeof text);
    ck_assert_str_eq(text, stated[_i].reading);
    print_reading(sae_dict_info(d), text, sizeof text);
    ck_assert_str_eq(text, stated[_i].reading);
    ck_assert_str_eq(sae_dict_info(d)->class_name, stated[_i].class_name);
    ck_assert_int_eq(d->formula.unit, want->unit);
    ck_assert_uint_eq(d->formula.top_k, want->top_k);
    ck_assert_uint_eq(d->formula.F, want->F ? want->F : 3);
    ck_assert_int_eq(d->formula.score, want->score);
    ck_assert_int_eq(d->formula.input, want->input);
    ck_assert_int_eq(d->formula.output, want->output);
    ck_assert_int_eq(d->formula.encodes_only, want->encodes_only);
    ck_assert_int_eq(d->dec.f32 == NULL, want->encodes_only);
    ck_assert_int_eq(d->formula.has_centre, want->has_centre);
    ck_assert_int_eq(d->formula.adds_centre, want->adds_centre);
    ck_assert_int_eq(d->formula.has_dec_bias, want->has_dec_bias);
    ck_assert_int_eq(d->formula.scales_forward_f, want->scales_forward_f);
    sae_dict_free(d);
    sae_draft_close(t);
}
END_TEST

/* Values where a statement puts them. */
START_TEST(stated_values_are_in_place)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file(MINE);
    ck_assert_msg(dicts_load(&d, "x.pt:encoder=W:decoder=V:enc_bias=b:centre=c+c:threshold=-0.5",
                             NULL, &err) == SAE_OK,
                  "%s", err.text);
    for (size_t j = 0; j < 3; j++) {
        for (size_t k = 0; k < 2; k++) {
            ck_assert(d->enc.f32[j * 2 + k] == value(0, k, j));
            ck_assert(d->dec.f32[j * 2 + k] == value(1, j, k));
        }
        ck_assert(sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j] == value(2, 0, j));
        ck_assert(sae_dict_array(d, SAE_ROLE_THRESHOLD)[j] == -0.5f);
    }
    for (size_t k = 0; k < 2; k++) {
        ck_assert(d->centre[k] == 2 * value(3, 0, k));
        ck_assert(d->dec_bias[k] == 0.0f);
    }
    sae_dict_free(d);
    fake_file(TOP_K "threshold:f32=0.5");
    ck_assert_int_eq(dicts_load(&d, "x.pt:activation=threshold:features=2", NULL, &err), SAE_OK);
    ck_assert_uint_eq(sae_dict_info(d)->dict_size, 2);
    for (size_t j = 0; j < 2; j++) {
        for (size_t k = 0; k < 2; k++) {
            ck_assert(d->enc.f32[j * 2 + k] == value(0, j, k));
            ck_assert(d->dec.f32[j * 2 + k] == value(2, k, j));
        }
        ck_assert(sae_dict_array(d, SAE_ROLE_ENC_BIAS)[j] == value(1, 0, j));
        ck_assert(sae_dict_array(d, SAE_ROLE_THRESHOLD)[j] == 0.5f);
    }
    sae_dict_free(d);
    fake_file(MINE);
    ck_assert_int_eq(
        dicts_load(&d, "x.pt:encoder=W:decoder=V:centre=none:threshold=exp:extra", NULL, &err),
        SAE_OK);
    ck_assert(sae_dict_array(d, SAE_ROLE_THRESHOLD)[2] == sae_exp_f32(value(4, 0, 2)));
    sae_dict_free(d);
}
END_TEST

#define LARGE                                                                                  \
    "W:f32:20000,2 V:f32:20000,2 b:f32:20000 b2:f32:1,20000 h:bf16:20000 c:f32:2 n:f32:20000 " \
    "x:f64:20000 z:f32=0.5"
#define OF_LARGE "x.pt:encoder=W@F,d:decoder=V@F,m:centre=c+c:"

/* Two features of 20,000: what is read whole is cut before it lies among the dictionary's. */
static const struct {
    const char *stated;
    enum sae_role role;
    size_t first, second; /* tensors that are added up, SIZE_MAX: there is one */
    bool is_exp;
} cuts[] = {
    {"activation=relu:enc_bias=b", SAE_ROLE_ENC_BIAS, 2, SIZE_MAX, false},
    {"activation=relu:enc_bias=b+b2", SAE_ROLE_ENC_BIAS, 2, 3, false},
    {"activation=relu:enc_bias=x+h", SAE_ROLE_ENC_BIAS, 7, 4, false},
    {"threshold=b+b2", SAE_ROLE_THRESHOLD, 2, 3, false},
    {"threshold=exp:b", SAE_ROLE_THRESHOLD, 2, SIZE_MAX, true},
    {"threshold=exp:b+b2", SAE_ROLE_THRESHOLD, 2, 3, true},
    {"activation=jump:jump=b+n", SAE_ROLE_JUMP, 2, 6, false},
    {"activation=gated:gate_bias=b+n:mag_bias=n:r_mag=b", SAE_ROLE_GATE_BIAS, 2, 6, false},
    {"activation=gated:gate_bias=n:mag_bias=b+n:r_mag=b", SAE_ROLE_MAG_BIAS, 2, 6, false},
    {"activation=gated:gate_bias=n:mag_bias=n:r_mag=b+b2", SAE_ROLE_R_MAG, 2, 3, true},
};

START_TEST(what_is_added_up_is_cut_too)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[200];
    const float *v;

    fake_file(LARGE);
    snprintf(source, sizeof source, OF_LARGE "%s:features=2", cuts[_i].stated);
    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s", err.text);
    ck_assert_uint_eq(sae_dict_info(d)->dict_size, 2);
    v = sae_dict_array(d, cuts[_i].role);
    for (size_t j = 0; j < 2; j++) {
        float want = value(cuts[_i].first, 0, j);

        if (cuts[_i].second != SIZE_MAX)
            want = (float)((double)want + (double)value(cuts[_i].second, 0, j));
        ck_assert(v[j] == (cuts[_i].is_exp ? sae_exp_f32(want) : want));
        ck_assert(d->centre[j] == 2 * value(5, 0, j));
        ck_assert(d->dec.f32[j * 2] == value(1, j, 0));
    }
    sae_dict_free(d);
}
END_TEST

/* y += W x, whichever way round the parts of W lie. */
static const struct {
    const char *stated;
    size_t first, second;
    bool is_turned;
} skips[] = {
    {"skip=S@m,d", 2, SIZE_MAX, false},      {"skip=S@d,m", 2, SIZE_MAX, true},
    {"skip=S+T@m,d", 2, 3, false},           {"skip=S+T@d,m", 2, 3, true},
    {"skip=S+T@d,m:features=2", 2, 3, true},
};

START_TEST(a_skip_that_is_added_up_lies_as_it_says)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[200];

    fake_file("W:f32:3,2 V:f32:3,2 S:f32:2,2 T:bf16:2,2 c:f32:2");
    snprintf(source, sizeof source, OF_LARGE "activation=relu:%s", skips[_i].stated);
    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s", err.text);
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            size_t r = skips[_i].is_turned ? k : i, c = skips[_i].is_turned ? i : k;
            float want = value(skips[_i].first, r, c);

            if (skips[_i].second != SIZE_MAX)
                want += value(skips[_i].second, r, c);
            ck_assert(d->skip[i * 2 + k] == want);
        }
    sae_dict_free(d);
}
END_TEST

static const struct {
    const char *file, *source, *said;
} unfit[] = {
    {TOP_K, "x.pt", "nor has a config beside it; state k=N"},
    {TOP_K "k:i64=2", "x.pt:k=4", "k is 4, wanted from 1 to dict_size, which is 3"},
    {TOP_K "k:i64=2", "x.pt:activation=threshold", "it is not in the file; state threshold=NUMBER"},
    {TOP_K "k:i64=2 threshold:f32=-1", "x.pt:activation=threshold",
     "it is -1, never set; state threshold=NUMBER"},
    {TOP_K "k:i64=2 threshold:f32:3", "x.pt:k=2", "is not one floating number of no dimension"},
    {TOP_K "k:i64=2", "x.pt:features=2", "features=2 does not go with select=top_k:2"},
    {TOP_K "k:i64=2", "x.pt:k=none:features=4", "features=4 is stated, and the file has 3"},
    {TOP_K "k:i64=2", "x.pt:centre=nope", "centre is nope, and the file has no tensor"},
    {TOP_K "k:i64=2", "x.pt:centre=b_dec+nope", "has no tensor \"nope\""},
    {TOP_K "k:i64=2", "x.pt:centre=b_dec+b_dec+b_dec+b_dec+b_dec", "more than 4 tensors"},
    {TOP_K "k:i64=2", "x.pt:threshold=inf", "has no tensor \"inf\""},
    {TOP_K "k:i64=2", "x.pt:activation=gated", "activation=gated does not go with select=top_k:2"},
    {TOP_K "k:i64=2", "x.pt:activation=gated:k=none", "this reading wants gate_bias=KEY"},
    {MINE, "x.pt:encoder=W:enc_bias=b:centre=none:k=2:score=decoder_norm", "wants decoder=KEY"},
    {BARE "threshold:f32=0.5", "x.pt", "state centre=b_dec or centre=none, and activation="},
    {BARE "threshold:f32=0.5", "x.pt:format=dictionary_learning",
     "\"threshold\" has shape [], wanted [F] = [3] (JumpReluAutoEncoder, by W_enc)"},
    {BARE "threshold:f32:1", "x.pt", "\"threshold\" has shape [1], wanted [F] = [3]"},
    {MINE, "x.pt:format=dictionary_learning", "cannot name the class"},
    {MINE, "x.pt:encoder=U:centre=none:k=2", "encoder=U is stated, and the file has no such"},
    {MINE, "x.pt:encoder=W:centre=none:k=2", "cannot tell which way round \"W\" lies"},
    {MINE, "x.pt:encoder=W:decoder=V:centre=none:k=2",
     "cannot tell which way round \"W\" lies: its shape is [2, 3] and the vectors go with both "
     "ways; state encoder=W@F,d or @d,F"},
    {MINE, "x.pt:encoder=W:decoder=V:enc_bias=b:centre=b:k=2", "the vectors go with none"},
    {MINE, "x.pt:encoder=W@d,F:decoder=V@m,F:centre=c:k=2", "wanted [m,F] = [3, 3]"},
    {MINE, "x.pt:encoder=W+W:decoder=V:enc_bias=b:centre=c:k=2", "has no such tensor"},
    {MINE, "x.pt:encoder=b:decoder=V:enc_bias=b:centre=c:k=2", "wanted two dimensions"},
    {MINE, "x.pt:encoder=W:decoder=V+V:enc_bias=b:centre=c:k=2", "matrices are not added up"},
    {"W:f32:2,3 V:f32:3,4 b:f32:3", "x.pt:encoder=W:decoder=V:enc_bias=b:centre=none:k=2:kind=sae",
     "kind=sae is stated, and the output's width is 4 where the input's is 2"},
    {"W:f32:2,3 V:f32:3,2 b:f32:3 S:f32:2,2",
     "x.pt:encoder=W:decoder=V:enc_bias=b:centre=none:k=2:skip=S",
     "cannot tell which way round \"S\" lies"},
    {"W:f32:2 b:f32=1 c:f32=2", "linear:x.pt:encoder=W:enc_bias=b+c",
     "\"b\" has shape [], wanted [F] = [1]"},
};

START_TEST(a_statement_that_does_not_fit)
{
    struct sae_draft *t = NULL;
    struct sae_err err = {0};
    enum sae_status st;

    fake_file(unfit[_i].file);
    st = sae_draft_open(&t, unfit[_i].source, &err);
    ck_assert_msg(st == SAE_E_FORMAT || st == SAE_E_WEIGHTS, "%d", (int)st);
    ck_assert_msg(strstr(err.text, unfit[_i].said) != NULL, "%s", err.text);
    ck_assert_msg(strncmp(err.text, "cannot load x.pt: ", 18) == 0, "%s", err.text);
    ck_assert_ptr_null(t);
    ck_assert(!fake.open);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *file;
    enum sae_status status;
    const char *where, *text; /* all of the text behind "cannot load x.pt: " */
} bads[] = {
    {"", SAE_E_FORMAT, "", "cannot name the class: the file holds no tensors"},
    {"decoder_bias:f32:2 encoder.weight:f32:3,2 gate_bias:f32:3 mag_bias:f32:3 "
     "decoder.weight:f32:2,3",
     SAE_E_FORMAT, "",
     "cannot name the class: keys are GatedAutoEncoder's but \"r_mag\" is missing"},
    {AE " foo:f32:3", SAE_E_FORMAT, "",
     "cannot name the class: keys are AutoEncoder's but these are unexpected: \"foo\" [3], "
     "which format=custom would ignore"},
    {AE " bias:f32:2", SAE_E_FORMAT, "data.pkl",
     "cannot read .pt file: its state dict has the key bias twice"},
    {"encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_FORMAT, "",
     "cannot name the class: keys are AutoEncoder's but \"bias\" is missing; or keys are "
     "AutoEncoderNew's but \"decoder.bias\" is missing; or keys are AutoEncoderTopK's but "
     "\"b_dec\" is missing"},
    {"decoder_bias:f32:2 encoder.weight:f32:3,2 gate_bias:f32:3 decoder.weight:f32:2,3 x:f32:1",
     SAE_E_FORMAT, "",
     "cannot name the class: keys are GatedAutoEncoder's but \"r_mag\", \"mag_bias\" are missing, "
     "and these are unexpected: \"x\" [1], which format=custom would ignore"},
    {TOP_K "k:i64=0", SAE_E_WEIGHTS, "k", "\"k\" is 0, wanted 1 or more"},
    {TOP_K "k:i64=4", SAE_E_WEIGHTS, "k",
     "k is 4, wanted from 1 to dict_size, which is 3 by encoder.weight"},
    {TOP_K "k:f32=2", SAE_E_WEIGHTS, "k", "cannot read tensor k: no integer"},
    {TOP_K "k:i64:1", SAE_E_WEIGHTS, "k", "cannot read tensor k: no integer"},
    {TOP_K "k:i64=2 threshold:f32=0.5", SAE_E_FORMAT, "threshold",
     "cannot choose between two readings: \"threshold\" is 0.5: features may be those above it and "
     "not the k largest; state k=N or activation=threshold"},
    {TOP_K "k:i64=2 threshold:f32:3", SAE_E_WEIGHTS, "threshold",
     "\"threshold\" is not one floating number of no dimension"},
    /* an encoder the other way round: its dims, and its name in what is said of the others */
    {"W_enc:f32:6 W_dec:f32:3,2 b_enc:f32:3 b_dec:f32:2 threshold:f32:3", SAE_E_WEIGHTS, "W_enc",
     "\"W_enc\" has shape [6], wanted two dimensions, [activation_dim, dict_size]"},
    {"W_enc:f32:2,3 W_dec:f32:2,3 b_enc:f32:3 b_dec:f32:2 threshold:f32:3", SAE_E_WEIGHTS, "W_dec",
     "\"W_dec\" has shape [2, 3], wanted [F,d] = [3, 2] (JumpReluAutoEncoder, by W_enc)"},
    {"V_enc:f32:2,3 V_dec:f32:3,2 c_enc:f32:3 c_dec:f32:2 threshold:f32:3", SAE_E_FORMAT, "",
     "cannot name the class: no class has its 5 keys: \"V_enc\" [2, 3], \"V_dec\" [3, 2], "
     "\"c_enc\" "
     "[3], \"c_dec\" [2], \"threshold\" [3]"},
    {"bias:f32:2", SAE_E_FORMAT, "",
     "cannot name the class: no class has its 1 keys: \"bias\" [2]"},
    {"bias:f32:2 encoder.weight:i64:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "encoder.weight",
     "\"encoder.weight\" has dtype int64, wanted float32, float16, bfloat16 or float64"},
    {"bias:f32:2 encoder.weight:f32:6 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "encoder.weight",
     "\"encoder.weight\" has shape [6], wanted two dimensions, [dict_size, activation_dim]"},
    {"bias:f32:2 encoder.weight:f32: encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "encoder.weight",
     "\"encoder.weight\" has shape [], wanted two dimensions, [dict_size, activation_dim]"},
    {"bias:f32:2 encoder.weight:f32:3,0 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "encoder.weight",
     "\"encoder.weight\" has shape [3, 0], wanted dimensions from 1 to 2147483647"},
    {"bias:f32:2 encoder.weight:f32:2147483648,2 encoder.bias:f32:3 decoder.weight:f32:2,3",
     SAE_E_WEIGHTS, "encoder.weight",
     "\"encoder.weight\" has shape [2147483648, 2], wanted dimensions from 1 to 2147483647"},
    {"bias:f32:3 encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "bias", "\"bias\" has shape [3], wanted [d] = [2] (AutoEncoder, by encoder.weight)"},
    {"bias:f32:2,1 encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3", SAE_E_WEIGHTS,
     "bias", "\"bias\" has shape [2, 1], wanted [d] = [2] (AutoEncoder, by encoder.weight)"},
    {"bias:f32:2 encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:3,2", SAE_E_WEIGHTS,
     "decoder.weight",
     "\"decoder.weight\" has shape [3, 2], wanted [d,F] = [2, 3] (AutoEncoder, by "
     "encoder.weight)"},
    {"bias:f32:2 encoder.weight:f32:3,2 encoder.bias:f32:3 decoder.weight:f32:2,3 jump:f32:2",
     SAE_E_WEIGHTS, "jump",
     "\"jump\" has shape [2], wanted [F] = [3] (JumpAutoEncoder, by encoder.weight)"},
    {"bias:f32:2147483647 encoder.weight:f32:2147483647,2147483647 encoder.bias:f32:2147483647 "
     "decoder.weight:f32:2147483647,2147483647",
     SAE_E_NOMEM, "", "cannot allocate AutoEncoder: 2147483647 x 2147483647 values, out of memory"},
};

START_TEST(refuses)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    const char *head = "cannot load x.pt: ";

    fake_file(bads[_i].file);
    ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, &err), bads[_i].status);
    ck_assert_msg(strncmp(err.text, head, strlen(head)) == 0, "%s", err.text);
    ck_assert_str_eq(err.text + strlen(head), bads[_i].text);
    ck_assert_str_eq(err.where, bads[_i].where);
    ck_assert_ptr_null(d);
    ck_assert(!fake.open);
    ck_assert_uint_eq(fake.n_reads, 0); /* shapes are checked before a value is read */
}
END_TEST

/* All of that is known when the file is open; but that memory holds no such dictionary. */
START_TEST(refuses_before_it_loads)
{
    struct sae_draft *t = NULL;
    struct sae_err err = {0};
    enum sae_status st;

    fake_file(bads[_i].file);
    st = sae_draft_open(&t, "x.pt", &err);
    if (bads[_i].status == SAE_E_NOMEM) {
        ck_assert_int_eq(st, SAE_OK);
        ck_assert_uint_eq(sae_draft_info(t)->bytes, UINT64_MAX);
        ck_assert_uint_eq(sae_draft_info(t)->resident_bytes, UINT64_MAX);
    } else {
        ck_assert_int_eq(st, bads[_i].status);
        ck_assert_str_eq(err.where, bads[_i].where);
        ck_assert_ptr_null(t);
    }
    sae_draft_close(t);
    ck_assert(!fake.open);
}
END_TEST

START_TEST(a_whole_transformer_is_listed_in_short)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file("");
    for (; fake.n < MAX_TENSORS; fake.n++) {
        fake.t[fake.n].ndim = 1;
        fake.t[fake.n].shape[0] = 768;
        snprintf(fake.t[fake.n].name, sizeof fake.t[0].name, "transformer.h.%zu.attn.weight",
                 fake.n);
    }
    ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, &err), SAE_E_FORMAT);
    ck_assert_str_eq(
        err.text, "cannot load x.pt: cannot name the class: no class has its 300 keys: "
                  "\"transformer.h.0.attn.weight\" [768], \"transformer.h.1.attn.weight\" [768], "
                  "\"transformer.h.2.attn.weight\" [768], \"transformer.h.3.attn.weight\" [768], "
                  "\"transformer.h.4.attn.weight\" [768] and 295 more");
}
END_TEST

START_TEST(long_names_are_cut_not_overrun)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char path[1000];

    fake_file(AE);
    for (int i = 0; i < 6; i++, fake.n++)
        memset(fake.t[fake.n].name, 'a' + i, sizeof fake.t[0].name - 1);
    memset(path, 'p', sizeof path);
    strcpy(path + sizeof path - 7, "/ae.pt");
    ck_assert_int_eq(dicts_load(&d, path, NULL, &err), SAE_E_FORMAT);
    ck_assert_msg(strncmp(err.text, "cannot load ...ppp", 18) == 0, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(err.text, "ppp/ae.pt: cannot name the class: no class has"));
}
END_TEST

/* A failing read, whichever tensor it is, names file and tensor, and frees all. */
START_TEST(a_failed_read_is_passed_on)
{
    fake_file(GATED);
    for (size_t i = 0; i < fake.n; i++) {
        struct sae_dict *d = NULL;
        struct sae_err err = {0};
        char want[200];

        fake.fail_read = i;
        ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, &err), SAE_E_WEIGHTS);
        snprintf(want, sizeof want,
                 "cannot load x.pt: cannot use tensor %s: its value at [0] is nan", fake.t[i].name);
        ck_assert_str_eq(err.text, want);
        ck_assert_str_eq(err.where, fake.t[i].name);
        ck_assert(!fake.open && d == NULL);
    }
}
END_TEST

START_TEST(exp_of_r_mag_must_be_finite)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file(GATED);
    fake.r_mag = 89.0f;
    ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, &err), SAE_E_WEIGHTS);
    ck_assert_str_eq(err.where, "r_mag");
    ck_assert_str_eq(err.text, "cannot load x.pt: cannot use r_mag: exp of value 0, 89, is not "
                               "finite as f32");
    fake.r_mag = 88.7f;
    ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, &err), SAE_OK);
    ck_assert(isfinite(sae_dict_array(d, SAE_ROLE_R_MAG)[0]));
    sae_dict_free(d);
}
END_TEST

START_TEST(the_loaders_errors_name_the_file)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    ck_assert_int_eq(dicts_load(&d, "bad.pt", NULL, &err), SAE_E_FORMAT);
    ck_assert_str_eq(err.text, "cannot load bad.pt: cannot read zip archive: no directory");
    ck_assert_str_eq(err.where, "file:12");
    ck_assert_int_eq(dicts_load(&d, "bad.pt", NULL, NULL), SAE_E_FORMAT);
}
END_TEST

START_TEST(a_path_of_any_bytes_is_tamed)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};

    fake_file("");
    ck_assert_int_eq(dicts_load(&d, "q\xff\x1b[31m\xe2\x80\xa8.pt", NULL, &err), SAE_E_FORMAT);
    ck_assert_msg(strncmp(err.text, "cannot load q??[31m?.pt: cannot ", 32) == 0, "%s", err.text);
}
END_TEST

/* A path takes the room that the reason leaves, its end before its start. */
START_TEST(a_long_path_leaves_the_reason_whole)
{
    for (size_t n = 100; n < 1000; n += 150) {
        char path[1001], want[1100];
        struct sae_dict *d = NULL;
        struct sae_err err = {0};

        memset(path, 'p', n);
        snprintf(path + n - 5, 6, "/x.pt");
        fake_file("V_enc:f32:2,3 V_dec:f32:3,2 c_enc:f32:3 c_dec:f32:2 threshold:f32:3");
        ck_assert_int_eq(dicts_load(&d, path, NULL, &err), SAE_E_FORMAT);
        snprintf(
            want, sizeof want,
            "%s/x.pt: cannot name the class: no class has its 5 keys: "
            "\"V_enc\" [2, 3], \"V_dec\" [3, 2], \"c_enc\" [3], \"c_dec\" [2], \"threshold\" [3]",
            "p");
        ck_assert_msg(strstr(err.text, want) != NULL, "%s", err.text);
        ck_assert_msg(n < 250 || strncmp(err.text, "cannot load ...pppp", 19) == 0, "%s", err.text);
    }
}
END_TEST

START_TEST(notes_tell_what_the_file_did_not_say)
{
    struct sae_dict *d = NULL;

    fake_file("module.bias:f32:2 module.encoder.weight:f32:3,2 module.encoder.bias:f32:3 "
              "module.decoder.weight:f32:2,3");
    fake.note = "a note of the loader";
    ck_assert_int_eq(dicts_load(&d, "x.pt", NULL, NULL), SAE_OK);
    ck_assert_uint_eq(d->info.n_notes, 3); /* and that of the class */
    ck_assert_str_eq(d->info.notes[0], "the prefix \"module.\" was taken off every key");
    ck_assert_str_eq(d->info.notes[1], "a note of the loader");
    sae_dict_free(d);
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
    struct sae_dict *d = NULL;
    int failures = 0;

    fake_file(GATED);
    for (long n = 0; d == NULL; n++) {
        struct sae_err err = {0};
        enum sae_status st;

        sae_alloc_fault(n, false);
        st = dicts_load(&d, "x.pt", NULL, &err);
        sae_alloc_fault(-1, false);
        ck_assert(st == (d ? SAE_OK : SAE_E_NOMEM));
        ck_assert(d || strncmp(err.text, "cannot load x.pt: cannot ", 25) == 0);
        failures += d == NULL;
        ck_assert(!fake.open && n < 50);
    }
    ck_assert_int_ge(failures, 8);
    sae_dict_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, binds, 0, (int)SAE_COUNTOF(goods));
    tcase_add_test(t, widens);
    tcase_add_loop_test(t, describes, 0, (int)SAE_COUNTOF(goods));
    tcase_add_loop_test(t, a_statement_decides, 0, SAE_COUNTOF(stated));
    tcase_add_test(t, stated_values_are_in_place);
    tcase_add_loop_test(t, what_is_added_up_is_cut_too, 0, SAE_COUNTOF(cuts));
    tcase_add_loop_test(t, a_skip_that_is_added_up_lies_as_it_says, 0, SAE_COUNTOF(skips));
    tcase_add_loop_test(t, a_statement_that_does_not_fit, 0, SAE_COUNTOF(unfit));
    tcase_add_loop_test(t, refuses, 0, (int)SAE_COUNTOF(bads));
    tcase_add_loop_test(t, refuses_before_it_loads, 0, (int)SAE_COUNTOF(bads));
    tcase_add_test(t, a_whole_transformer_is_listed_in_short);
    tcase_add_test(t, long_names_are_cut_not_overrun);
    tcase_add_test(t, a_failed_read_is_passed_on);
    tcase_add_test(t, exp_of_r_mag_must_be_finite);
    tcase_add_test(t, the_loaders_errors_name_the_file);
    tcase_add_test(t, a_path_of_any_bytes_is_tamed);
    tcase_add_test(t, a_long_path_leaves_the_reason_whole);
    tcase_add_test(t, notes_tell_what_the_file_did_not_say);
    tcase_add_test(t, out_of_memory_is_an_error);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
