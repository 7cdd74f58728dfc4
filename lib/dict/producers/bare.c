/* bare.c - W_enc W_dec b_enc b_dec and nothing else: Qwen-Scope's, or anybody's. See
 * producers.h. */
#include "lib/dict/producers/say.h"

#include "lib/scan.h"

#include <string.h>

static bool ends_in_l0(const char *p, size_t n)
{
    size_t digits = sae_say_digits(p, n);

    return digits > 0 && digits < 10 && n >= digits + 3 &&
           memcmp(p + n - digits - 3, "L0_", 3) == 0;
}

enum sae_status sae_settle_qwen_scope(struct sae_file *b, struct sae_err *err)
{
    struct sae_component c = sae_say_component(b, ends_in_l0);
    size_t digits = c.n ? sae_say_digits(c.p, c.n) : 0;
    uint64_t k = 0;

    NOTE(b, "SAELens applies relu after the top-k; they differ where fewer than k values are "
            "positive");
    if (digits && sae_scan_whole_u64(c.p + c.n - digits, digits, &k) && k > 0) {
        if (!is_stated(b, SAE_FIELD_SELECT))
            NOTE(b, "select = top_k:%llu comes from the path component %.*s", (unsigned long long)k,
                 c.n < 80 ? (int)c.n : 80, c.p);
        sae_say_k(b, (int64_t)k, SAE_FROM_FILE);
        return SAE_OK;
    }
    return is_stated(b, SAE_FIELD_SELECT)
               ? SAE_OK
               : REFUSE(err, "k",
                        "k stands in the name of a folder (L0_50), and this path has none; state "
                        "k=N, or format=custom for a file with a ReLU");
}

/* Which features are pairs: W_enc[d, h (a + b)] makes h a b of them, a row of W_dec each. */
static enum sae_status check_no_kron(const struct sae_tensor *enc, const struct sae_tensor *dec,
                                     const struct sae_tensor *bias, struct sae_err *err)
{
    if (!dec || enc->ndim != 2 || dec->ndim != 2 || bias->ndim != 1 ||
        enc->shape[1] != bias->shape[0] || enc->shape[0] != dec->shape[1] ||
        dec->shape[0] <= enc->shape[1])
        return SAE_OK;
    return REFUSE(
        err, "W_dec",
        "\"W_dec\" has %llu features and \"W_enc\" %llu: it is a Kron SAE, which saed does "
        "not read",
        (unsigned long long)dec->shape[0], (unsigned long long)enc->shape[1]);
}

static const struct sae_tensor *tensor_of(const struct sae_file *b, const char *key)
{
    size_t i = sae_file_find(b, key);

    return i == SIZE_MAX ? NULL : sae_load_tensor(b->ts, i);
}

/* Four keys that several producers use, and nothing that says which formula. */
enum sae_status sae_settle_bare(struct sae_file *b, struct sae_err *err)
{
    const struct sae_tensor *enc = tensor_of(b, "W_enc"), *dec = tensor_of(b, "W_dec"),
                            *bias = tensor_of(b, "b_enc");
    bool is_said = is_stated(b, SAE_FIELD_ACTIVATION) || b->stated->has_k ||
                   sae_statement_says_threshold(b->stated);
    enum sae_status st = check_no_kron(enc, dec, bias, err);

    if (st != SAE_OK)
        return st;
    if (!b->stated->format && sae_load_is_torch_save(b->ts) && dec && has(b, "b_dec") &&
        !has(b, "threshold") && enc->ndim == 2 && bias->ndim == 1 &&
        enc->shape[0] == bias->shape[0] && enc->shape[0] != enc->shape[1]) {
        sae_say_other(b);
        return b->layout->settle(b, err);
    }
    if (enc->ndim == 2 && enc->shape[0] == enc->shape[1])
        return REFUSE(err, "W_enc",
                      "\"W_enc\" is square, so its shape does not tell which way round it lies; "
                      "state format=custom and encoder=W_enc@d,F or @F,d");
    if (is_stated(b, SAE_FIELD_CENTRE) && is_said)
        return SAE_OK;
    return REFUSE(err, "",
                  "no config says the formula of its keys; state centre=b_dec or centre=none, and "
                  "activation=, k= or threshold=");
}
