/* main.c - the daemon's process: options, then one of its actions; exit status (spec section 2). */
#include "server/check.h"
#include "server/daemon.h"
#include "server/report/log.h"
#include "server/opts/opts.h"
#include "server/probe.h"
#include "server/version.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One line on stderr for each cause. Also called by the loading thread, when main only waits. */
static void report(void *arg, const struct sae_err *err)
{
    (void)arg;
    saed_log_failure(err->text);
}

/* Standard descriptors that are closed are /dev/null: else a socket or a weights file would take
 * their numbers, and what is meant for stdout or stderr would go there. */
static void open_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return;
}

/* The exit status once stdout has all of it: 1 where it has not. */
static int flush_stdout(int rc)
{
    struct sae_err err = {0};
    int e = fflush(stdout) != 0 ? errno : 0;

    if (e == 0 && !ferror(stdout))
        return rc;
    sae_err_set(&err, SAE_E_IO, "", "cannot write to stdout: %s", strerror(e ? e : EIO));
    report(NULL, &err);
    return 1;
}

static int exit_status(enum sae_status st)
{
    return st == SAE_OK ? 0 : st == SAE_E_USAGE ? 2 : 1;
}

/* --help, --version. */
static int print_about(const struct saed_opts *o)
{
    static char room[1u << 16];
    struct sae_buf b;
    enum sae_status st;

    sae_buf_init(&b, 1u << 20);
    st = o->action == SAED_HELP ? saed_opts_help(&b) : saed_version_print(&b, o->verbose);
    /* in one piece, by the flush, which has the reason where it fails */
    setvbuf(stdout, room, _IOFBF, sizeof room);
    if (st == SAE_OK)
        fwrite(b.data, 1, b.len, stdout);
    sae_buf_fini(&b);
    return flush_stdout(st == SAE_OK ? 0 : 1);
}

/* Before weights are read, and before there are threads (sae_engine_load). */
static enum sae_status load_engine(const struct saed_opts *o)
{
    struct sae_err err = {0};
    enum sae_status st = SAE_OK;

    if (o->action == SAED_RUN || o->action == SAED_CHECK)
        st = sae_engine_load(o->engine, &err);
    if (st != SAE_OK)
        report(NULL, &err);
    return st;
}

/* Exit status 3: all is loaded, and a figure of a sample does not fit. */
static int check(const struct saed_opts *o)
{
    bool is_suspicious = false;
    enum sae_status st = saed_check(o, report, NULL, &is_suspicious);

    return flush_stdout(st == SAE_OK && is_suspicious ? 3 : exit_status(st));
}

/* Fresh pages cost more than what is done with them (see sae_alloc). So malloc keeps what it has
 * had until it is quiet (slack.h), and what sae_alloc has backed with huge pages comes and goes by
 * mmap. One arena: of others malloc_trim leaves the end, up to 64 MB each; and the threads that
 * meet at its lock are few, since compute threads allocate nothing. */
static void keep_memory(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

int main(int argc, char **argv)
{
    extern char **environ;
    struct saed_opts o = {0};
    enum sae_status st;
    bool abandoned = false;
    int rc = 0;

    open_standard_fds();
    st = saed_opts_parse(&o, argc, argv, environ, report, NULL);
    if (st == SAE_OK)
        st = load_engine(&o);
    if (st != SAE_OK) {
        saed_opts_fini(&o);
        return exit_status(st);
    }
    switch (o.action) {
    case SAED_VERSION_ACTION:
    case SAED_HELP:
        rc = print_about(&o);
        break;
    case SAED_PROBE:
        rc = saed_probe(o.probe_url);
        break;
    case SAED_CHECK:
        rc = check(&o);
        break;
    case SAED_RUN:
        keep_memory();
        saed_log_init(o.log_level, o.log_format);
        rc = saed_daemon_run(&o, report, NULL, &abandoned);
        break;
    }
    if (abandoned) /* loading threads still read the options */
        _exit(rc);
    saed_opts_fini(&o);
    return rc;
}
