/* plane.c - quantising of encoders and rows; the bound is derived in native/plane.h. */
#include "lib/engine/native/plane.h"

#include <math.h>
#include <string.h>

#define U 0x1p-24
/* Norms are summed in double; this covers their own rounding for any d below 2^20. */
#define NORM_SLACK (1 + 1e-11)
/* |Q v - computed Q v| <= this |v|: 10 butterfly levels and a sign in double. */
#define ROTATE_SLACK 1e-13
/* Outliers: split the largest dimension off while it exceeds this many rms of the rest. */
#define OUTLIER_RMS 6.0
/* int32 sums: 255 * 127 * d must stay below 2^31. */
#define MAX_WIDTH 65536

/* f32 not below (not above) a double. */
static float round_up(double v)
{
    float f = (float)v;

    return (double)f < v ? nextafterf(f, INFINITY) : f;
}

static float round_down(double v)
{
    float f = (float)v;

    return (double)f > v ? nextafterf(f, -INFINITY) : f;
}

/* g of the bound: relative error of the canonical dot product. */
static double gamma_n(size_t d)
{
    double n = (double)(d / 16 + 5) + 1;

    return n * U / (1 - n * U);
}

/* Feature j of the plane. v: scratch of dq doubles, q of dq bytes. Scales below s_floor are raised
 * to it: nearly zero rows then quantise to zero and live on their norm alone. */
static void plane_feature(struct sae_plane *p, size_t j, double theta, double s_floor, double *v,
                          int8_t *q)
{
    const float *w = p->w + j * p->d;
    const double g = gamma_n(p->d);
    uint8_t *to = p->q + j / SAE_SCREEN_PANEL * p->dq * SAE_SCREEN_PANEL + j % SAE_SCREEN_PANEL * 4;
    double n2, err2, norm, e, tau, m;
    int64_t q2, sum;
    float s;

    p->quant->widen(w, p->d, v, &n2);
    m = p->quant->rotate(v, p->dq) / 127;
    s = (float)(m > s_floor ? m : s_floor);
    p->quant->round(v, p->dq, (double)s, 127, q, &err2, &q2, &sum);
    for (size_t k = 0; k < p->dq; k++)
        to[k / 4 * 4 * SAE_SCREEN_PANEL + k % 4] = (uint8_t)(q[k] + 128);
    norm = sqrt(n2) * NORM_SLACK;
    e = (sqrt(err2) * NORM_SLACK + ROTATE_SLACK * norm) / (double)s;
    tau = theta / (double)s;
    p->s[j] = s;
    p->a[j] = round_up((1 + g + 16 * U) * NORM_SLACK * norm / (double)s);
    p->b[j] = round_up(NORM_SLACK *
                       ((1 + 16 * U) * e + g * norm / (double)s + 16 * U * sqrt((double)q2)));
    p->t[j] = round_down(tau - 16 * U * fabs(tau));
    if (norm > p->max_norm)
        p->max_norm = norm;
    if (s < p->min_s)
        p->min_s = s;
}

