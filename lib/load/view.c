/* view.c - strided storage to plain values. See view.h.
 *
 * Four ways, by strides and orientation:
 *   straight    elements lie in dst's order: what stays as it is is read right into dst, the rest
 *               through a buffer
 *   transposed  elements lie in the other order: 16 rows of the storage at a time (so that dst is
 *               written a cache line at a time), turned in 16 x 16 squares
 *   spaced      rows, or columns, one behind the other with gaps (slices): one at a time
 *   gathered    anything else (overlapping): the storage is loaded whole */
#include "lib/load/view.h"
#include "lib/num.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 16 };                                     /* floats in a cache line */
static const size_t buffer_floats = (size_t)256 << 10;  /* 1 MB of f32, 2 MB of f64 */
static const size_t max_strip_floats = (size_t)1 << 20; /* 4 MB of f32 */

/* One read of a view. */
struct job {
    const struct sae_view *v;
    const struct sae_stream *src;
    size_t item; /* bytes of an element */
    enum sae_dtype as;
    size_t out; /* bytes of a value in dst */
    unsigned char *dst;
    uint64_t n; /* elements of the view */
    bool bad;   /* a value that is not finite was met ... */
    uint64_t bad_r, bad_c;
    double bad_value; /* ... the first */
    uint64_t bad_integer;
    unsigned char *raw; /* bytes as stored */
    float *f32;         /* converted, where not in dst at once */
    struct sae_err *err;
};

/* Index of the first of n values that is NaN or infinite, n if there is none. */
static size_t first_bad_f32(const float *p, size_t n)
{
    uint32_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= (sae_f32_bits(p[i]) & 0x7fffffffu) + 0x00800000u; /* bit 31: exponent all ones */
    if (!(any >> 31))
        return n;
    for (size_t i = 0; i < n; i++)
        if ((sae_f32_bits(p[i]) & 0x7f800000u) == 0x7f800000u)
            return i;
    return n;
}

/* The same of 16 bits with this exponent. */
static size_t first_bad_16(const uint16_t *p, size_t n, unsigned exponent)
{
    unsigned any = 0;

    for (size_t i = 0; i < n; i++)
        any |= (p[i] & 0x7fffu) + (0x8000u - exponent); /* bit 15: exponent all ones */
    if (!(any & 0x8000u))
        return n;
    for (size_t i = 0; i < n; i++)
        if ((p[i] & exponent) == exponent)
            return i;
    return n;
}

static size_t first_bad(enum sae_dtype as, const void *p, size_t n)
{
    return as == SAE_DTYPE_F32   ? first_bad_f32(p, n)
           : as == SAE_DTYPE_F16 ? first_bad_16(p, n, 0x7c00)
                                 : first_bad_16(p, n, 0x7f80);
}

/* Value i of those at p, as they are kept. */
static double value_at(const struct job *j, const void *p, size_t i)
{
    float f;

    sae_dtype_to_f32(j->as, (const unsigned char *)p + i * j->out, &f, 1);
    return (double)f;
}

/* Look at n values; the first is element `e` of the view in storage order. */
static void check(struct job *j, const void *p, size_t n, uint64_t e, bool by_rows)
{
    size_t i;

    if (j->bad)
        return;
    i = first_bad(j->as, p, n);
    if (i == n)
        return;
    j->bad = true;
    j->bad_r = by_rows ? (e + i) / j->v->cols : (e + i) % j->v->rows;
    j->bad_c = by_rows ? (e + i) % j->v->cols : (e + i) / j->v->rows;
    j->bad_value =
        j->v->dtype == SAE_DTYPE_F64 ? sae_dtype_f64_at(j->raw + 8 * i) : value_at(j, p, i);
}

static enum sae_status next(struct job *j, void *buf, size_t bytes)
{
    return j->src->next(j->src->ctx, buf, bytes, j->err);
}

/* Read and drop n elements. */
static enum sae_status skip(struct job *j, uint64_t n)
{
    enum sae_status st = SAE_OK;

    while (n > 0 && st == SAE_OK) {
        size_t now = n < buffer_floats ? (size_t)n : buffer_floats;

        st = next(j, j->raw, now * j->item);
        n -= now;
    }
    return st;
}

