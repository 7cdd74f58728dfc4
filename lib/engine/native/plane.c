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
/* ... but only if what is left then is more than this much of it. */
#define LEAST_REST 0x1p-30
/* Intervals: above this a number says nothing (RANGES in plane.h). */
#define LARGE 1e18
/* Features of a piece of work: about a millisecond at d 768. */
#define RANGE 256
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

/* Feature j of the plane, whose weights are w; returns |w_j|. v: scratch of dq doubles, q of dq
 * bytes. Scales below s_floor are raised to it: nearly zero rows then quantise to zero and live on
 * their norm alone. */
static double plane_feature(struct sae_plane *p, size_t j, const float *w, double theta,
                            double s_floor, double *v, int8_t *q)
{
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
    p->t[j] = round_down(isinf(tau) ? tau : tau - 16 * U * fabs(tau));
    return norm;
}

/* A plane being made, a range of features at a time. */
struct making {
    struct sae_plane *p;
    const double *theta;
    double largest; /* magnitude in w */
    bool nomem;     /* these two and p's max_norm and min_s under p->lock */
};

static void largest_range(void *arg, size_t from, size_t to)
{
    struct making *m = arg;
    float *room = sae_alloc(m->p->d, sizeof *room);
    double largest = 0;

    for (size_t j = from; room && j < to; j++) {
        const float *w = sae_matrix_row(&m->p->w, j, room);

        for (size_t k = 0; k < m->p->d; k++)
            largest = fabs((double)w[k]) > largest ? fabs((double)w[k]) : largest;
    }
    pthread_mutex_lock(&m->p->lock);
    m->largest = largest > m->largest ? largest : m->largest;
    m->nomem |= !room;
    pthread_mutex_unlock(&m->p->lock);
    sae_free(room);
}

static void quantise_range(void *arg, size_t from, size_t to)
{
    struct making *m = arg;
    struct sae_plane *p = m->p;
    double *v = sae_alloc(p->dq, sizeof *v), max_norm = 0;
    float *room = sae_alloc(p->d, sizeof *room), min_s = INFINITY;
    int8_t *q = sae_alloc(p->dq, 1);

    for (size_t j = from; v && room && q && j < to; j++) {
        double norm = plane_feature(p, j, sae_matrix_row(&p->w, j, room), m->theta[j],
                                    m->largest * 0x1p-30, v, q);

        max_norm = norm > max_norm ? norm : max_norm;
        min_s = p->s[j] < min_s ? p->s[j] : min_s;
    }
    pthread_mutex_lock(&p->lock);
    p->max_norm = max_norm > p->max_norm ? max_norm : p->max_norm;
    p->min_s = min_s < p->min_s ? min_s : p->min_s;
    m->nomem |= !v || !room || !q;
    pthread_mutex_unlock(&p->lock);
    sae_free(q);
    sae_free(room);
    sae_free(v);
}

static enum sae_status nomem(size_t bytes, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot quantise the encoder: %zu bytes", bytes);
}

_Static_assert(SAE_SCREEN_PANEL == 16, "one padding for widths and features");
static uint64_t padded(uint64_t n)
{
    return (n + 15) & ~(uint64_t)15;
}

uint64_t sae_plane_bytes(uint64_t F, uint64_t d)
{
    const struct sae_plane *p;
    uint64_t vectors = sizeof *p->a + sizeof *p->b + sizeof *p->t + sizeof *p->s;

    return padded(d) > MAX_WIDTH
               ? 0
               : padded(F) * (padded(d) + vectors) + d * sizeof *p->asked + sizeof *p;
}

static bool allocate(struct sae_plane *p)
{
    p->q = sae_huge_alloc(p->Fp, p->dq);
    p->a = sae_calloc(p->Fp, sizeof *p->a);
    p->b = sae_calloc(p->Fp, sizeof *p->b);
    p->t = sae_calloc(p->Fp, sizeof *p->t);
    p->s = sae_calloc(p->Fp, sizeof *p->s);
    p->asked = sae_calloc(p->d, sizeof *p->asked);
    return p->q && p->a && p->b && p->t && p->s && p->asked;
}

