/* report.c - the table of `make bench` on stdout and as JSON. */
#include "lib/saed.h"
#include "tests/bench/bench.h"

#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

struct bench_report {
    json_t *facts, *rows;
    char section[80];
};

double bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_cpu(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_value);
    return n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
}

double bench_ratio(const double *a, const double *b, int n)
{
    double r[BENCH_MAX_TURNS];

    for (int i = 0; i < n; i++)
        r[i] = a[i] / b[i];
    return bench_median(r, n);
}

void bench_die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

struct bench_report *report_open(void)
{
    struct bench_report *r = calloc(1, sizeof *r);

    if (!r || !(r->facts = json_object()) || !(r->rows = json_array()))
        bench_die("out of memory");
    return r;
}

void report_fact(struct bench_report *r, const char *key, const char *format, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    json_object_set_new(r->facts, key, json_string(text));
    printf("%-12s %s\n", key, text);
}

void report_section(struct bench_report *r, const char *title)
{
    snprintf(r->section, sizeof r->section, "%s", title);
    printf("\n%-52s %16s  %-44s %7s %7s %8s\n", title, "measured", "beside it", "ratio", "target",
           "reached");
}

void report_note(struct bench_report *r, const char *format, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    printf("  %s\n", text);
    json_array_append_new(r->rows, json_pack("{s:s, s:s}", "section", r->section, "omitted", text));
}

void report_row(struct bench_report *r, const struct bench_row *w)
{
    char value[40], beside[96] = "", ratio[16] = "", target[16] = "", reached[16] = "";
    double share = w->target <= 0 || w->ratio <= 0 ? 0
                   : w->at_most                    ? w->target / w->ratio
                                                   : w->ratio / w->target;
    json_t *j = json_pack("{s:s, s:s, s:f, s:s}", "section", r->section, "what", w->what, "value",
                          w->value, "unit", w->unit);

    snprintf(value, sizeof value, "%.4g %s", w->value, w->unit);
    if (w->beside_what[0]) {
        snprintf(beside, sizeof beside, "%.4g %s  %s", w->beside, w->unit, w->beside_what);
        json_object_set_new(j, "beside", json_real(w->beside));
        json_object_set_new(j, "beside_what", json_string(w->beside_what));
    }
    if (w->ratio > 0) {
        snprintf(ratio, sizeof ratio, "%.3g", w->ratio);
        json_object_set_new(j, "ratio", json_real(w->ratio));
    }
    if (share > 0) {
        snprintf(target, sizeof target, "%s%.4g", w->at_most ? "<=" : "", w->target);
        snprintf(reached, sizeof reached, "%.2f%s", share, share >= 1 ? "" : " *");
        json_object_set_new(j, "target", json_real(w->target));
        json_object_set_new(j, "reached", json_real(share));
        if (w->at_most)
            json_object_set_new(j, "at_most", json_true());
    }
    if (w->note[0])
        json_object_set_new(j, "note", json_string(w->note));
    printf("%-52s %16s  %-44s %7s %7s %8s  %s\n", w->what, value, beside, ratio, target, reached,
           w->note);
    fflush(stdout);
    json_array_append_new(r->rows, j);
}

int report_close(struct bench_report *r, const char *json_path)
{
    int rc = 0;
    json_t *all;

    printf("\nreached: share of the target, * where it is missed\n");
    all = json_pack("{s:o, s:o}", "facts", r->facts, "rows", r->rows);
    if (json_path && json_dump_file(all, json_path, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench: cannot write %s\n", json_path);
        rc = -1;
    }
    json_decref(all);
    free(r);
    return rc;
}
