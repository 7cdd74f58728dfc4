/* bench_dnnl.c - a child of the bench: oneDNN's int8 GEMM, the yardstick of the screening kernel.
 *
 * u8 rows (768 wide) times s8 weights of 24576 features, s32 sums; for a number of rows on stdin it
 * answers op/s of one product. Built only where libdnnl-dev is installed; OMP_NUM_THREADS is the
 * parent's to set. */
#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { D = 768, F = 24576, MAX_ROWS = 256 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    uint8_t *x = malloc((size_t)MAX_ROWS * D);
    int8_t *w = malloc((size_t)F * D);
    int32_t *y = malloc((size_t)MAX_ROWS * F * sizeof *y), zero = 0;
    char line[64];

    if (!x || !w || !y)
        return 1;
    for (size_t i = 0; i < (size_t)MAX_ROWS * D; i++)
        x[i] = (uint8_t)(i * 31 % 251);
    for (size_t i = 0; i < (size_t)F * D; i++)
        w[i] = (int8_t)((int)(i * 17 % 253) - 126);
    memset(y, 0, (size_t)MAX_ROWS * F * sizeof *y);
    printf("oneDNN %d.%d\n", dnnl_version()->major, dnnl_version()->minor);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        long n = strtol(line, NULL, 10);
        double t0 = now();

        if (n < 1 || n > MAX_ROWS ||
            dnnl_gemm_u8s8s32('N', 'T', 'F', n, F, D, 1.0f, x, D, 0, w, D, 0, 0.0f, y, F, &zero) !=
                dnnl_success)
            return 1;
        printf("%.9g\n", 2.0 * (double)n * F * D / (now() - t0));
        fflush(stdout);
    }
    return 0;
}