enum sae_status sae_plane_create(struct sae_plane **out, const struct sae_matrix *w, size_t F,
                                 const double *theta, int xmax, const struct sae_quant *quant,
                                 struct sae_team *team, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    struct making m = {.theta = theta};
    struct sae_plane *p;
    size_t d = w->width, dq = padded(d), Fp = padded(F);

    *out = NULL;
    if (dq > MAX_WIDTH)
        return SAE_OK;
    m.p = p = sae_calloc(1, sizeof *p);
    if (!p)
        return nomem(Fp * dq, err);
    *p = (struct sae_plane){.d = d,
                            .F = F,
                            .dq = dq,
                            .Fp = Fp,
                            .xmax = xmax,
                            .quant = quant,
                            .w = *w,
                            .gain = 1,
                            .min_s = INFINITY};
    pthread_mutex_init(&p->lock, NULL);
    sae_team_run(team, F, RANGE, largest_range, &m);
    if (m.nomem) {
        st = nomem(d * sizeof(float), err);
        goto out;
    }
    if (!(m.largest > 1e-30 && m.largest < 1e30))
        goto out;
    if (!allocate(p)) {
        st = nomem(Fp * dq, err);
        goto out;
    }
    sae_team_run(team, F, RANGE, quantise_range, &m);
    if (m.nomem) {
        st = nomem(Fp * dq, err);
        goto out;
    }
    for (size_t j = F; j < Fp; j++) { /* q stays 0, whatever that means: a = b = 0, never reached */
        p->t[j] = INFINITY;
        p->s[j] = 1;
    }
    *out = p;
    p = NULL;
out:
    sae_plane_free(p);
    return st;
}

void sae_plane_free(struct sae_plane *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++)
        sae_free(p->columns[i].values);
    sae_free(p->asked);
    sae_free(p->s);
    sae_free(p->t);
    sae_free(p->b);
    sae_free(p->a);
    sae_huge_free(p->q, p->Fp, p->dq);
    pthread_mutex_destroy(&p->lock);
    sae_free(p);
}

/* ---- columns -----------------------------------------------------------------------------------
 * All locked. */

static struct sae_plane_column *find_column(struct sae_plane *p, size_t k)
{
    for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++)
        if (p->columns[i].values && p->columns[i].k == k)
            return &p->columns[i];
    return NULL;
}

/* Count that dimension k is wanted. */
static void ask(struct sae_plane *p, size_t k)
{
    p->asked[k]++;
    if (++p->n_asked < SAE_PLANE_AGE)
        return;
    p->n_asked = 0;
    for (size_t i = 0; i < p->d; i++)
        p->asked[i] /= 2;
}

/* A free place, or the one that makes way for dimension k, or NULL. */
static struct sae_plane_column *place_for(struct sae_plane *p, size_t k)
{
    struct sae_plane_column *least = NULL;

    for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++) {
        struct sae_plane_column *c = &p->columns[i];

        if (!c->values)
            return c;
        if (c->holders == 0 && (!least || p->asked[c->k] < p->asked[least->k]))
            least = c;
    }
    if (!least || p->asked[k] < SAE_PLANE_DEMAND || p->asked[k] / 2 < p->asked[least->k])
        return NULL;
    return least;
}

/* The column of dimension k, made when it has a place; NULL: it has none, or there is no memory. */
static struct sae_plane_column *column(struct sae_plane *p, size_t k)
{
    struct sae_plane_column *c = find_column(p, k);

    ask(p, k);
    if (c)
        return c;
    c = place_for(p, k);
    if (!c || (!c->values && !(c->values = sae_alloc(p->Fp, sizeof *c->values))))
        return NULL;
    c->k = k;
    for (size_t j = 0; j < p->Fp; j++)
        c->values[j] = j < p->F ? sae_matrix_value(&p->w, j, k) / p->s[j] : 0.0f;
    return c;
}

static void release_row(struct sae_plane *p, struct sae_screen_row *row)
{
    for (int o = 0; o < row->n_split; o++)
        for (size_t i = 0; i < SAE_PLANE_COLUMNS; i++)
            if (p->columns[i].values == row->col[o])
                p->columns[i].holders--;
    row->n_split = 0;
}

/* Hold the columns of n dimensions for a row: all, or none. */
static bool hold_columns(struct sae_plane *p, struct sae_screen_row *row, const size_t *k, int n)
{
    struct sae_plane_column *c = NULL;

    if (n == 0)
        return true;
    pthread_mutex_lock(&p->lock);
    for (int o = 0; o < n; o++) {
        c = column(p, k[o]);
        if (!c)
            break;
        c->holders++;
        row->col[row->n_split++] = c->values;
    }
    if (!c)
        release_row(p, row);
    pthread_mutex_unlock(&p->lock);
    return c;
}

void sae_plane_release(struct sae_plane *p, struct sae_screen_row *rows, size_t n)
{
    for (size_t r = 0; r < n; r++) {
        if (rows[r].n_split == 0)
            continue;
        pthread_mutex_lock(&p->lock);
        release_row(p, &rows[r]);
        pthread_mutex_unlock(&p->lock);
    }
}

/* ---- rows --------------------------------------------------------------------------------------
 */

