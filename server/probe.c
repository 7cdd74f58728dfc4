/* probe.c - one GET over plain sockets, in bounded time. See probe.h.
 *
 * A URL, or an address of --listen, of which /healthz is asked for. Every address that the name has
 * is tried in turn, each with its share of the time left. The answer is read up to its status line:
 * that is all a health check wants. */
#include "server/probe.h"

#include "lib/saed.h"
#include "lib/scan.h"
#include "server/address.h"
#include "server/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PROBE_TIMEOUT_MS 5000
#define FULL_MS 10 /* between two looks at a Unix socket whose queue is full */

struct target {
    char host[256]; /* without brackets */
    char port[6];
    char authority[300];       /* as written, for Host: */
    const char *path;          /* borrowed from the URL: "" or "/..." or "?..." */
    size_t path_len;           /* the fragment is not sent */
    struct sockaddr_un socket; /* where sun_path is not "": instead of host and port */
};

static int64_t now_ms(void)
{
    return (int64_t)(saed_now_ns() / 1000000);
}

/* ---- the URL ------------------------------------------------------------------------------- */

static bool is_port(const char *s, size_t n)
{
    uint64_t v;

    return n <= 5 && sae_scan_whole_u64(s, n, &v) && v >= 1 && v <= 65535;
}

/* HOST[:PORT] of n bytes. */
static bool parse_authority(struct target *t, const char *s, size_t n)
{
    const char *host = s, *after;
    size_t host_len;

    if (n == 0 || n >= sizeof t->authority || memchr(s, '@', n))
        return false;
    if (s[0] == '[') {
        const char *end = memchr(s, ']', n);

        if (!end)
            return false;
        host = s + 1;
        host_len = (size_t)(end - host);
        after = end + 1;
    } else {
        after = memchr(s, ':', n);
        if (!after)
            after = s + n;
        host_len = (size_t)(after - host);
    }
    if (host_len == 0 || host_len >= sizeof t->host)
        return false;
    memcpy(t->host, host, host_len);
    t->host[host_len] = '\0';
    memcpy(t->authority, s, n);
    t->authority[n] = '\0';
    strcpy(t->port, "80");
    n -= (size_t)(after - s);
    if (n == 0)
        return true;
    if (after[0] != ':' || !is_port(after + 1, n - 1))
        return false;
    memcpy(t->port, after + 1, n - 1);
    t->port[n - 1] = '\0';
    return true;
}

/* Blanks and control bytes would end the request line early; the rest is the server's to judge. */
static bool is_visible(const char *s)
{
    for (; *s; s++)
        if (*s <= 0x20 || *s >= 0x7f)
            return false;
    return true;
}

static bool parse_url(struct target *t, const char *url)
{
    const char *s = url + 7;
    size_t n;

    if (strncasecmp(url, "http://", 7) != 0 || !is_visible(url))
        return false;
    n = strcspn(s, "/?#");
    if (!parse_authority(t, s, n))
        return false;
    t->path = s + n;
    t->path_len = strcspn(t->path, "#");
    return true;
}

/* As --listen has it; one to be picked is none. */
static bool parse_address(struct target *t, const char *text)
{
    struct saed_address a;

    if (!saed_address_parse(&a, text) || (a.host[0] && a.port == 0))
        return false;
    t->path = "/healthz";
    t->path_len = strlen(t->path);
    if (a.host[0])
        return parse_authority(t, text, strlen(text));
    _Static_assert(sizeof a.path <= sizeof t->socket.sun_path, "a path fits");
    t->socket.sun_family = AF_UNIX;
    memcpy(t->socket.sun_path, a.path, sizeof a.path);
    strcpy(t->authority, "localhost");
    return true;
}

/* ---- sockets ------------------------------------------------------------------------------- */

/* Wait for events; false when the deadline comes first. */
static bool wait_for(int fd, short events, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        int64_t left = deadline - now_ms();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;

        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR)
            return false;
    }
}

