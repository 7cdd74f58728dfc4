/* flat.c - see flat.h. */
#include "lib/load/flat.h"

#include <stdio.h>
#include <string.h>

enum sae_status sae_flat_make(struct sae_tensors *ts, size_t n, struct sae_err *err)
{
    ts->list = sae_calloc(n, sizeof *ts->list);
    if (!ts->list)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of %zu tensors", n);
    ts->n_tensors = n;
    return SAE_OK;
}

void sae_flat_name(struct sae_tensors *ts, size_t i, const char *name, size_t n,
                   const struct sae_dtype_row *dtype)
{
    struct sae_tensor *t = &ts->list[i];

    sae_load_cut_name(t->name, name, n);
    t->dtype = dtype->dtype;
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", dtype->name);
}

static void describe(const struct sae_tensors *ts, size_t i, struct sae_entry *e)
{
    const struct sae_tensor *t = &ts->list[i];
    struct sae_origin origin;

    memcpy(e->name, t->name, sizeof e->name);
    e->kind = SAE_ENTRY_TENSOR;
    e->floating = sae_dtype_is_floating(t->dtype);
    e->integer = sae_dtype_is_integer(t->dtype);
    e->ndim = t->ndim;
    memcpy(e->shape, t->shape, sizeof e->shape);
    if (e->floating && t->ndim == 0) {
        ts->reader->origin(ts, i, &origin);
        e->has_number = sae_origin_number(&origin, &e->number);
    }
}

enum sae_status sae_flat_describe(struct sae_tensors *ts, struct sae_err *err)
{
    struct sae_entry *e = sae_calloc(ts->n_tensors, sizeof *e);

    ts->groups = sae_calloc(1, sizeof *ts->groups);
    if (!ts->groups || !e) {
        sae_free(e);
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of %zu entries",
                           ts->n_tensors);
    }
    ts->n_groups = 1;
    ts->groups->entries = e;
    ts->groups->n = ts->n_tensors;
    for (size_t i = 0; i < ts->n_tensors; i++)
        describe(ts, i, &e[i]);
    return SAE_OK;
}

enum sae_status sae_flat_narrow(struct sae_tensors *ts, const char *prefix, struct sae_err *err)
{
    struct sae_group *groups = sae_realloc(ts->groups, 3, sizeof *groups);
    struct sae_entry *way = sae_calloc(ts->n_tensors, sizeof *way);
    struct sae_entry *e = sae_calloc(ts->n_tensors, sizeof *e);
    size_t n = strlen(prefix);

    if (groups)
        ts->groups = groups;
    if (!groups || !way || !e) {
        sae_free(way);
        sae_free(e);
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of %zu entries",
                           ts->n_tensors);
    }
    ts->n_groups = 3;
    groups[1] = (struct sae_group){.entries = way};
    groups[2] = (struct sae_group){.entries = e};
    for (size_t i = 0; i < ts->n_tensors; i++) {
        const struct sae_entry *whole = &groups[0].entries[i];

        if (sae_load_is_on_way(whole->name, strlen(whole->name), prefix))
            way[groups[1].n++] = *whole;
        if (strncmp(whole->name, prefix, n) != 0 || whole->name[n] == '\0')
            continue;
        e[groups[2].n] = *whole;
        snprintf(e[groups[2].n++].name, sizeof e->name, "%s", whole->name + n);
    }
    return SAE_OK;
}

size_t sae_flat_stored(const struct sae_tensors *ts, size_t i)
{
    return ts->stored ? ts->stored[i] : i;
}

/* Only those that begin with the prefix stay in the list. */
static enum sae_status keep_narrowed(struct sae_tensors *ts, struct sae_err *err)
{
    size_t n = strlen(ts->narrowed), kept = 0;

    ts->stored = sae_calloc(ts->n_tensors, sizeof *ts->stored);
    if (!ts->stored)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of %zu tensors",
                           ts->n_tensors);
    for (size_t i = 0; i < ts->n_tensors; i++) {
        if (strncmp(ts->list[i].name, ts->narrowed, n) != 0 || ts->list[i].name[n] == '\0')
            continue;
        ts->list[kept] = ts->list[i];
        ts->stored[kept++] = i;
    }
    ts->n_tensors = kept;
    return SAE_OK;
}

enum sae_status sae_flat_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                struct sae_err *err)
{
    enum sae_status st = g > 0 ? keep_narrowed(ts, err) : SAE_OK;
    size_t drop = prefix + (g > 0 ? strlen(ts->narrowed) : 0);

    for (size_t i = 0; st == SAE_OK && i < ts->n_tensors; i++) {
        char *name = ts->list[i].name;
        size_t n = strlen(name);

        if (n > drop)
            memmove(name, name + drop, n - drop + 1);
    }
    return st;
}

struct sae_view sae_flat_view(const struct sae_tensors *ts, size_t i, bool is_fortran)
{
    const struct sae_tensor *t = &ts->list[i];
    struct sae_view v = {.name = t->name, .vector = t->ndim < 2, .dtype = t->dtype};

    v.rows = t->ndim == 2 ? t->shape[0] : 1;
    v.cols = t->ndim ? t->shape[t->ndim - 1] : 1;
    v.numel = v.rows * v.cols; /* the container has checked it */
    v.row_stride = is_fortran ? 1 : v.cols;
    v.col_stride = is_fortran ? v.rows : 1;
    return v;
}

void sae_flat_free(struct sae_tensors *ts)
{
    for (size_t g = 0; g < ts->n_groups; g++)
        sae_free((void *)ts->groups[g].entries);
    sae_free(ts->groups);
    sae_free(ts->list);
}
