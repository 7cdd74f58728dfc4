/* pt_tensor.c - see pt_tensor.h.
 *
 * The allow-list of a state dict is the three tables below: the rebuild functions of
 * torch/_utils.py, the storage classes and dtypes of torch/storage.py (PyTorch 1.6 to 2.9). */
#include "lib/load/pt_tensor.h"
#include "lib/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct sae_pk_value value;

/* ---- tables ------------------------------------------------------------------------------- */

static const struct dtype {
    const char *name;    /* torch.NAME */
    const char *storage; /* torch.STORAGE; NULL: only named by dtype, over untyped bytes */
    unsigned bytes;
    enum sae_dtype dtype;
} dtypes[] = {
    {"float32", "FloatStorage", 4, SAE_DTYPE_F32},
    {"float16", "HalfStorage", 2, SAE_DTYPE_F16},
    {"bfloat16", "BFloat16Storage", 2, SAE_DTYPE_BF16},
    {"float64", "DoubleStorage", 8, SAE_DTYPE_F64},
    {"int64", "LongStorage", 8, SAE_DTYPE_OTHER},
    {"int32", "IntStorage", 4, SAE_DTYPE_OTHER},
    {"int16", "ShortStorage", 2, SAE_DTYPE_OTHER},
    {"int8", "CharStorage", 1, SAE_DTYPE_OTHER},
    {"uint8", "ByteStorage", 1, SAE_DTYPE_OTHER},
    {"bool", "BoolStorage", 1, SAE_DTYPE_OTHER},
    {"complex64", "ComplexFloatStorage", 8, SAE_DTYPE_OTHER},
    {"complex128", "ComplexDoubleStorage", 16, SAE_DTYPE_OTHER},
    {"complex32", NULL, 4, SAE_DTYPE_OTHER},
    {"uint16", NULL, 2, SAE_DTYPE_OTHER},
    {"uint32", NULL, 4, SAE_DTYPE_OTHER},
    {"uint64", NULL, 8, SAE_DTYPE_OTHER},
    {"float8_e4m3fn", NULL, 1, SAE_DTYPE_OTHER},
    {"float8_e5m2", NULL, 1, SAE_DTYPE_OTHER},
    {"float8_e4m3fnuz", NULL, 1, SAE_DTYPE_OTHER},
    {"float8_e5m2fnuz", NULL, 1, SAE_DTYPE_OTHER},
    {"float8_e8m0fnu", NULL, 1, SAE_DTYPE_OTHER},
};

/* Functions of torch._utils whose call is a tensor. v2's arguments are (storage, offset, size,
 * stride, requires_grad, hooks[, metadata]); v3 has the dtype before the metadata; parameters wrap
 * a tensor, their first argument. */
static const struct rebuild {
    const char *name;
    bool wraps, has_dtype;
    unsigned min_args, max_args;
} rebuilds[] = {
    {"_rebuild_tensor_v2", false, false, 6, 7},
    {"_rebuild_tensor_v3", false, true, 7, 8},
    {"_rebuild_parameter", true, false, 3, 3},
    {"_rebuild_parameter_with_state", true, false, 4, 4},
};

enum { ARG_STORAGE, ARG_OFFSET, ARG_SIZE, ARG_STRIDE, ARG_GRAD, ARG_HOOKS, ARG_DTYPE_V3 };

/* Names that are refused, with what they stand for. */
static const struct {
    const char *name, *what;
} refused[] = {
    {"_rebuild_qtensor", ": a quantised tensor"},
    {"_rebuild_sparse_tensor", ": a sparse tensor"},
    {"_rebuild_sparse_csr_tensor", ": a sparse tensor"},
    {"_rebuild_nested_tensor", ": a nested tensor"},
    {"_rebuild_meta_tensor_no_storage", ": a tensor on the meta device, without values"},
    {"_rebuild_device_tensor_from_numpy", ": a tensor kept as a numpy array"},
    {"_rebuild_wrapper_subclass", ": a tensor of a subclass"},
    {"_rebuild_from_type_v2", ": a tensor of a subclass, or with attributes"},
    {"QInt8Storage", ": a quantised tensor"},
    {"QUInt8Storage", ": a quantised tensor"},
    {"QInt32Storage", ": a quantised tensor"},
    {"QUInt4x2Storage", ": a quantised tensor"},
    {"QUInt2x4Storage", ": a quantised tensor"},
};

/* ---- errors ------------------------------------------------------------------------------- */

struct binding {
    const struct sae_pt_archive *archive;
    struct sae_tensor *t;
    struct sae_pt_tensor *out;
    struct sae_err *err;
};

