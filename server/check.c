/* check.c - see check.h. What is printed: formats 5.4. */
#include "server/check.h"

#include "server/api/keys.h"
#include "server/loading.h"
#include "server/offers/find.h"
#include "server/sample.h"
#include "server/service.h"
#include "server/team.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_ROWS 16384 /* of a sample, its first */
#define JUDGED_ROWS 64 /* fewer are not judged */

struct check {
    const struct saed_opts *o;
    struct saed_service s;
    struct sae_rows *samples; /* owned: [o->sample.n] */
    struct saed_team *team;
    bool is_suspicious;
};

/* ---- the reading ----------------------------------------------------------------------------- */

static void print_line(const struct check *c, const struct saed_dict *d)
{
    printf("%s class=%s activation_dim=%" PRIu64 " dict_size=%" PRIu64 " dtype=%s bytes=%" PRIu64
           " engine=%s kernel=%s\n",
           d->name, d->info->class_name, d->info->activation_dim, d->info->dict_size,
           d->info->dtype, d->info->bytes, sae_engine_name(c->s.engine),
           sae_engine_kernel(c->s.engine));
}

/* A part of a line in which stands what strangers wrote. */
static void SAE_PRINTF(1, 2) print_tamed(const char *fmt, ...)
{
    char text[5000]; /* a path of any length */
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sae_text_tame(text);
    fputs(text, stdout);
}

/* Where it is not what a dictionary usually has, and what there is to say of it. */
static void print_reading(const struct sae_dict_info *info)
{
    for (unsigned f = 0; f < SAE_N_FIELDS; f++) {
        const struct sae_shown_field *field = &info->reading[f];

        if (field->is_usual && !field->by_file[0])
            continue;
        print_tamed("  %s=%s%s", field->name, field->text,
                    field->from == SAE_FROM_STATED ? ", stated" : "");
        if (field->by_file[0])
            print_tamed(", the file says %s", field->by_file);
        printf("\n");
    }
    for (unsigned k = 0; k < info->n_notes; k++)
        printf("  note: %s\n", info->notes[k]);
}

/* ---- figures that do not fit ----------------------------------------------------------------- */

static void SAE_PRINTF(4, 5) suspect(struct check *c, const struct saed_figures *v,
                                     enum saed_figure f, const char *expected, ...)
{
    va_list ap;

    printf("  suspicious: %s=%.6g, expected ", saed_figure_name(f), v->value[f]);
    va_start(ap, expected);
    vprintf(expected, ap);
    va_end(ap);
    printf("\n");
    c->is_suspicious = true;
}

static void judge_l0(struct check *c, const struct saed_figures *v,
                     const struct sae_dict_info *info)
{
    double most = (double)info->dict_size / 4.0, declared = v->value[SAED_L0_DECLARED];
    double l0 = v->value[SAED_L0];

    if (!v->weights.may_be_dense && l0 > most)
        suspect(c, v, SAED_L0, "at most %.6g (dict_size / 4)", most);
    if (v->applies[SAED_L0_DECLARED] && !(l0 >= declared / 3.0 && l0 <= declared * 3.0))
        suspect(c, v, SAED_L0, "%.6g to %.6g (l0_declared=%.6g)", declared / 3.0, declared * 3.0,
                declared);
    if (v->value[SAED_ZERO_ROWS] > 0.5)
        suspect(c, v, SAED_ZERO_ROWS, "at most 0.5");
}

static void judge_norms(struct check *c, const struct saed_figures *v,
                        const struct sae_dict_info *info)
{
    const struct sae_weight_figures *w = &v->weights;

    if ((double)(w->n_zero_norms + w->n_large_norms) <= 0.01 * (double)info->dict_size)
        return;
    suspect(c, v, w->n_large_norms > w->n_zero_norms ? SAED_NORM_MAX : SAED_NORM_MIN,
            "at most 1%% of the norms 0 (%" PRIu64 " are) or above 100 times the median (%" PRIu64
            " are)",
            w->n_zero_norms, w->n_large_norms);
}

