/* formats.c - reads the fixtures of formats. See formats.h. */
#include "tests/support/formats.h"

#include "lib/base.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct formats_case *cases;
static const struct formats_case **served, **refusals;
static size_t n_cases, n_served, n_refusals;

static void *must(void *p, const char *what)
{
    if (!p) {
        fprintf(stderr, "formats: %s\n", what);
        abort();
    }
    return p;
}

/* Rows that the cases of a file share until the next such line. */
struct rows {
    size_t n, d;
    float *x;
};

/* n numbers of a line, each that of an f32. */
static double *numbers(const char *text, size_t n)
{
    double *v = must(calloc(n + 1, sizeof *v), "out of memory");
    char *end;

    for (size_t i = 0; i < n; i++, text = end) {
        v[i] = (double)strtof(text, &end);
        if (end == text)
            must(NULL, text);
    }
    if (strspn(text, " \n") != strlen(text))
        must(NULL, "more numbers than are wanted");
    return v;
}

static struct rows read_rows(const char *text)
{
    struct rows r;
    double *v;
    int at;

    if (sscanf(text, "%zu %zu%n", &r.n, &r.d, &at) != 2)
        must(NULL, text);
    v = numbers(text + at, r.n * r.d);
    r.x = must(calloc(r.n * r.d + 1, sizeof *r.x), "out of memory");
    for (size_t i = 0; i < r.n * r.d; i++)
        r.x[i] = (float)v[i];
    free(v);
    return r;
}

static void join(char *to, size_t room, const char *text)
{
    size_t n = strlen(to);

    if ((size_t)snprintf(to + n, room - n, "%s%s", n ? " | " : "", text) >= room - n)
        must(NULL, text);
}

static void copy(char *to, size_t room, const char *text)
{
    to[0] = '\0';
    join(to, room, text);
}

static void take_dims(struct formats_case *c, const char *text, const struct rows *rows)
{
    char near[8] = "";

    if (sscanf(text, "%zu %zu %zu %zu %7s", &c->n, &c->d, &c->F, &c->m, near) < 4 ||
        c->n != rows->n || c->d != rows->d)
        must(NULL, c->name);
    c->is_near = near[0] != '\0';
    c->x = rows->x;
}

static size_t count_words(const char *text)
{
    size_t n = 0;

    for (; *(text += strspn(text, " ")); text += strcspn(text, " "))
        n++;
    return n;
}

/* A line of a case: its key, and what stands behind. */
static void take(struct formats_case *c, const char *key, const char *text, const struct rows *rows)
{
    if (strcmp(key, "source") == 0)
        snprintf(c->source, sizeof c->source, FORMATS_DIR "%s", text);
    else if (strcmp(key, "refused") == 0)
        c->refused = atoi(text);
    else if (strcmp(key, "said") == 0 && c->n_said < FORMATS_MAX_SAID)
        copy(c->said[c->n_said++], sizeof c->said[0], text);
    else if (strcmp(key, "class") == 0)
        copy(c->class_name, sizeof c->class_name, text);
    else if (strcmp(key, "format") == 0)
        copy(c->format, sizeof c->format, text);
    else if (strcmp(key, "line") == 0)
        join(c->lines, sizeof c->lines, text);
    else if (strcmp(key, "note") == 0)
        join(c->notes, sizeof c->notes, text);
    else if (strcmp(key, "dims") == 0)
        take_dims(c, text, rows);
    else if (strcmp(key, "f") == 0)
        c->f = numbers(text, c->n * c->F);
    else if (strcmp(key, "y") == 0)
        c->y = numbers(text, c->n * c->m);
    else if (strcmp(key, "s") == 0) {
        c->n_state = count_words(text) / c->n;
        c->s = numbers(text, c->n * c->n_state);
    } else
        must(NULL, key);
}

static void read_file(const char *path)
{
    FILE *in = must(fopen(path, "r"), path);
    struct rows rows = {0};
    char *line = NULL, *text;
    size_t room = 0;

    while (getline(&line, &room, in) > 0) {
        line[strcspn(line, "\n")] = '\0';
        text = line + strcspn(line, " ");
        if (*text)
            *text++ = '\0';
        if (strcmp(line, "case") == 0) {
            cases = must(realloc(cases, (n_cases + 1) * sizeof *cases), "out of memory");
            cases[n_cases] = (struct formats_case){0};
            copy(cases[n_cases++].name, sizeof cases->name, text);
        } else if (strcmp(line, "rows") == 0) {
            rows = read_rows(text); /* kept by the cases */
        } else {
            take(&cases[n_cases - 1], line, text, &rows);
        }
    }
    free(line);
    fclose(in);
}

static void read_all(void)
{
    glob_t g;

    if (glob(FORMATS_DIR "*.gold", 0, NULL, &g) != 0)
        must(NULL, "nothing in " FORMATS_DIR " (tests run from the repository's root)");
    for (size_t i = 0; i < g.gl_pathc; i++)
        read_file(g.gl_pathv[i]);
    globfree(&g);
    served = must(calloc(n_cases, sizeof(struct formats_case *)), "out of memory");
    refusals = must(calloc(n_cases, sizeof(struct formats_case *)), "out of memory");
    for (size_t i = 0; i < n_cases; i++)
        if (cases[i].refused)
            refusals[n_refusals++] = &cases[i];
        else
            served[n_served++] = &cases[i];
}

const struct formats_case *formats_cases(size_t *n)
{
    if (!cases)
        read_all();
    *n = n_cases;
    return cases;
}

const struct formats_case *const *formats_which(bool refused, size_t *n)
{
    formats_cases(n);
    *n = refused ? n_refusals : n_served;
    return refused ? refusals : served;
}

bool formats_equal(const struct formats_case *c, double want, float got)
{
    if (!isfinite(want) || !isfinite(got))
        return isnan(want) ? isnan(got) : (double)got == want;
    return fabs((double)got - want) <= (c->is_near ? 1e-5 * (1.0 + fabs(want)) : 0.0);
}
