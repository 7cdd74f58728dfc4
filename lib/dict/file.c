/* file.c - binds an open weights file to the architecture that its keys name.
 *
 * Order: the set of keys names the class; then every dtype and shape is checked (d and F come from
 * encoder.weight); only then is memory taken, and each tensor read once into its place. Every
 * message names the file; `where` is the tensor. See dict/spec.h. */
#include "lib/dict/spec.h"

#include "lib/load/load.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_KEYS 4 /* of a list in a message */

struct binding {
    const char *path;
    struct sae_tensors *ts;
    const struct sae_arch *arch;
    size_t index[SAE_ARCH_MAX_KEYS]; /* tensor of each key */
    uint64_t d, F;
};

/* ---- messages ---- */

static enum sae_status SAE_PRINTF(5, 6)
    cannot(const char *path, enum sae_status st, const char *tensor, struct sae_err *err,
           const char *fmt, ...)
{
    char fact[300];
    size_t n = strlen(path);
    bool cut = n > 160; /* the end of a long path says more than its start */
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fact, sizeof fact, fmt, ap);
    va_end(ap);
    return sae_err_set(err, st, tensor, "cannot load %s%s: %s", cut ? "..." : "",
                       cut ? path + n - 157 : path, fact);
}

/* What a lower call found, told again with the file's name if it has not named it. */
static enum sae_status pass_on(const char *path, const struct sae_err *low, enum sae_status st,
                               struct sae_err *err)
{
    const char *at = strstr(low->text, path);

    if (at && at > low->text && at[-1] == ' ' && at[strlen(path)] == ':')
        return sae_err_set(err, st, low->where, "%s", low->text);
    return cannot(path, st, low->where, err, "%s", low->text);
}

/* A list that stops when its room is full. */
struct list {
    char text[260];
    size_t len;
};

static void SAE_PRINTF(2, 3) add(struct list *l, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(l->text + l->len, sizeof l->text - l->len, fmt, ap);
    va_end(ap);
    l->len =
        n < 0 || (size_t)n >= sizeof l->text - l->len ? sizeof l->text - 1 : l->len + (size_t)n;
}

