/* dicts.c - dictionaries for tests. See dicts.h. */
#include "tests/support/dicts.h"

#include "lib/dict/ref.h"
#include "lib/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t dicts_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The sum of twelve uniform numbers, less 6, is nearly standard normal (Irwin-Hall). */
float dicts_normal(uint64_t *state)
{
    double sum = 0.0;

    for (int i = 0; i < 6; i++) {
        uint64_t u = dicts_random(state);

        sum += (double)(u >> 32) + (double)(u & 0xffffffffu);
    }
    return (float)(sum * 0x1p-32 - 6.0);
}

static void fill(float *v, size_t n, double mean, double spread, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(mean + spread * (double)dicts_normal(state));
}

/* Mean and spread of a vector; the encoder's rows give pre-activations of variance about 1. */
static void fill_role(struct sae_dict *d, enum sae_role role, uint64_t *state)
{
    float *v = sae_dict_array(d, role);
    double unit = 1.0 / sqrt((double)d->formula.d_in);

    if (!v && role != SAE_ROLE_TOP_K) /* a key whose tensor the class may have */
        return;
    switch (role) {
    case SAE_ROLE_ENCODER:
        fill(v, d->formula.F * d->formula.d_in, 0.0, unit, state);
        break;
    case SAE_ROLE_DECODER: /* norms from about a half to two */
        for (size_t j = 0; j < d->formula.F; j++)
            fill(v + j * d->formula.d_out, d->formula.d_out, 0.0,
                 unit * exp2((double)(j % 5) / 2.0 - 1.0), state);
        break;
    case SAE_ROLE_SKIP:
        fill(v, d->formula.d_out * d->formula.d_in, 0.0, unit, state);
        break;
    case SAE_ROLE_CENTRE:
        fill(v, d->formula.d_in, 0.05, 0.3, state);
        break;
    case SAE_ROLE_DEC_BIAS:
        fill(v, d->formula.d_out, 0.05, 0.3, state);
        break;
    case SAE_ROLE_ENC_BIAS:
    case SAE_ROLE_GATE_BIAS:
        fill(v, d->formula.F, -0.5, 0.3, state);
        break;
    case SAE_ROLE_R_MAG:
        fill(v, d->formula.F, 0.1, 0.4, state);
        break;
    case SAE_ROLE_MAG_BIAS: /* a gate that is on while the magnitude is off occurs */
        fill(v, d->formula.F, -0.2, 0.4, state);
        break;
    case SAE_ROLE_JUMP: /* of both signs, and sometimes none */
        fill(v, d->formula.F, 0.3, 0.4, state);
        for (size_t j = 3; j < d->formula.F; j += 7)
            v[j] = 0.0f;
        break;
    case SAE_ROLE_THRESHOLD: /* of both signs */
        fill(v, d->formula.F, 0.1, 0.3, state);
        break;
    case SAE_ROLE_TOP_K: /* few, as in trained dictionaries */
        d->formula.top_k = d->formula.F < 256 ? (d->formula.F + 7) / 8 : 32;
        break;
    case SAE_ROLE_NONE:
    case SAE_N_ROLES:
        break;
    }
}

static void must(enum sae_status st, const struct sae_err *err)
{
    if (st != SAE_OK) {
        fprintf(stderr, "dicts: %s\n", err->text);
        abort();
    }
}

struct sae_dict *dicts_make(const char *class_name, size_t d, size_t F, uint64_t seed)
{
    const struct sae_layout *layout = sae_layout_by_name(class_name);
    struct sae_err err = {0};
    struct sae_dict *dict = NULL;
    uint64_t state = seed * 0x9e3779b97f4a7c15u + d * 1000003u + F;

    if (!layout) {
        fprintf(stderr, "dicts_make: no class %s\n", class_name);
        abort();
    }
    must(sae_dict_create(&dict, layout, d, F, &err), &err);
    for (unsigned i = 0; i < layout->n_keys; i++)
        fill_role(dict, layout->keys[i].role, &state);
    must(sae_dict_seal(dict, "float32", NULL, &err), &err);
    return dict;
}

static struct sae_dict *create_as(const struct sae_formula *f)
{
    static const struct sae_layout layout = {.name = "formula",
                                             .options = SAE_OPT_SPARSE | SAE_OPT_TOP_K |
                                                        SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES};
    struct sae_err err = {0};
    struct sae_dict *dict = NULL;

    must(sae_dict_create_as(&dict, &layout, f, NULL, &err), &err);
    return dict;
}

struct sae_dict *dicts_make_as(const struct sae_formula *f, uint64_t seed)
{
    struct sae_dict *dict = create_as(f);
    struct sae_err err = {0};
    uint64_t state = seed * 0x9e3779b97f4a7c15u + f->d_in * 1000003u + f->F;

    for (enum sae_role role = 0; role < SAE_ROLE_TOP_K; role++)
        if (sae_dict_array(dict, role))
            fill_role(dict, role, &state);
    for (size_t j = 0; dict->dec_norm && !dict->dec.f32 && j < f->F; j++)
        dict->dec_norm[j] = (float)(j % 5) / 2.0f;
    must(sae_dict_seal(dict, "float32", NULL, &err), &err);
    return dict;
}

/* ---- kept otherwise ----------------------------------------------------------------------- */

static uint16_t f16_towards_zero(float v)
{
    uint16_t sign = (uint16_t)(sae_f32_bits(v) >> 16 & 0x8000);
    float m = fabsf(v);

    if (m < 0x1p-14f)
        return sign | (uint16_t)(m * 0x1p24f);
    return sign | (uint16_t)(m > 65504.0f ? 0x7bff : (sae_f32_bits(m) >> 13) - (112 << 10));
}

