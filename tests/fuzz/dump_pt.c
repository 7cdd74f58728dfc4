/* dump_pt.c - the weights that saed serves from a file, as text: what fuzz_pt.py and
 * fuzz_load.py compare.
 *
 * A path a line on stdin, or a source with options; for each, "no REASON", or "ok CLASS" with a
 * line "KEY n n : hex of f32" for each tensor in the orientation of the file, and "end". (r_mag is
 * shown as exp(r_mag).) */
#include "lib/dict/dict.h"
#include "lib/num.h"
#include "tests/support/dicts.h"

#include <stdio.h>
#include <string.h>

/* Value (r, c) of the tensor in the orientation of the file; a vector has one row. Features'
 * matrices are [F][d] in memory, of f32 or of 16 bits. */
static float value_at(const struct sae_dict *d, const struct sae_layout_key *key, size_t r,
                      size_t c)
{
    bool turned = sae_layout_is_turned(key);

    switch (key->role) {
    case SAE_ROLE_ENCODER:
        return sae_matrix_value(&d->enc, turned ? c : r, turned ? r : c);
    case SAE_ROLE_DECODER:
        return sae_matrix_value(&d->dec, turned ? c : r, turned ? r : c);
    default:
        return sae_dict_array(d, key->role)[c];
    }
}

static void print_key(const struct sae_dict *d, const struct sae_layout_key *key)
{
    size_t rows =
        sae_layout_is_matrix(key) ? key->dims[0] == 'F' ? d->formula.F : d->formula.d_in : 1;
    size_t cols = key->dims[strlen(key->dims) - 1] == 'F' ? d->formula.F : d->formula.d_in;

    printf("%s", key->name);
    if (sae_layout_is_matrix(key))
        printf(" %zu", rows);
    printf(" %zu : ", cols);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            printf("%08x", sae_f32_bits(value_at(d, key, r, c)));
    printf("\n");
}

int main(void)
{
    char path[4096];

    while (fgets(path, sizeof path, stdin)) {
        struct sae_dict *d = NULL;
        struct sae_err err = {0};

        path[strcspn(path, "\n")] = '\0';
        if (dicts_load(&d, path, NULL, &err) == SAE_OK) {
            printf("ok %s\n", d->layout->name);
            for (unsigned k = 0; k < d->layout->n_keys; k++)
                print_key(d, &d->layout->keys[k]);
            printf("end\n");
        } else {
            printf("no %s\n", err.text);
        }
        fflush(stdout);
        sae_dict_free(d);
    }
    return 0;
}
