/* draft.c - a dictionary from its source, in two steps (source.h): what it will be, then values.
 *
 * Each kind of source has its maker: file.c, init.c, and the identity here. Labels stand beside
 * whichever it is. */
#include "lib/dict/spec.h"

#include "lib/num.h"

#include <string.h>

struct sae_draft {
    struct sae_source src; /* owned; file borrows from it */
    struct sae_file *file; /* owned; NULL: the source is no path */
    struct sae_dict_info info;
};

static void has_labels(struct sae_dict_info *info, uint64_t bytes)
{
    info->options |= SAE_OPT_LABELS;
    if (sae_add_u64(info->resident_bytes, bytes, &info->resident_bytes))
        info->resident_bytes = UINT64_MAX;
}

static enum sae_status describe_values(struct sae_draft *t, struct sae_err *err)
{
    struct sae_formula f;

    if (t->src.kind == SAE_SOURCE_FILE)
        return sae_file_open(&t->file, &t->src.stated, &t->info, err);
    f = sae_layout_formula(t->src.layout, (size_t)t->src.d, (size_t)t->src.F);
    sae_dict_describe(&t->info, t->src.layout, &f, NULL);
    if (t->src.kind == SAE_SOURCE_INIT)
        t->info.format = "init";
    t->info.dtype = "float32";
    return SAE_OK;
}

static enum sae_status describe(struct sae_draft *t, const char *source, struct sae_err *err)
{
    enum sae_status st = sae_source_parse(&t->src, source, err);
    uint64_t bytes;

    if (st == SAE_OK)
        st = describe_values(t, err);
    if (st != SAE_OK || !t->src.stated.labels)
        return st;
    st = sae_labels_guess(t->src.stated.labels, t->info.dict_size, &bytes, err);
    if (st == SAE_OK)
        has_labels(&t->info, bytes);
    return st;
}

enum sae_status sae_draft_open(struct sae_draft **out, const char *source, struct sae_err *err)
{
    struct sae_draft *t = sae_calloc(1, sizeof *t);
    enum sae_status st = SAE_E_NOMEM;

    if (!t)
        sae_err_set(err, st, "", "cannot load %.200s: cannot allocate its description", source);
    else
        st = describe(t, source, err);
    if (st == SAE_OK)
        *out = t;
    else
        sae_draft_close(t);
    return st;
}

void sae_draft_close(struct sae_draft *t)
{
    if (!t)
        return;
    sae_file_close(t->file);
    sae_source_fini(&t->src);
    sae_free(t);
}

const struct sae_dict_info *sae_draft_info(const struct sae_draft *t)
{
    return &t->info;
}

void sae_draft_widen(struct sae_draft *t)
{
    if (t->file)
        sae_file_widen(t->file, &t->info);
}

uint64_t sae_draft_stamp(const struct sae_draft *t)
{
    uint64_t stamp = t->file ? sae_file_stamp(t->file) : 0;

    /* A config beside the weights is not in the file's stamp, but in what it says. */
    for (unsigned i = 0; t->file && i < SAE_N_FIELDS; i++)
        stamp = sae_hash(stamp, t->info.reading[i].text, strlen(t->info.reading[i].text));
    return stamp;
}

enum sae_status sae_draft_outline(struct sae_dict **out, const struct sae_draft *t,
                                  struct sae_err *err)
{
    const struct sae_layout *layout = t->file ? sae_file_layout(t->file) : t->src.layout;
    struct sae_formula f = t->file ? *sae_file_formula(t->file)
                                   : sae_layout_formula(layout, (size_t)t->src.d, (size_t)t->src.F);

    return sae_dict_create_outline(out, layout, &f, &t->info, err);
}

static enum sae_status make_identity(struct sae_dict **out, const struct sae_source *src,
                                     struct sae_team *team, struct sae_err *err)
{
    struct sae_dict *d = NULL;
    enum sae_status st = sae_dict_create(&d, src->layout, src->d, src->F, err);

    if (st == SAE_OK)
        st = sae_dict_seal(d, "float32", team, err);
    if (st == SAE_OK)
        *out = d;
    else
        sae_dict_free(d);
    return st;
}

static enum sae_status load_values(struct sae_dict **out, struct sae_draft *t,
                                   struct sae_team *team, struct sae_err *err)
{
    switch (t->src.kind) {
    case SAE_SOURCE_IDENTITY:
        return make_identity(out, &t->src, team, err);
    case SAE_SOURCE_INIT:
        return sae_dict_create_fresh(out, &t->src, team, err);
    case SAE_SOURCE_FILE:
        break;
    }
    return sae_file_read(out, t->file, team, err);
}

enum sae_status sae_draft_load(struct sae_dict **out, struct sae_draft *t, struct sae_team *team,
                               struct sae_err *err)
{
    const char *path = t->src.stated.labels;
    struct sae_labels *labels = NULL;
    struct sae_dict *d = NULL;
    enum sae_status st = path ? sae_labels_open(&labels, path, t->info.dict_size, err) : SAE_OK;

    if (st == SAE_OK)
        st = load_values(&d, t, team, err);
    if (st != SAE_OK) {
        sae_labels_free(labels);
        return st;
    }
    if (labels)
        has_labels(&d->info, sae_labels_bytes(labels));
    d->labels = labels;
    *out = d;
    return SAE_OK;
}