static void store(struct sae_matrix *to, const struct sae_matrix *from, size_t rows)
{
    for (size_t i = 0; i < rows * to->width; i++) {
        float v = sae_matrix_value(from, 0, i);

        if (to->dtype == SAE_DTYPE_F32)
            to->f32[i] = v;
        else
            to->bits[i] = to->dtype == SAE_DTYPE_F16 ? f16_towards_zero(v)
                                                     : (uint16_t)(sae_f32_bits(v) >> 16);
    }
}

static void make_norms(struct sae_dict *d)
{
    float *row = sae_alloc(d->formula.d_out, sizeof *row);

    for (size_t j = 0; row && j < d->formula.F; j++) {
        sae_matrix_widen(&d->dec, j, 0, d->formula.d_out, row);
        d->dec_norm[j] = (float)sqrt(sae_ref_squares(row, 0.0, d->formula.d_out));
    }
    sae_free(row);
}

struct sae_dict *dicts_kept_take(struct sae_dict *d, const struct sae_storage *kept)
{
    const struct sae_formula *f = &d->formula;
    struct sae_dict *out = NULL;
    struct sae_err err = {0};

    must(sae_dict_create_as(&out, d->layout, f, kept, &err), &err);
    for (enum sae_role role = SAE_ROLE_CENTRE; role < SAE_ROLE_TOP_K; role++) {
        float *to = sae_dict_array(out, role);
        size_t n = role == SAE_ROLE_CENTRE     ? f->d_in
                   : role == SAE_ROLE_DEC_BIAS ? f->d_out
                   : role == SAE_ROLE_SKIP     ? f->d_out * f->d_in
                                               : f->F;

        if (to)
            memcpy(to, sae_dict_array(d, role), n * sizeof *to);
    }
    if (out->dec_norm)
        memcpy(out->dec_norm, d->dec_norm, f->F * sizeof *out->dec_norm);
    store(&out->enc, &d->enc, f->F);
    if (out->dec.values) {
        if (!kept->is_tied)
            store(&out->dec, &d->dec, f->F);
        make_norms(out);
    }
    out->info.norm_max = d->info.norm_max;
    sae_dict_free(d);
    return out;
}

/* A whole number of eighths: (a j + b k + c) mod m, less its middle. */
static float eighths(size_t j, size_t k, size_t a, size_t b, size_t c, int m)
{
    return (float)((int)((a * j + b * k + c) % (size_t)m) - (m - 1) / 2) / 8.0f;
}

static float fixture_bias(size_t k)
{
    float v = 2.0f + (float)(5 * k % 7) / 4.0f;

    return k % 2 ? -v : v;
}

static float fixture_value(enum sae_role role, size_t j, size_t k)
{
    static const float thetas[] = {0.0f, 0.5f, -1.0f, 1.0f, -4.375f, 0.25f, 2.0f};

    switch (role) {
    case SAE_ROLE_ENCODER:
        return eighths(j, k, 7, 11, 0, 31);
    case SAE_ROLE_DECODER:
        return eighths(j, k, 5, 13, 3, 29);
    case SAE_ROLE_SKIP:
        return eighths(j, k, 3, 17, 5, 23);
    case SAE_ROLE_ENC_BIAS:
        return eighths(k, 0, 9, 0, 4, 17);
    case SAE_ROLE_THRESHOLD:
        return thetas[k % 7];
    default:
        return fixture_bias(k);
    }
}

struct sae_dict *dicts_fixture(const struct sae_formula *f)
{
    struct sae_dict *dict = create_as(f);
    struct sae_err err = {0};

    for (enum sae_role role = 0; role < SAE_ROLE_TOP_K; role++) {
        float *v = sae_dict_array(dict, role);
        bool is_matrix =
            role == SAE_ROLE_ENCODER || role == SAE_ROLE_DECODER || role == SAE_ROLE_SKIP;
        size_t rows = !is_matrix ? 1 : role == SAE_ROLE_SKIP ? f->d_out : f->F;
        size_t cols = role == SAE_ROLE_DECODER || role == SAE_ROLE_DEC_BIAS ? f->d_out
                      : is_matrix || role == SAE_ROLE_CENTRE                ? f->d_in
                                                                            : f->F;

        for (size_t i = 0; v && i < rows * cols; i++)
            v[i] = fixture_value(role, i / cols, i % cols);
    }
    for (size_t j = 0; dict->dec_norm && !dict->dec.f32 && j < f->F; j++)
        dict->dec_norm[j] = (float)(j % 5) / 2.0f;
    must(sae_dict_seal(dict, "float32", NULL, &err), &err);
    return dict;
}

float dicts_fixture_x(size_t r, size_t k)
{
    return eighths(r, k, 13, 7, 2, 33) * 2.0f;
}

float *dicts_rows(size_t n, size_t d, uint64_t seed)
{
    size_t total = n * d + SAE_OVERREAD / sizeof(float);
    float *v = sae_alloc(total, sizeof *v);
    uint64_t state = seed + 0x1234567u;

    if (!v) {
        fprintf(stderr, "dicts_rows: out of memory\n");
        abort();
    }
    memset(v, 0, total * sizeof *v);
    fill(v, n * d, 0.0, 1.0, &state);
    return v;
}

struct sae_capacity dicts_capacity(const struct sae_dict *d, size_t max_rows)
{
    struct sae_capacity c = {.max_rows = max_rows};

    (void)sae_capacity_widen(&c, d);
    return c;
}

enum sae_status dicts_load(struct sae_dict **out, const char *source, struct sae_team *team,
                           struct sae_err *err)
{
    struct sae_draft *t = NULL;
    enum sae_status st = sae_draft_open(&t, source, err);

    if (st == SAE_OK)
        st = sae_draft_load(out, t, team, err);
    sae_draft_close(t);
    return st;
}
