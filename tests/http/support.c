/* support.c - see support.h. */
#include "tests/http/support.h"

#include <check.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS 30000
#define REQUEST_MS 180000L /* a sanitizer on a busy machine */

static long long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the process --------------------------------------------------------------------------- */

struct server server_spawn(const char *const *args)
{
    const char *bin = getenv("SAED_BIN");
    struct server s = {0};
    const char *argv[64] = {bin ? bin : "build/saed"};
    int out[2], n = 1;
    pid_t parent = getpid();

    for (; args[n - 1]; n++) {
        ck_assert_int_lt(n, 63);
        argv[n] = args[n - 1];
    }
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    s.err = memfd_create("stderr", MFD_CLOEXEC);
    ck_assert_int_ge(s.err, 0);
    /* A memfd's offset has no lock: two threads' lines could be written over each other. */
    ck_assert_int_eq(fcntl(s.err, F_SETFL, O_APPEND), 0);
    s.pid = fork();
    ck_assert_int_ge(s.pid, 0);
    if (s.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        dup2(out[1], STDOUT_FILENO);
        dup2(s.err, STDERR_FILENO);
        execv(argv[0], (char *const *)(const void *)argv);
        dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(out[1]);
    s.out = out[0];
    return s;
}

/* The first line of its stdout, or what came before its end. */
static void read_line(struct server *s, char *line, size_t cap)
{
    long long end = now_ms() + START_MS;
    size_t n = 0;

    line[0] = '\0';
    while (n + 1 < cap && !memchr(line, '\n', n)) {
        struct pollfd p = {.fd = s->out, .events = POLLIN};
        long long left = end - now_ms();

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            break;
        if (read(s->out, line + n, 1) != 1)
            break;
        line[++n] = '\0';
    }
}

struct server server_start(const char *const *args)
{
    /* bare requests have the Host "a" */
    const char *argv[64] = {"--listen", "127.0.0.1:0", "--allow-host", "a"};
    struct server s;
    char line[128];

    for (int n = 0; args[n]; n++) {
        ck_assert_int_lt(n, 58);
        argv[n + 4] = args[n];
    }
    s = server_spawn(argv);
    read_line(&s, line, sizeof line);
    if (sscanf(line, "listening on http://127.0.0.1:%d\n", &s.port) != 1)
        ck_abort_msg("no `listening on` line but \"%s\"; stderr: %s", line, server_stderr(&s));
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%d", s.port);
    return s;
}

void server_signal(const struct server *s, int sig)
{
    ck_assert_int_eq(kill(s->pid, sig), 0);
}

int server_wait(struct server *s, int ms)
{
    long long end = now_ms() + ms;
    int status = 0;

    while (waitpid(s->pid, &status, WNOHANG) == 0) {
        if (now_ms() > end)
            ck_abort_msg("the server has not exited after %d ms", ms);
        poll(NULL, 0, 5);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int server_stop(struct server *s)
{
    int rc;

    server_signal(s, SIGTERM);
    rc = server_wait(s, 30000);
    close(s->out);
    close(s->err);
    return rc;
}

/* A text of n bytes has room for a power of two: under ASan each growth is a copy. */
static size_t room_for(size_t n)
{
    size_t room = 64;

    while (room < n + 1)
        room *= 2;
    return room;
}

static char *append(char *text, size_t *n, const void *p, size_t more)
{
    if (!text || room_for(*n + more) != room_for(*n))
        text = realloc(text, room_for(*n + more));
    ck_assert_ptr_nonnull(text);
    memcpy(text + *n, p, more);
    *n += more;
    text[*n] = '\0';
    return text;
}

char *server_stdout(const struct server *s)
{
    size_t n = 0;
    char *text = append(NULL, &n, "", 0), piece[4096];
    struct pollfd p = {.fd = s->out, .events = POLLIN};
    ssize_t got;

    while (poll(&p, 1, 0) > 0 && (got = read(s->out, piece, sizeof piece)) > 0)
        text = append(text, &n, piece, (size_t)got);
    return text;
}

char *server_stderr(const struct server *s)
{
    size_t n = 0;
    char *text = append(NULL, &n, "", 0), piece[4096];
    ssize_t got;

    while ((got = pread(s->err, piece, sizeof piece, (off_t)n)) > 0)
        text = append(text, &n, piece, (size_t)got);
    return text;
}

/* ---- replies ------------------------------------------------------------------------------- */

void reply_free(struct reply *r)
{
    free(r->head);
    free(r->body);
    memset(r, 0, sizeof *r);
}

const char *reply_header(const struct reply *r, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);

    for (const char *line = r->head; line && *line; line = strstr(line, "\r\n")) {
        line += line[0] == '\r' ? 2 : 0;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            line += n + 1;
            line += strspn(line, " \t");
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line, "\r"), line);
            return value;
        }
    }
    return NULL;
}

struct sink {
    char *text;
    size_t n;
};

static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
    struct sink *sink = arg;

    sink->text = append(sink->text, &sink->n, p, size * n);
    return size * n;
}

