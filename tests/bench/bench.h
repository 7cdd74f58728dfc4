/* bench.h - the parts of `make bench`: one process measures everything and prints one table.
 *
 * bench_table.c wires the sections together; a section measures its rows and hands each to
 * report_row, which prints it at once and keeps it for the JSON file. Both sides of a row are
 * measured in turns within the run (machines are shared and noisy): what counts is the median of
 * the turns' ratios, times are medians and only illustrate. "ratio" is how many times as good as
 * what it stands beside, "target" that of the CPU's column, "reached" how much of the target.
 *
 * One-thread rows count CPU time of the thread on both sides, so that being preempted on a busy
 * machine is not taken for slowness; rows of several threads and of servers count wall time.
 *
 * Baselines live in child processes that do one thing when asked through a pipe, so that each can
 * have its own OPENBLAS_CORETYPE and yet be interleaved with ours. All sections run on the main
 * thread, one after the other; a machine that cannot do something gets a line that says so. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include "lib/cpu.h"
#include "lib/dict/dict.h"

#include <stdio.h>
#include <stdlib.h>

#define BENCH_MAX_TURNS 31

/* ---- report.c: the table -------------------------------------------------------------------- */

struct bench_row {
    char what[64];
    double value;
    const char *unit;     /* of value and beside; a static string */
    char beside_what[48]; /* "": nothing stands beside */
    double beside;
    double ratio;  /* 0: none */
    double target; /* 0: none */
    bool at_most;  /* the target is a ceiling of the ratio */
    char note[72];
};

struct bench_report;
struct bench_report *report_open(void);
/* A fact of the run, printed above the table and kept in the JSON. */
void report_fact(struct bench_report *r, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_section(struct bench_report *r, const char *title);
void report_row(struct bench_report *r, const struct bench_row *row);
/* A line without figures: what was left out and why. */
void report_note(struct bench_report *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Write the JSON file (NULL: none) and free. 0, or -1 with a line on stderr. */
int report_close(struct bench_report *r, const char *json_path);

double bench_now(void); /* seconds */
double bench_cpu(void); /* seconds that this thread has computed */
/* Sorts t. */
double bench_median(double *t, int n);
/* Median of a[i] / b[i]. */
double bench_ratio(const double *a, const double *b, int n);
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- limits.c: what the CPU can do ---------------------------------------------------------- */

/* One sample of some milliseconds, one thread. */
double limit_fma(bool avx512);       /* flop/s, f32 */
double limit_int8(enum sae_isa isa); /* op/s (2 a multiply-add) of the isa's int8 dot product */
double limit_read(const void *p, size_t bytes); /* byte/s; bytes a multiple of 4096 */

/* ---- child.c: programs that answer questions ------------------------------------------------ */

struct bench_child {
    int pid; /* 0: none */
    FILE *to, *from;
    char ready[96]; /* its first line */
};

/* Start argv with env (NAME=VALUE, NULL ends) before our own environment, which bench_table.c has
 * cleaned, and wait for its first line. False: it cannot run here. */
bool child_start(struct bench_child *c, const char *const *argv, const char *const *env);
/* Send a line and read the number that it answers; dies with the child's name if it does not. */
double child_ask(struct bench_child *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void child_stop(struct bench_child *c);

/* ---- blas.c: cblas_sgemm, whose best core is not always the one that is detected ------------- */

struct bench_blas;
/* Main of the child, chosen by `--blas-child` on the command line. */
int blas_child_main(void);
/* Children for every core type that runs here and is not clearly slower than the best; no_avx512
 * keeps to cores without. */
struct bench_blas *blas_open(bool no_avx512);
void blas_close(struct bench_blas *b);
const char *blas_detected(const struct bench_blas *b); /* the core that OpenBLAS picks itself */
const char *blas_list(const struct bench_blas *b);     /* those compared */
/* Weights of F x d in every child; the last ones are replaced. */
void blas_load(struct bench_blas *b, size_t d, size_t F);
/* Kinds: "gemm" n rows through the encoder, "gemv" row by row, "decode" n rows of f back.
 * Pick the fastest child for it; afterwards blas_run times it there. */
void blas_pick(struct bench_blas *b, const char *kind, size_t n);
const char *blas_core(const struct bench_blas *b);                 /* the picked one's name */
double blas_run(struct bench_blas *b, const char *kind, size_t n); /* seconds */
/* Rows a second of n-row products on so many threads at once, for `seconds`. */
double blas_rate(struct bench_blas *b, size_t n, int threads, double seconds);

/* ---- sections ------------------------------------------------------------------------------- */

struct bench {
    struct bench_report *report;
    struct bench_blas *blas;
    enum sae_isa isa;  /* that is measured: the CPU's best, or --isa */
    bool avx512, vnni; /* the isa's registers; the table's right column */
    bool big;          /* --big: 2304/65536 too */
    int threads;       /* CPUs that the daemon will use */
    double seconds;    /* of one turn of a load test */
    const char *dir;   /* of this program: bench_dnnl lies beside it, scratch files go there */
    struct bench_child python; /* peer.py local; pid 0: no PyTorch here */
};

/* The table's target for the column that fits: AVX2 or AVX-512 VNNI. */
static inline double bench_target(const struct bench *b, double avx2, double vnni)
{
    return b->vnni ? vnni : avx2;
}

void section_kernels(struct bench *b); /* kernels.c: limits and kernels */
void section_encode(struct bench *b);  /* encode.c: batches through lib/saed.h */
void section_codecs(struct bench *b);  /* codecs.c */
void section_daemon(struct bench *b);  /* daemon.c: end to end, beside the peers */
void section_client(struct bench *b);  /* client.c: the Python client */
void section_load(struct bench *b);    /* loading.c: others while dictionaries load */

#endif