enum sae_status sae_plane_create(struct sae_plane **out, const float *w, size_t F, size_t d,
                                 const double *theta, int xmax, const struct sae_quant *quant,
                                 struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    struct sae_plane *p = NULL;
    double *v = NULL, largest = 0;
    int8_t *q = NULL;
    size_t dq = (d + 15) & ~(size_t)15,
           Fp = (F + SAE_SCREEN_PANEL - 1) / SAE_SCREEN_PANEL * SAE_SCREEN_PANEL;

    *out = NULL;
    if (dq > MAX_WIDTH)
        return SAE_OK;
    for (size_t i = 0; i < F * d; i++)
        largest = fabs((double)w[i]) > largest ? fabs((double)w[i]) : largest;
    if (!(largest > 1e-30 && largest < 1e30))
        return SAE_OK;
    p = sae_calloc(1, sizeof *p);
    v = sae_alloc(dq, sizeof *v);
    q = sae_alloc(dq, 1);
    if (p) {
        *p = (struct sae_plane){.d = d,
                                .F = F,
                                .dq = dq,
                                .Fp = Fp,
                                .xmax = xmax,
                                .quant = quant,
                                .w = w,
                                .min_s = INFINITY};
        pthread_mutex_init(&p->lock, NULL);
        p->q = sae_huge_alloc(Fp, dq);
        p->a = sae_calloc(Fp, sizeof *p->a);
        p->b = sae_calloc(Fp, sizeof *p->b);
        p->t = sae_calloc(Fp, sizeof *p->t);
        p->s = sae_calloc(Fp, sizeof *p->s);
        p->columns = sae_calloc(d, sizeof *p->columns);
    }
    if (!p || !v || !q || !p->q || !p->a || !p->b || !p->t || !p->s || !p->columns) {
        st = sae_err_set(err, SAE_E_NOMEM, "", "cannot quantise the encoder: %zu bytes", Fp * dq);
        goto out;
    }
    for (size_t j = 0; j < F; j++)
        plane_feature(p, j, theta[j], largest * 0x1p-30, v, q);
    for (size_t j = F; j < Fp; j++) { /* q stays 0, whatever that means: a = b = 0, never reached */
        p->t[j] = INFINITY;
        p->s[j] = 1;
    }
    *out = p;
    p = NULL;
out:
    sae_free(q);
    sae_free(v);
    sae_plane_free(p);
    return st;
}

void sae_plane_free(struct sae_plane *p)
{
    if (!p)
        return;
    if (p->columns)
        for (size_t k = 0; k < p->d; k++)
            sae_free(p->columns[k]);
    sae_free(p->columns);
    sae_free(p->s);
    sae_free(p->t);
    sae_free(p->b);
    sae_free(p->a);
    sae_huge_free(p->q, p->Fp, p->dq);
    pthread_mutex_destroy(&p->lock);
    sae_free(p);
}

/* The encoder's column k in units of s_j, made on first use and kept. NULL: no room for one more.
 */
static const float *column(struct sae_plane *p, size_t k)
{
    float *c = atomic_load_explicit(&p->columns[k], memory_order_acquire);

    if (c)
        return c;
    pthread_mutex_lock(&p->lock);
    c = atomic_load_explicit(&p->columns[k], memory_order_relaxed);
    if (!c && p->n_columns < SAE_PLANE_COLUMNS && (c = sae_alloc(p->Fp, sizeof *c))) {
        for (size_t j = 0; j < p->Fp; j++)
            c[j] = j < p->F ? p->w[j * p->d + k] / p->s[j] : 0.0f;
        p->n_columns++;
        atomic_store_explicit(&p->columns[k], c, memory_order_release);
    }
    pthread_mutex_unlock(&p->lock);
    return c;
}

size_t sae_plane_row_scratch(const struct sae_plane *p)
{
    return p->dq;
}

/* Split outliers of v off into row (x_o not yet scaled). *n2, *m: squared norm and largest
 * magnitude of v, then of the rest; *out2: squared norm of what was split. False: a column could
 * not be had. */
static bool split_outliers(struct sae_plane *p, double *v, struct sae_screen_row *row, double *n2,
                           double m, double *out2)
{
    *out2 = 0;
    while (row->n_split < SAE_SCREEN_SPLIT && p->d > 1 && m > 0) {
        double rest = *n2 - m * m;
        size_t k = 0;

        if (m * m * (double)(p->d - 1) <= OUTLIER_RMS * OUTLIER_RMS * (rest > 0 ? rest : 0))
            break;
        while (fabs(v[k]) != m)
            k++;
        row->col[row->n_split] = column(p, k);
        if (!row->col[row->n_split])
            return false;
        row->xo[row->n_split++] = (float)v[k];
        *out2 += v[k] * v[k];
        v[k] = 0;
        *n2 = m = 0; /* summed anew: subtraction would cancel */
        for (size_t i = 0; i < p->d; i++) {
            *n2 += v[i] * v[i];
            m = fabs(v[i]) > m ? fabs(v[i]) : m;
        }
    }
    return true;
}

