/* dicts.c - dictionaries for tests. See dicts.h. */
#include "tests/support/dicts.h"

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

    switch (role) {
    case SAE_ROLE_ENCODER:
        fill(v, d->formula.F * d->formula.d_in, 0.0, unit, state);
        break;
    case SAE_ROLE_DECODER: /* norms from about a half to two */
        for (size_t j = 0; j < d->formula.F; j++)
            fill(v + j * d->formula.d_in, d->formula.d_in, 0.0,
                 unit * exp2((double)(j % 5) / 2.0 - 1.0), state);
        break;
    case SAE_ROLE_CENTRE:
    case SAE_ROLE_DEC_BIAS:
        fill(v, d->formula.d_in, 0.05, 0.3, state);
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
    case SAE_ROLE_SKIP:
    case SAE_ROLE_UNSET:
    case SAE_N_ROLES:
        break;
    }
}

struct sae_dict *dicts_make(const char *class_name, size_t d, size_t F, uint64_t seed)
{
    const struct sae_layout *layout = sae_layout_by_name(class_name);
    struct sae_err err = {0};
    struct sae_dict *dict;
    uint64_t state = seed * 0x9e3779b97f4a7c15u + d * 1000003u + F;

    if (!layout) {
        fprintf(stderr, "dicts_make: no class %s\n", class_name);
        abort();
    }
    if (sae_dict_create(&dict, layout, d, F, &err) != SAE_OK) {
        fprintf(stderr, "dicts_make: %s\n", err.text);
        abort();
    }
    for (unsigned i = 0; i < layout->n_keys; i++)
        fill_role(dict, layout->keys[i].role, &state);
    if (sae_dict_seal(dict, "float32", NULL, &err) != SAE_OK) {
        fprintf(stderr, "dicts_make: %s\n", err.text);
        abort();
    }
    return dict;
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
