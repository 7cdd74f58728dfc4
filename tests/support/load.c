/* load.c - the load generator of load.h. */
#include "tests/support/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 8192 };

struct conn {
    const struct load_client *client;
    int fd;
    size_t sent;
    bool wants_out;      /* EPOLLOUT is asked for */
    char head[HEAD_MAX]; /* bytes up to the blank line */
    size_t head_n;
    bool in_body;
    size_t body_left;
    int status;
    uint64_t start_ns;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int dial(int port, bool nonblock)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (nonblock)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int cmp_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Send what the socket takes; the rest goes out when it is writable. False: broken. */
static bool push(int ep, struct conn *c)
{
    while (c->sent < c->client->n) {
        ssize_t k = send(c->fd, c->client->request + c->sent, c->client->n - c->sent, MSG_NOSIGNAL);

        if (k < 0 && errno == EAGAIN)
            break;
        if (k < 0)
            return false;
        c->sent += (size_t)k;
    }
    bool wants_out = c->sent < c->client->n;
    struct epoll_event e = {.events = EPOLLIN | (wants_out ? (uint32_t)EPOLLOUT : 0u),
                            .data.ptr = c};

    if (wants_out == c->wants_out)
        return true;
    c->wants_out = wants_out;
    return epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0;
}

static bool begin(int ep, struct conn *c)
{
    c->sent = c->head_n = 0;
    c->in_body = false;
    c->start_ns = now_ns();
    return push(ep, c);
}

static size_t content_length(const char *head)
{
    const char *p = head;

    while ((p = strstr(p, "\r\n"))) {
        p += 2;
        if (strncasecmp(p, "content-length:", 15) == 0)
            return strtoul(p + 15, NULL, 10);
    }
    return 0;
}

/* Take received bytes. 1: an answer is complete; 0: more to come; -1: not HTTP. */
static int feed(struct conn *c, const char *p, size_t n, size_t *bytes)
{
    if (!c->in_body) {
        size_t k = n < HEAD_MAX - 1 - c->head_n ? n : HEAD_MAX - 1 - c->head_n;
        char *end;

        memcpy(c->head + c->head_n, p, k);
        c->head[c->head_n + k] = '\0';
        end = strstr(c->head, "\r\n\r\n");
        if (!end) {
            c->head_n += k;
            return c->head_n >= HEAD_MAX - 1 ? -1 : 0;
        }
        size_t used = (size_t)(end + 4 - c->head) - c->head_n;

        end[2] = '\0';
        if (sscanf(c->head, "HTTP/1.1 %d", &c->status) != 1)
            return -1;
        c->body_left = content_length(c->head);
        c->in_body = true;
        p += used;
        n -= used;
    }
    if (n > c->body_left)
        return -1;
    c->body_left -= n;
    *bytes += n;
    return c->body_left == 0;
}

int load_run(const struct load_spec *spec, struct load_result *out)
{
    static char buf[1 << 18];
    struct conn *conns = calloc(spec->n_clients, sizeof *conns);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    size_t cap = 1 << 16, alive = 0;
    uint64_t t0 = now_ns(), count_from = t0 + (uint64_t)(spec->warm_seconds * 1e9);
    uint64_t end = count_from + (uint64_t)(spec->seconds * 1e9);

    *out = (struct load_result){.latency_ns = malloc(cap * sizeof *out->latency_ns)};
    for (size_t i = 0; i < spec->n_clients; i++) {
        struct conn *c = &conns[i];
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

        c->client = &spec->clients[i];
        c->fd = dial(spec->port, true);
        if (c->fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0) {
            fprintf(stderr, "load: cannot connect: %s\n", strerror(errno));
            continue;
        }
        alive++;
        if (!begin(ep, c))
            out->failed++;
    }
    while (alive && now_ns() < end && !(spec->is_over && atomic_load(spec->is_over))) {
        struct epoll_event ev[128];
        int n = epoll_wait(ep, ev, 128, 100);

        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            bool ok = true;

            if (ev[i].events & EPOLLOUT)
                ok = push(ep, c);
            if (ok && (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
                ssize_t k = recv(c->fd, buf, sizeof buf, 0);
                int r = k > 0 ? feed(c, buf, (size_t)k, &out->bytes) : -1;

                if (k < 0 && errno == EAGAIN)
                    r = 0;
                if (r == 1) {
                    uint64_t t = now_ns();

                    if (t >= count_from && c->status / 100 == 2 && !c->client->is_background) {
                        if (out->ok == cap)
                            out->latency_ns =
                                realloc(out->latency_ns, (cap *= 2) * sizeof *out->latency_ns);
                        out->latency_ns[out->ok++] = t - c->start_ns;
                    } else if (c->status / 100 != 2) {
                        out->failed++;
                    }
                    if (c->client->next)
                        c->client = c->client->next;
                    ok = begin(ep, c);
                } else if (r < 0) {
                    ok = false;
                }
            }
            if (!ok) {
                out->failed++;
                close(c->fd);
                c->fd = -1;
                alive--;
            }
        }
    }
    out->seconds = (double)(now_ns() - count_from) * 1e-9;
    for (size_t i = 0; i < spec->n_clients; i++)
        if (conns[i].fd >= 0)
            close(conns[i].fd);
    close(ep);
    free(conns);
    qsort(out->latency_ns, out->ok, sizeof *out->latency_ns, cmp_u64);
    return alive ? 0 : -1;
}

void load_result_fini(struct load_result *r)
{
    free(r->latency_ns);
    *r = (struct load_result){0};
}

double load_percentile_us(const struct load_result *r, double p)
{
    if (!r->ok)
        return 0;
    size_t i = (size_t)(p * (double)(r->ok - 1));
    return (double)r->latency_ns[i] * 1e-3;
}

char *load_post(const char *path, const char *type, const char *accept, const void *body, size_t n,
                size_t *out_n)
{
    char head[1024];
    int k = snprintf(head, sizeof head,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nAccept: %s\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     path, type, accept, n);
    char *p = malloc((size_t)k + n + 1);

    memcpy(p, head, (size_t)k);
    memcpy(p + k, body, n);
    *out_n = (size_t)k + n;
    return p;
}

char *load_exchange(int port, const char *request, size_t n, size_t *out_n)
{
    int fd = dial(port, false);
    size_t sent = 0, got = 0, cap = 1 << 16, want = SIZE_MAX;
    char *p = malloc(cap + 1), *end;

    while (fd >= 0 && sent < n) {
        ssize_t k = send(fd, request + sent, n - sent, MSG_NOSIGNAL);

        if (k <= 0)
            break;
        sent += (size_t)k;
    }
    while (fd >= 0 && p && got < want) {
        ssize_t k = recv(fd, p + got, cap - got, 0);

        if (k <= 0)
            break;
        got += (size_t)k;
        p[got] = '\0';
        if (want == SIZE_MAX && (end = strstr(p, "\r\n\r\n"))) {
            end[2] = '\0';
            want = (size_t)(end + 4 - p) + content_length(p);
        }
        if (got == cap)
            p = realloc(p, (cap *= 2) + 1);
    }
    if (fd >= 0)
        close(fd);
    if (!p || got < want || strncmp(p, "HTTP/1.1 200", 12) != 0) {
        free(p);
        return NULL;
    }
    *out_n = content_length(p);
    memmove(p, p + want - *out_n, *out_n);
    p[*out_n] = '\0';
    return p;
}

char *load_get(int port, const char *path)
{
    char req[512];
    int fd = dial(port, false), k;
    size_t n = 0, cap = 1 << 20;
    char *p;

    if (fd < 0)
        return NULL;
    k = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                 path);
    if (send(fd, req, (size_t)k, MSG_NOSIGNAL) != k) {
        close(fd);
        return NULL;
    }
    p = malloc(cap + 1);
    for (;;) {
        ssize_t r = recv(fd, p + n, cap - n, 0);

        if (r <= 0)
            break;
        n += (size_t)r;
    }
    close(fd);
    p[n] = '\0';
    char *body = strstr(p, "\r\n\r\n");
    if (!body) {
        free(p);
        return NULL;
    }
    memmove(p, body + 4, strlen(body + 4) + 1);
    return p;
}

int load_spawn(struct load_daemon *d, const char *const *argv)
{
    const char *bin = getenv("SAED_BIN");
    const char *args[64] = {bin ? bin : "build/saed", "--listen", "127.0.0.1:0"};
    size_t n = 3, got = 0;
    char line[256];
    int fds[2];

    while (*argv && n + 1 < 64)
        args[n++] = *argv++;
    args[n] = NULL;
    if (pipe(fds) < 0)
        return -1;
    d->pid = fork();
    if (d->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* never left behind */
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execv(args[0], (char *const *)(uintptr_t)args);
        _exit(127);
    }
    close(fds[1]);
    while (got + 1 < sizeof line) { /* ends with the line, or with the daemon */
        ssize_t k = read(fds[0], line + got, 1);

        if (k <= 0 || line[got] == '\n')
            break;
        got++;
    }
    line[got] = '\0';
    close(fds[0]);
    if (sscanf(line, "listening on http://127.0.0.1:%d", &d->port) == 1)
        return 0;
    kill(d->pid, SIGKILL);
    waitpid(d->pid, NULL, 0);
    return -1;
}

int load_stop(struct load_daemon *d)
{
    int status;

    kill(d->pid, SIGTERM);
    if (waitpid(d->pid, &status, 0) != d->pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
