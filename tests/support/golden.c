/* golden.c - reads the fixtures of tests/golden. See golden.h. */
#include "tests/support/golden.h"

#include "lib/num.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t golden_count(void)
{
    glob_t g;
    size_t n = 0;

    if (glob(GOLDEN_DIR "/*.gold", 0, NULL, &g) == 0) {
        n = g.gl_pathc;
        globfree(&g);
    }
    return n;
}

static bool read_u32(FILE *in, size_t *out)
{
    unsigned char b[4];

    if (fread(b, 1, 4, in) != 4)
        return false;
    *out = sae_le32(b);
    return true;
}

static bool read_array(FILE *in, struct golden_array *a)
{
    size_t ndim;

    if (fread(a->name, 1, sizeof a->name, in) != sizeof a->name || !read_u32(in, &ndim) || ndim > 4)
        return false;
    a->name[sizeof a->name - 1] = '\0';
    a->ndim = (unsigned)ndim;
    a->n = 1;
    for (int i = 0; i < 4; i++) {
        if (!read_u32(in, &a->dim[i]))
            return false;
        if ((size_t)i < ndim)
            a->n *= a->dim[i];
    }
    if (a->n > (size_t)1 << 24)
        return false;
    a->v = sae_alloc(a->n + SAE_OVERREAD / sizeof(float), sizeof(float));
    if (!a->v)
        return false;
    memset(a->v, 0, (a->n + SAE_OVERREAD / sizeof(float)) * sizeof(float));
    for (size_t i = 0; i < a->n; i++) {
        size_t bits;

        if (!read_u32(in, &bits))
            return false;
        a->v[i] = sae_f32_from_bits((uint32_t)bits);
    }
    return true;
}

static bool read_case(FILE *in, struct golden *g)
{
    char magic[8];
    size_t n;

    if (fread(magic, 1, 8, in) != 8 || memcmp(magic, "saegold1", 8) != 0 ||
        fread(g->class_name, 1, sizeof g->class_name, in) != sizeof g->class_name ||
        !read_u32(in, &g->d) || !read_u32(in, &g->F) || !read_u32(in, &n) || n > 64)
        return false;
    g->class_name[sizeof g->class_name - 1] = '\0';
    g->arrays = sae_calloc(n, sizeof *g->arrays);
    if (!g->arrays)
        return false;
    g->n_arrays = n;
    for (size_t i = 0; i < n; i++)
        if (!read_array(in, &g->arrays[i]))
            return false;
    return fgetc(in) == EOF;
}

static struct golden *load_path(const char *path)
{
    struct golden *g = sae_calloc(1, sizeof *g);
    FILE *in = fopen(path, "rb");
    size_t len = strlen(GOLDEN_DIR "/");
    const struct golden_array *x;

    if (!g || !in || !read_case(in, g) || !(x = golden_array(g, "x")) || x->dim[0] < 3) {
        fprintf(stderr, "golden: cannot read %s\n", path);
        golden_free(g);
        g = NULL;
        goto out;
    }
    snprintf(g->name, sizeof g->name, "%.*s", (int)(strlen(path) - len - strlen(".gold")),
             path + len);
    if (strcmp(g->class_name, "IdentityDict") != 0)
        snprintf(g->pt_path, sizeof g->pt_path, "%s/%s.pt", GOLDEN_DIR, g->name);
    g->n_rows = x->dim[0];
    g->n_finite = g->n_rows - 3;
out:
    if (in)
        fclose(in);
    return g;
}

struct golden *golden_load(size_t i)
{
    struct golden *out = NULL;
    glob_t g;

    if (glob(GOLDEN_DIR "/*.gold", 0, NULL, &g) != 0) {
        fprintf(stderr, "golden: nothing in " GOLDEN_DIR "\n");
        return NULL;
    }
    if (i < g.gl_pathc)
        out = load_path(g.gl_pathv[i]);
    globfree(&g);
    return out;
}

void golden_free(struct golden *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_arrays; i++)
        sae_free(g->arrays[i].v);
    sae_free(g->arrays);
    sae_free(g);
}

const struct golden_array *golden_array(const struct golden *g, const char *name)
{
    for (size_t i = 0; i < g->n_arrays; i++)
        if (strcmp(g->arrays[i].name, name) == 0)
            return &g->arrays[i];
    return NULL;
}

/* One tensor into its place; the decoder's [d,F] becomes [F][d]. */
static bool fill(struct sae_dict *d, const struct golden *g, const struct sae_layout_key *key)
{
    char name[32];
    const struct golden_array *a;
    float *dst = sae_dict_array(d, key->role);

    snprintf(name, sizeof name, "w:%s", key->name);
    a = golden_array(g, name);
    if (a && key->role == SAE_ROLE_TOP_K)
        d->formula.top_k = (uint64_t)a->v[0];
    if (a && !sae_layout_is_kept(key))
        return true;
    if (!a || !dst)
        return false;
    if (sae_layout_is_turned(key))
        for (size_t k = 0; k < d->formula.d_in; k++)
            for (size_t j = 0; j < d->formula.F; j++)
                dst[j * d->formula.d_in + k] = a->v[k * d->formula.F + j];
    else
        memcpy(dst, a->v, a->n * sizeof *dst);
    return true;
}

struct sae_dict *golden_dict(const struct golden *g)
{
    const struct sae_layout *layout = sae_layout_by_name(g->class_name);
    struct sae_err err = {0};
    struct sae_dict *d = NULL;
    bool ok = layout && sae_dict_create(&d, layout, g->d, g->F, &err) == SAE_OK;

    for (unsigned i = 0; ok && i < layout->n_keys; i++)
        ok = fill(d, g, &layout->keys[i]);
    if (!ok || sae_dict_seal(d, "float32", NULL, &err) != SAE_OK) {
        fprintf(stderr, "golden: cannot make %s: %s\n", g->name, err.text);
        abort();
    }
    return d;
}
