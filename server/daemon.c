/* daemon.c - see daemon.h. */
#include "server/daemon.h"

#include "server/api/keys.h"
#include "server/clock.h"
#include "server/net/http.h"
#include "server/net/listen.h"
#include "server/report/log.h"
#include "server/api/routes.h"
#include "server/report/process.h"
#include "server/service.h"
#include "server/slack.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_MS 5
#define FIRST_PASSED 3 /* SD_LISTEN_FDS_START */
/* What a connection thread has begun to read may be so long in coming before compute threads that
 * sleep are woken for what is there. Divided by their number: the more they are, the sooner they
 * are through with a batch, and the less is saved by one batch instead of two. */
#define GATHER_NS 6000000ull
#define QUIET_NS 50000000ull
/* Once the drain has timed out: for the last answers to go out, and for heads to become whole. */
#define REPLY_NS 1000000000ull
#define HEADS_NS 100000000ull
/* Before the exit: for clients that were answered while they sent to look at their answers. */
#define LINGER_NS 250000000ull

/* Owned by the main thread, but for `service` and `status` while loading. Not on its stack: a
 * loader that is abandoned writes to it until the process ends. */
struct daemon {
    struct saed_opts opts;   /* a copy: what they leave to memory is resolved once it has loaded */
    _Atomic size_t n_loaded; /* of opts.n_sources */
    saed_report_fn *report;
    void *report_arg;
    struct saed_metrics *metrics;
    struct saed_requests *requests; /* in the log */
    struct saed_routes *routes;
    struct saed_http *http;
    struct saed_service service;
    enum sae_status status; /* of loading */
    pthread_t loader;
    int loaded_fd;
    uint64_t n_signals;
    struct saed_address *addresses; /* owned: where it listens */
    size_t n_addresses;
    struct sae_buf lines; /* for stdout, once it takes them */
    size_t n_written;     /* bytes of them */
    bool is_announced;    /* everything has loaded: they may go */
};

/* Counts signals for the main thread: those that end the daemon below, SIGHUP in the upper half. A
 * handler and not signalfd: threads that libraries start do not block what main blocks, and a
 * signal may be delivered to them. Global because a handler has no argument; set before the handler
 * is. */
#define HUP_SHIFT 32
static int signal_fd = -1;

static void on_signal(int sig)
{
    uint64_t count = sig == SIGHUP ? UINT64_C(1) << HUP_SHIFT : 1;
    int saved = errno;

    (void)!write(signal_fd, &count, sizeof count);
    errno = saved;
}

/* A file that is broken must not lock out those who have keys. */
static void reload(struct daemon *d)
{
    struct saed_keys *keys = saed_routes_keys(d->routes);
    struct sae_err err = {0};

    if (!keys)
        saed_log(SAED_INFO, "hup", saed_str("reload", "there is nothing to reload"));
    else if (saed_keys_reload(keys, &err) == SAE_OK)
        saed_log(SAED_INFO, "hup", saed_str("reload", "keys"),
                 saed_uint("keys", saed_keys_count(keys)));
    else
        saed_log(SAED_ERROR, "hup", saed_str("reload", "keys"), saed_str("error", err.text),
                 saed_uint("kept", saed_keys_count(keys)));
}

static void take_signals(struct daemon *d, uint64_t count)
{
    d->n_signals += count & UINT32_MAX;
    if (count >> HUP_SHIFT)
        reload(d);
}

static bool has_lines(const struct daemon *d)
{
    return d->is_announced && d->n_written < d->lines.len;
}

static bool takes_more(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, 0) > 0;
}

/* stdout takes a line, or never will: each is one write of less than a pipe's page. */
static void write_lines(struct daemon *d)
{
    while (has_lines(d) && takes_more(STDOUT_FILENO)) {
        const char *line = d->lines.data + d->n_written;
        size_t len = (size_t)(strchr(line, '\n') + 1 - line);
        ssize_t n = write(STDOUT_FILENO, line, len);

        if (n != (ssize_t)len)
            saed_log(SAED_WARN, "stdout", saed_str("error", n < 0 ? strerror(errno) : "cut"));
        d->n_written += len;
    }
}

