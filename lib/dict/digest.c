/* digest.c - weights_sha256: a dictionary's tensors and formula as one number (formats 5.2).
 *
 * Over the tensors as they are used, in one order and orientation, so that two files of one
 * dictionary agree. They are cut into pieces, each with a digest of its own, which all threads
 * make; the sum is over the digests. See dict.h. */
#include "lib/dict/dict.h"

#include "lib/dict/reading.h"
#include "lib/sha256.h"

#include <stdio.h>
#include <string.h>

#define PIECE_BYTES ((size_t)4 << 20)
#define PIECE (PIECE_BYTES / sizeof(float)) /* values */
#define MAX_TENSORS 12
#define WIDENED 2048 /* values of 16 bits that are widened at a time */

/* A tensor in its canonical form. */
struct tensor {
    const char *name;
    struct sae_matrix values;
    size_t n, rows, cols; /* cols 0: a vector */
    size_t first_piece;
};

struct digest {
    struct tensor tensors[MAX_TENSORS];
    unsigned n_tensors;
    size_t n_pieces;
    unsigned char (*pieces)[SAE_SHA256_BYTES]; /* owned */
};

static void add_matrix(struct digest *g, const char *name, const struct sae_matrix *values,
                       size_t rows, size_t cols)
{
    size_t n = cols ? rows * cols : rows;

    g->tensors[g->n_tensors++] = (struct tensor){name, *values, n, rows, cols, g->n_pieces};
    g->n_pieces += (n + PIECE - 1) / PIECE;
}

static void add(struct digest *g, const char *name, float *values, size_t rows, size_t cols)
{
    const struct sae_matrix m = {.width = cols, .f32 = values};

    add_matrix(g, name, &m, rows, cols);
}

/* A vector of the unit; a threshold of one number for all features is that number. */
static void add_param(struct digest *g, const struct sae_dict *d, const char *name,
                      enum sae_role role)
{
    float *values = sae_dict_array(d, role);

    if (values && !(d->absent >> role & 1))
        add(g, name, values, d->single >> role & 1 ? 1 : d->formula.F, 0);
}

static void list(struct digest *g, const struct sae_dict *d)
{
    const struct sae_formula *f = &d->formula;

    if (d->enc.values)
        add_matrix(g, "W_enc", &d->enc, f->F, f->d_in);
    if (d->dec.values)
        add_matrix(g, "W_dec", &d->dec, f->F, f->d_out);
    else if (d->dec_norm)
        add(g, "norms", d->dec_norm, f->F, 0);
    add_param(g, d, "b_enc", SAE_ROLE_ENC_BIAS);
    if (d->dec_bias && !(d->absent >> SAE_ROLE_DEC_BIAS & 1))
        add(g, "b_dec", d->dec_bias, f->d_out, 0);
    if (d->centre)
        add(g, "centre", d->centre, f->d_in, 0);
    add_param(g, d, "theta", SAE_ROLE_THRESHOLD);
    add_param(g, d, "gate_bias", SAE_ROLE_GATE_BIAS);
    add_param(g, d, "mag_bias", SAE_ROLE_MAG_BIAS);
    add_param(g, d, "r_mag", SAE_ROLE_R_MAG);
    add_param(g, d, "jump", SAE_ROLE_JUMP);
    if (d->skip)
        add(g, "W_skip", d->skip, f->d_out, f->d_in);
}

/* n values from `at` on, as f32. */
static void sum_up(const struct sae_matrix *m, size_t at, size_t n,
                   unsigned char digest[SAE_SHA256_BYTES])
{
    float wide[WIDENED];
    struct sae_sha256 h;

    if (m->dtype == SAE_DTYPE_F32) {
        sae_sha256_of(m->f32 + at, n * sizeof *m->f32, digest);
        return;
    }
    sae_sha256_init(&h);
    for (size_t now; n > 0; at += now, n -= now) {
        now = n < WIDENED ? n : WIDENED;
        sae_matrix_widen(m, 0, at, now, wide);
        sae_sha256_add(&h, wide, now * sizeof *wide);
    }
    sae_sha256_end(&h, digest);
}

static void pieces_range(void *arg, size_t from, size_t to)
{
    const struct digest *g = arg;
    const struct tensor *t = g->tensors + g->n_tensors - 1;

    for (size_t i = to; i-- > from;) {
        size_t at, n;

        while (t->first_piece > i)
            t--;
        at = (i - t->first_piece) * PIECE;
        n = t->n - at < PIECE ? t->n - at : PIECE;
        sum_up(&t->values, at, n, g->pieces[i]);
    }
}

static void add_line(struct sae_sha256 *h, const struct digest *g, const struct tensor *t)
{
    size_t end = t + 1 < g->tensors + g->n_tensors ? t[1].first_piece : g->n_pieces;
    unsigned char digest[SAE_SHA256_BYTES];
    char hex[SAE_SHA256_HEX], line[160];
    int n;

    sae_sha256_of(g->pieces[t->first_piece], (end - t->first_piece) * SAE_SHA256_BYTES, digest);
    sae_sha256_hex(digest, hex);
    n = t->cols ? snprintf(line, sizeof line, "%s %zu,%zu %s\n", t->name, t->rows, t->cols, hex)
                : snprintf(line, sizeof line, "%s %zu %s\n", t->name, t->rows, hex);
    sae_sha256_add(h, line, (size_t)n);
}

/* The fields that say how tensors are used, in the order of their names. None of their texts has a
 * byte that JSON escapes. */
static void add_reading(struct sae_sha256 *h, const struct sae_dict_info *info)
{
    static const enum sae_field fields[] = {
        SAE_FIELD_ACTIVATION, SAE_FIELD_INPUT, SAE_FIELD_KIND,  SAE_FIELD_NORMALIZE_DECODER,
        SAE_FIELD_OUTPUT,     SAE_FIELD_SCORE, SAE_FIELD_SELECT};
    char text[SAE_READING_TEXT_MAX + 40];

    for (size_t i = 0; i < SAE_COUNTOF(fields); i++) {
        const struct sae_shown_field *field = &info->reading[fields[i]];
        int n =
            snprintf(text, sizeof text, "%c\"%s\":\"%s\"", i ? ',' : '{', field->name, field->text);

        sae_sha256_add(h, text, (size_t)n);
    }
    sae_sha256_add(h, "}", 1);
}

enum sae_status sae_dict_digest(struct sae_dict *d, struct sae_team *team, struct sae_err *err)
{
    struct sae_dict_info *info = &d->info;
    struct digest g = {.n_tensors = 0};
    unsigned char digest[SAE_SHA256_BYTES];
    struct sae_sha256 h;
    char line[80];
    int n;

    list(&g, d);
    g.pieces = sae_alloc(g.n_pieces, sizeof *g.pieces);
    if (!g.pieces)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot sum up %zu pieces: out of memory",
                           g.n_pieces);
    sae_team_run(team, g.n_pieces, 1, pieces_range, &g);
    sae_sha256_init(&h);
    n = snprintf(line, sizeof line, "saed 1 %zu %zu %zu\n", d->formula.d_in, d->formula.F,
                 (size_t)info->output_dim);
    sae_sha256_add(&h, line, (size_t)n);
    for (unsigned i = 0; i < g.n_tensors; i++)
        add_line(&h, &g, &g.tensors[i]);
    add_reading(&h, info);
    sae_sha256_end(&h, digest);
    sae_sha256_hex(digest, info->weights_sha256);
    sae_free(g.pieces);
    return SAE_OK;
}