/* Addresses of the target. A numeric host needs no resolver; a name is asked for in the background
 * by glibc, so that a dead name server cannot hold us: what is still running when the time is over
 * keeps its (never freed) request, and the process is about to end. */
static enum sae_status resolve(const struct target *t, int64_t deadline, struct addrinfo **out,
                               struct sae_err *err)
{
    static const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST},
                                 any = {.ai_socktype = SOCK_STREAM};
    struct query {
        struct gaicb cb, *list[1];
        struct target target;
    } * q;
    int64_t left = deadline - now_ms();
    struct timespec wait = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
    int rc;

    if (getaddrinfo(t->host, t->port, &numeric, out) == 0)
        return SAE_OK;
    q = sae_calloc(1, sizeof *q);
    if (!q)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot resolve %.200s: out of memory", t->host);
    q->target = *t;
    q->cb.ar_name = q->target.host;
    q->cb.ar_service = q->target.port;
    q->cb.ar_request = &any;
    q->list[0] = &q->cb;
    rc = left > 0 ? getaddrinfo_a(GAI_NOWAIT, q->list, 1, NULL) : EAI_AGAIN;
    if (rc == 0) {
        do
            rc = gai_suspend((const struct gaicb *const *)q->list, 1, &wait);
        while (rc == EAI_INTR && now_ms() < deadline);
        rc = gai_error(&q->cb);
        if (rc == EAI_INPROGRESS)
            return sae_err_set(err, SAE_E_IO, "", "cannot resolve %.200s: no answer in time",
                               t->host);
        *out = q->cb.ar_result;
    }
    sae_free(q);
    if (rc == 0)
        return SAE_OK;
    return sae_err_set(err, SAE_E_IO, "", "cannot resolve %.200s: %s", t->host, gai_strerror(rc));
}

/* connect()'s errno, 0: done. A Unix socket whose queue is full is asked again while there is time:
 * no event tells when it has room. */
static int begin_to_connect(int fd, const struct addrinfo *a, int64_t deadline)
{
    for (;;) {
        int e = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;

        if (e != EAGAIN)
            return e;
        if (now_ms() >= deadline)
            return ETIMEDOUT;
        poll(NULL, 0, FULL_MS);
    }
}

/* A connected, non-blocking socket, or -1 with *reason. */
static int connect_to(const struct addrinfo *a, int64_t deadline, const char **reason)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof(int);
    int e;

    if (fd < 0) {
        *reason = strerror(errno);
        return -1;
    }
    e = begin_to_connect(fd, a, deadline);
    if (e == EINPROGRESS && !wait_for(fd, POLLOUT, deadline))
        e = ETIMEDOUT;
    else if (e == EINPROGRESS && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0)
        e = errno;
    if (e == 0)
        return fd;
    close(fd);
    *reason = strerror(e);
    return -1;
}

static int connect_any(const struct addrinfo *list, int64_t deadline, const char **reason)
{
    int64_t left = 0;

    for (const struct addrinfo *a = list; a; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = list; a; a = a->ai_next, left--) {
        int64_t now = now_ms();
        int fd = connect_to(a, now + (deadline - now) / left, reason);

        if (fd >= 0)
            return fd;
    }
    return -1;
}

