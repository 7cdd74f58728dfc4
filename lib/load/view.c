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

/* How the elements of a view lie: in lines, each of which ends before the next begins. */
struct lie {
    bool is_run, by_rows; /* without gaps; the lines are rows */
    uint64_t n, count;    /* lines, and elements of one. n is 1: anyhow, it is gathered, or a run */
    uint64_t stride, step; /* from one line to the next, and from element to element of one */
};

/* One read of a view, or of some lines of it. */
struct job {
    const struct sae_view *v;
    struct lie lie;
    uint64_t from, to; /* lines */
    const struct sae_stream *src;
    size_t item; /* bytes of an element */
    enum sae_dtype as;
    size_t out; /* bytes of a value in dst */
    unsigned char *dst;
    bool bad; /* a value that is not finite was met ... */
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

static enum sae_status straight(struct job *j)
{
    const uint64_t end = j->to * j->lie.count;

    for (uint64_t at = j->from * j->lie.count; at < end;) {
        size_t now = end - at < buffer_floats ? (size_t)(end - at) : buffer_floats;
        bool direct = j->v->dtype == j->as;
        unsigned char *to = j->dst + at * j->out;
        enum sae_status st = next(j, direct ? to : j->raw, now * j->item);

        if (st != SAE_OK)
            return st;
        if (!direct)
            sae_dtype_to_f32(j->v->dtype, j->raw, (float *)(void *)to, now);
        check(j, to, now, at, j->lie.by_rows);
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
static enum sae_status transposed(struct job *j)
{
    const uint64_t a = j->lie.n, b = j->lie.count;
    struct strip s = strip_of(b);
    size_t k;

    for (uint64_t r = j->from; r < j->to; r += k) {
        size_t w;

        k = j->to - r < s.rows ? (size_t)(j->to - r) : s.rows;
        for (uint64_t c = 0; c < b; c += w) {
            enum sae_status st;

            w = b - c < s.width ? (size_t)(b - c) : s.width; /* less than b only when k is 1 */
            st = next(j, j->raw, k * w * j->item);
            if (st != SAE_OK)
                return st;
            if (j->f32)
                sae_dtype_to_f32(j->v->dtype, j->raw, j->f32, k * w);
            check(j, j->f32 ? (void *)j->f32 : j->raw, k * w, r * b + c, j->lie.by_rows);
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

/* Does each of the n runs, of `count` elements, end before the next begins? */
static bool are_apart(uint64_t stride, uint64_t count, uint64_t step)
{
    return step > 0 && stride > (count - 1) * step;
}

static struct lie lie_of(const struct sae_view *v)
{
    const struct lie rows = {.by_rows = true,
                             .n = v->rows,
                             .count = v->cols,
                             .stride = v->row_stride,
                             .step = v->col_stride};
    const struct lie cols = {
        .n = v->cols, .count = v->rows, .stride = v->col_stride, .step = v->row_stride};
    /* The stride of a dimension of one element says nothing. */
    bool flat_r = v->rows == 1, flat_c = v->cols == 1;
    bool by_rows = (flat_c || v->col_stride == 1) && (flat_r || v->row_stride == v->cols);
    bool by_cols = (flat_r || v->row_stride == 1) && (flat_c || v->col_stride == v->rows);

    if (by_rows || by_cols || v->rows == 0 || v->cols == 0) {
        struct lie run = by_rows ? rows : cols;

        run.is_run = true;
        run.stride = run.count;
        run.step = 1;
        return run;
    }
    if (are_apart(v->row_stride, v->cols, v->col_stride))
        return rows;
    if (are_apart(v->col_stride, v->rows, v->row_stride))
        return cols;
    return (struct lie){.n = 1};
}

uint64_t sae_view_lines(const struct sae_view *v)
{
    return lie_of(v).n;
}

static uint64_t line_at(const struct job *j, uint64_t line)
{
    return line == j->lie.n ? j->v->numel : line ? j->v->offset + line * j->lie.stride : 0;
}

uint64_t sae_view_line_at(const struct sae_view *v, uint64_t line)
{
    const struct job j = {.v = v, .lie = lie_of(v)};

    return line == 0 ? 0 : line_at(&j, line);
}

/* ---- buffers ------------------------------------------------------------------------------ */

struct room {
    uint64_t raw;   /* elements as stored */
    size_t n_f32;   /* converted */
    bool is_turned; /* dst has the lines the other way round */
};

static struct room room_of(const struct job *j, bool transpose)
{
    const struct lie *l = &j->lie;
    struct room m = {.raw = j->v->numel};
    uint64_t most = buffer_floats;

    if (l->is_run) {
        m.is_turned = l->by_rows == transpose && l->n > 1 && l->count > 1;
        if (m.is_turned) {
            struct strip strip = strip_of(l->count);
            size_t floats = strip.rows * strip.width;

            most = floats > most ? floats : most;
            m.n_f32 = j->v->dtype == j->as ? 0 : floats;
        }
    } else if (l->count > 0) {
        uint64_t span = (l->count - 1) * l->step + 1;

        most = span > most ? span : most;
    } else {
        return m; /* gathered: all of it */
    }
    m.raw = m.raw < most ? m.raw : most;
    return m;
}

uint64_t sae_view_buffer_bytes(const struct sae_view *v, enum sae_dtype as, bool transpose)
{
    const struct job j = {.v = v, .lie = lie_of(v), .as = as};
    const struct room m = room_of(&j, transpose);

    return m.raw * sae_dtype_bytes(v->dtype) + m.n_f32 * sizeof(float);
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

/* ---- the ways ----------------------------------------------------------------------------- */

/* The view is one run from `offset`: n x count in storage order. */
static enum sae_status read_run(struct job *j, bool is_turned)
{
    const struct lie *l = &j->lie;
    uint64_t end = j->v->offset + j->to * l->count;
    enum sae_status st = j->from == 0 ? skip(j, j->v->offset) : SAE_OK;

    if (st == SAE_OK)
        st = is_turned ? transposed(j) : straight(j);
    return st == SAE_OK && j->to == l->n ? skip(j, j->v->numel - end) : st;
}

/* Rows (or columns) in the order of the storage, and what is between them. */
static enum sae_status read_spaced(struct job *j, bool transpose)
{
    const struct lie *l = &j->lie;
    uint64_t span = (l->count - 1) * l->step + 1, at = line_at(j, j->from);
    enum sae_status st = SAE_OK;

    for (uint64_t i = j->from; st == SAE_OK && i < j->to; i++) {
        st = skip(j, j->v->offset + i * l->stride - at);
        if (st == SAE_OK)
            st = next(j, j->raw, (size_t)(span * j->item));
        at = j->v->offset + i * l->stride + span;
        for (uint64_t k = 0; st == SAE_OK && k < l->count; k++)
            place(j, l->by_rows ? i : k, l->by_rows ? k : i, j->raw + k * l->step * j->item,
                  transpose);
    }
    return st == SAE_OK ? skip(j, line_at(j, j->to) - at) : st;
}

static enum sae_status read_gathered(struct job *j, bool transpose)
{
    enum sae_status st = next(j, j->raw, (size_t)(j->v->numel * j->item));

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

static enum sae_status read_lines(struct job *j, bool transpose)
{
    const struct room m = room_of(j, transpose);
    enum sae_status st = allocate(j, m.raw * j->item, m.n_f32);

    if (st != SAE_OK)
        return st;
    st = j->lie.is_run      ? read_run(j, m.is_turned)
         : j->lie.count > 0 ? read_spaced(j, transpose)
                            : read_gathered(j, transpose);
    if (st == SAE_OK && j->to == j->lie.n)
        st = pass_tail(j);
    return st == SAE_OK ? report(j) : st;
}

enum sae_status sae_view_read_part(const struct sae_view *v, uint64_t from, uint64_t to,
                                   const struct sae_stream *src, enum sae_dtype as, void *dst,
                                   bool transpose, struct sae_err *err)
{
    struct job j = {.v = v,
                    .lie = lie_of(v),
                    .from = from,
                    .to = to,
                    .src = src,
                    .item = sae_dtype_bytes(v->dtype),
                    .as = as,
                    .out = sae_dtype_bytes(as),
                    .dst = dst,
                    .err = err};
    enum sae_status st;

    assert(as == SAE_DTYPE_F32 || as == v->dtype);
    assert(from <= to && to <= j.lie.n);
    st = read_lines(&j, transpose);
    sae_free(j.f32);
    sae_free(j.raw);
    return st;
}

enum sae_status sae_view_read(const struct sae_view *v, const struct sae_stream *src,
                              enum sae_dtype as, void *dst, bool transpose, struct sae_err *err)
{
    return sae_view_read_part(v, 0, sae_view_lines(v), src, as, dst, transpose, err);
}

/* One after the other: there are few of them. */
static enum sae_status read_integers(struct job *j, int64_t *dst)
{
    const struct sae_view *v = j->v;
    const uint64_t n = v->rows * v->cols;
    unsigned char item[8];
    uint64_t at = 0;
    enum sae_status st = SAE_OK;

    for (uint64_t i = 0; i < n; i++) {
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
