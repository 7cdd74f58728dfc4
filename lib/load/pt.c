/* pt.c - the state dict in a file that torch.save wrote. See pt.h.
 *
 * zip.c gives checked entries, pickle.c a tree of plain values, pt_tensor.c decides what a tensor
 * is; here the archive is recognised and the state dict found in the tree: the top-level dict, or
 * the dict under one of the keys in `wrappers`. What stands beside it there is never looked at.
 * Layout of the archive: caffe2/serialize/inline_container.cc and torch/serialization.py. */
#include "lib/load/pt.h"
#include "lib/format/pickle.h"
#include "lib/load/pt_tensor.h"
#include "lib/format/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sae_pk_value value;

/* Keys of a checkpoint under which its state dict is; the first that holds a dict is taken. */
static const char *const wrappers[] = {"state_dict", "model"};

#define MAX_TENSORS 65536u /* more than any checkpoint has */

struct pt {
    struct sae_pt_archive archive;
    struct sae_pt_tensor *tensors; /* as ts->list */
};

#define BAD(err, where, ...) \
    sae_err_set(err, SAE_E_FORMAT, where, "cannot read .pt file: " __VA_ARGS__)

/* ---- the archive -------------------------------------------------------------------------- */

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* The folder that all entries are in: that of the first. */
static enum sae_status find_root(struct sae_pt_archive *a, struct sae_err *err)
{
    const char *first = sae_zip_count(a->zip) ? sae_zip_entry(a->zip, 0)->name : "";
    size_t n = strcspn(first, "/");

    if (ends_with(first, ".npy"))
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

/* Keys that are equal to Python: strings by their bytes, ints and bools by number; of all else only
 * that a value equals itself. */
static int key_class(const value *k)
{
    return k->type == SAE_PK_STR ? 0 : k->type == SAE_PK_INT || k->type == SAE_PK_BOOL ? 1 : 2;
}

static int compare_keys(const void *a, const void *b)
{
    const value *x = *(const value *const *)a, *y = *(const value *const *)b;
    int kind = key_class(x), c = kind - key_class(y);

    if (c)
        return c;
    if (kind == 0) {
        uint32_t n = x->n < y->n ? x->n : y->n;

        c = n ? memcmp(x->u.str, y->u.str, n) : 0;
        return c ? c : (x->n > y->n) - (x->n < y->n);
    }
    if (kind == 1) {
        int64_t i = x->type == SAE_PK_BOOL ? x->u.b : x->u.i;
        int64_t j = y->type == SAE_PK_BOOL ? y->u.b : y->u.i;

        return (i > j) - (i < j);
    }
    return (x > y) - (x < y);
}

static enum sae_status twice(const value *key, const char *what, struct sae_err *err)
{
    char text[200];

    if (key->type == SAE_PK_STR)
        return BAD(err, "data.pkl", "%s has the key %.*s twice", what,
                   key->n < 128 ? (int)key->n : 128, key->u.str);
    return BAD(err, "data.pkl", "%s has a key twice, %s at offset %" PRIu32, what,
               sae_pk_describe(key, text, sizeof text), key->offset);
}

/* Python keeps the last of two equal keys, other readers the first: refuse. */
static enum sae_status check_keys_differ(const value *dict, const char *what, struct sae_err *err)
{
    size_t n = dict->n / 2;
    const value **keys = sae_calloc(n, sizeof(const value *));
    enum sae_status st = SAE_OK;

    if (!keys)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate index of %zu keys", n);
    for (size_t i = 0; i < n; i++)
        keys[i] = dict->u.items[2 * i];
    qsort(keys, n, sizeof(const value *), compare_keys);
    for (size_t i = 1; i < n && st == SAE_OK; i++)
        if (compare_keys(&keys[i - 1], &keys[i]) == 0)
            st = twice(keys[i], what, err);
    sae_free(keys);
    return st;
}

static enum sae_status find_state_dict(const value *root, const value **out, struct sae_err *err)
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
    *out = root;
    for (size_t w = 0; w < SAE_COUNTOF(wrappers); w++)
        for (uint32_t i = 0; i + 1 < root->n; i += 2)
            if (sae_pk_is_str(root->u.items[i], wrappers[w]) &&
                root->u.items[i + 1]->type == SAE_PK_DICT) {
                *out = root->u.items[i + 1];
                return check_keys_differ(root, "the dict around its state dict", err);
            }
    return SAE_OK;
}