/* "[70, 33]" */
static void add_shape(struct list *l, const uint64_t *shape, unsigned ndim)
{
    add(l, "[");
    for (unsigned i = 0; i < ndim; i++)
        add(l, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
    add(l, "]");
}

/* ---- which class ---- */

static bool find_tensor(const struct sae_tensors *ts, const char *name, size_t *index)
{
    for (size_t i = 0; i < sae_load_count(ts); i++)
        if (strcmp(sae_load_tensor(ts, i)->name, name) == 0) {
            *index = i;
            return true;
        }
    return false;
}

static unsigned n_found(const struct sae_tensors *ts, const struct sae_arch *a)
{
    unsigned n = 0;
    size_t index;

    for (unsigned k = 0; k < a->n_keys; k++)
        n += find_tensor(ts, a->keys[k].name, &index);
    return n;
}

/* Keys missing and tensors too many: 0 for the class itself. */
static size_t distance(const struct sae_tensors *ts, const struct sae_arch *a)
{
    unsigned found = n_found(ts, a);

    return (a->n_keys - found) + (sae_load_count(ts) - found);
}

static void add_missing(struct list *l, const struct sae_tensors *ts, const struct sae_arch *a)
{
    size_t index;
    unsigned n = 0;

    for (unsigned k = 0; k < a->n_keys; k++)
        if (!find_tensor(ts, a->keys[k].name, &index))
            add(l, "%s\"%s\"", n++ ? ", " : "", a->keys[k].name);
    add(l, n == 1 ? " is missing" : " are missing");
}

/* Tensors that are none of a's keys (a may be NULL), or named a second time: the first few. */
static void add_surplus(struct list *l, const struct sae_tensors *ts, const struct sae_arch *a)
{
    size_t total = 0;

    for (size_t i = 0; i < sae_load_count(ts); i++) {
        const char *name = sae_load_tensor(ts, i)->name;
        size_t first = 0;
        bool known = false;

        for (unsigned k = 0; a && k < a->n_keys; k++)
            known |= strcmp(a->keys[k].name, name) == 0;
        if (known && find_tensor(ts, name, &first) && first == i)
            continue;
        if (total++ < SHOWN_KEYS)
            add(l, "%s\"%.60s\"%s", total > 1 ? ", " : "", name, known ? " twice" : "");
    }
    if (total > SHOWN_KEYS)
        add(l, " and %zu more", total - SHOWN_KEYS);
}

/* How the file differs from class a, which it is near to. */
static void add_difference(struct list *l, const struct sae_tensors *ts, const struct sae_arch *a)
{
    unsigned found = n_found(ts, a);

    add(l, "keys are %s's but ", a->name);
    if (found < a->n_keys)
        add_missing(l, ts, a);
    if (sae_load_count(ts) > found) {
        add(l, found < a->n_keys ? ", and these are unexpected: " : "these are unexpected: ");
        add_surplus(l, ts, a);
    }
}

/* No class has this set of keys: say what the nearest ones want, or what the file holds. A class
 * is near when the file has more of its keys than it lacks, counting surplus ones. */
static enum sae_status no_class(const struct binding *b, struct sae_err *err)
{
    struct list l = {.len = 0};
    size_t best = SIZE_MAX, n = sae_load_count(b->ts);

    if (n == 0)
        return cannot(b->path, SAE_E_FORMAT, "", err,
                      "cannot name the class: the file holds no tensors");
    for (size_t i = 0; i < sae_n_archs; i++) {
        const struct sae_arch *a = &sae_archs[i];
        size_t dist = distance(b->ts, a);

        if (a->n_keys > 0 && dist < best && dist <= n_found(b->ts, a))
            best = dist;
    }
    for (size_t i = 0; best < SIZE_MAX && i < sae_n_archs; i++)
        if (sae_archs[i].n_keys > 0 && distance(b->ts, &sae_archs[i]) == best) {
            if (l.len > 0)
                add(&l, "; or ");
            add_difference(&l, b->ts, &sae_archs[i]);
        }
    if (best == SIZE_MAX) {
        add(&l, "no class has its %zu keys: ", n);
        add_surplus(&l, b->ts, NULL);
    }
    return cannot(b->path, SAE_E_FORMAT, "", err, "cannot name the class: %s", l.text);
}

static enum sae_status name_class(struct binding *b, struct sae_err *err)
{
    for (size_t i = 0; i < sae_n_archs; i++) {
        const struct sae_arch *a = &sae_archs[i];

        if (a->n_keys == 0 || distance(b->ts, a) != 0)
            continue;
        b->arch = a;
        for (unsigned k = 0; k < a->n_keys; k++)
            if (!find_tensor(b->ts, a->keys[k].name, &b->index[k]))
                return SAE_E_INTERNAL; /* distance 0 says that all are there */
        return SAE_OK;
    }
    return no_class(b, err);
}

/* ---- dtypes and shapes ---- */

static const char *dtype_name(enum sae_dtype dtype)
{
    switch (dtype) {
    case SAE_DTYPE_F32:
        return "float32";
    case SAE_DTYPE_F16:
        return "float16";
    case SAE_DTYPE_BF16:
        return "bfloat16";
    case SAE_DTYPE_F64:
        return "float64";
    case SAE_DTYPE_OTHER:
        break;
    }
    return NULL;
}

static const struct sae_tensor *encoder(const struct binding *b)
{
    for (unsigned k = 0; k < b->arch->n_keys; k++)
        if (b->arch->keys[k].role == SAE_ROLE_ENCODER)
            return sae_load_tensor(b->ts, b->index[k]);
    return NULL;
}

/* d and F are what encoder.weight says they are. */
static enum sae_status take_dims(struct binding *b, struct sae_err *err)
{
    const struct sae_tensor *t = encoder(b);
    struct list l = {.len = 0};

    if (!t)
        return SAE_E_INTERNAL; /* every class with keys has an encoder */
    add_shape(&l, t->shape, t->ndim);
    if (t->ndim != 2)
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has shape %s, wanted two dimensions, [dict_size, activation_dim]",
                      t->name, l.text);
    b->F = t->shape[0];
    b->d = t->shape[1];
    if (b->F < 1 || b->d < 1 || b->F > SAE_DICT_MAX_DIM || b->d > SAE_DICT_MAX_DIM)
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has shape %s, wanted dimensions from 1 to %d", t->name, l.text,
                      SAE_DICT_MAX_DIM);
    return SAE_OK;
}