static void judge(struct check *c, const struct saed_figures *v, const struct sae_dict_info *info)
{
    if (v->value[SAED_ROWS] - v->value[SAED_NONFINITE_ROWS] < JUDGED_ROWS)
        return;
    judge_l0(c, v, info);
    if (v->applies[SAED_FVU] && v->value[SAED_FVU] > 1.0)
        suspect(c, v, SAED_FVU, "at most 1");
    if (v->applies[SAED_COSINE] && !(v->value[SAED_COSINE] >= 0.05))
        suspect(c, v, SAED_COSINE, "at least 0.05");
    judge_norms(c, v, info);
    if (v->applies[SAED_THRESHOLD_UNSET] && v->value[SAED_THRESHOLD_UNSET] > 0.0)
        suspect(c, v, SAED_THRESHOLD_UNSET, "0: -1 is what a threshold is before it is set");
    if (v->value[SAED_NAN] > 0.0)
        suspect(c, v, SAED_NAN, "0");
}

/* ---- samples --------------------------------------------------------------------------------- */

static void print_figures(const struct saed_figures *v)
{
    printf("  sample:");
    for (enum saed_figure f = 0; f < SAED_N_FIGURES; f++)
        if (v->applies[f])
            printf(" %s=%.6g", saed_figure_name(f), v->value[f]);
        else
            printf(" %s=-", saed_figure_name(f));
    printf("\n");
}

static enum sae_status look_at(struct check *c, const struct saed_dict *d, struct sae_err *err)
{
    struct saed_sampler sampler = {.engine = c->s.engine,
                                   .team = saed_team_lent(c->team),
                                   .n_threads = (size_t)c->o->threads,
                                   .max_rows = (size_t)c->o->max_batch_rows};
    enum sae_status st = SAE_OK;
    bool has_sample = false;

    for (size_t i = 0; st == SAE_OK && i < c->o->sample.n; i++) {
        struct saed_figures v;

        if (c->samples[i].width != d->info->activation_dim)
            continue;
        has_sample = true;
        st = saed_sample_measure(&sampler, d->dict, &c->samples[i], &v, err);
        if (st != SAE_OK)
            break;
        print_figures(&v);
        judge(c, &v, d->info);
    }
    if (c->o->sample.n > 0 && !has_sample)
        printf("  sample: none has rows of width %" PRIu64 "\n", d->info->activation_dim);
    return st;
}

/* FILE, or FILE:TENSOR where there is no such file. */
static enum sae_status open_sample(const char *text, struct sae_rows *out, struct sae_err *err)
{
    const char *colon = strrchr(text, ':');
    char *path;
    enum sae_status st;

    if (!colon || access(text, F_OK) == 0)
        return sae_rows_load(out, text, NULL, MAX_ROWS, err);
    path = sae_strdup(text);
    if (!path)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot use the sample %.80s: out of memory",
                           text);
    path[colon - text] = '\0';
    st = sae_rows_load(out, path, colon + 1, MAX_ROWS, err);
    sae_free(path);
    return st;
}

static enum sae_status open_samples(struct check *c, saed_report_fn *report, void *arg)
{
    struct sae_err err = {0};
    enum sae_status st = SAE_OK;

    if (c->o->sample.n == 0)
        return SAE_OK;
    c->samples = sae_calloc(c->o->sample.n, sizeof *c->samples);
    if (!c->samples)
        st = sae_err_set(&err, SAE_E_NOMEM, "", "cannot allocate %zu samples", c->o->sample.n);
    for (size_t i = 0; st == SAE_OK && i < c->o->sample.n; i++)
        st = open_sample(c->o->sample.items[i], &c->samples[i], &err);
    if (st != SAE_OK)
        report(arg, &err);
    return st;
}

/* ---- what is offered -------------------------------------------------------------------------
 */

static void print_not_offered(void *arg, const char *name, const char *path, const char *why)
{
    (void)arg;
    (void)name;
    print_tamed("%s is not offered: %s", path, why);
    printf("\n");
}

static uint64_t named_bytes(const struct check *c)
{
    struct saed_dict *d = NULL;
    uint64_t bytes = 0;

    while ((d = saed_registry_next(c->s.registry, d)))
        bytes += d->resident_bytes;
    return bytes;
}

static enum sae_status load_offered(const struct check *c, struct saed_dict *d)
{
    struct saed_dict *described = NULL;
    struct sae_draft *draft = NULL;
    enum sae_status st = saed_dict_create(&described, d->name, d->source, &d->err);