/* The key as a C string, cut at its limit, but not inside a UTF-8 sequence. */
static enum sae_status set_name(struct sae_tensor *t, const value *key, struct sae_err *err)
{
    size_t n = key->n;
    char what[200];

    if (key->type != SAE_PK_STR)
        return BAD(err, "data.pkl", "a key of its state dict is %s, a string is wanted",
                   sae_pk_describe(key, what, sizeof what));
    if (memchr(key->u.str, 0, n))
        return BAD(err, "data.pkl",
                   "a key of its state dict has a NUL (opcode at offset %" PRIu32 ")", key->offset);
    if (n > SAE_TENSOR_NAME_MAX) {
        n = SAE_TENSOR_NAME_MAX;
        while (n > 0 && ((unsigned char)key->u.str[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(t->name, key->u.str, n);
    memcpy(t->name + n, "...", n < key->n ? 4 : 0);
    return SAE_OK;
}

static enum sae_status list_tensors(struct sae_tensors *ts, const value *dict, struct sae_err *err)
{
    struct pt *pt = ts->priv;
    size_t n = dict->n / 2;
    enum sae_status st = SAE_OK;

    if (n > MAX_TENSORS)
        return BAD(err, "data.pkl", "its state dict has %zu entries, at most %u are read", n,
                   MAX_TENSORS);
    ts->list = sae_calloc(n, sizeof *ts->list);
    pt->tensors = sae_calloc(n, sizeof *pt->tensors);
    if (!ts->list || !pt->tensors)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu tensors", n);
    for (size_t i = 0; i < n && st == SAE_OK; i++) {
        st = set_name(&ts->list[i], dict->u.items[2 * i], err);
        if (st == SAE_OK)
            st = sae_pt_tensor_bind(&pt->archive, dict->u.items[2 * i + 1], &ts->list[i],
                                    &pt->tensors[i], err);
    }
    if (st == SAE_OK)
        st = check_keys_differ(dict, "its state dict", err);
    if (st == SAE_OK)
        ts->n_tensors = n;
    return st;
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
    struct sae_pickle *arena = NULL;
    const value *root = NULL, *dict = NULL;
    unsigned char *bytes = NULL;
    enum sae_status st;

    if (!pt)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate archive");
    st = open_archive(ts, err);
    if (st != SAE_OK)
        goto out;
    e = sae_pt_find(&pt->archive, "data.pkl");
    if (!e) {
        st = BAD(err, "file", "the archive has no entry %s/data.pkl", pt->archive.root);
        goto out;
    }
    st = sae_zip_slurp(pt->archive.zip, e, SAE_PICKLE_MAX_BYTES, &bytes, err);
    if (st == SAE_OK)
        st = sae_pickle_load(&arena, &root, bytes, (size_t)e->bytes, err);
    if (st == SAE_OK)
        st = find_state_dict(root, &dict, err);
    if (st == SAE_OK)
        st = list_tensors(ts, dict, err);
    if (st == SAE_OK)
        st = sae_pt_check_untouched(arena, err);
    if (st == SAE_OK)
        st = sae_pt_storage_check_all(&pt->archive, arena, err);
out:
    sae_pickle_free(arena);
    sae_free(bytes);
    return st;
}

static void pt_close(struct sae_tensors *ts)
{
    struct pt *pt = ts->priv;

    if (pt) {
        sae_free(pt->tensors);
        sae_zip_close(pt->archive.zip);
    }
    sae_free(pt);
    sae_free(ts->list);
}

static enum sae_status next_bytes(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    return sae_zip_stream_read(ctx, buf, n, err);
}

/* Bytes of an untyped storage that make no whole element: the CRC is over them too. */
static enum sae_status read_tail(struct sae_zip_stream *s, struct sae_err *err)
{
    unsigned char tail[16];

    return sae_zip_stream_read(s, tail, (size_t)(s->e->bytes - s->pos), err);
}

static enum sae_status pt_read(struct sae_tensors *ts, size_t i, float *dst, bool transpose,
                               struct sae_err *err)
{
    struct pt *pt = ts->priv;
    struct sae_zip_stream stream;
    struct sae_stream src = {next_bytes, &stream};
    enum sae_status st;

    sae_zip_stream_init(&stream, pt->archive.zip, pt->tensors[i].entry);
    st = sae_view_read(&pt->tensors[i].view, &src, dst, transpose, err);
    return st == SAE_OK ? read_tail(&stream, err) : st;
}

const struct sae_reader sae_reader_pt = {"pt", pt_sniff, pt_open, pt_read, pt_close};
