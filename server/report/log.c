/* log.c - one line an event on stderr, never waited for. See log.h.
 *
 * stderr is shared with whoever started us, so O_NONBLOCK is not ours to set on it. Instead, by
 * what it is: pipe, terminal   opened anew through /proc/self/fd with O_NONBLOCK: a description of
 * our own. Where that is refused (another user's pipe): poll, then write. A pipe that polls
 *                    writable has a free page, and a line fits one; a lock keeps our threads from
 *                    racing for it.
 *   socket (journal) send(MSG_DONTWAIT)
 *   file             write
 * A line is below PIPE_BUF, so it goes whole or not at all; what does not go is counted, and the
 * next line that goes says how many.
 *
 * The state is global because stderr is: set by saed_log_init before threads; the count is atomic.
 */
#include "server/report/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define VALUE_MAX_BYTES 300 /* of one value as printed, quotes and dots not counted */
#define TAIL_BYTES 48       /* kept free for cut=true, log_dropped=N and the newline */

enum sink { SINK_POLL, SINK_NONBLOCK, SINK_SOCKET, SINK_FILE };

static enum saed_log_level min_level = SAED_INFO;
static enum sink sink = SINK_POLL;
static int fd = STDERR_FILENO;
static atomic_ullong n_dropped;
static atomic_int text_wait_ms = 1000; /* what saed_log_text may still wait */
static pthread_mutex_t poll_lock = PTHREAD_MUTEX_INITIALIZER;

void saed_log_init(enum saed_log_level min)
{
    struct stat sb;
    int own;

    if (fd != STDERR_FILENO)
        close(fd);
    fd = STDERR_FILENO;
    sink = SINK_POLL;
    min_level = min;
    if (fstat(STDERR_FILENO, &sb) != 0)
        return;
    if (S_ISREG(sb.st_mode)) {
        sink = SINK_FILE;
    } else if (S_ISSOCK(sb.st_mode)) {
        sink = SINK_SOCKET;
    } else {
        own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY);
        if (own >= 0) {
            fd = own;
            sink = SINK_NONBLOCK;
        }
    }
}

/* ---- the line ------------------------------------------------------------------------------ */

struct line {
    char text[LINE_MAX_BYTES];
    size_t n;
    bool is_cut; /* something did not fit: nothing more is added but the tail */
};

static void add(struct line *l, const char *s, size_t n)
{
    if (n > sizeof l->text - l->n)
        n = sizeof l->text - l->n;
    memcpy(l->text + l->n, s, n);
    l->n += n;
}

static bool is_plain(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s <= 0x20 || *s >= 0x7f || strchr("\"\\=", *s))
            return false;
    return true;
}

/* One byte of a quoted value; returns its length in out. */
static size_t escape(unsigned char c, char out[5])
{
    const char *from = "\"\\\n\r\t", *to = "\"\\nrt", *at = c ? strchr(from, c) : NULL;

    if (at)
        return (size_t)snprintf(out, 5, "\\%c", to[at - from]);
    if (c < 0x20 || c >= 0x7f)
        return (size_t)snprintf(out, 5, "\\x%02x", c);
    out[0] = (char)c;
    return 1;
}

/* value into out, quoted and escaped where needed, cut with "..." where too long; its length. */
static size_t print_value(const char *s, char out[VALUE_MAX_BYTES + 16])
{
    size_t len = strnlen(s, VALUE_MAX_BYTES + 1), n = 0;

    if (len <= VALUE_MAX_BYTES && is_plain(s)) {
        memcpy(out, s, len);
        return len;
    }
    out[n++] = '"';
    for (; *s && n <= VALUE_MAX_BYTES; s++)
        n += escape((unsigned char)*s, out + n);
    if (*s) {
        memcpy(out + n, "...", 3);
        n += 3;
    }
    out[n++] = '"';
    return n;
}

static void add_field(struct line *l, const char *key, const char *value)
{
    char text[VALUE_MAX_BYTES + 16];
    size_t n = print_value(value, text), key_len = strlen(key);

    if (l->is_cut || n + key_len + 2 > sizeof l->text - TAIL_BYTES - l->n) {
        l->is_cut = true;
        return;
    }
    add(l, " ", 1);
    add(l, key, key_len);
    add(l, "=", 1);
    add(l, text, n);
}

/* 2026-01-02T03:04:05.678Z level event */
static void add_head(struct line *l, enum saed_log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct timespec now = {0};
    struct tm tm = {0};
    char head[128];
    int n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = snprintf(head, sizeof head, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %.64s",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 now.tv_nsec / 1000000, names[level], event);
    add(l, head, n < (int)sizeof head ? (size_t)n : sizeof head - 1);
}

static void add_fields(struct line *l, const struct saed_field *f)
{
    for (; f->key; f++) {
        char number[400]; /* the largest double has 309 digits before its point */
        const char *value = number;

        switch (f->kind) {
        case SAED_FIELD_STR:
            value = f->value.s ? f->value.s : "-";
            break;
        case SAED_FIELD_UINT:
            snprintf(number, sizeof number, "%" PRIu64, f->value.u);
            break;
        case SAED_FIELD_INT:
            snprintf(number, sizeof number, "%" PRId64, f->value.i);
            break;
        case SAED_FIELD_REAL:
            snprintf(number, sizeof number, "%.3f", f->value.real);
            break;
        }
        add_field(l, f->key, value);
    }
}

/* ---- writing ------------------------------------------------------------------------------- */

/* True when the whole line went at once. */
static bool put(const char *text, size_t n)
{
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};
    ssize_t done = -1;

    switch (sink) {
    case SINK_SOCKET:
        done = send(fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case SINK_NONBLOCK:
    case SINK_FILE:
        done = write(fd, text, n);
        break;
    case SINK_POLL:
        pthread_mutex_lock(&poll_lock);
        if (poll(&pfd, 1, 0) == 1 && pfd.revents & POLLOUT)
            done = write(fd, text, n);
        pthread_mutex_unlock(&poll_lock);
        break;
    }
    return done == (ssize_t)n;
}

void saed_log_text(const char *text, size_t n)
{
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};

    /* A reader that is stuck is waited for once, and not for each line. */
    if (poll(&pfd, 1, atomic_load(&text_wait_ms)) == 0)
        atomic_store(&text_wait_ms, 0);
    if (!put(text, n))
        atomic_fetch_add_explicit(&n_dropped, 1, memory_order_relaxed);
}

void saed_log_fields(enum saed_log_level level, const char *event, const struct saed_field *fields)
{
    struct line l = {.n = 0};
    unsigned long long dropped;
    int keep_errno = errno;

    if (level < min_level)
        return;
    add_head(&l, level, event);
    add_fields(&l, fields);
    if (l.is_cut)
        add(&l, " cut=true", 9);
    dropped = atomic_exchange_explicit(&n_dropped, 0, memory_order_relaxed);
    if (dropped) {
        char tail[TAIL_BYTES];
        int n = snprintf(tail, sizeof tail, " log_dropped=%llu", dropped);

        add(&l, tail, (size_t)n);
    }
    add(&l, "\n", 1);
    if (!put(l.text, l.n))
        atomic_fetch_add_explicit(&n_dropped, dropped + 1, memory_order_relaxed);
    errno = keep_errno;
}
