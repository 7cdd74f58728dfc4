/* pt.c - the state dict in a file that torch.save wrote. See reader.h.
 *
 * zip.c gives checked entries, pickle.c a tree of plain values, pt_groups.c its dicts; here the
 * archive is recognised and one of the dicts taken as the state dict. pt_tensor.c decides what a
 * tensor is.
 * Layout of the archive: caffe2/serialize/inline_container.cc and torch/serialization.py. */
#include "lib/load/pt.h"
#include "lib/format/pickle.h"
#include "lib/format/zip.h"
#include "lib/load/pt_facts.h"
#include "lib/load/pt_groups.h"
#include "lib/load/pt_prefix.h"
#include "lib/load/pt_tensor.h"
#include "lib/load/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pt {
    struct sae_pt_archive archive;
    unsigned char *bytes;                 /* data.pkl, ... */
    struct sae_pickle *pickle;            /* ... its values */
    const struct sae_pk_value **dicts;    /* ... and those that are ts->groups */
    struct sae_pt_tensor *tensors;        /* as ts->list */
    const struct sae_pk_value *weights;   /* of the dicts, the one that was chosen, ... */
    size_t prefix;                        /* ... and what of its names was dropped */
    struct sae_pt_prefixed way, prefixed; /* the last two of them, once those were asked for */
};

#define BAD(err, where, ...) \
    sae_err_set(err, SAE_E_FORMAT, where, "cannot read .pt file: " __VA_ARGS__)

/* ---- the archive -------------------------------------------------------------------------- */

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The folder that all entries are in: that of the first. */
static enum sae_status find_root(struct sae_pt_archive *a, struct sae_err *err)
{
    const char *first = sae_zip_count(a->zip) ? sae_zip_entry(a->zip, 0)->name : "";
    size_t n = strcspn(first, "/");

    if (sae_ends_in(first, ".npy"))
        return BAD(err, first, "it is an .npz archive of numpy");
    if (first[n] != '/' || n == 0 || n > SAE_PT_MAX_ROOT)
        return BAD(err, "file", "its %zu zip entries are not in one folder with data.pkl in it",
                   sae_zip_count(a->zip));
    memcpy(a->root, first, n);
    a->root[n] = '\0';
    for (size_t i = 0; i < sae_zip_count(a->zip); i++) {
        const char *name = sae_zip_entry(a->zip, i)->name;

        if (strncmp(name, a->root, n) != 0 || name[n] != '/')
            return BAD(err, name, "entry %s is not in the folder %s of the others", name, a->root);
    }
    return SAE_OK;
}

/* What torch.load would read by another way, and what we do not unpack. */
static enum sae_status refuse_other_kinds(const struct sae_pt_archive *a, struct sae_err *err)
{
    size_t skip = strlen(a->root) + 1;

    for (size_t i = 0; i < sae_zip_count(a->zip); i++) {
        const struct sae_zip_entry *e = sae_zip_entry(a->zip, i);
        const char *path = e->name + skip;

        if (strcmp(path, "constants.pkl") == 0 || starts_with(path, "code/"))
            return BAD(err, e->name,
                       "it is a TorchScript archive (entry %s); save the weights alone with "
                       "torch.save(torch.jit.load(\"in.pt\").state_dict(), \"out.pt\")",
                       e->name);
        if (e->method != SAE_ZIP_STORED)
            return BAD(err, e->name,
                       "entry %s is compressed (method %u), stored (0) is wanted; " SAE_PT_RESAVE,
                       e->name, e->method);
    }
    return SAE_OK;
}

/* byteorder: absent, or "little". version: a number from 1 to 10, in one of two places. */
static enum sae_status check_records(const struct sae_pt_archive *a, struct sae_err *err)
{
    static const char *const paths[] = {"byteorder", "version", ".data/version"};

    if (!sae_pt_find(a, "version") && !sae_pt_find(a, ".data/version"))
        return BAD(err, "file",
                   "the archive has no entry %s/version, so torch.save did not write it", a->root);
    for (size_t i = 0; i < SAE_COUNTOF(paths); i++) {
        const struct sae_zip_entry *e = sae_pt_find(a, paths[i]);
        unsigned char *s;
        char text[16] = "";
        enum sae_status st;

        if (!e)
            continue;
        st = sae_zip_slurp(a->zip, e, sizeof text - 1, &s, err);
        if (st != SAE_OK)
            return st;
        memcpy(text, s, (size_t)e->bytes);
        sae_free(s);
        if (i == 0 && strcmp(text, "little") != 0)
            return BAD(err, e->name,
                       "its byte order is %s, little is wanted; " SAE_PT_RESAVE
                       " on a little-endian machine",
                       text);
        if (i > 0) {
            char *end;
            unsigned long v = strtoul(text, &end, 10);

            if (text[0] < '1' || text[0] > '9' || (*end && strcmp(end, "\n") != 0) || v > 10)
                return BAD(err, e->name, "its version is '%s', 1 to 10 are read", text);
        }
    }
    return SAE_OK;
}

