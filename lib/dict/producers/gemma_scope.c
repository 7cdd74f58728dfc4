/* gemma_scope.c - DeepMind's Gemma Scope 1 and 2. See producers.h. */
#include "lib/dict/producers/say.h"

#include <string.h>
#include <strings.h>

static bool is_transcoder(const char *p, size_t n)
{
    static const char word[] = "transcoder";

    for (size_t m = strlen(word); n >= m; p++, n--)
        if (strncasecmp(p, word, m) == 0)
            return true;
    return false;
}

static bool is_embedding(const char *p, size_t n)
{
    return n == strlen("embedding") && memcmp(p, "embedding", n) == 0;
}

static enum sae_status gemma_scope_path(struct sae_file *b, struct sae_err *err)
{
    struct sae_component c = sae_say_component(b, is_transcoder);

    if (c.n > 0) {
        file_says(b, SAE_FIELD_KIND, "transcoder");
        if (!is_stated(b, SAE_FIELD_KIND))
            NOTE(b, "kind = transcoder comes from the path component %.*s",
                 c.n < 80 ? (int)c.n : 80, c.p);
    }
    if (sae_say_component(b, is_embedding).n == 0)
        return SAE_OK;
    if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "",
                      "below \"embedding\" x may be a row of the embedding table or what the model "
                      "makes of it; state input=none or input=scale:C, C = 1/sqrt(d)");
    NOTE(b, "SAELens scales W_enc and W_dec by sqrt(d) here and leaves b_dec unscaled");
    return SAE_OK;
}

/* Its keys are written in any case, and in one. */
enum sae_status sae_settle_gemma_scope(struct sae_file *b, struct sae_err *err)
{
    for (size_t i = 1; i < sae_load_count(b->ts); i++)
        for (size_t k = 0; k < i; k++) {
            const char *x = sae_load_tensor(b->ts, k)->name, *y = sae_load_tensor(b->ts, i)->name;

            if (strcasecmp(x, y) == 0)
                return REFUSE(err, y, "the file has both \"%s\" and \"%s\"; state format=custom", x,
                              y);
        }
    return gemma_scope_path(b, err);
}

/* A cross-layer transcoder writes to all layers: w_dec[F, layers, m]. */
static bool is_cross_layer(const struct sae_file *b)
{
    size_t i = sae_file_find(b, "w_dec");

    return i != SIZE_MAX && sae_load_tensor(b->ts, i)->ndim == 3;
}

enum sae_status sae_settle_gemma_scope_2(struct sae_file *b, struct sae_err *err)
{
    const char *in = NULL, *out = NULL;
    bool found = false;
    enum sae_status st = sae_facts_text(b->config, "hf_hook_point_in", &in, &found, err);

    if (st == SAE_OK)
        st = sae_facts_text(b->config, "hf_hook_point_out", &out, &found, err);
    if (st == SAE_OK)
        st = gemma_scope_path(b, err);
    if (st != SAE_OK)
        return st;
    if (in && out && strcmp(in, out) != 0)
        file_says(b, SAE_FIELD_KIND, "transcoder");
    if (is_cross_layer(b)) {
        row_says(b, SAE_FIELD_KIND, "transcoder");
        b->leaves_decoder = true;
        NOTE(b, "encoder only: the reconstruction needs all layers");
    } else if (has(b, "affine_skip_connection")) {
        row_says(b, SAE_FIELD_SKIP, "affine_skip_connection@d,m");
        NOTE(b,
             "the skip is x A as the producer computes it; SAELens (seen to 6.49) computes x A^T");
    }
    return SAE_OK;
}