static void *load(void *arg)
{
    struct daemon *d = arg;

    d->status = saed_service_open(&d->service, &d->opts, d->metrics, &d->n_loaded, d->report,
                                  d->report_arg);
    (void)!write(d->loaded_fd, &(uint64_t){1}, sizeof(uint64_t));
    return NULL;
}

/* Wait for a signal (counted), the end of loading (true), or room on stdout for what it is to have,
 * at most `ms` (-1: for ever). */
static bool wait_ms(struct daemon *d, int ms)
{
    struct pollfd fds[3] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = d->loaded_fd, .events = POLLIN},
                            {.fd = has_lines(d) ? STDOUT_FILENO : -1, .events = POLLOUT}};
    uint64_t count;

    if (poll(fds, 3, ms) <= 0)
        return false;
    if ((fds[0].revents & POLLIN) && read(signal_fd, &count, sizeof count) == sizeof count)
        take_signals(d, count);
    if (fds[2].revents)
        write_lines(d);
    return (fds[1].revents & POLLIN) && read(d->loaded_fd, &count, sizeof count) == sizeof count;
}

/* The eventfd of signals stays open to the end: one may come at any time. */
static enum sae_status open_signals(struct daemon *d, struct sae_err *err)
{
    struct sigaction handle = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->loaded_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signal_fd < 0 || d->loaded_fd < 0 || sigaction(SIGPIPE, &ignore, NULL) != 0 ||
        sigaction(SIGUSR1, &ignore, NULL) != 0 || sigaction(SIGUSR2, &ignore, NULL) != 0 ||
        sigaction(SIGHUP, &handle, NULL) != 0 || sigaction(SIGTERM, &handle, NULL) != 0 ||
        sigaction(SIGINT, &handle, NULL) != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot wait for signals: %s", strerror(errno));
    return SAE_OK;
}

/* Whoever passes a socket knows where it listens: what saed would not listen on unasked is refused
 * all the same. */
static enum sae_status take_passed(struct daemon *d, struct sae_err *err)
{
    const struct saed_opts *o = &d->opts;
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < d->n_addresses; i++) {
        struct saed_address *a = &d->addresses[i];

        st = saed_listen_passed(a, FIRST_PASSED + (int)i, err);
        if (st == SAE_OK && a->host[0] && !a->is_loopback && !o->insecure_no_auth &&
            o->api_key_file.n == 0)
            st = sae_err_set(err, SAE_E_USAGE, "",
                             "cannot listen on %s, which was passed: it wants --api-key-file, or "
                             "--insecure-no-auth",
                             a->host);
    }
    return st;
}

/* Where to listen: --listen, or what was passed. */
static enum sae_status find_addresses(struct daemon *d, struct sae_err *err)
{
    const struct saed_opts *o = &d->opts;

    d->n_addresses = o->n_passed ? o->n_passed : o->listen.n;
    d->addresses = sae_calloc(d->n_addresses, sizeof *d->addresses);
    if (!d->addresses)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate %zu addresses", d->n_addresses);
    if (o->n_passed)
        return take_passed(d, err);
    for (size_t i = 0; i < d->n_addresses; i++)
        if (!saed_address_parse(&d->addresses[i], o->listen.items[i]))
            return sae_err_set(err, SAE_E_USAGE, "", "cannot listen on %s", o->listen.items[i]);
    return SAE_OK;
}

/* What is to stand on stdout, in the order of the addresses. */
static enum sae_status make_lines(struct daemon *d, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    char text[SAED_ADDRESS_TEXT];

    for (size_t i = 0; st == SAE_OK && i < d->n_addresses; i++) {
        saed_address_print(&d->addresses[i], text);
        st = sae_buf_addf(&d->lines, "listening on %s\n", text);
    }
    return st == SAE_OK ? st : sae_err_set(err, st, "", "cannot print the addresses");
}

static void log_start(const struct daemon *d)
{
    const struct saed_opts *o = &d->opts;
    char text[SAED_ADDRESS_TEXT];
    const char *key;
    uint64_t value;

    saed_log(SAED_INFO, "start", saed_str("version", SAED_VERSION),
             saed_uint("dictionaries", o->n_sources), saed_uint("threads", o->threads),
             saed_uint("http_threads", o->http_threads));
    for (size_t i = 0; i < d->n_addresses; i++) {
        saed_address_print(&d->addresses[i], text);
        saed_log(SAED_INFO, "listen", saed_str("address", text));
    }
    for (size_t n = 0; saed_opts_limit(o, n, &key, &value); n++)
        saed_log(SAED_INFO, "option", saed_str("name", key), saed_uint("value", value));
}

