/* bench_table.c - `make bench`: one run, one table, some minutes. See bench.h.
 *
 *   bench_table [--isa NAME] [--big] [--seconds S] [--only SECTION] [--json FILE]
 *
 *   --isa      measure the kernels of this instruction set (SAED_ISA of the daemon too, and
 * baselines without AVX-512 when it has none), for the table's other column
 *   --big      2304/65536 too: 3 GB of memory, some minutes more
 *   --only     kernels, encode, codecs, daemon, client or load
 *   --seconds  of a turn of a load test [1.2]
 * Run from the root of the sources; the daemon is $SAED_BIN. Exit 1 when something could not be
 * measured, never for a target that is missed. */
#include "lib/saed.h"
#include "tests/bench/bench.h"
#include "tests/bench/requests.h"
#include "tests/support/dicts.h"

#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void cpu_name(char *out, size_t cap)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256], *at;

    snprintf(out, cap, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && (at = strchr(line, ':'))) {
            at[strcspn(at, "\n")] = '\0';
            snprintf(out, cap, "%s", at + 2);
            break;
        }
    if (f)
        fclose(f);
}

static void print_facts(struct bench *b)
{
    char cpu[128], date[40];
    double avg[3] = {0};
    time_t now = time(NULL);
    cpu_set_t set;

    cpu_name(cpu, sizeof cpu);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M", localtime(&now));
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        b->threads = CPU_COUNT(&set);
    if (getloadavg(avg, 1) < 1)
        avg[0] = -1;
    report_fact(b->report, "date", "%s", date);
    report_fact(b->report, "cpu", "%s, %d CPUs, load average %.1f at the start", cpu, b->threads,
                avg[0]);
    report_fact(b->report, "saed", "%s, native engine on %s; targets of the %s column",
                SAED_VERSION, sae_isa_name(b->isa), b->vnni ? "AVX-512 VNNI" : "AVX2");
    b->blas = blas_open(!b->avx512);
    report_fact(b->report, "openblas", "detects %s; compared: %s", blas_detected(b->blas),
                blas_list(b->blas));
}

/* Rows for both sides, then PyTorch, which writes the weights. */
static void start_python(struct bench *b)
{
    char core[64], path[512];
    const char *const argv[] = {"/usr/bin/python3", "tests/bench/peer.py", "local", b->dir, NULL};
    const char *const env[] = {core, b->avx512 ? NULL : "ATEN_CPU_CAPABILITY=avx2",
                               "DNNL_MAX_CPU_ISA=AVX2", NULL};
    float *x = dicts_rows(BENCH_ROWS, BENCH_D, 1);
    size_t n = (size_t)BENCH_ROWS * BENCH_D;
    FILE *f;

    snprintf(path, sizeof path, "%s/rows.f32", b->dir);
    f = fopen(path, "w");
    if (!f || fwrite(x, sizeof *x, n, f) != n || fclose(f) != 0)
        bench_die("cannot write %s", path);
    sae_free(x);
    blas_load(b->blas, 768, 4096);
    blas_pick(b->blas, "gemm", 64);
    snprintf(core, sizeof core, "OPENBLAS_CORETYPE=%s", blas_core(b->blas));
    if (child_start(&b->python, argv, env))
        report_fact(b->report, "peers", "%s, %s", b->python.ready, core);
    else
        report_fact(b->report, "peers", "left out: no python3-torch");
}

/* What the machine's environment says to OpenBLAS, OpenMP and MKL holds for none of the programs
 * here: baselines are told by us, daemon and peers detect for themselves. */
static void clean_environment(void)
{
    static const char *const prefixes[] = {"OPENBLAS_", "GOTO_", "OMP_", "MKL_"};
    char **e = environ;

    while (*e) {
        char name[128];
        bool drop = false;

        for (size_t i = 0; i < SAE_COUNTOF(prefixes); i++)
            drop |= strncmp(*e, prefixes[i], strlen(prefixes[i])) == 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
        if (drop && unsetenv(name) == 0)
            e = environ; /* the array has moved */
        else
            e++;
    }
}

static void usage(void)
{
    fputs("usage: bench_table [--isa NAME] [--big] [--seconds S] [--only SECTION] [--json FILE]\n",
          stderr);
    exit(2);
}

static void set_isa(struct bench *b, const char *name)
{
    b->isa = sae_cpu_best();
    if (name && (!sae_isa_by_name(name, &b->isa) || !sae_cpu_has(b->isa)))
        bench_die("this CPU has no %s", name);
    if (b->isa == SAE_ISA_SCALAR)
        bench_die("the native engine, and this bench, need AVX2");
    if (name)
        setenv("SAED_ISA", name, 1);
    b->avx512 = b->isa >= SAE_ISA_AVX512;
    b->vnni = b->isa == SAE_ISA_VNNI;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct bench *b);
    } sections[] = {
        {"kernels", section_kernels}, {"encode", section_encode}, {"codecs", section_codecs},
        {"daemon", section_daemon},   {"client", section_client}, {"load", section_load},
    };
    static const struct option options[] = {
        {"isa", required_argument, NULL, 'i'},     {"big", no_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 's'}, {"only", required_argument, NULL, 'o'},
        {"json", required_argument, NULL, 'j'},    {0}};
    struct bench b = {.threads = 1, .seconds = 1.2};
    const char *isa = getenv("SAED_ISA"), *only = NULL, *json = NULL;
    char dir[400], *slash;
    int c, rc;

    if (argc > 1 && strcmp(argv[1], "--blas-child") == 0)
        return blas_child_main();
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'i')
            isa = optarg;
        else if (c == 'b')
            b.big = true;
        else if (c == 's')
            b.seconds = strtod(optarg, NULL);
        else if (c == 'o')
            only = optarg;
        else if (c == 'j')
            json = optarg;
        else
            usage();
    }
    if (optind < argc || !(b.seconds > 0))
        usage();
    signal(SIGPIPE, SIG_IGN);
    clean_environment();
    snprintf(dir, sizeof dir, "%s", argv[0]);
    slash = strrchr(dir, '/');
    if (!slash)
        usage();
    *slash = '\0';
    b.dir = dir;
    set_isa(&b, isa);
    b.report = report_open();
    print_facts(&b);
    if (!only || only[0] == 'c' || only[0] == 'd')
        start_python(&b);
    for (size_t i = 0; i < SAE_COUNTOF(sections); i++)
        if (!only || strcmp(only, sections[i].name) == 0)
            sections[i].run(&b);
    child_stop(&b.python);
    blas_close(b.blas);
    rc = report_close(b.report, json);
    return rc ? 1 : 0;
}
