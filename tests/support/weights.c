/* weights.c - see weights.h. */
#include "tests/support/weights.h"

#include <string.h>

size_t test_weights_group(const struct sae_tensors *ts)
{
    size_t g = 0;

    for (size_t i = sae_load_n_groups(ts); i-- > 1;)
        if (strcmp(sae_load_group(ts, i)->name, "state_dict") == 0 ||
            strcmp(sae_load_group(ts, i)->name, "model") == 0)
            g = i;
    return g;
}

enum sae_status test_open_weights(struct sae_tensors **out, const char *path, struct sae_err *err)
{
    struct sae_tensors *ts = NULL;
    enum sae_status st = sae_load_open(&ts, path, err);

    if (st != SAE_OK)
        return st;
    st = sae_load_choose(ts, test_weights_group(ts), 0, err);
    if (st != SAE_OK) {
        sae_load_close(ts);
        return st;
    }
    *out = ts;
    return SAE_OK;
}
