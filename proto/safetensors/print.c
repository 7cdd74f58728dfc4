/* print.c - an answer as safetensors: dense tensors, CSR parts, rectangular tops.
 *
 * First an outline: the parts with their shapes and offsets, then the header's text from it,
 * then one allocation of the exact size. The same answer gives the same bytes: parts stand in the
 * order of the answer's tensors, those of larger items before all others so that each part is
 * aligned to its item when the buffer is. Called by routes on a connection or pool thread; no
 * state. Spec section 3.2. */
#include "proto/wire.h"

#include "lib/dtype.h"
#include "lib/num.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum part_kind {
    PART_SHAPE,
    PART_DENSE,
    PART_INDPTR,
    PART_INDICES,
    PART_VALUES,
    PART_TOP_INDICES,
    PART_TOP_VALUES
};

/* Floats have the answer's dtype in place of F32. */
static const struct part_type {
    const char *suffix;
    enum sae_dtype dtype;
} part_types[] = {
    [PART_SHAPE] = {".shape", SAE_DTYPE_I64},
    [PART_DENSE] = {"", SAE_DTYPE_F32},
    [PART_INDPTR] = {".indptr", SAE_DTYPE_I32},
    [PART_INDICES] = {".indices", SAE_DTYPE_I32},
    [PART_VALUES] = {".values", SAE_DTYPE_F32},
    [PART_TOP_INDICES] = {".top_indices", SAE_DTYPE_I32},
    [PART_TOP_VALUES] = {".top_values", SAE_DTYPE_F32},
};

struct part {
    const struct sae_out_tensor *tensor;
    enum part_kind kind;
    enum sae_dtype dtype;
    struct sae_lead shape;
    uint64_t begin, bytes;
};

/* A sparse tensor has four parts, of which one entry of the header takes at most about 300 bytes.
 */
#define MAX_PARTS (SAE_MAX_OUT * 4)
#define MAX_HEADER 8192

struct outline {
    enum sae_dtype floats; /* of the answer */
    size_t item_bytes;     /* of the parts that are being added */
    struct part parts[MAX_PARTS];
    size_t n;
    uint64_t bytes; /* of the buffer */
    char header[MAX_HEADER];
    size_t header_n; /* padded: the buffer begins at a multiple of 8 */
};

/* ---- the outline ----------------------------------------------------------------------------- */

/* One whose items are of another size has its turn later, or has had it. False: a product passes 64
 * bits. */
static bool add_part(struct outline *o, const struct sae_out_tensor *ts, enum part_kind kind,
                     const struct sae_lead *lead, uint64_t last)
{
    const enum sae_dtype usual = part_types[kind].dtype,
                         dtype = usual == SAE_DTYPE_F32 ? o->floats : usual;
    struct part *part;
    uint64_t items = last;

    if (sae_dtype_bytes(dtype) != o->item_bytes)
        return true;
    part = &o->parts[o->n++];
    *part = (struct part){.tensor = ts, .kind = kind, .dtype = dtype, .begin = o->bytes};
    if (lead)
        part->shape = *lead;
    for (unsigned i = 0; lead && i < lead->n; i++)
        if (lead->dim[i] == 0)
            items = 0;
    for (unsigned i = 0; lead && items && i < lead->n; i++)
        if (sae_mul_u64(items, lead->dim[i], &items))
            return false;
    part->shape.dim[part->shape.n++] = last;
    return !sae_mul_u64(items, o->item_bytes, &part->bytes) &&
           !sae_add_u64(o->bytes, part->bytes, &o->bytes);
}

static bool add_parts(struct outline *o, const struct sae_answer *a,
                      const struct sae_out_tensor *ts)
{
    switch (ts->form) {
    case SAE_FORM_SPARSE:
        return add_part(o, ts, PART_SHAPE, NULL, a->lead.n + 1) &&
               add_part(o, ts, PART_INDPTR, NULL, (uint64_t)a->n_rows + 1) &&
               add_part(o, ts, PART_INDICES, NULL, ts->nnz) &&
               add_part(o, ts, PART_VALUES, NULL, ts->nnz);
    case SAE_FORM_TOP:
        return add_part(o, ts, PART_TOP_INDICES, &a->lead, ts->top_width) &&
               add_part(o, ts, PART_TOP_VALUES, &a->lead, ts->top_width);
    default:
        return add_part(o, ts, PART_DENSE, sae_out_lead(a, ts), ts->width);
    }
}

static void put(struct outline *o, const char *text)
{
    size_t n = strlen(text);

    assert(o->header_n + n <= MAX_HEADER);
    memcpy(o->header + o->header_n, text, n);
    o->header_n += n;
}

/* Not by printf: an outline is made for each bound and once more to print, and formatting its
 * twenty numbers and names took longer than all else that is done to a single row's answer. */