static enum sae_status check_tensor(const struct binding *b, unsigned k, struct sae_err *err)
{
    const struct sae_arch_key *key = &b->arch->keys[k];
    const struct sae_tensor *t = sae_load_tensor(b->ts, b->index[k]);
    struct list found = {.len = 0}, wanted = {.len = 0};
    uint64_t shape[2];
    unsigned ndim = 0;
    bool same;

    if (!dtype_name(t->dtype))
        return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                      "\"%s\" has dtype %s, wanted float32, float16, bfloat16 or float64", t->name,
                      t->dtype_name);
    for (const char *p = key->shape; *p && ndim < 2; p++)
        if (*p != ',')
            shape[ndim++] = *p == 'F' ? b->F : b->d;
    same = t->ndim == ndim;
    for (unsigned i = 0; same && i < ndim; i++)
        same = t->shape[i] == shape[i];
    if (same)
        return SAE_OK;
    add_shape(&found, t->shape, t->ndim);
    add_shape(&wanted, shape, ndim);
    return cannot(b->path, SAE_E_WEIGHTS, t->name, err,
                  "\"%s\" has shape %s, wanted [%s] = %s (%s, by encoder.weight)", t->name,
                  found.text, key->shape, wanted.text, b->arch->name);
}

/* ---- values ---- */

static enum sae_status read_all(const struct binding *b, struct sae_dict *d, struct sae_err *err)
{
    for (unsigned k = 0; k < b->arch->n_keys; k++) {
        const struct sae_arch_key *key = &b->arch->keys[k];
        struct sae_err low = {0};
        enum sae_status st = sae_load_read(b->ts, b->index[k], sae_dict_array(d, key->role),
                                           key->role == SAE_ROLE_DECODER, &low);

        if (st != SAE_OK)
            return pass_on(b->path, &low, st, err);
    }
    return SAE_OK;
}

enum sae_status sae_dict_read(struct sae_dict **out, const char *path, struct sae_team *team,
                              struct sae_err *err)
{
    struct binding b = {.path = path};
    struct sae_dict *d = NULL;
    struct sae_err low = {0};
    enum sae_status st = sae_load_open(&b.ts, path, &low);

    if (st != SAE_OK)
        return pass_on(path, &low, st, err);
    st = name_class(&b, err);
    if (st == SAE_OK)
        st = take_dims(&b, err);
    for (unsigned k = 0; st == SAE_OK && k < b.arch->n_keys; k++)
        st = check_tensor(&b, k, err);
    if (st != SAE_OK)
        goto out;
    st = sae_dict_create(&d, b.arch, b.d, b.F, &low);
    if (st != SAE_OK) {
        pass_on(path, &low, st, err);
        goto out;
    }
    st = read_all(&b, d, err);
    if (st != SAE_OK)
        goto out;
    st = sae_dict_seal(d, dtype_name(encoder(&b)->dtype), team, &low);
    if (st != SAE_OK) {
        pass_on(path, &low, st, err);
        goto out;
    }
    *out = d;
    d = NULL;
out:
    sae_dict_free(d);
    sae_load_close(b.ts);
    return st;
}