static enum sae_status SAE_PRINTF(2, 3) bad(const struct binding *b, const char *fmt, ...)
{
    char text[360];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sae_err_set(b->err, SAE_E_FORMAT, b->t->name, "cannot read tensor %s: %s", b->t->name,
                       text);
}

/* `v`, found where `wanted` should be, is refused; a GLOBAL in it is named with its place. */
static enum sae_status not_wanted(const struct binding *b, const value *v, const char *wanted)
{
    const value *g = v->type == SAE_PK_CALL || v->type == SAE_PK_OBJECT ? v->u.call.fn : v;
    const char *what = "";
    char text[200];

    if (g->type != SAE_PK_GLOBAL)
        return bad(b, "it is %s, %s is wanted", sae_pk_describe(v, text, sizeof text), wanted);
    for (size_t i = 0; i < SAE_COUNTOF(refused); i++)
        if (strlen(refused[i].name) == g->cap &&
            memcmp(refused[i].name, g->u.global.name, g->cap) == 0)
            what = refused[i].what;
    return bad(b,
               "%s, whose opcode is at offset %" PRIu32 " of data.pkl, is not on the allow-list of "
               "state dicts%s (%s is wanted; nothing was imported or called)",
               sae_pk_describe(g, text, sizeof text), g->offset, what, wanted);
}

/* ---- values ------------------------------------------------------------------------------- */

static enum sae_status natural(const struct binding *b, const char *what, const value *v,
                               uint64_t *out)
{
    char text[200];

    if (v->type != SAE_PK_INT)
        return bad(b, "its %s is %s, an int is wanted", what,
                   sae_pk_describe(v, text, sizeof text));
    if (v->u.i < 0)
        return bad(b, "its %s is %" PRId64 ", at least 0 is wanted", what, v->u.i);
    *out = (uint64_t)v->u.i;
    return SAE_OK;
}

static enum sae_status naturals(const struct binding *b, const char *what, const value *v,
                                uint64_t out[SAE_MAX_DIMS], unsigned *n)
{
    char text[200];

    if (v->type != SAE_PK_TUPLE)
        return bad(b, "its %s is %s, a tuple of ints is wanted", what,
                   sae_pk_describe(v, text, sizeof text));
    if (v->n > SAE_MAX_DIMS)
        return bad(b, "its %s has %" PRIu32 " dimensions, at most %d are read", what, v->n,
                   SAE_MAX_DIMS);
    for (uint32_t i = 0; i < v->n; i++) {
        enum sae_status st = natural(b, what, v->u.items[i], &out[i]);

        if (st != SAE_OK)
            return st;
    }
    *n = v->n;
    return SAE_OK;
}

/* ---- storage ------------------------------------------------------------------------------ */

const struct sae_zip_entry *sae_pt_find(const struct sae_pt_archive *a, const char *path)
{
    char name[SAE_PT_MAX_ROOT + 64];
    int n = snprintf(name, sizeof name, "%s/%s", a->root, path);

    return n > 0 && (size_t)n < sizeof name ? sae_zip_find(a->zip, name) : NULL;
}

/* data/KEY; a key is digits only, so that it can never be a path. */
static enum sae_status find_record(const struct binding *b, const value *key,
                                   const struct sae_zip_entry **out)
{
    char path[32];
    bool digits = key->type == SAE_PK_STR && key->n > 0 && key->n <= 20;

    for (uint32_t i = 0; digits && i < key->n; i++)
        digits = key->u.str[i] >= '0' && key->u.str[i] <= '9';
    if (!digits)
        return bad(b, "the key of its storage is not a number");
    snprintf(path, sizeof path, "data/%.*s", (int)key->n, key->u.str);
    *out = sae_pt_find(b->archive, path);
    if (!*out)
        return bad(b, "the archive has no entry %s/%s", b->archive->root, path);
    return SAE_OK;
}

static const struct dtype *dtype_of_storage(const value *cls)
{
    for (size_t i = 0; i < SAE_COUNTOF(dtypes); i++)
        if (dtypes[i].storage && (sae_pk_is_global(cls, "torch", dtypes[i].storage) ||
                                  sae_pk_is_global(cls, "torch.cuda", dtypes[i].storage)))
            return &dtypes[i];
    return NULL;
}

static const struct dtype *dtype_by_name(const value *v)
{
    for (size_t i = 0; i < SAE_COUNTOF(dtypes); i++)
        if (sae_pk_is_global(v, "torch", dtypes[i].name))
            return &dtypes[i];
    return NULL;
}