static enum sae_status straight(struct job *j, bool by_rows)
{
    for (uint64_t at = 0; at < j->n;) {
        size_t now = j->n - at < buffer_floats ? (size_t)(j->n - at) : buffer_floats;
        bool direct = j->v->dtype == j->as;
        unsigned char *to = j->dst + at * j->out;
        enum sae_status st = next(j, direct ? to : j->raw, now * j->item);

        if (st != SAE_OK)
            return st;
        if (!direct)
            sae_dtype_to_f32(j->v->dtype, j->raw, (float *)(void *)to, now);
        check(j, to, now, at, by_rows);
        at += now;
    }
    return SAE_OK;
}

/* src is k x w, row-major, of values of `item` bytes, which the compiler knows;
 * dst[c * ld + r] = src[r * w + c]. k <= LINE. */
static inline __attribute__((always_inline)) void turn_items(const unsigned char *src, size_t k,
                                                             size_t w, unsigned char *dst,
                                                             size_t ld, const size_t item)
{
    size_t c = 0;

    /* Whole cache lines of every row are taken at once: rows of a power of two lie in the same
     * cache set, and a line would not survive until its next float is wanted. */
    for (; k == LINE && c + LINE <= w; c += LINE) {
        unsigned char t[LINE][LINE * sizeof(float)];

        for (size_t r = 0; r < LINE; r++)
            memcpy(t[r], src + (r * w + c) * item, LINE * item);
        for (size_t i = 0; i < LINE; i++)
            for (size_t r = 0; r < LINE; r++)
                memcpy(dst + ((c + i) * ld + r) * item, t[r] + i * item, item);
    }
    for (; c < w; c++)
        for (size_t r = 0; r < k; r++)
            memcpy(dst + (c * ld + r) * item, src + (r * w + c) * item, item);
}

static void turn(const void *src, size_t k, size_t w, void *dst, size_t ld, size_t item)
{
    if (item == sizeof(float))
        turn_items(src, k, w, dst, ld, sizeof(float));
    else
        turn_items(src, k, w, dst, ld, sizeof(uint16_t));
}

/* What is turned at once of a matrix with rows of b: at most LINE rows, and only when a single
 * one would be too much, a part of it. */
struct strip {
    size_t rows, width;
};

static struct strip strip_of(uint64_t b)
{
    struct strip s = {.width = b < max_strip_floats ? (size_t)b : max_strip_floats};

    s.rows = max_strip_floats / s.width < LINE ? max_strip_floats / s.width : LINE;
    return s;
}

/* The storage's run is an a x b matrix, dst is b x a. */
static enum sae_status transposed(struct job *j, uint64_t a, uint64_t b, bool by_rows)
{
    struct strip s = strip_of(b);
    size_t k;

    for (uint64_t r = 0; r < a; r += k) {
        size_t w;

        k = a - r < s.rows ? (size_t)(a - r) : s.rows;
        for (uint64_t c = 0; c < b; c += w) {
            enum sae_status st;

            w = b - c < s.width ? (size_t)(b - c) : s.width; /* less than b only when k is 1 */
            st = next(j, j->raw, k * w * j->item);
            if (st != SAE_OK)
                return st;
            if (j->f32)
                sae_dtype_to_f32(j->v->dtype, j->raw, j->f32, k * w);
            check(j, j->f32 ? (void *)j->f32 : j->raw, k * w, r * b + c, by_rows);
            turn(j->f32 ? (void *)j->f32 : j->raw, k, w, j->dst + (c * a + r) * j->out, (size_t)a,
                 j->out);
        }
    }
    return SAE_OK;
}

/* Element (r, c), which is stored at p. */
static void place(struct job *j, uint64_t r, uint64_t c, const unsigned char *p, bool transpose)
{
    const struct sae_view *v = j->v;
    unsigned char *d = j->dst + (transpose ? c * v->rows + r : r * v->cols + c) * j->out;

    if (v->dtype == j->as)
        memcpy(d, p, j->out);
    else
        sae_dtype_to_f32(v->dtype, p, (float *)(void *)d, 1);
    if (!j->bad && first_bad(j->as, d, 1) == 0) {
        j->bad = true;
        j->bad_r = r;
        j->bad_c = c;
        j->bad_value = v->dtype == SAE_DTYPE_F64 ? sae_dtype_f64_at(p) : value_at(j, d, 0);
    }
}