static bool send_all(int fd, const char *s, size_t n, int64_t deadline)
{
    while (n) {
        ssize_t k = send(fd, s, n, MSG_NOSIGNAL);

        if (k >= 0) {
            s += k;
            n -= (size_t)k;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(fd, POLLOUT, deadline)) {
                errno = ETIMEDOUT;
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* Reads up to the first line's end, or until buf is full. False with errno (0: closed early). */
static bool read_line(int fd, char *buf, size_t cap, int64_t deadline)
{
    size_t n = 0;

    while (n < cap - 1 && !memchr(buf, '\n', n)) {
        ssize_t k = recv(fd, buf + n, cap - 1 - n, 0);

        if (k > 0) {
            n += (size_t)k;
        } else if (k == 0) {
            errno = 0;
            return false;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(fd, POLLIN, deadline)) {
                errno = ETIMEDOUT;
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    buf[n] = '\0';
    return true;
}

/* The status of "HTTP/1.1 200 OK"; 0 when the line is no such thing. */
static int parse_status(const char *s)
{
    if (strncmp(s, "HTTP/1.", 7) != 0 || !sae_is_digit(s[7]) || s[8] != ' ')
        return 0;
    s += 9;
    for (int i = 0; i < 3; i++)
        if (!sae_is_digit(s[i]))
            return 0;
    if (s[3] != ' ' && s[3] != '\r' && s[3] != '\n')
        return 0;
    return (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
}

static enum sae_status exchange(int fd, const char *url, const struct target *t, int64_t deadline,
                                struct sae_err *err)
{
    enum sae_status st;
    struct sae_buf request;
    char answer[4096] = "";
    int status;

    sae_buf_init(&request, 65536);
    st = sae_buf_addf(&request,
                      "GET %s%.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: saed/%s\r\n"
                      "Accept: */*\r\nConnection: close\r\n\r\n",
                      t->path[0] == '/' ? "" : "/", (int)t->path_len, t->path, t->authority,
                      SAED_VERSION);
    if (st != SAE_OK) {
        sae_err_set(err, st, "", "cannot probe %.200s: URL of %zu bytes", url, strlen(url));
        goto out;
    }
    if (!send_all(fd, request.data, request.len, deadline) ||
        !read_line(fd, answer, sizeof answer, deadline)) {
        st = sae_err_set(err, SAE_E_IO, "", "cannot probe %.200s: %s", url,
                         errno ? strerror(errno) : "connection closed before an answer");
        goto out;
    }
    status = parse_status(answer);
    if (status == 0)
        st = sae_err_set(err, SAE_E_IO, "", "cannot probe %.200s: the answer is not HTTP", url);
    else if (status != 200)
        st = sae_err_set(err, SAE_E_IO, "", "cannot probe %.200s: status %d", url, status);
out:
    sae_buf_fini(&request);
    return st;
}

/* A socket connected to the target. */
static enum sae_status reach(struct target *t, const char *url, int64_t deadline, int *fd,
                             struct sae_err *err)
{
    const bool is_path = t->socket.sun_path[0] != '\0';
    struct addrinfo at = {.ai_family = AF_UNIX,
                          .ai_addr = (struct sockaddr *)&t->socket,
                          .ai_addrlen = sizeof t->socket};
    struct addrinfo *list = NULL;
    const char *reason = "no address";
    enum sae_status st = is_path ? SAE_OK : resolve(t, deadline, &list, err);

    if (st != SAE_OK)
        return st;
    *fd = connect_any(is_path ? &at : list, deadline, &reason);
    if (list)
        freeaddrinfo(list);
    return *fd >= 0 ? SAE_OK
                    : sae_err_set(err, SAE_E_IO, "", "cannot probe %.200s: %s", url, reason);
}

enum sae_status saed_probe_within(const char *url, int timeout_ms, struct sae_err *err)
{
    int64_t deadline = now_ms() + timeout_ms;
    struct target t = {.path = ""};
    enum sae_status st;
    int fd;

    if (!parse_url(&t, url) && !parse_address(&t, url))
        return sae_err_set(err, SAE_E_USAGE, "",
                           "cannot probe %.200s: want http://HOST[:PORT][/PATH], HOST:PORT or "
                           "unix:PATH",
                           url);
    st = reach(&t, url, deadline, &fd, err);
    if (st != SAE_OK)
        return st;
    st = exchange(fd, url, &t, deadline, err);
    close(fd);
    return st;
}

int saed_probe(const char *url)
{
    struct sae_err err = {0};

    if (saed_probe_within(url, PROBE_TIMEOUT_MS, &err) == SAE_OK)
        return 0;
    fprintf(stderr, "saed: %s\n", err.text);
    return 1;
}