/* The dtype of the elements and the elements that numel of class `cls` are. A v3 tensor names its
 * dtype, and its storage may be bytes. */
static enum sae_status element_type(const struct binding *b, const value *cls, const value *name,
                                    const struct dtype **out, uint64_t *unit)
{
    const struct dtype *storage = dtype_of_storage(cls);
    bool untyped = sae_pk_is_global(cls, "torch.storage", "UntypedStorage");

    if (!storage && !(untyped && name))
        return not_wanted(b, cls, "the class of a storage");
    *out = name ? dtype_by_name(name) : storage;
    if (!*out)
        return not_wanted(b, name, "a dtype");
    *unit = untyped ? 1 : storage->bytes;
    return SAE_OK;
}

/* A persistent id ('storage', class, key, location, numel); `dtype` is v3's or NULL. */
static enum sae_status bind_storage(const struct binding *b, const value *v, const value *dtype,
                                    const struct dtype **type, uint64_t *numel)
{
    const value *const *id;
    uint64_t bytes, unit = 0;
    enum sae_status st;

    if (v->type != SAE_PK_PERSID)
        return not_wanted(b, v, "a storage");
    if (v->u.id->type != SAE_PK_TUPLE || v->u.id->n != 5 ||
        !sae_pk_is_str(v->u.id->u.items[0], "storage"))
        return bad(b, "its persistent id is not ('storage', class, key, location, numel)");
    id = (const value *const *)v->u.id->u.items;
    st = element_type(b, id[1], dtype, type, &unit);
    if (st == SAE_OK)
        st = find_record(b, id[2], &b->out->entry);
    if (st == SAE_OK)
        st = natural(b, "storage's number of elements", id[4], numel);
    if (st != SAE_OK)
        return st;
    if (id[3]->type != SAE_PK_STR)
        return bad(b, "the location of its storage is not a string");
    if (sae_pk_is_str(id[3], "meta"))
        return bad(b, "its storage is on the meta device and has no values");
    if (sae_mul_u64(*numel, unit, &bytes) || bytes != b->out->entry->bytes)
        return bad(b,
                   "its storage of %" PRIu64 " elements of %" PRIu64 " bytes is not the %" PRIu64
                   " bytes of entry %s",
                   *numel, unit, b->out->entry->bytes, b->out->entry->name);
    *numel = bytes / (*type)->bytes;
    return SAE_OK;
}

/* ---- shape -------------------------------------------------------------------------------- */

/* All elements lie in the storage, and the number of values can be counted in f32 bytes. */
static enum sae_status check_bounds(const struct binding *b, uint64_t offset,
                                    const uint64_t stride[SAE_MAX_DIMS], uint64_t numel)
{
    const struct sae_tensor *t = b->t;
    uint64_t last = offset, count = 1;
    bool wrong = false;

    for (unsigned i = 0; i < t->ndim; i++)
        if (t->shape[i] == 0)
            return SAE_OK;
    for (unsigned i = 0; i < t->ndim; i++) {
        uint64_t step;

        wrong |= sae_mul_u64(t->shape[i] - 1, stride[i], &step);
        wrong |= sae_add_u64(last, step, &last);
        wrong |= sae_mul_u64(count, t->shape[i], &count);
    }
    if (wrong || count > (uint64_t)INT64_MAX / sizeof(float))
        return bad(b, "its size, strides and offset overflow 64 bits");
    if (last >= numel)
        return bad(b, "its last element is number %" PRIu64 " of a storage of %" PRIu64, last,
                   numel);
    return SAE_OK;
}

static void set_view(const struct binding *b, uint64_t offset, const uint64_t stride[SAE_MAX_DIMS],
                     uint64_t numel)
{
    const struct sae_tensor *t = b->t;
    struct sae_view v = {
        .name = t->name, .vector = t->ndim == 1, .dtype = t->dtype, .numel = numel};

    if (t->dtype == SAE_DTYPE_OTHER || t->ndim < 1 || t->ndim > 2)
        return;
    v.rows = t->ndim == 2 ? t->shape[0] : 1;
    v.cols = t->shape[t->ndim - 1];
    v.row_stride = t->ndim == 2 ? stride[0] : v.cols;
    v.col_stride = stride[t->ndim - 1];
    v.offset = v.rows && v.cols ? offset : 0; /* an empty tensor reads nothing, from anywhere */
    b->out->view = v;
}

/* ---- the tensor --------------------------------------------------------------------------- */

/* Conjugate and negative views keep bits there; a reader that drops them gives other values. */
static enum sae_status check_metadata(const struct binding *b, const value *v)
{
    char text[200];