static void put_u64(struct outline *o, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;

    assert(o->header_n + sizeof digits <= MAX_HEADER);
    do
        digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    memcpy(o->header + o->header_n, digits + n, sizeof digits - n);
    o->header_n += sizeof digits - n;
}

static void write_entry(struct outline *o, const struct part *part)
{
    put(o, o->header_n > 1 ? ",\"" : "\"");
    put(o, part->tensor->name);
    put(o, part_types[part->kind].suffix);
    put(o, "\":{\"dtype\":\"");
    put(o, sae_dtype_word(part->dtype, SAE_DTYPE_SAFETENSORS));
    put(o, "\",\"shape\":[");
    for (unsigned k = 0; k < part->shape.n; k++) {
        if (k > 0)
            put(o, ",");
        put_u64(o, part->shape.dim[k]);
    }
    put(o, "],\"data_offsets\":[");
    put_u64(o, part->begin);
    put(o, ",");
    put_u64(o, part->begin + part->bytes);
    put(o, "]}");
}

/* Names are ours: short, and they need no escapes. */
static void write_header(struct outline *o, const struct sae_answer *a)
{
    put(o, "{");
    if (a->f_units) {
        put(o, "\"__metadata__\":{\"f_units\":\"");
        put(o, a->f_units);
        put(o, "\"}");
    }
    for (size_t i = 0; i < o->n; i++)
        write_entry(o, &o->parts[i]);
    put(o, "}");
    while (o->header_n % 8)
        put(o, " ");
}

/* False: the sizes pass 64 bits. */
static bool make_outline(struct outline *o, const struct sae_answer *a)
{
    o->floats = a->dtype;
    o->n = 0;
    o->bytes = 0;
    o->header_n = 0;
    for (o->item_bytes = 8; o->item_bytes >= 2; o->item_bytes /= 2)
        for (unsigned i = 0; i < a->n_tensors; i++)
            if (!add_parts(o, a, &a->tensors[i]))
                return false;
    write_header(o, a);
    return true;
}

static uint64_t outline_bytes(const struct outline *o)
{
    uint64_t n;

    return sae_add_u64(o->bytes, 8 + (uint64_t)o->header_n, &n) ? UINT64_MAX : n;
}

uint64_t sae_safetensors_bound(const struct sae_answer *a)
{
    struct outline o;

    return make_outline(&o, a) ? outline_bytes(&o) : UINT64_MAX;
}

/* ---- the buffer ------------------------------------------------------------------------------ */

/* In memory a number is as on the wire. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors are little-endian");

/* Copy and move on; parts have no alignment to rely on when the header changes. */
static char *copy(char *dst, const void *src, size_t n)
{
    if (n)
        memcpy(dst, src, n);
    return dst + n;
}

static void fill_shape(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts)
{
    dst = copy(dst, a->lead.dim, a->lead.n * sizeof a->lead.dim[0]);
    copy(dst, &ts->width, sizeof ts->width);
}

static void fill_indptr(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts)
{
    uint32_t at = 0;

    dst = copy(dst, &at, sizeof at);
    for (size_t r = 0; r < a->n_rows; r++) {
        at += (uint32_t)ts->rows[r].n;
        dst = copy(dst, &at, sizeof at);
    }
}

static char *convert(char *dst, const float *values, size_t n, enum sae_dtype dtype)
{
    sae_dtype_from_f32(dtype, values, dst, n);
    return dst + n * sae_dtype_bytes(dtype);
}

static void fill_indices(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts)
{
    for (size_t r = 0; r < a->n_rows; r++)
        dst = copy(dst, ts->rows[r].ids, ts->rows[r].n * sizeof *ts->rows[r].ids);
}

static void fill_values(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts)
{
    for (size_t r = 0; r < a->n_rows; r++)
        dst = convert(dst, ts->rows[r].values, ts->rows[r].n, a->dtype);
}

