/* pt_storage.c - see pt_storage.h. */
#include "lib/load/pt_storage.h"
#include "lib/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Storages that no weights are in, but may stand beside them. */
static const char *const other_classes[] = {
    "QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage",
};

static bool in_module(const struct sae_pk_value *v, const char *module)
{
    return v->type == SAE_PK_GLOBAL && v->n == strlen(module) &&
           memcmp(v->u.global.module, module, v->n) == 0;
}

static const struct sae_dtype_row *dtype_of_class(const struct sae_pk_value *cls)
{
    if (!in_module(cls, "torch") && !in_module(cls, "torch.cuda"))
        return NULL;
    return sae_dtype_find(SAE_DTYPE_STORAGE, cls->u.global.name, cls->cap);
}

const struct sae_dtype_row *sae_pt_dtype_by_name(const struct sae_pk_value *v)
{
    return in_module(v, "torch") ? sae_dtype_find(SAE_DTYPE_NAME, v->u.global.name, v->cap) : NULL;
}

const struct sae_zip_entry *sae_pt_find(const struct sae_pt_archive *a, const char *path)
{
    char name[SAE_PT_MAX_ROOT + 64];
    int n = snprintf(name, sizeof name, "%s/%s", a->root, path);

    return n > 0 && (size_t)n < sizeof name ? sae_zip_find(a->zip, name) : NULL;
}

/* ---- one id ------------------------------------------------------------------------------- */

/* Who asks, for messages. */
struct asked {
    const char *where, *who;
    struct sae_err *err;
};

static enum sae_status SAE_PRINTF(2, 3) bad(const struct asked *q, const char *fmt, ...)
{
    char text[360];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sae_err_set(q->err, SAE_E_FORMAT, q->where, "cannot read %s: %s", q->who, text);
}

/* data/KEY; a key is digits only, so that it can never be a path. */
static enum sae_status find_record(const struct asked *q, const struct sae_pt_archive *a,
                                   const struct sae_pk_value *key, const struct sae_zip_entry **out)
{
    char path[32];
    bool digits = key->type == SAE_PK_STR && key->n > 0 && key->n <= 20;

    for (uint32_t i = 0; digits && i < key->n; i++)
        digits = key->u.str[i] >= '0' && key->u.str[i] <= '9';
    if (!digits)
        return bad(q, "the key of its storage is not a number");
    snprintf(path, sizeof path, "data/%.*s", (int)key->n, key->u.str);
    *out = sae_pt_find(a, path);
    if (!*out)
        return bad(q, "the archive has no entry %s/%s", a->root, path);
    return SAE_OK;
}

/* ('storage', class, key, location, numel) as it stands. */
static enum sae_status split(const struct asked *q, const struct sae_pk_value *id,
                             struct sae_pt_storage *out)
{
    const struct sae_pk_value *numel;
    char text[200];

    id = id->u.id;
    if (id->type != SAE_PK_TUPLE || id->n != 5 || !sae_pk_is_str(id->u.items[0], "storage"))
        return bad(q, "its persistent id is not ('storage', class, key, location, numel)");
    out->cls = id->u.items[1];
    out->key = id->u.items[2];
    out->location = id->u.items[3];
    numel = id->u.items[4];
    if (out->cls->type != SAE_PK_GLOBAL)
        return bad(q, "the class of its storage is %s, a GLOBAL is wanted",
                   sae_pk_describe(out->cls, text, sizeof text));
    if (out->location->type != SAE_PK_STR)
        return bad(q, "the location of its storage is not a string");
    if (numel->type != SAE_PK_INT)
        return bad(q, "its storage's number of elements is %s, an int is wanted",
                   sae_pk_describe(numel, text, sizeof text));
    if (numel->u.i < 0)
        return bad(q, "its storage's number of elements is %" PRId64 ", at least 0 is wanted",
                   numel->u.i);
    out->numel = (uint64_t)numel->u.i;
    return SAE_OK;
}

enum sae_status sae_pt_storage_parse(const struct sae_pt_archive *a, const struct sae_pk_value *id,
                                     const char *where, const char *who, struct sae_pt_storage *out,
                                     struct sae_err *err)
{
    const struct asked q = {.where = where, .who = who, .err = err};
    struct sae_pt_storage s = {0};
    uint64_t bytes, unit;
    enum sae_status st = split(&q, id, &s);