bool sae_plane_row(struct sae_plane *p, const float *x, int8_t *q, struct sae_screen_row *row,
                   double *v)
{
    const double g = gamma_n(p->d);
    double left2, out2, err2, e, m;
    int64_t q2, sum;
    float s;

    row->q = q;
    row->n_split = 0;
    m = p->quant->widen(x, p->d, v, &left2);
    if (!(m < 1e30) || !split_outliers(p, v, row, &left2, m, &out2) ||
        !(sqrt(left2 + out2) * p->max_norm < 1e37))
        return false;
    m = p->quant->rotate(v, p->dq) / p->xmax;
    s = m > 0 ? (float)m : 1.0f;
    if (!(s >= 0x1p-100f && (double)s * (double)p->min_s >= 0x1p-100))
        return false;
    p->quant->round(v, p->dq, (double)s, p->xmax, q, &err2, &q2, &sum);
    e = sqrt(err2) * NORM_SLACK + ROTATE_SLACK * sqrt(left2);
    row->A = round_up(NORM_SLACK * (e + (g + 16 * U) * sqrt(out2)) / (double)s);
    row->B = round_up(NORM_SLACK * sqrt((double)q2));
    row->C = 1 / s;
    row->s = s;
    row->init = (int32_t)(-128 * sum);
    for (int o = 0; o < row->n_split; o++)
        row->xo[o] /= s;
    return true;
}

void sae_plane_line(const struct sae_plane *p, size_t j, double c1, double c0, double terms,
                    float *u, float *z)
{
    double unit = c1 * (double)p->s[j], v = (c0 + 0x1p-20 * terms + 0x1p-126) / unit;

    *u = 0;
    *z = INFINITY;
    if (!(unit > 1e-30 && unit < 1e30 && terms < 1e30))
        return;
    *u = (float)(1 / unit);
    *z = round_up(v + 0x1p-20 * fabs(v));
}

float sae_plane_floor(const struct sae_screen_row *row, float floor)
{
    float t = floor * row->C;

    if (!(fabsf(floor) < 1e30f && fabsf(t) < 1e30f))
        return -INFINITY;
    return t - fabsf(t) * (32 * (float)U);
}

void sae_groups_init(struct sae_groups *s, const struct sae_plane *p, size_t first, size_t n,
                     bool apart, size_t width)
{
    size_t left = p->Fp - first;

    n = (n < left ? n : left) / SAE_SCREEN_PANEL;
    *s = (struct sae_groups){.plane = p,
                             .first = first / SAE_SCREEN_PANEL,
                             .n = n,
                             .n_apart = apart ? n / SAE_SCREEN_STREAMS : 0,
                             .width = width};
}

bool sae_groups_next(struct sae_groups *s, struct sae_screen_group *g)
{
    const struct sae_plane *p = s->plane;
    const size_t bytes = SAE_SCREEN_PANEL * p->dq, left = s->n - s->done;
    size_t panel, next;

    if (left == 0)
        return false;
    if (s->i < s->n_apart) {
        g->n_panels = SAE_SCREEN_STREAMS;
        g->step = s->n_apart;
        panel = s->i++;
        next = s->i < s->n_apart ? s->i : s->n;
    } else {
        g->n_panels = left < s->width ? left : s->width;
        if (left == SAE_SCREEN_STREAMS)
            g->n_panels = left; /* a last panel alone would be slow */
        g->step = 1;
        panel = s->done;
        next = panel + g->n_panels;
    }
    s->done += g->n_panels;
    panel += s->first;
    next += s->first;
    g->plane = p->q + panel * bytes;
    g->dq = p->dq;
    g->a = p->a;
    g->b = p->b;
    g->t = p->t;
    g->f0 = panel * SAE_SCREEN_PANEL;
    g->ahead = (next + (g->n_panels - 1) * g->step) * SAE_SCREEN_PANEL < p->Fp
                   ? (const char *)p->q + next * bytes
                   : NULL;
    return true;
}
