/* weights.c - see weights.h. */
#include "tests/support/weights.h"

#include <string.h>

enum sae_status test_open_weights(struct sae_tensors **out, const char *path, struct sae_err *err)
{
    struct sae_tensors *ts = NULL;
    enum sae_status st = sae_load_open(&ts, path, err);
    size_t g = 0;

    if (st != SAE_OK)
        return st;
    for (size_t i = sae_load_n_groups(ts); i-- > 1;)
        if (strcmp(sae_load_group(ts, i)->name, "state_dict") == 0 ||
            strcmp(sae_load_group(ts, i)->name, "model") == 0)
            g = i;
    st = sae_load_choose(ts, g, 0, err);
    if (st != SAE_OK) {
        sae_load_close(ts);
        return st;
    }
    *out = ts;
    return SAE_OK;
}