    if (st != SAE_OK)
        return st;
    st = saed_loading_describe(described, &draft, c->s.engine);
    if (st != SAE_OK)
        d->err = described->err;
    if (st == SAE_OK)
        st = saed_offers_fit(c->o->max_resident_bytes, named_bytes(c), described->resident_bytes,
                             &d->err);
    saed_dict_release(described);
    if (st == SAE_OK)
        return saed_loading_read_take(d, draft, c->s.engine, saed_team_lent(c->team));
    sae_draft_close(draft);
    return st;
}

/* Loaded, looked at and let go. *failed: it is none. */
static enum sae_status check_one(struct check *c, const struct saed_source *source, bool *failed,
                                 struct sae_err *err)
{
    struct saed_dict *d = NULL;
    enum sae_status st = saed_dict_create(&d, source->name, source->source, err);

    if (st != SAE_OK)
        return st;
    if (load_offered(c, d) == SAE_OK) {
        print_line(c, d);
        print_reading(d->info);
        st = look_at(c, d, err);
    } else {
        printf("%s unavailable: %s\n", d->name, d->err.text);
        *failed = true;
    }
    fflush(stdout); /* each takes its time; main sees what went wrong */
    saed_dict_release(d);
    return st;
}

/* One after the other, in order of their names: they need not fit together. */
static enum sae_status check_offered(struct check *c, struct sae_err *err)
{
    struct saed_found found = {.n = 0};
    enum sae_status st;
    bool failed = false;

    if (c->o->dictionaries.n == 0)
        return SAE_OK;
    st = saed_find(&found, c->o, print_not_offered, NULL, err);
    for (size_t i = 0; st == SAE_OK && i < found.n; i++)
        st = check_one(c, &found.sources[i], &failed, err);
    saed_found_fini(&found);
    if (st == SAE_OK && failed)
        st = sae_err_set(err, SAE_E_FORMAT, "", "cannot load all that is offered: see unavailable");
    return st;
}

/* ---- all -------------------------------------------------------------------------------------
 */

static enum sae_status check_named(struct check *c, struct sae_err *err)
{
    struct saed_dict *d = NULL;
    enum sae_status st = SAE_OK;

    while ((d = saed_registry_next(c->s.registry, d))) {
        print_line(c, d);
        print_reading(d->info);
        if (st == SAE_OK)
            st = look_at(c, d, err);
    }
    return st;
}

static enum sae_status check_all(struct check *c, struct sae_err *err)
{
    enum sae_status st = saed_team_create(&c->team, (size_t)c->o->threads, err);

    if (st == SAE_OK)
        st = check_named(c, err);
    return st == SAE_OK ? check_offered(c, err) : st;
}

/* Could the daemon start with them? What is wrong with a file is exit status 1, as it is there. */
static enum sae_status check_keys(const struct saed_opts *o, saed_report_fn *report, void *arg)
{
    struct saed_keys *keys = NULL;
    struct sae_err err = {0};
    enum sae_status st = saed_keys_create(&keys, &o->api_key_file, &err);

    saed_keys_free(keys);
    if (st != SAE_OK)
        report(arg, &err);
    return st == SAE_E_USAGE ? SAE_E_FORMAT : st;
}

static void check_fini(struct check *c)
{
    for (size_t i = 0; c->samples && i < c->o->sample.n; i++)
        sae_rows_fini(&c->samples[i]);
    sae_free(c->samples);
    saed_team_free(c->team);
    saed_service_close(&c->s);
}

enum sae_status saed_check(const struct saed_opts *o, saed_report_fn *report, void *arg,
                           bool *is_suspicious)
{
    struct check c = {.o = o};
    struct sae_err err = {0};
    enum sae_status st = check_keys(o, report, arg);

    if (st == SAE_OK)
        st = open_samples(&c, report, arg);
    if (st == SAE_OK)
        st = saed_service_load(&c.s, o, NULL, NULL, report, arg);
    if (st == SAE_OK) {
        st = check_all(&c, &err);
        if (st != SAE_OK)
            report(arg, &err);
    }
    *is_suspicious = c.is_suspicious;
    check_fini(&c);
    return st;
}
