/* support.h - black-box tests: spawn the binary, talk to it through libcurl or a bare socket.
 *
 * The binary is $SAED_BIN (else build/saed), spawned on 127.0.0.1 port 0; it dies with its test.
 * All waits have a limit, after which the test fails (ck_abort). Each test program is
 * single-threaded. */
#ifndef SAED_TESTS_HTTP_SUPPORT_H
#define SAED_TESTS_HTTP_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct server {
    pid_t pid;
    int out; /* the read end of its stdout */
    int err; /* a file with its stderr */
    int port;
    char url[64]; /* http://127.0.0.1:PORT */
};

/* Spawn with these arguments (NULL ends them) and `--listen 127.0.0.1:0 --allow-host a` before
 * them; wait for the `listening on` line. */
struct server server_start(const char *const *args);
/* Spawn only, with exactly these arguments. */
struct server server_spawn(const char *const *args);
void server_signal(const struct server *s, int sig);
/* Exit status (128 + signal if killed), or fail after `ms`. */
int server_wait(struct server *s, int ms);
/* SIGTERM and wait: the exit status. */
int server_stop(struct server *s);
/* What is on stdout by now, up to its end if it has exited; what is on stderr. Owned by the caller.
 */
char *server_stdout(const struct server *s);
char *server_stderr(const struct server *s);

struct reply {
    int status;
    char *head; /* status line and header lines, CRLF as received */
    char *body; /* a NUL behind it */
    size_t n;
    bool closed; /* bare socket: the connection ended before the reply was whole */
};
void reply_free(struct reply *r);
/* A header's value (the first of its name), copied to a static buffer; NULL: not there. */
const char *reply_header(const struct reply *r, const char *name);

/* One request over a connection of its own. `headers` are lines, NULL ends them, may be NULL; body
 * NULL: none. */
struct reply request(const struct server *s, const char *method, const char *path,
                     const char *const *headers, const void *body, size_t n);
struct reply get(const struct server *s, const char *path);
struct reply post_json(const struct server *s, const char *path, const char *json);

/* A port that nobody listens on, for a daemon whose stdout does not tell its own. */
int free_port(void);

/* A bare socket. */
int raw_connect(const struct server *s);
void raw_send(int fd, const char *text);
void raw_send_bytes(int fd, const void *p, size_t n);
/* Read one answer (by its Content-Length); body_expected false: to a HEAD. Fails after `ms`.
 * status 0: the connection ended without one. */
struct reply raw_reply(int fd, bool body_expected, int ms);
/* True when the server closes within `ms` without a byte more. */
bool raw_is_closed(int fd, int ms);

/* The daemon's libmicrohttpd (the daemon is asked) refuses by itself what is no HTTP, and every
 * chunk extension, as 1.0 does; 0.9 leaves it to saed. */
bool library_is_strict(void);
/* Such a refusal: 400 with a page of the library's own, or (status 0) a close without a word. */
bool is_refused_by_library(const struct reply *r);

/* A metric's value by its full name with labels; -1 if there is none. */
double metric(const struct server *s, const char *series);

#endif
