/* pt_tensor.c - see pt_tensor.h.
 *
 * The allow-list of a state dict is the table of rebuild functions below (torch/_utils.py, PyTorch
 * 1.6 to 2.9) and that of storage classes and dtypes in pt_storage.c. */
#include "lib/load/pt_tensor.h"
#include "lib/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- tables ------------------------------------------------------------------------------- */

/* Functions of torch._utils whose call is a tensor. The first one's arguments are (storage, offset,
 * size, stride), v2's have (requires_grad, hooks[, metadata]) behind them; v3 has the dtype before
 * the metadata; parameters wrap a tensor, their first argument. */
static const struct rebuild {
    const char *name;
    bool wraps, has_dtype;
    unsigned min_args, max_args;
} rebuilds[] = {
    {"_rebuild_tensor", false, false, 4, 4},
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
static enum sae_status not_wanted(const struct binding *b, const struct sae_pk_value *v,
                                  const char *wanted)
{
    const struct sae_pk_value *g =
        v->type == SAE_PK_CALL || v->type == SAE_PK_OBJECT ? v->u.call.fn : v;
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

/* ---- numbers ------------------------------------------------------------------------------ */

static enum sae_status natural(const struct binding *b, const char *what,
                               const struct sae_pk_value *v, uint64_t *out)
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

static enum sae_status naturals(const struct binding *b, const char *what,
                                const struct sae_pk_value *v, uint64_t out[SAE_MAX_DIMS],
                                unsigned *n)
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

/* The storage `v`, the dtype of its elements and how many of them it has. A v3 tensor names its
 * dtype, and its storage may be bytes; for the others `name` is NULL. */
static enum sae_status bind_storage(const struct binding *b, const struct sae_pk_value *v,
                                    const struct sae_pk_value *name,
                                    const struct sae_dtype_row **type, uint64_t *numel)
{
    struct sae_pt_storage s;
    char who[SAE_TENSOR_NAME_MAX + 16];
    enum sae_status st;

    if (v->type != SAE_PK_PERSID)
        return not_wanted(b, v, "a storage");
    snprintf(who, sizeof who, "tensor %s", b->t->name);
    st = sae_pt_storage_parse(b->archive, v, b->t->name, who, &s, b->err);
    if (st != SAE_OK)
        return st;
    if (!s.type && !(s.untyped && name))
        return not_wanted(b, s.cls, "the class of a storage");
    *type = name ? sae_pt_dtype_by_name(name) : s.type;
    if (!*type)
        return not_wanted(b, name, "a dtype");
    b->out->entry = s.entry;
    *numel = s.entry->bytes / ((*type)->bits / 8);
    return SAE_OK;
}

/* ---- shape -------------------------------------------------------------------------------- */

/* All elements lie in the storage, and there are no more of them than it has: a tensor that repeats
 * them (stride 0, overlapping rows) could be of any size, whatever the file's. */
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
    if (wrong)
        return bad(b, "its size, strides and offset overflow 64 bits");
    if (last >= numel)
        return bad(b, "its last element is number %" PRIu64 " of a storage of %" PRIu64, last,
                   numel);
    if (count > numel)
        return bad(b,
                   "it has %" PRIu64 " values and its storage %" PRIu64
                   ": an expanded tensor, to be saved as tensor.contiguous()",
                   count, numel);
    return SAE_OK;
}

static void set_view(const struct binding *b, uint64_t offset, const uint64_t stride[SAE_MAX_DIMS],
                     uint64_t numel)
{
    const struct sae_tensor *t = b->t;
    struct sae_view v = {.name = t->name, .vector = t->ndim < 2, .dtype = t->dtype, .numel = numel};

    if (t->dtype == SAE_DTYPE_OTHER || t->ndim > 2)
        return;
    v.rows = t->ndim == 2 ? t->shape[0] : 1;
    v.cols = t->ndim ? t->shape[t->ndim - 1] : 1;
    v.row_stride = t->ndim == 2 ? stride[0] : v.cols;
    v.col_stride = t->ndim ? stride[t->ndim - 1] : 1;
    /* Bytes of an untyped storage that make no whole element. */
    v.tail_bytes = (unsigned)(b->out->entry->bytes % sae_dtype_bytes(t->dtype));
    v.offset = v.rows && v.cols ? offset : 0; /* an empty tensor reads nothing, from anywhere */
    b->out->view = v;
}

bool sae_pt_makes_tensor(const struct sae_pk_value *v)
{
    const struct sae_pk_value *fn =
        v->type == SAE_PK_CALL || v->type == SAE_PK_OBJECT ? v->u.call.fn : v;

    if (fn == v || fn->type != SAE_PK_GLOBAL)
        return false;
    return (fn->n == strlen("torch._utils") &&
            memcmp(fn->u.global.module, "torch._utils", fn->n) == 0) ||
           sae_pk_is_global(fn, "torch.nn.parameter", "Parameter") ||
           sae_pk_is_global(fn, "torch.nn", "Parameter") ||
           sae_pk_is_global(fn, "torch._tensor", "Tensor") ||
           sae_pk_is_global(fn, "torch", "Tensor");
}

/* ---- the tensor --------------------------------------------------------------------------- */

/* Conjugate and negative views keep bits there; a reader that drops them gives other values. */
static enum sae_status check_metadata(const struct binding *b, const struct sae_pk_value *v)
{
    char text[200];

    if (v->type == SAE_PK_NONE)
        return SAE_OK;
    if (v->type != SAE_PK_DICT)
        return not_wanted(b, v, "a dict of metadata");
    for (uint32_t i = 0; i + 1 < v->n; i += 2) {
        const struct sae_pk_value *k = v->u.items[i], *bit = v->u.items[i + 1];

        if ((!sae_pk_is_str(k, "conj") && !sae_pk_is_str(k, "neg")) || bit->type != SAE_PK_BOOL ||
            bit->u.b)
            return bad(b, "its metadata sets '%.*s' (%s), which is not read",
                       k->type == SAE_PK_STR && k->n < 64 ? (int)k->n : 0,
                       k->type == SAE_PK_STR ? k->u.str : "",
                       sae_pk_describe(bit, text, sizeof text));
    }
    return SAE_OK;
}

/* The row of the rebuild function that v is a call of, its arguments counted. */
static enum sae_status find_rebuild(const struct binding *b, const struct sae_pk_value *v,
                                    const struct rebuild **out)
{
    const struct sae_pk_value *args;

    *out = NULL;
    for (size_t i = 0; v->type == SAE_PK_CALL && i < SAE_COUNTOF(rebuilds); i++)
        if (sae_pk_is_global(v->u.call.fn, "torch._utils", rebuilds[i].name))
            *out = &rebuilds[i];
    if (!*out)
        return not_wanted(b, v, "a tensor");
    if (v->u.call.touched)
        return bad(b, "%s at offset %" PRIu32 " of data.pkl changes it, so it is no tensor",
                   v->u.call.touched, v->n);
    args = v->u.call.args;
    if (args->n < (*out)->min_args || args->n > (*out)->max_args)
        return bad(b,
                   "%s at offset %" PRIu32 " of data.pkl has %" PRIu32 " arguments, %u to %u "
                   "are wanted",
                   (*out)->name, v->offset, args->n, (*out)->min_args, (*out)->max_args);
    return SAE_OK;
}

static enum sae_status check_grad_and_hooks(const struct binding *b,
                                            const struct sae_pk_value *grad,
                                            const struct sae_pk_value *hooks)
{
    if (grad->type != SAE_PK_BOOL)
        return not_wanted(b, grad, "requires_grad, a bool,");
    if (hooks->type != SAE_PK_DICT && hooks->type != SAE_PK_NONE)
        return not_wanted(b, hooks, "a dict of hooks");
    if (hooks->n > 0)
        return bad(b, "it has hooks, which are functions and no part of a state dict");
    return SAE_OK;
}

/* A parameter's attributes, which torch sets one by one: `data` with a tensor would be its values.
 */
static enum sae_status check_attributes(const struct binding *b, const struct sae_pk_value *v)
{
    if (v->type != SAE_PK_DICT)
        return not_wanted(b, v, "a dict of attributes");
    for (uint32_t i = 0; i + 1 < v->n; i += 2)
        if (v->u.items[i]->type != SAE_PK_STR || v->u.items[i + 1]->type > SAE_PK_STR)
            return not_wanted(b, v->u.items[i + 1], "a plain value of an attribute");
    return SAE_OK;
}

static enum sae_status check_parameter(const struct binding *b, const struct sae_pk_value *args)
{
    enum sae_status st = check_grad_and_hooks(b, args->u.items[1], args->u.items[2]);

    return st == SAE_OK && args->n > 3 ? check_attributes(b, args->u.items[3]) : st;
}

static enum sae_status bind_tensor(const struct binding *b, const struct rebuild *how,
                                   const struct sae_pk_value *args)
{
    struct sae_pk_value *const *arg = args->u.items;
    unsigned n_stride = 0, metadata = how->has_dtype ? ARG_DTYPE_V3 + 1 : ARG_HOOKS + 1;
    uint64_t offset = 0, numel = 0, stride[SAE_MAX_DIMS] = {0};
    const struct sae_dtype_row *type = NULL;
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
    if (args->n > ARG_HOOKS)
        st = check_grad_and_hooks(b, arg[ARG_GRAD], arg[ARG_HOOKS]);
    if (st == SAE_OK && args->n > metadata)
        st = check_metadata(b, arg[metadata]);
    if (st == SAE_OK)
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
        st = check_parameter(&b, v->u.call.args);
        v = v->u.call.args->u.items[0];
        if (st == SAE_OK)
            st = find_rebuild(&b, v, &how);
        if (st == SAE_OK && how->wraps)
            st = bad(&b, "it is a parameter of a parameter, a tensor is wanted");
    }
    return st == SAE_OK ? bind_tensor(&b, how, v->u.call.args) : st;
}

void sae_pt_tensor_origin(const struct sae_pt_archive *a, const struct sae_pt_tensor *t,
                          struct sae_origin *out)
{
    *out = (struct sae_origin){.view = t->view, .zip = a->zip, .entry = t->entry};
}

/* ---- what was touched --------------------------------------------------------------------- */

enum sae_status sae_pt_check_untouched(const struct sae_pickle *p, struct sae_err *err)
{
    struct sae_pk_list touched = sae_pickle_touched(p);

    for (size_t i = 0; i < touched.n; i++) {
        const struct sae_pk_value *v = touched.v[i];
        char where[48], what[200];

        if (!sae_pt_makes_tensor(v))
            continue;
        snprintf(where, sizeof where, "data.pkl:%" PRIu32, v->n);
        return sae_err_set(err, SAE_E_FORMAT, where,
                           "cannot read .pt file: %s at offset %" PRIu32
                           " of data.pkl changes %s, made at offset %" PRIu32
                           ", and with it what shares its storage",
                           v->u.call.touched, v->n, sae_pk_describe(v, what, sizeof what),
                           v->offset);
    }
    return SAE_OK;
}
