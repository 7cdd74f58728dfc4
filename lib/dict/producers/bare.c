/* bare.c - W_enc W_dec b_enc b_dec and nothing else: Qwen-Scope's, or anybody's. See
 * producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/scan.h"

#include <stdio.h>
#include <string.h>

/* "L0_50" at the end of the nearest component of the path. */
static bool l0_of_path(const char *path, int64_t *k, char word[32])
{
    size_t end = strlen(path);

    while (end > 0) {
        size_t begin = end, at;

        while (begin > 0 && path[begin - 1] != '/')
            begin--;
        at = end;
        while (at > begin && sae_is_digit(path[at - 1]))
            at--;
        if (at < end && end - at < 10 && at - begin >= 3 && memcmp(path + at - 3, "L0_", 3) == 0) {
            *k = 0;
            for (size_t i = at; i < end; i++)
                *k = *k * 10 + (path[i] - '0');
            snprintf(word, 32, "%.*s", (int)(end - at + 3), path + at - 3);
            return true;
        }
        end = begin > 0 ? begin - 1 : 0;
    }
    return false;
}

enum sae_status sae_settle_qwen_scope(struct sae_file *b, struct sae_err *err)
{
    char word[32];
    int64_t k = 0;

    NOTE(b, "SAELens applies relu after the top-k; they differ where fewer than k values are "
            "positive");
    if (l0_of_path(b->path, &k, word) && k > 0) {
        NOTE(b, "select = top_k:%lld comes from the path component %s", (long long)k, word);
        sae_say_k(b, k);
        return SAE_OK;
    }
    return is_stated(b, SAE_FIELD_SELECT)
               ? SAE_OK
               : REFUSE(err, "k",
                        "k stands in the name of a folder (L0_50), and this path has "
                        "none; state k=N, or format=custom for a file with a ReLU");
}

/* Four keys that several producers use, and nothing that says which formula. */
enum sae_status sae_settle_bare(struct sae_file *b, struct sae_err *err)
{
    const struct sae_tensor *enc = sae_load_tensor(b->ts, sae_file_find(b, "W_enc"));
    const struct sae_tensor *bias = sae_load_tensor(b->ts, sae_file_find(b, "b_enc"));

    if (!b->stated->format && strcmp(sae_load_container(b->ts), "pt") == 0 &&
        !has(b, "threshold") && enc->ndim == 2 && bias->ndim == 1 &&
        enc->shape[0] == bias->shape[0] && enc->shape[0] != enc->shape[1]) {
        b->layout = sae_layout_of_format("qwen_scope");
        sae_layout_reading(b->layout, &b->reading);
        return sae_settle_qwen_scope(b, err);
    }
    if (enc->ndim == 2 && enc->shape[0] == enc->shape[1])
        return REFUSE(err, "W_enc",
                      "\"W_enc\" is square, so its shape does not tell which way round "
                      "it lies; state format=custom and encoder=W_enc@d,F or @F,d");
    if (is_stated(b, SAE_FIELD_CENTRE) && (is_stated(b, SAE_FIELD_ACTIVATION) || b->stated->has_k ||
                                           is_stated(b, SAE_FIELD_THRESHOLD)))
        return SAE_OK;
    return REFUSE(err, "",
                  "no config says the formula of its keys; state centre=b_dec or "
                  "centre=none, and activation=, k= or threshold=");
}
