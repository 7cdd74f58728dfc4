/* labels.c - see labels.h. */
#include "server/api/labels.h"

#include <inttypes.h>

const char *saed_labels_of(const void *dict, uint32_t id, size_t *n)
{
    return sae_dict_label(dict, id, n);
}

uint64_t saed_labels_bound(const struct sae_options *asked, const struct sae_dict *d)
{
    uint64_t bytes = 32; /* braces and the key */

    for (size_t i = 0; i < asked->n_features; i++) {
        size_t n = 4;

        (void)sae_dict_label(d, asked->features[i], &n);
        bytes += n + 16; /* the id, quotes, colon, comma */
    }
    return bytes;
}

static bool was_before(const struct sae_options *asked, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (asked->features[k] == asked->features[i])
            return true;
    return false;
}

enum sae_status saed_labels_print(struct sae_body *out, const struct sae_options *asked,
                                  const struct sae_dict *d, struct sae_err *err)
{
    const char *comma = "";
    struct sae_buf b;
    enum sae_status st;

    sae_buf_init(&b, SIZE_MAX);
    st = sae_buf_addf(&b, "{\"labels\":{");
    for (size_t i = 0; st == SAE_OK && i < asked->n_features; i++) {
        size_t n = 4;
        const char *label = sae_dict_label(d, asked->features[i], &n);

        if (was_before(asked, i))
            continue;
        st = sae_buf_addf(&b, "%s\"%" PRIu32 "\":", comma, asked->features[i]);
        if (st == SAE_OK)
            st = sae_buf_add(&b, label ? label : "null", n);
        comma = ",";
    }
    if (st == SAE_OK)
        st = sae_buf_addf(&b, "}}\n");
    if (st != SAE_OK) {
        sae_buf_fini(&b);
        return sae_err_set(err, st, "", "cannot print the labels: memory has run out");
    }
    *out = (struct sae_body){.data = b.data, .n = b.len};
    return SAE_OK;
}