static enum sae_status start(struct daemon *d, struct sae_err *err)
{
    const struct saed_opts *o = &d->opts;
    enum sae_status st = open_signals(d, err);
    int rc;

    if (st == SAE_OK)
        st = find_addresses(d, err);
    if (st == SAE_OK)
        st = saed_metrics_create(&d->metrics, err);
    if (st == SAE_OK)
        st = saed_requests_create(&d->requests, o->access_log, err);
    if (st == SAE_OK)
        st = saed_routes_create(&d->routes, o, &d->n_loaded, d->metrics, err);
    if (st != SAE_OK)
        return st;
    struct saed_http_config cfg = {
        .n_threads = (size_t)o->http_threads,
        .max_connections = (size_t)o->max_connections,
        .keepalive_timeout_ns = o->keepalive_timeout_ms * 1000000,
        .min_upload_rate = o->min_upload_rate,
        .gather_ns = GATHER_NS / o->threads,
        .handler = saed_routes_handler(d->routes),
        .metrics = d->metrics,
        .requests = d->requests,
    };
    st = saed_http_create(&d->http, &cfg, d->addresses, d->n_addresses, err);
    if (st == SAE_OK)
        st = make_lines(d, err);
    if (st != SAE_OK)
        return st;
    rc = pthread_create(&d->loader, NULL, load, d);
    if (rc != 0)
        return sae_err_set(err, SAE_E_IO, "", "cannot start the loading thread: %s", strerror(rc));
    log_start(d);
    return SAE_OK;
}

/* The lines go to stdout when it has room: a pipe that nobody reads stops nothing. */
static void announce(struct daemon *d)
{
    d->is_announced = true;
    wait_ms(d, 0);
    saed_log(SAED_INFO, "ready", saed_str("version", SAED_VERSION),
             saed_uint("dictionaries", saed_registry_count(d->service.registry)),
             saed_str("engine", sae_engine_name(d->service.engine)),
             saed_str("kernel", sae_engine_kernel(d->service.engine)),
             saed_uint("threads", d->opts.threads),
             saed_uint("http_threads", d->opts.http_threads));
}

/* Others serve. This thread gives back what they have left in malloc, and says what the log has
 * left out. */
static void serve(struct daemon *d)
{
    struct saed_slack slack;

    saed_slack_init(&slack, saed_slack_measure());
    while (d->n_signals == 0) {
        wait_ms(d, (int)(SAED_SLACK_LOOK_NS / 1000000));
        saed_requests_flush(d->requests, saed_now_ns());
        if (!saed_slack_is_due(&slack, saed_slack_measure()) || !saed_sched_rest(d->service.sched))
            continue;
        malloc_trim(0);
        saed_slack_returned(&slack, saed_process_resident_bytes());
    }
}

/* Answer what has been read; once nothing is in flight for a moment, in which clients between two
 * requests learn by their next answer that the connection ends, end the idle connections.
 * False when time or patience is over. */
static bool drain_in_peace(struct daemon *d)
{
    uint64_t now = saed_now_ns(), end = now + d->opts.drain_timeout_ms * 1000000, quiet_since = now;

    for (;; wait_ms(d, POLL_MS)) {
        now = saed_now_ns();
        if (saed_http_busy(d->http) > 0)
            quiet_since = now;
        else if (now - quiet_since >= QUIET_NS && saed_http_close_idle(d->http) == 0)
            return true;
        if (now >= end || d->n_signals >= 3)
            return false;
    }
}