/* Element by element from the whole storage in j->raw. */
static void gather(struct job *j, bool transpose)
{
    const struct sae_view *v = j->v;

    for (uint64_t r = 0; r < v->rows; r++)
        for (uint64_t c = 0; c < v->cols; c++)
            place(j, r, c, j->raw + (v->offset + r * v->row_stride + c * v->col_stride) * j->item,
                  transpose);
}

static enum sae_status report(const struct job *j)
{
    const char *why = j->bad_value - j->bad_value == 0.0 ? ", which float32 cannot hold"
                                                         : ", a finite number is wanted";
    char at[48];

    if (!j->bad)
        return SAE_OK;
    if (j->v->vector)
        snprintf(at, sizeof at, "[%llu]", (unsigned long long)j->bad_c);
    else
        snprintf(at, sizeof at, "[%llu, %llu]", (unsigned long long)j->bad_r,
                 (unsigned long long)j->bad_c);
    return sae_err_set(j->err, SAE_E_WEIGHTS, j->v->name,
                       "cannot use tensor %s: its value at %s is %g%s", j->v->name, at,
                       j->bad_value, why);
}

static enum sae_status allocate(struct job *j, uint64_t raw_bytes, size_t n_f32)
{
    j->raw = sae_alloc((size_t)raw_bytes, 1);
    j->f32 = n_f32 ? sae_alloc(n_f32, sizeof *j->f32) : NULL;
    if (!j->raw || (n_f32 && !j->f32))
        return sae_err_set(j->err, SAE_E_NOMEM, j->v->name,
                           "cannot allocate buffers to read tensor %s: %llu bytes", j->v->name,
                           (unsigned long long)(raw_bytes + n_f32 * sizeof *j->f32));
    return SAE_OK;
}

/* The view is one run of n elements from `offset`: a x b in storage order. */
static enum sae_status read_run(struct job *j, bool by_rows, bool transpose)
{
    const struct sae_view *v = j->v;
    uint64_t a = by_rows ? v->rows : v->cols, b = by_rows ? v->cols : v->rows;
    bool flip = by_rows == transpose && a > 1 && b > 1;
    size_t strip = flip ? strip_of(b).rows * strip_of(b).width : 0;
    size_t most = strip > buffer_floats ? strip : buffer_floats;
    size_t raw = v->numel < most ? (size_t)v->numel : most;
    enum sae_status st = allocate(j, raw * j->item, v->dtype == j->as ? 0 : strip);

    if (st == SAE_OK)
        st = skip(j, v->offset);
    if (st == SAE_OK)
        st = flip ? transposed(j, a, b, by_rows) : straight(j, by_rows);
    if (st == SAE_OK)
        st = skip(j, v->numel - v->offset - j->n);
    return st;
}

/* Does each of the n runs, of `count` elements, end before the next begins? */
static bool are_apart(uint64_t stride, uint64_t count, uint64_t step)
{
    return step > 0 && stride > (count - 1) * step;
}

/* Rows (or columns) in the order of the storage, and what is between them. */
static enum sae_status read_spaced(struct job *j, bool by_rows, bool transpose)
{
    const struct sae_view *v = j->v;
    uint64_t n = by_rows ? v->rows : v->cols, count = by_rows ? v->cols : v->rows;
    uint64_t stride = by_rows ? v->row_stride : v->col_stride;
    uint64_t step = by_rows ? v->col_stride : v->row_stride, span = (count - 1) * step + 1;
    uint64_t raw = span > buffer_floats ? span : buffer_floats, at = 0;
    enum sae_status st = allocate(j, (raw < v->numel ? raw : v->numel) * j->item, 0);

    for (uint64_t i = 0; st == SAE_OK && i < n; i++) {
        st = skip(j, v->offset + i * stride - at);
        if (st == SAE_OK)
            st = next(j, j->raw, (size_t)(span * j->item));
        at = v->offset + i * stride + span;
        for (uint64_t k = 0; st == SAE_OK && k < count; k++)
            place(j, by_rows ? i : k, by_rows ? k : i, j->raw + k * step * j->item, transpose);
    }
    return st == SAE_OK ? skip(j, v->numel - at) : st;
}