size_t sae_plane_row_scratch(const struct sae_plane *p)
{
    return p->dq;
}

/* A row on its way: v, and what has been split off it. */
struct split {
    double left2, out2; /* squared norms: of what is left in v, of what was split off */
    double max;         /* largest magnitude left */
    int n;
    size_t k[SAE_SCREEN_SPLIT];
    double x[SAE_SCREEN_SPLIT]; /* descending magnitudes */
};

/* Take the dimension of largest magnitude out of v. */
static void split_largest(double *v, size_t d, struct split *s)
{
    size_t k = 0;

    while (fabs(v[k]) != s->max)
        k++;
    s->k[s->n] = k;
    s->x[s->n++] = v[k];
    s->out2 += v[k] * v[k];
    v[k] = 0;
    s->left2 = s->max = 0; /* summed anew: subtraction would cancel */
    for (size_t i = 0; i < d; i++) {
        s->left2 += v[i] * v[i];
        s->max = fabs(v[i]) > s->max ? fabs(v[i]) : s->max;
    }
}

/* Split outliers off v, whose squared norm and largest magnitude stand in *s: not where what would
 * be left is next to nothing (RANGES in plane.h). */
static void split_outliers(double *v, size_t d, struct split *s)
{
    while (s->n < SAE_SCREEN_SPLIT && d > 1 && s->max > 0) {
        double rest = s->left2 - s->max * s->max;

        if (s->max * s->max * (double)(d - 1) <= OUTLIER_RMS * OUTLIER_RMS * (rest > 0 ? rest : 0))
            break;
        split_largest(v, d, s);
    }
    if (s->n == 0 || s->max > fabs(s->x[0]) * LEAST_REST)
        return;
    for (int o = 0; o < s->n; o++)
        v[s->k[o]] = s->x[o];
    s->left2 += s->out2;
    s->out2 = 0;
    s->n = 0;
}

bool sae_plane_row(struct sae_plane *p, const float *x, int8_t *q, struct sae_screen_row *row,
                   double *v)
{
    const double g = gamma_n(p->d);
    struct split split = {0};
    double err2, e, m;
    int64_t q2, sum;
    float s;

    row->q = q;
    row->n_split = 0;
    split.max = p->quant->widen(x, p->d, v, &split.left2);
    if (!(split.max < 1e30))
        return false;
    split_outliers(v, p->d, &split);
    if (!(sqrt(split.left2 + split.out2) * p->max_norm * p->gain < 1e36))
        return false;
    m = p->quant->rotate(v, p->dq) / p->xmax;
    s = m > 0 ? (float)m : 1.0f;
    if (!(s >= 0x1p-100f && (double)s * (double)p->min_s >= 0x1p-100) ||
        !hold_columns(p, row, split.k, split.n))
        return false;
    p->quant->round(v, p->dq, (double)s, p->xmax, q, &err2, &q2, &sum);
    e = sqrt(err2) * NORM_SLACK + ROTATE_SLACK * sqrt(split.left2);
    row->A = round_up(NORM_SLACK * (e + (g + 16 * U) * sqrt(split.out2)) / (double)s);
    row->B = round_up(NORM_SLACK * sqrt((double)q2));
    row->C = 1 / s;
    row->s = s;
    row->init = (int32_t)(-128 * sum);
    for (int o = 0; o < split.n; o++)
        row->xo[o] = (float)split.x[o] / s;
    return true;
}

void sae_plane_line(const struct sae_plane *p, size_t j, struct sae_line line, float *u, float *z)
{
    double unit = line.c1 * (double)p->s[j];
    double v = (line.c0 + 0x1p-20 * line.terms + 0x1p-126) / unit;

    *u = 0;
    *z = INFINITY;
    if (!(unit > 1 / LARGE && unit < 1e30 && line.terms < 1e30 && fabs(v) < LARGE))
        return;
    *u = (float)(1 / unit);
    *z = round_up(v + 0x1p-20 * fabs(v));
}

float sae_plane_floor(const struct sae_screen_row *row, float floor)
{
    float t = floor * row->C;

    if (!(row->C < (float)LARGE && fabsf(t) < (float)LARGE))
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

uint64_t sae_group_valid(const struct sae_plane *p, const struct sae_screen_group *g)
{
    uint64_t valid = 0;

    for (size_t c = 0; c < g->n_panels; c++) {
        size_t f = g->f0 + c * g->step * SAE_SCREEN_PANEL, n = p->F - f;

        valid |= (n < SAE_SCREEN_PANEL ? ((uint64_t)1 << n) - 1 : 0xffff) << c * SAE_SCREEN_PANEL;
    }
    return valid;
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