/* Everybody who can be told is told that the server is stopping. */
static void drain_by_force(struct daemon *d)
{
    uint64_t begin = saed_now_ns(), now = begin;
    struct sae_err err = {0};

    saed_log(SAED_WARN, "drain_timeout", saed_uint("requests", saed_http_busy(d->http)));
    saed_routes_refuse(d->routes);
    if (d->service.offers)
        saed_offers_abort(d->service.offers);
    saed_sched_abort(d->service.sched);
    sae_err_set(&err, SAE_E_DRAINING, "", "cannot wait for the body: the server is stopping");
    saed_http_refuse_bodies(d->http, &err);
    while (now < begin + HEADS_NS ? saed_http_busy(d->http) > 0
                                  : now < begin + REPLY_NS && saed_http_answering(d->http) > 0) {
        wait_ms(d, POLL_MS);
        now = saed_now_ns();
    }
    /* MHD cannot be stopped before these are back: what runs is a batch, or a codec's body. */
    while (saed_http_suspended(d->http) > 0)
        wait_ms(d, POLL_MS);
}

static void let_linger(struct daemon *d)
{
    uint64_t end = saed_now_ns() + LINGER_NS;

    while (saed_http_lingering(d->http) > 0 && saed_now_ns() < end)
        wait_ms(d, POLL_MS);
}

static void drain(struct daemon *d)
{
    uint64_t grace_end = saed_now_ns() + d->opts.drain_grace_ms * 1000000, now;

    saed_routes_drain(d->routes);
    saed_log(SAED_INFO, "draining", saed_uint("requests", saed_http_busy(d->http)));
    while ((now = saed_now_ns()) < grace_end && d->n_signals < 2)
        wait_ms(d, (int)((grace_end - now) / 1000000 + 1));
    saed_http_drain(d->http);
    if (!drain_in_peace(d))
        drain_by_force(d);
    let_linger(d);
}

static void log_stopped(const struct daemon *d, const char *while_)
{
    saed_requests_flush(d->requests, UINT64_MAX);
    saed_log(SAED_INFO, "stopped", saed_str("while", while_), saed_uint("signals", d->n_signals));
}

static void finish(struct daemon *d)
{
    saed_http_free(d->http);
    saed_routes_free(d->routes);
    saed_service_close(&d->service);
    saed_requests_free(d->requests);
    saed_metrics_free(d->metrics);
    sae_buf_fini(&d->lines);
    sae_free(d->addresses);
    if (d->loaded_fd >= 0)
        close(d->loaded_fd);
    sae_free(d);
}

/* Nothing is in flight but answers of a few bytes. *d stays: the loader, which nothing stops, goes
 * on with it. */
static void abandon(struct daemon *d)
{
    uint64_t end = saed_now_ns() + REPLY_NS;

    saed_routes_drain(d->routes);
    saed_http_drain(d->http);
    while (saed_http_busy(d->http) > 0 && saed_now_ns() < end)
        wait_ms(d, POLL_MS);
}

int saed_daemon_run(const struct saed_opts *opts, saed_report_fn *report, void *arg,
                    bool *abandoned)
{
    struct daemon *d = sae_calloc(1, sizeof *d);
    struct sae_err err = {0};
    int exit_status = 1;
    bool loaded = false;

    *abandoned = false;
    if (!d) {
        sae_err_set(&err, SAE_E_NOMEM, "", "cannot allocate the daemon: %zu bytes", sizeof *d);
        report(arg, &err);
        return 1;
    }
    *d = (struct daemon){.opts = *opts, .report = report, .report_arg = arg, .loaded_fd = -1};
    sae_buf_init(&d->lines, SAED_ADDRESSES_MAX * (SAED_ADDRESS_TEXT + 16));
    if (start(d, &err) != SAE_OK) {
        report(arg, &err);
        goto out;
    }
    while (!loaded && d->n_signals == 0)
        loaded = wait_ms(d, -1);
    if (!loaded) {
        abandon(d);
        log_stopped(d, "loading");
        *abandoned = true;
        return 0;
    }
    pthread_join(d->loader, NULL);
    if (d->status != SAE_OK)
        goto out;
    d->opts.max_inflight_bytes = d->service.max_inflight_bytes;
    saed_routes_ready(d->routes, d->service.registry, d->service.offers, d->service.engine,
                      d->service.sched);
    announce(d);
    serve(d);
    drain(d);
    log_stopped(d, "serving");
    exit_status = 0;
    /* What is being loaded is for nobody now, and may take its time. *d stays, as above. Else its
     * threads end before what they resume is freed. */
    *abandoned = d->service.offers && saed_offers_stop(d->service.offers);
out:
    if (!*abandoned)
        finish(d);
    return exit_status;
}
