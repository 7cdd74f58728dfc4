/* weights.c - see weights.h. */
#include "server/api/weights.h"

static enum sae_status refuse(enum sae_weight part, enum sae_weight_state state,
                              const struct sae_dict *d, const char *name, struct sae_err *err)
{
    const struct sae_weight_def *def = &sae_weight_defs[part];

    if (state == SAE_WEIGHT_IS_UNREAD)
        return sae_err_set(
            err, SAE_E_NOT_LOADED, def->name,
            "cannot give %s of \"%.200s\": its decoder is not loaded, it only encodes", def->name,
            name);
    if (part == SAE_WEIGHT_LOG_SPARSITY)
        return sae_err_set(err, SAE_E_BAD_OPTION, def->name,
                           "cannot give %s of \"%.200s\": its source has none that saed reads",
                           def->name, name);
    return sae_err_set(err, SAE_E_BAD_OPTION, def->name,
                       "cannot give %s of \"%.100s\": its reading has none (%s=%.100s)", def->name,
                       name, def->of, sae_dict_shown(sae_dict_info(d), def->of));
}

/* Rows of it that are asked for. */
static size_t rows_asked(const struct sae_weights *asked, int part,
                         const struct sae_weight_look *look)
{
    return part < SAE_N_ROW_WEIGHTS ? asked->n_ids[part] : look->n_rows;
}

enum sae_status saed_weights_plan(struct saed_weights *w, struct sae_answer *a,
                                  const struct sae_weights *asked, const struct sae_dict *d,
                                  const char *name, struct sae_err *err)
{
    uint64_t n, bytes = 0;

    *a = (struct sae_answer){0};
    for (int part = 0; part < SAE_N_WEIGHTS; part++) {
        const struct sae_weight_look look = sae_dict_weight(d, (enum sae_weight)part);

        if (!(asked->asked >> part & 1))
            continue;
        if (look.state != SAE_WEIGHT_IS_THERE)
            return refuse((enum sae_weight)part, look.state, d, name, err);
        n = rows_asked(asked, part, &look);
        w->leads[part] = look.is_vector ? (struct sae_lead){0} : (struct sae_lead){1, {n}};
        a->tensors[a->n_tensors++] = (struct sae_out_tensor){.name = sae_weight_defs[part].name,
                                                             .form = SAE_FORM_DENSE,
                                                             .width = look.width,
                                                             .own_lead = &w->leads[part]};
        /* below 2^32 rows of less than 2^31 values */
        if (__builtin_add_overflow(bytes, n * look.width * sizeof(float), &bytes))
            bytes = UINT64_MAX;
    }
    w->bytes = bytes;
    return SAE_OK;
}

enum sae_status saed_weights_copy(struct saed_weights *w, struct sae_answer *a,
                                  const struct sae_weights *asked, const struct sae_dict *d,
                                  struct sae_err *err)
{
    unsigned k = 0;
    float *at;

    if (w->bytes <= SIZE_MAX)
        w->values = sae_alloc((size_t)w->bytes, 1);
    if (!w->values)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy weights: no memory for %llu bytes",
                           (unsigned long long)w->bytes);
    at = w->values;
    for (int part = 0; part < SAE_N_WEIGHTS; part++) {
        const struct sae_weight_look look = sae_dict_weight(d, (enum sae_weight)part);
        size_t n;

        if (!(asked->asked >> part & 1))
            continue;
        n = rows_asked(asked, part, &look);
        sae_dict_weight_rows(d, (enum sae_weight)part,
                             part < SAE_N_ROW_WEIGHTS ? asked->ids[part] : NULL, n, at);
        a->tensors[k++].data = at;
        at += n * look.width;
    }
    return SAE_OK;
}

void saed_weights_fini(struct saed_weights *w)
{
    sae_free(w->values);
    w->values = NULL;
}