struct reply request(const struct server *s, const char *method, const char *path,
                     const char *const *headers, const void *body, size_t n)
{
    CURL *c = curl_easy_init();
    struct curl_slist *list = NULL;
    struct sink head = {0}, data = {0};
    struct reply r = {0};
    char url[4096], reason[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode rc;

    ck_assert_ptr_nonnull(c);
    snprintf(url, sizeof url, "%s%s", s->url, path);
    head.text = append(NULL, &head.n, "", 0);
    data.text = append(NULL, &data.n, "", 0);
    list = curl_slist_append(list, "Content-Type:"); /* curl's own would be the form's */
    for (; headers && *headers; headers++)
        list = curl_slist_append(list, *headers);
    list = curl_slist_append(list, "Expect:");
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, REQUEST_MS);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, &head);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &data);
    if (body) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    rc = curl_easy_perform(c);
    ck_assert_msg(rc == CURLE_OK, "%s %s: %s %s", method, path, curl_easy_strerror(rc), reason);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(list);
    curl_easy_cleanup(c);
    r.status = (int)status;
    r.head = head.text;
    r.body = data.text;
    r.n = data.n;
    return r;
}

struct reply get(const struct server *s, const char *path)
{
    return request(s, "GET", path, NULL, NULL, 0);
}

struct reply post_json(const struct server *s, const char *path, const char *json)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};

    return request(s, "POST", path, headers, json, strlen(json));
}

/* ---- bare sockets -------------------------------------------------------------------------- */

int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

int raw_connect(const struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect: %s",
                  strerror(errno));
    return fd;
}

void raw_send_bytes(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return; /* the server has closed: the reply tells */
        at += sent;
        n -= (size_t)sent;
    }
}

void raw_send(int fd, const char *text)
{
    raw_send_bytes(fd, text, strlen(text));
}

/* Up to `want` bytes more; 0 at the end of file or a reset; the test fails when time is over. */
static size_t read_more(int fd, char **text, size_t *n, size_t want, long long end)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char piece[65536];
    long long left = end - now_ms();
    ssize_t got;

    if (left < 0 || poll(&p, 1, (int)left) <= 0)
        ck_abort_msg("no answer in time; so far: %.500s", *n ? *text : "");
    got = recv(fd, piece, want < sizeof piece ? want : sizeof piece, 0);
    if (got <= 0)
        return 0;
    *text = append(*text, n, piece, (size_t)got);
    return (size_t)got;
}

/* How many of the bytes that wait belong to the head of which `n` bytes are here: reading on is
 * left to whoever wants the body, or the next answer. */
static size_t head_bytes(int fd, const char *head, size_t n, long long end)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char piece[4096 + 3];
    size_t kept = n < 3 ? n : 3;
    long long left = end - now_ms();
    const char *last;
    ssize_t got;

    if (left < 0 || poll(&p, 1, (int)left) <= 0)
        return 1; /* read_more says so */
    memcpy(piece, head + n - kept, kept);
    got = recv(fd, piece + kept, sizeof piece - kept, MSG_PEEK);
    if (got <= 0)
        return 1;
    last = memmem(piece, kept + (size_t)got, "\r\n\r\n", 4);
    return last ? (size_t)(last + 4 - piece) - kept : (size_t)got;
}

struct reply raw_reply(int fd, bool body_expected, int ms)
{
    long long end = now_ms() + ms;
    struct reply r = {0};
    size_t head_n = 0, length = 0;
    const char *value;

    r.head = append(NULL, &head_n, "", 0);
    r.body = append(NULL, &r.n, "", 0);
    while (!strstr(r.head, "\r\n\r\n"))
        if (read_more(fd, &r.head, &head_n, head_bytes(fd, r.head, head_n, end), end) == 0) {
            r.closed = true;
            return r;
        }
    ck_assert_int_eq(sscanf(r.head, "HTTP/1.%*d %d", &r.status), 1);
    value = reply_header(&r, "Content-Length");
    if (value && body_expected)
        length = strtoul(value, NULL, 10);
    while (r.n < length)
        if (read_more(fd, &r.body, &r.n, length - r.n, end) == 0) {
            r.closed = true;
            break;
        }
    return r;
}

bool raw_is_closed(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;

    return poll(&p, 1, ms) > 0 && recv(fd, &c, 1, 0) <= 0;
}

bool library_is_strict(void)
{
    struct server s = server_spawn((const char *const[]){"--version", "--verbose", NULL});
    unsigned major = 0;
    const char *line;
    char *text;

    ck_assert_int_eq(server_wait(&s, START_MS), 0);
    text = server_stdout(&s);
    line = strstr(text, "libmicrohttpd ");
    ck_assert_msg(line && sscanf(line, "libmicrohttpd %u.", &major) == 1, "%s", text);
    free(text);
    close(s.out);
    close(s.err);
    return major >= 1;
}

bool is_refused_by_library(const struct reply *r)
{
    bool page = r->status == 400 && strncmp(r->body, "<html>", 6) == 0;

    return (page || r->status == 0) && library_is_strict();
}

double metric(const struct server *s, const char *series)
{
    struct reply r = get(s, "/metrics");
    size_t n = strlen(series);
    double v = -1;

    ck_assert_int_eq(r.status, 200);
    for (const char *line = r.body; line; line = strchr(line, '\n')) {
        line += line[0] == '\n';
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            v = strtod(line + n, NULL);
            break;
        }
    }
    reply_free(&r);
    return v;
}