    if (st == SAE_OK)
        st = find_record(&q, a, s.key, &s.entry);
    if (st != SAE_OK)
        return st;
    if (sae_pk_is_str(s.location, "meta"))
        return bad(&q, "its storage is on the meta device and has no values");
    s.type = dtype_of_class(s.cls);
    s.untyped = sae_pk_is_global(s.cls, "torch.storage", "UntypedStorage");
    unit = s.untyped ? 1 : s.type ? s.type->bits / 8 : 0;
    if (unit && (sae_mul_u64(s.numel, unit, &bytes) || bytes != s.entry->bytes))
        return bad(&q,
                   "its storage of %" PRIu64 " elements of %" PRIu64 " bytes is not the %" PRIu64
                   " bytes of entry %s",
                   s.numel, unit, s.entry->bytes, s.entry->name);
    *out = s;
    return SAE_OK;
}

/* ---- all ids ------------------------------------------------------------------------------ */

static bool known_class(const struct sae_pt_storage *s)
{
    bool known = s->type || s->untyped;

    for (size_t i = 0; i < SAE_COUNTOF(other_classes); i++)
        known |= sae_pk_is_global(s->cls, "torch", other_classes[i]);
    return known;
}

struct named {
    struct sae_pt_storage s;
    uint32_t offset; /* of its id */
};

/* By key, then as they stand in the pickle. */
static int compare_named(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int c = strcmp(x->s.entry->name, y->s.entry->name);

    return c ? c : (x->offset > y->offset) - (x->offset < y->offset);
}

static bool same_str(const struct sae_pk_value *a, const struct sae_pk_value *b)
{
    return a->n == b->n && memcmp(a->u.str, b->u.str, a->n) == 0;
}

static bool same_class(const struct sae_pk_value *a, const struct sae_pk_value *b)
{
    return a->n == b->n && a->cap == b->cap &&
           memcmp(a->u.global.module, b->u.global.module, a->n) == 0 &&
           memcmp(a->u.global.name, b->u.global.name, a->cap) == 0;
}

static enum sae_status check_pair(const struct named *a, const struct named *b, struct sae_err *err)
{
    const struct asked q = {a->s.entry->name, "storage", err};
    char x[200], y[200];

    if (!same_class(a->s.cls, b->s.cls))
        return bad(&q,
                   "entry %s is named under two classes, %s at offset %" PRIu32
                   " of data.pkl and %s at offset %" PRIu32,
                   a->s.entry->name, sae_pk_describe(a->s.cls, x, sizeof x), a->offset,
                   sae_pk_describe(b->s.cls, y, sizeof y), b->offset);
    if (a->s.numel != b->s.numel)
        return bad(&q,
                   "entry %s is named with %" PRIu64 " elements at offset %" PRIu32
                   " of data.pkl and with %" PRIu64 " at offset %" PRIu32,
                   a->s.entry->name, a->s.numel, a->offset, b->s.numel, b->offset);
    if (!same_str(a->s.location, b->s.location))
        return bad(&q,
                   "entry %s is named at two locations, at offset %" PRIu32
                   " of data.pkl and at offset %" PRIu32,
                   a->s.entry->name, a->offset, b->offset);
    return SAE_OK;
}

enum sae_status sae_pt_storage_check_all(const struct sae_pt_archive *a, const struct sae_pickle *p,
                                         struct sae_err *err)
{
    struct sae_pk_list ids = sae_pickle_persids(p);
    struct named *all = sae_calloc(ids.n, sizeof *all);
    enum sae_status st = SAE_OK;
    char where[48], what[200];

    if (!all)
        return sae_err_set(err, SAE_E_NOMEM, "data.pkl", "cannot allocate list of %zu storages",
                           ids.n);
    for (size_t i = 0; st == SAE_OK && i < ids.n; i++) {
        snprintf(where, sizeof where, "data.pkl:%" PRIu32, ids.v[i]->offset);
        all[i].offset = ids.v[i]->offset;
        st = sae_pt_storage_parse(a, ids.v[i], where, where, &all[i].s, err);
        if (st == SAE_OK && !known_class(&all[i].s))
            st = bad(&(struct asked){where, where, err}, "%s is no class of a storage",
                     sae_pk_describe(all[i].s.cls, what, sizeof what));
    }
    if (st == SAE_OK)
        qsort(all, ids.n, sizeof *all, compare_named);
    for (size_t i = 1; st == SAE_OK && i < ids.n; i++)
        if (all[i - 1].s.entry == all[i].s.entry)
            st = check_pair(&all[i - 1], &all[i], err);
    sae_free(all);
    return st;
}
