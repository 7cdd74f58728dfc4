/* version.c - see version.h. Asks each third-party library in its own home. */
#include "server/version.h"

#include "lib/cpu.h"
#include "lib/format/zip.h"
#include "lib/format/zstandard.h"
#include "lib/saed.h"
#include "lib/sha256.h"
#include "server/net/http.h"
#include "server/opts/opts.h"

#include <gnu/libc-version.h>

/* From the Makefile, for this file alone. */
#ifndef SAED_COMMIT
#define SAED_COMMIT "unknown"
#endif

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static enum sae_status print_cpu(struct sae_buf *out)
{
    enum sae_status st = sae_buf_addf(out, "cpu");

    for (int i = 0; i < SAE_N_ISAS && st == SAE_OK; i++)
        if (sae_cpu_has((enum sae_isa)i))
            st = sae_buf_addf(out, " %s", sae_isa_name((enum sae_isa)i));
    return st == SAE_OK ? sae_buf_addf(out, "\n") : st;
}

enum sae_status saed_version_print(struct sae_buf *out, bool verbose)
{
    enum sae_status st = sae_buf_addf(out, "saed %s\n", SAED_VERSION);
    const char *openblas;

    if (!verbose || st != SAE_OK)
        return st;
    openblas = sae_engine_library();
    st = sae_buf_addf(
        out, "commit %s\ncompiler %s\n%s\n%s\n%s\n%s\n%s\nzstd %s\nglibc %s\n", SAED_COMMIT,
        COMPILER, saed_http_library(), saed_opts_library(), sae_zip_library(), sae_sha256_library(),
        openblas ? openblas : "OpenBLAS not installed", sae_zstd_version(), gnu_get_libc_version());
    return st == SAE_OK ? print_cpu(out) : st;
}
