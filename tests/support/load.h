/* load.h - a closed-loop HTTP load generator for benches and tests: n keep-alive connections on
 * loopback, each sending its request again as soon as the answer has been read. Answers are framed
 * (status, Content-Length), not decoded. One epoll thread; ends by itself. */
#ifndef TEST_LOAD_H
#define TEST_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load_client {
    const char *request; /* the whole request: head and body; borrowed */
    size_t n;
    const struct load_client *next; /* what the connection sends after it; NULL: the same again */
    bool is_background;             /* its 2xx answers are load, and not counted */
};

struct load_spec {
    int port;
    const struct load_client *clients; /* one a connection */
    size_t n_clients;
    double warm_seconds; /* answers in this time are not counted */
    double seconds;
    const _Atomic bool *is_over; /* ends it before, once true; borrowed, may be NULL */
};

struct load_result {
    size_t ok, failed; /* answers 2xx, others and broken connections */
    double seconds;
    uint64_t *latency_ns; /* owned, sorted: one an ok answer */
    size_t bytes;         /* bodies received */
};

/* 0, or -1 with a line on stderr when no connection could be made. */
int load_run(const struct load_spec *spec, struct load_result *out);
void load_result_fini(struct load_result *r);
double load_percentile_us(const struct load_result *r, double p); /* p in 0..1 */
/* Make a POST request: owned, free with free(). */
char *load_post(const char *path, const char *type, const char *accept, const void *body, size_t n,
                size_t *out_n);
/* Send a request on a connection of its own: the body of the 200 answer, owned, a NUL behind it;
 * NULL on any other. */
char *load_exchange(int port, const char *request, size_t n, size_t *out_n);
/* GET a small page into a NUL-terminated string, owned; NULL on failure. */
char *load_get(int port, const char *path);

/* A spawned daemon: `argv` without the binary's name; the binary is $SAED_BIN or build/saed.
 * Adds --listen 127.0.0.1:0 and waits for the "listening on" line. */
struct load_daemon {
    int pid, port;
};
int load_spawn(struct load_daemon *d, const char *const *argv);
/* SIGTERM and wait; the exit status, or -1. */
int load_stop(struct load_daemon *d);

#endif