static enum sae_status open_archive(struct sae_tensors *ts, struct sae_err *err)
{
    struct pt *pt = ts->priv;
    enum sae_status st = sae_zip_open(&pt->archive.zip, ts->fd, ts->file_bytes, err);

    if (st == SAE_OK)
        st = find_root(&pt->archive, err);
    if (st == SAE_OK)
        st = refuse_other_kinds(&pt->archive, err);
    if (st == SAE_OK)
        st = check_records(&pt->archive, err);
    return st;
}

/* ---- the state dict ----------------------------------------------------------------------- */

/* The weights are some dict of the file; which one is for sae_load_choose's caller to say. */
static enum sae_status check_root(const struct sae_pk_value *root, struct sae_err *err)
{
    char what[200];

    if (root->type == SAE_PK_CALL || root->type == SAE_PK_OBJECT)
        return BAD(err, "data.pkl",
                   "it holds %s (GLOBAL at offset %" PRIu32 " of data.pkl), not a state dict; "
                   "save module.state_dict()",
                   sae_pk_describe(root, what, sizeof what), root->u.call.fn->offset);
    if (root->type != SAE_PK_DICT)
        return BAD(err, "data.pkl", "it holds %s, not a state dict",
                   sae_pk_describe(root, what, sizeof what));
    return sae_pt_check_keys_differ(root, "the dict at its top", err);
}

static enum sae_status set_name(struct sae_tensor *t, const struct sae_pk_value *key, size_t prefix,
                                struct sae_err *err)
{
    char name[SAE_TENSOR_NAME_MAX + 4], what[200];

    if (sae_pt_key_name(key, name)) {
        snprintf(t->name, sizeof t->name, "%s", strlen(name) > prefix ? name + prefix : name);
        return SAE_OK;
    }
    if (key->type == SAE_PK_STR)
        return BAD(err, "data.pkl",
                   "a key of its state dict has a NUL (opcode at offset %" PRIu32 ")", key->offset);
    return BAD(err, "data.pkl", "a key of its state dict is %s, a string is wanted",
               sae_pk_describe(key, what, sizeof what));
}

static enum sae_status bind_all(struct sae_tensors *ts, const struct sae_pk_value *dict,
                                size_t prefix, struct sae_err *err)
{
    struct pt *pt = ts->priv;
    size_t made = 0; /* and room for those beside: */
    size_t n = dict->n / 2 + pt->dicts[0]->n / 2 + pt->way.dict.n / 2;
    enum sae_status st = SAE_OK;

    ts->list = sae_calloc(n, sizeof *ts->list);
    pt->tensors = sae_calloc(n, sizeof *pt->tensors);
    if (!ts->list || !pt->tensors)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu tensors", n);
    for (size_t i = 0; i < dict->n / 2 && st == SAE_OK; i++) {
        const struct sae_pk_value *v = dict->u.items[2 * i + 1];

        if (!sae_pt_makes_tensor(v))
            continue; /* a fact, until it is asked for as a tensor */
        st = set_name(&ts->list[made], dict->u.items[2 * i], prefix, err);
        if (st == SAE_OK)
            st = sae_pt_tensor_bind(&pt->archive, v, &ts->list[made], &pt->tensors[made], err);
        made++;
    }
    if (st == SAE_OK)
        ts->n_tensors = made;
    return st;
}

static bool is_listed(const struct sae_tensors *ts, const char *name)
{
    for (size_t i = 0; i < ts->n_tensors + ts->n_beside; i++)
        if (strcmp(ts->list[i].name, name) == 0)
            return true;
    return false;
}

/* Those of a dict beside the chosen one, by their own names: whoever chose it may name one. One
 * that is wrong is not there. */
static void bind_beside(struct sae_tensors *ts, const struct sae_pk_value *beside)
{
    struct pt *pt = ts->priv;

    for (size_t i = 0; i < beside->n / 2; i++) {
        const struct sae_pk_value *key = beside->u.items[2 * i], *v = beside->u.items[2 * i + 1];
        size_t at = ts->n_tensors + ts->n_beside;
        struct sae_tensor *t = &ts->list[at];

        if (!sae_pt_makes_tensor(v) || !sae_pt_key_name(key, t->name) || is_listed(ts, t->name))
            continue;
        if (sae_pt_tensor_bind(&pt->archive, v, t, &pt->tensors[at], NULL) == SAE_OK)
            ts->n_beside++;
    }
}

/* The tensors first, so that what is wrong with one is told by its name; then what stands beside
 * them and would still change what others read. */
static enum sae_status pt_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                 struct sae_err *err)
{
    struct pt *pt = ts->priv;
    const struct sae_pk_value *dict = pt->dicts[g];
    enum sae_status st = bind_all(ts, dict, prefix, err);