/* Where `id` stands among the candidates (all ids: at itself); n_candidates if nowhere. */
static size_t position_of(const struct sae_out_tensor *ts, uint32_t id)
{
    size_t lo = 0, hi = ts->n_candidates;

    if (!ts->candidates)
        return id;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (ts->candidates[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The lowest candidates that the row has not. The row's n ids can hide at most n of them, so those
 * that are missing to k stand among the first k: `used` has a byte for each of these. */
static char *fill_short_row(char *dst, const struct sae_out_tensor *ts,
                            const struct sae_sparse_row *row, unsigned char *used)
{
    size_t k = (size_t)ts->top_width, missing = k - row->n;

    memset(used, 0, k);
    for (size_t i = 0; i < row->n; i++) {
        size_t at = position_of(ts, row->ids[i]);

        if (at < k)
            used[at] = 1;
    }
    for (size_t at = 0; missing && at < k; at++) {
        uint32_t id = ts->candidates ? ts->candidates[at] : (uint32_t)at;

        if (used[at])
            continue;
        dst = copy(dst, &id, sizeof id);
        missing--;
    }
    return dst;
}

static void fill_top_indices(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts,
                             unsigned char *used)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        const struct sae_sparse_row *row = &ts->rows[r];

        dst = copy(dst, row->ids, row->n * sizeof *row->ids);
        if (row->n < ts->top_width)
            dst = fill_short_row(dst, ts, row, used);
    }
}

static void fill_top_values(char *dst, const struct sae_answer *a, const struct sae_out_tensor *ts)
{
    for (size_t r = 0; r < a->n_rows; r++) {
        const struct sae_sparse_row *row = &ts->rows[r];
        size_t fillers = ((size_t)ts->top_width - row->n) * sae_dtype_bytes(a->dtype);

        dst = convert(dst, row->values, row->n, a->dtype);
        memset(dst, 0, fillers);
        dst += fillers;
    }
}

static void fill_part(char *dst, const struct sae_answer *a, const struct part *part,
                      unsigned char *used)
{
    const struct sae_out_tensor *ts = part->tensor;

    switch (part->kind) {
    case PART_SHAPE:
        fill_shape(dst, a, ts);
        break;
    case PART_DENSE:
        sae_dtype_from_f32(part->dtype, ts->data, dst,
                           (size_t)part->bytes / sae_dtype_bytes(part->dtype));
        break;
    case PART_INDPTR:
        fill_indptr(dst, a, ts);
        break;
    case PART_INDICES:
        fill_indices(dst, a, ts);
        break;
    case PART_VALUES:
        fill_values(dst, a, ts);
        break;
    case PART_TOP_INDICES:
        fill_top_indices(dst, a, ts, used);
        break;
    case PART_TOP_VALUES:
        fill_top_values(dst, a, ts);
        break;
    }
}

/* I32 must hold every index, and indptr every count of entries. What the outline was made from must
 * also be what the rows hold: a slip elsewhere must not write past the buffer. */
static enum sae_status check_sparse(const struct sae_answer *a, const struct sae_out_tensor *ts,
                                    struct sae_err *err)
{
    uint64_t nnz = 0;
    bool fits = true;

    if (ts->nnz > INT32_MAX || ts->width > INT32_MAX)
        return sae_err_set(err, SAE_E_RESPONSE_TOO_LARGE, ts->name,
                           "cannot print %s: I32 cannot number its %" PRIu64 " entries in %" PRIu64
                           " features",
                           ts->name, ts->nnz, ts->width);
    for (size_t r = 0; r < a->n_rows; r++) {
        nnz += ts->rows[r].n;
        fits &= ts->form != SAE_FORM_TOP || ts->rows[r].n <= ts->top_width;
    }
    if (!fits || (ts->form == SAE_FORM_SPARSE && nnz != ts->nnz))
        return sae_err_set(err, SAE_E_INTERNAL, ts->name,
                           "cannot print %s: its rows have %" PRIu64 " entries, %" PRIu64
                           " are announced, at most %" PRIu64 " a row",
                           ts->name, nnz, ts->nnz, ts->top_width);
    return SAE_OK;
}

static uint64_t widest_top(const struct sae_answer *a)
{
    uint64_t k = 0;

    for (unsigned i = 0; i < a->n_tensors; i++)
        if (a->tensors[i].form == SAE_FORM_TOP && a->tensors[i].top_width > k)
            k = a->tensors[i].top_width;
    return k;
}

enum sae_status sae_safetensors_print(struct sae_body *out, const struct sae_answer *a,
                                      size_t max_bytes, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    struct outline o;
    uint64_t bytes, header_n;
    unsigned char *used = NULL;
    char *data = NULL;

    for (unsigned i = 0; i < a->n_tensors; i++)
        if (a->tensors[i].form != SAE_FORM_DENSE &&
            (st = check_sparse(a, &a->tensors[i], err)) != SAE_OK)
            return st;
    bytes = make_outline(&o, a) ? outline_bytes(&o) : UINT64_MAX;
    if (bytes > max_bytes)
        return sae_err_limit(err, SAE_E_RESPONSE_TOO_LARGE, "--max-response-bytes", max_bytes,
                             bytes, "cannot print answer: it has %" PRIu64 " bytes", bytes);
    used = sae_alloc((size_t)widest_top(a), 1);
    data = sae_alloc((size_t)bytes, 1);
    if (!used || !data) {
        st = sae_err_set(err, SAE_E_NOMEM, "",
                         "cannot print answer: no memory for %" PRIu64 " bytes", bytes);
        goto out;
    }
    header_n = o.header_n;
    memcpy(data, &header_n, sizeof header_n);
    memcpy(data + 8, o.header, o.header_n);
    for (size_t i = 0; i < o.n; i++)
        fill_part(data + 8 + o.header_n + o.parts[i].begin, a, &o.parts[i], used);
    *out = (struct sae_body){.data = data, .n = (size_t)bytes};
    data = NULL;
out:
    sae_free(data);
    sae_free(used);
    return st;
}
