/* gemma_scope.c - DeepMind's Gemma Scope 1 and 2. See producers.h. */
#include "lib/dict/producers/say.h"

#include <string.h>

/* Does the path hold `word`, in any case? */
static bool path_holds(const char *path, const char *word)
{
    return strcasestr(path, word) != NULL;
}

static enum sae_status gemma_scope_path(struct sae_file *b, struct sae_err *err)
{
    if (path_holds(b->path, "transcoder")) {
        file_says(b, SAE_FIELD_KIND, "transcoder");
        NOTE(b, "kind = transcoder comes from the path");
    }
    if (!path_holds(b->path, "embedding/"))
        return SAE_OK;
    if (!is_stated(b, SAE_FIELD_INPUT))
        return REFUSE(err, "",
                      "below \"embedding\" x may be a row of the embedding table or what "
                      "the model makes of it; state input=none or input=scale:C, C = 1/sqrt(d)");
    NOTE(b, "SAELens scales W_enc and W_dec by sqrt(d) here and leaves b_dec unscaled");
    return SAE_OK;
}

enum sae_status sae_settle_gemma_scope(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = sae_say_no_scaling_factor(b, err);

    return st == SAE_OK ? gemma_scope_path(b, err) : st;
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
    if (st == SAE_OK && in && out && strcmp(in, out) != 0)
        file_says(b, SAE_FIELD_KIND, "transcoder");
    if (st == SAE_OK && has(b, "affine_skip_connection")) {
        row_says(b, SAE_FIELD_SKIP, "affine_skip_connection@d,m");
        NOTE(b,
             "the skip is x A as the producer computes it; SAELens (seen to 6.49) computes x A^T");
    }
    return st;
}
