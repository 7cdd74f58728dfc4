/* find.c - see find.h. */
#include "server/offers/find.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- matching -------------------------------------------------------------------------------- */

bool saed_match(const char *pattern, const char *path)
{
    const char *star = NULL, *from = NULL; /* the last '*', and where what it stands for ends */

    while (*path) {
        if (*pattern == '*') {
            star = pattern++;
            from = path;
        } else if (*pattern == *path || (*pattern == '?' && *path != '/')) {
            pattern++;
            path++;
        } else if (star && *from != '/') { /* it stands for one byte more */
            path = ++from;
            pattern = star + 1;
        } else {
            return false;
        }
    }
    pattern += strspn(pattern, "*");
    return *pattern == '\0';
}

/* What the first that matches states; "" where none does. */
static const char *stated_of(const struct saed_opts *o, const char *below)
{
    for (size_t i = 0; i < o->n_readings; i++)
        if (saed_match(o->readings[i].match, below))
            return o->readings[i].stated;
    return "";
}

/* ---- collecting ------------------------------------------------------------------------------ */

struct entry {
    char *name;   /* owned, as the others */
    char *path;   /* of the file or folder */
    char *source; /* and what is stated of it */
};

struct search {
    const struct saed_opts *opts;
    const char *dir; /* that is walked */
    saed_not_offered_fn *not_offered;
    void *arg;
    struct entry *list;
    size_t n, cap;
};

static enum sae_status no_memory(struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot list dictionaries: memory has run out");
}

static void free_entry(struct entry *e)
{
    sae_free(e->name);
    sae_free(e->path);
    sae_free(e->source);
}

/* Two texts as one; owned, NULL: memory has run out. */
static char *joined(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    char *s = sae_calloc(n + m + 1, 1);

    if (s) {
        memcpy(s, a, n);
        memcpy(s + n, b, m);
    }
    return s;
}

static enum sae_status add(struct search *s, const char *name, const char *path, const char *stated,
                           struct sae_err *err)
{
    struct entry e;

    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        struct entry *more = sae_realloc(s->list, cap, sizeof *more);

        if (!more)
            return no_memory(err);
        s->list = more;
        s->cap = cap;
    }
    e = (struct entry){sae_strdup(name), sae_strdup(path), joined(path, stated)};
    if (!e.name || !e.path || !e.source) {
        free_entry(&e);
        return no_memory(err);
    }
    s->list[s->n++] = e;
    return SAE_OK;
}

/* The last component of a path without the '/' behind it; *n its bytes. */
static const char *last_of(const char *path, size_t *n)
{
    size_t end = strlen(path), at;

    while (end > 0 && path[end - 1] == '/')
        end--;
    for (at = end; at > 0 && path[at - 1] != '/'; at--)
        ;
    *n = end - at;
    return path + at;
}

static enum sae_status on_found(void *arg, const char *path, const char *below, bool is_folder,
                                struct sae_err *err)
{
    struct search *s = arg;
    size_t n_last, n;
    const char *last = last_of(s->dir, &n_last);
    char name[SAED_NAME_MAX + 1] = "", itself[256], why[80];

    if (!below[0]) { /* the folder itself */
        snprintf(itself, sizeof itself, "%.*s", n_last < 255 ? (int)n_last : 255, last);
        below = itself;
    }
    if (strchr(path, SAE_SOURCE_CUT)) {
        s->not_offered(s->arg, NULL, path, "its path holds a control character");
        return SAE_OK;
    }
    n = saed_name_of_path(below, !is_folder, name, SAED_NAME_MAX);
    if (n >= 1 && n <= SAED_NAME_MAX)
        return add(s, name, path, stated_of(s->opts, below), err);
    snprintf(why, sizeof why, "its path makes a name of %zu bytes, 1 to %d are wanted", n,
             SAED_NAME_MAX);
    s->not_offered(s->arg, name, path, why);
    return SAE_OK;
}

static void on_unlisted(void *arg, const struct sae_err *why)
{
    const struct search *s = arg;

    s->not_offered(s->arg, NULL, s->dir, why->text);
}

static enum sae_status walk_all(struct search *s, struct sae_err *err)
{
    struct sae_walk walk = {.arg = s, .found = on_found, .unlisted = on_unlisted};
    enum sae_status st = SAE_OK;

    for (size_t i = 0; i < s->opts->dictionaries.n && st == SAE_OK; i++) {
        s->dir = s->opts->dictionaries.items[i];
        st = sae_walk(&walk, s->dir, err);
    }
    return st;
}

/* ---- names ----------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = strcmp(x->name, y->name);

    return c ? c : strcmp(x->path, y->path);
}

static bool is_named(const struct saed_opts *o, const char *name)
{
    for (size_t i = 0; i < o->n_sources; i++)
        if (strcmp(o->sources[i].name, name) == 0)
            return true;
    return false;
}

/* Is the one at `at` offered? Not with a name that its neighbour has too. */
static bool is_offered(const struct search *s, size_t at)
{
    const struct entry *e = &s->list[at], *other = NULL;
    char why[400];

    if (at > 0 && strcmp(e[-1].name, e->name) == 0)
        other = e - 1;
    else if (at + 1 < s->n && strcmp(e[1].name, e->name) == 0)
        other = e + 1;
    if (!other && !is_named(s->opts, e->name))
        return true;
    if (other)
        snprintf(why, sizeof why, "%.300s makes the same name", other->path);
    else
        snprintf(why, sizeof why, "a dictionary is named so");
    s->not_offered(s->arg, e->name, e->path, why);
    return false;
}

/* The names and sources of those that are offered move into *out. */
static enum sae_status choose(const struct search *s, struct saed_found *out, struct sae_err *err)
{
    out->sources = sae_calloc(s->n, sizeof *out->sources);
    if (!out->sources)
        return no_memory(err);
    for (size_t i = 0; i < s->n; i++) {
        struct saed_source *to = &out->sources[out->n];

        if (!is_offered(s, i))
            continue;
        to->name = sae_strdup(s->list[i].name);
        to->source = sae_strdup(s->list[i].source);
        out->n++;
        if (!to->name || !to->source)
            return no_memory(err);
    }
    return SAE_OK;
}

enum sae_status saed_find(struct saed_found *out, const struct saed_opts *opts,
                          saed_not_offered_fn *not_offered, void *arg, struct sae_err *err)
{
    struct search s = {.opts = opts, .not_offered = not_offered, .arg = arg};
    struct saed_found found = {.n = 0};
    enum sae_status st = walk_all(&s, err);

    if (st == SAE_OK && s.n > 0)
        qsort(s.list, s.n, sizeof *s.list, by_name);
    if (st == SAE_OK)
        st = choose(&s, &found, err);
    if (st == SAE_OK)
        *out = found;
    else
        saed_found_fini(&found);
    for (size_t i = 0; i < s.n; i++)
        free_entry(&s.list[i]);
    sae_free(s.list);
    return st;
}

void saed_found_fini(struct saed_found *f)
{
    for (size_t i = 0; i < f->n; i++) {
        sae_free(f->sources[i].name);
        sae_free(f->sources[i].source);
    }
    sae_free(f->sources);
    *f = (struct saed_found){.n = 0};
}