static enum sae_status read_gathered(struct job *j, bool transpose)
{
    enum sae_status st = allocate(j, j->v->numel * j->item, 0);

    if (st == SAE_OK)
        st = next(j, j->raw, (size_t)(j->v->numel * j->item));
    if (st == SAE_OK)
        gather(j, transpose);
    return st;
}

/* What is behind the last element: a checksum is over it too. */
static enum sae_status pass_tail(struct job *j)
{
    unsigned char tail[16];

    return j->v->tail_bytes ? next(j, tail, j->v->tail_bytes) : SAE_OK;
}

enum sae_status sae_view_read(const struct sae_view *v, const struct sae_stream *src,
                              enum sae_dtype as, void *dst, bool transpose, struct sae_err *err)
{
    struct job j = {.v = v,
                    .src = src,
                    .item = sae_dtype_bytes(v->dtype),
                    .as = as,
                    .out = sae_dtype_bytes(as),
                    .dst = dst,
                    .err = err};
    /* The stride of a dimension of one element says nothing. */
    bool flat_r = v->rows == 1, flat_c = v->cols == 1;
    bool by_rows = (flat_c || v->col_stride == 1) && (flat_r || v->row_stride == v->cols);
    bool by_cols = (flat_r || v->row_stride == 1) && (flat_c || v->col_stride == v->rows);
    enum sae_status st;

    assert(as == SAE_DTYPE_F32 || as == v->dtype);
    j.n = v->rows * v->cols;
    if (by_rows || by_cols || j.n == 0)
        st = read_run(&j, by_rows, transpose);
    else if (are_apart(v->row_stride, v->cols, v->col_stride))
        st = read_spaced(&j, true, transpose);
    else if (are_apart(v->col_stride, v->rows, v->row_stride))
        st = read_spaced(&j, false, transpose);
    else
        st = read_gathered(&j, transpose);
    if (st == SAE_OK)
        st = pass_tail(&j);
    if (st == SAE_OK)
        st = report(&j);
    sae_free(j.f32);
    sae_free(j.raw);
    return st;
}

/* One after the other: there are few of them. */
static enum sae_status read_integers(struct job *j, int64_t *dst)
{
    const struct sae_view *v = j->v;
    unsigned char item[8];
    uint64_t at = 0;
    enum sae_status st = SAE_OK;

    for (uint64_t i = 0; i < j->n; i++) {
        uint64_t to = v->offset + i * v->col_stride;

        if (to >= at) { /* else it is the one just read: a stride of 0 */
            st = skip(j, to - at);
            if (st == SAE_OK)
                st = next(j, item, j->item);
            if (st != SAE_OK)
                return st;
            at = to + 1;
        }
        if (!sae_dtype_to_i64(v->dtype, item, &dst[i]) && !j->bad) {
            j->bad = true;
            j->bad_c = i;
            j->bad_integer = (uint64_t)dst[i];
        }
    }
    return skip(j, v->numel - at);
}

enum sae_status sae_view_integers(const struct sae_view *v, const struct sae_stream *src,
                                  int64_t *dst, struct sae_err *err)
{
    struct job j = {.v = v, .src = src, .item = sae_dtype_bytes(v->dtype), .err = err};
    enum sae_status st;

    j.n = v->rows * v->cols;
    st = allocate(&j, (v->numel < buffer_floats ? v->numel : buffer_floats) * j.item, 0);
    if (st == SAE_OK)
        st = read_integers(&j, dst);
    if (st == SAE_OK)
        st = pass_tail(&j);
    if (st == SAE_OK && j.bad)
        st = sae_err_set(err, SAE_E_WEIGHTS, v->name,
                         "cannot read tensor %s: its value at [%llu] is %llu, at most %lld is "
                         "wanted",
                         v->name, (unsigned long long)j.bad_c, (unsigned long long)j.bad_integer,
                         (long long)INT64_MAX);
    sae_free(j.raw);
    return st;
}
