/* weights.c - the members of a request for weights. See json/parse.h. */
#include "proto/json/parse.h"

static enum sae_status read_rows(struct sae_json_parser *ps, int part)
{
    const struct sae_weight_def *def = &sae_weight_defs[part];
    struct sae_json_array ids = {.size = sizeof(uint32_t), .since = ps->p};
    enum sae_status st = sae_json_read_ids(ps, def->name, def->pointer, &ids);

    ps->r->weights.ids[part] = ids.data;
    ps->r->weights.n_ids[part] = ids.n;
    ps->r->weights.asked |= 1u << part;
    return st;
}

static enum sae_status fail_vectors(struct sae_json_parser *ps, const char *what)
{
    const struct sae_json_path path = {"/" SAE_WEIGHTS_VECTORS_NAME, 0, {0}};

    return sae_json_fail(ps, SAE_E_BAD_OPTION, &path,
                         "cannot use vectors: %s is %s, wanted a list of names", what,
                         sae_json_describe(ps).s);
}

static enum sae_status read_vectors(struct sae_json_parser *ps)
{
    enum sae_status st = SAE_OK;
    bool more;

    if (!sae_json_take(ps, '['))
        return fail_vectors(ps, "it");
    more = !sae_json_take(ps, ']');
    while (st == SAE_OK && more) {
        struct sae_json_fault fault;
        struct sae_json_text name;
        const char *next;

        if (sae_json_peek(ps) != '"')
            return fail_vectors(ps, "an item");
        next = sae_json_scan_string(ps->p + 1, ps->end, &name, &fault);
        if (!next)
            return SAE_E_MALFORMED_JSON;
        ps->p = next;
        st = sae_weights_vector(&ps->r->weights, name.s, name.n, &ps->err);
        if (st == SAE_OK)
            st = sae_json_next(ps, ']', &more);
    }
    return st;
}

enum sae_status sae_json_read_weight(struct sae_json_parser *ps, int key)
{
    enum sae_status st = sae_weights_seen(&ps->r->weights, key, &ps->err);

    if (st != SAE_OK)
        return st;
    if (sae_json_take_word(ps, "false") || sae_json_take_word(ps, "null"))
        return SAE_OK; /* not asked */
    return key == SAE_WEIGHTS_VECTORS ? read_vectors(ps) : read_rows(ps, key);
}