    if (v->type == SAE_PK_NONE)
        return SAE_OK;
    if (v->type != SAE_PK_DICT)
        return not_wanted(b, v, "a dict of metadata");
    for (uint32_t i = 0; i + 1 < v->n; i += 2) {
        const value *k = v->u.items[i], *bit = v->u.items[i + 1];

        if (bit->type != SAE_PK_BOOL || bit->u.b)
            return bad(b, "its metadata sets '%.*s' (%s), which is not read",
                       k->type == SAE_PK_STR && k->n < 64 ? (int)k->n : 0,
                       k->type == SAE_PK_STR ? k->u.str : "",
                       sae_pk_describe(bit, text, sizeof text));
    }
    return SAE_OK;
}

/* The row of the rebuild function that v is a call of, its arguments counted. */
static enum sae_status find_rebuild(const struct binding *b, const value *v,
                                    const struct rebuild **out)
{
    const value *args;

    *out = NULL;
    for (size_t i = 0; v->type == SAE_PK_CALL && i < SAE_COUNTOF(rebuilds); i++)
        if (sae_pk_is_global(v->u.call.fn, "torch._utils", rebuilds[i].name))
            *out = &rebuilds[i];
    if (!*out)
        return not_wanted(b, v, "a tensor");
    args = v->u.call.args;
    if (args->n < (*out)->min_args || args->n > (*out)->max_args)
        return bad(b,
                   "%s at offset %" PRIu32 " of data.pkl has %" PRIu32 " arguments, %u to %u "
                   "are wanted",
                   (*out)->name, v->offset, args->n, (*out)->min_args, (*out)->max_args);
    return SAE_OK;
}

static enum sae_status bind_tensor(const struct binding *b, const struct rebuild *how,
                                   const value *args)
{
    value *const *arg = args->u.items;
    unsigned n_stride = 0, metadata = how->has_dtype ? ARG_DTYPE_V3 + 1 : ARG_HOOKS + 1;
    uint64_t offset = 0, numel = 0, stride[SAE_MAX_DIMS] = {0};
    const struct dtype *type = NULL;
    enum sae_status st =
        bind_storage(b, arg[ARG_STORAGE], how->has_dtype ? arg[ARG_DTYPE_V3] : NULL, &type, &numel);

    if (st == SAE_OK)
        st = natural(b, "storage offset", arg[ARG_OFFSET], &offset);
    if (st == SAE_OK)
        st = naturals(b, "size", arg[ARG_SIZE], b->t->shape, &b->t->ndim);
    if (st == SAE_OK)
        st = naturals(b, "stride", arg[ARG_STRIDE], stride, &n_stride);
    if (st != SAE_OK)
        return st;
    if (n_stride != b->t->ndim)
        return bad(b, "its size has %u dimensions and its stride %u", b->t->ndim, n_stride);
    if (arg[ARG_GRAD]->type != SAE_PK_BOOL)
        return not_wanted(b, arg[ARG_GRAD], "requires_grad, a bool,");
    if (arg[ARG_HOOKS]->type != SAE_PK_DICT && arg[ARG_HOOKS]->type != SAE_PK_NONE)
        return not_wanted(b, arg[ARG_HOOKS], "a dict of hooks");
    if (args->n > metadata) {
        st = check_metadata(b, arg[metadata]);
        if (st != SAE_OK)
            return st;
    }
    st = check_bounds(b, offset, stride, numel);
    if (st != SAE_OK)
        return st;
    b->t->dtype = type->dtype;
    snprintf(b->t->dtype_name, sizeof b->t->dtype_name, "%s", type->name);
    set_view(b, offset, stride, numel);
    return SAE_OK;
}

enum sae_status sae_pt_tensor_bind(const struct sae_pt_archive *a, const struct sae_pk_value *v,
                                   struct sae_tensor *t, struct sae_pt_tensor *out,
                                   struct sae_err *err)
{
    const struct binding b = {.archive = a, .t = t, .out = out, .err = err};
    const struct rebuild *how;
    enum sae_status st = find_rebuild(&b, v, &how);

    /* A Parameter holds a tensor, never another Parameter. */
    if (st == SAE_OK && how->wraps) {
        v = v->u.call.args->u.items[0];
        st = find_rebuild(&b, v, &how);
        if (st == SAE_OK && how->wraps)
            st = bad(&b, "it is a parameter of a parameter, a tensor is wanted");
    }
    return st == SAE_OK ? bind_tensor(&b, how, v->u.call.args) : st;
}