    if (st == SAE_OK && dict != pt->dicts[0])
        bind_beside(ts, pt->dicts[0]);
    if (st == SAE_OK)
        bind_beside(ts, &pt->way.dict);
    pt->weights = dict;
    pt->prefix = prefix;
    if (st == SAE_OK)
        st = sae_pt_check_keys_differ(dict, "its state dict", err);
    if (st == SAE_OK)
        st = sae_pt_check_untouched(pt->pickle, err);
    if (st == SAE_OK)
        st = sae_pt_storage_check_all(&pt->archive, pt->pickle, err);
    if (st == SAE_OK)
        st = sae_pt_facts(&ts->facts, pt->dicts[0], dict, err);
    return st;
}

/* The entries under a prefix are a dict of their own. Below a key of the top they are called by it,
 * for what stands beside that. */
static enum sae_status pt_narrow(struct sae_tensors *ts, const char *prefix, struct sae_err *err)
{
    struct pt *pt = ts->priv;
    size_t n = strlen(prefix);
    char name[SAE_PT_MAX_NAME] = "";
    enum sae_status st = sae_pt_way_make(&pt->way, pt->dicts[0], prefix, err);

    if (st == SAE_OK)
        st = sae_pt_prefixed_make(&pt->prefixed, pt->dicts[0], prefix, err);
    if (st == SAE_OK)
        st = sae_pt_groups_add(&pt->archive, &pt->way.dict, "", &ts->groups, pt->dicts,
                               &ts->n_groups, err);
    if (st != SAE_OK)
        return st;
    if (pt->prefixed.is_nested)
        snprintf(name, sizeof name, "%.*s", (int)(prefix[n - 1] == '.' ? n - 1 : n), prefix);
    return sae_pt_groups_add(&pt->archive, &pt->prefixed.dict, name, &ts->groups, pt->dicts,
                             &ts->n_groups, err);
}

/* ---- the reader --------------------------------------------------------------------------- */

static bool pt_sniff(const unsigned char *head, size_t n)
{
    return n >= 4 && (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0);
}

static enum sae_status pt_open(struct sae_tensors *ts, struct sae_err *err)
{
    struct pt *pt = ts->priv = sae_calloc(1, sizeof *pt);
    const struct sae_zip_entry *e;
    const struct sae_pk_value *root = NULL;
    enum sae_status st;

    if (!pt)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate archive");
    st = open_archive(ts, err);
    if (st != SAE_OK)
        return st;
    e = sae_pt_find(&pt->archive, "data.pkl");
    if (!e)
        return BAD(err, "file", "the archive has no entry %s/data.pkl", pt->archive.root);
    st = sae_zip_slurp(pt->archive.zip, e, SAE_PICKLE_MAX_BYTES, &pt->bytes, err);
    if (st == SAE_OK)
        st = sae_pickle_load(&pt->pickle, &root, pt->bytes, (size_t)e->bytes, err);
    if (st == SAE_OK)
        st = check_root(root, err);
    if (!sae_zip_has_crcs(pt->archive.zip))
        ts->note = "the file was written without CRCs: the integrity of its bytes was not checked";
    if (st == SAE_OK)
        st = sae_pt_groups_list(&pt->archive, root, &ts->groups, &pt->dicts, &ts->n_groups, err);
    return st;
}

/* Binding says best why something is no tensor. */
static enum sae_status pt_explain(const struct sae_tensors *ts, const char *name,
                                  struct sae_err *err)
{
    const struct pt *pt = ts->priv;
    struct sae_tensor t = {0};
    struct sae_pt_tensor bound;

    for (uint32_t i = 0; i + 1 < pt->weights->n; i += 2) {
        const struct sae_pk_value *key = pt->weights->u.items[i];

        if (set_name(&t, key, pt->prefix, NULL) == SAE_OK && strcmp(t.name, name) == 0)
            return sae_pt_tensor_bind(&pt->archive, pt->weights->u.items[i + 1], &t, &bound, err);
    }
    return SAE_OK;
}

static void pt_close(struct sae_tensors *ts)
{
    struct pt *pt = ts->priv;

    if (pt) {
        sae_pt_prefixed_free(&pt->way);
        sae_pt_prefixed_free(&pt->prefixed);
        sae_free(pt->dicts);
        sae_pickle_free(pt->pickle);
        sae_free(pt->bytes);
        sae_free(pt->tensors);
        sae_zip_close(pt->archive.zip);
    }
    sae_free(pt);
    sae_pt_groups_free(ts->groups, ts->n_groups);
    sae_free(ts->list);
}

static void pt_origin(const struct sae_tensors *ts, size_t i, struct sae_origin *out)
{
    const struct pt *pt = ts->priv;

    sae_pt_tensor_origin(&pt->archive, &pt->tensors[i], out);
}

const struct sae_reader sae_reader_pt = {
    .name = "pt",
    .is_torch_save = true,
    .sniff = pt_sniff,
    .open = pt_open,
    .narrow = pt_narrow,
    .choose = pt_choose,
    .explain = pt_explain,
    .origin = pt_origin,
    .close = pt_close,
};
