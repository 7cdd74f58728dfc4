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
#include "server/report/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum sink { SINK_POLL, SINK_NONBLOCK, SINK_SOCKET, SINK_FILE };

static enum saed_log_level min_level = SAED_INFO;
static enum saed_log_format format = SAED_LOG_TEXT;
static enum sink sink = SINK_POLL;
static int fd = STDERR_FILENO;
static atomic_ullong n_dropped;
static atomic_int failure_wait_ms = 1000; /* what saed_log_failure may still wait */
static pthread_mutex_t poll_lock = PTHREAD_MUTEX_INITIALIZER;

void saed_log_init(enum saed_log_level min, enum saed_log_format as)
{
    struct stat sb;
    int own;

    if (fd != STDERR_FILENO)
        close(fd);
    fd = STDERR_FILENO;
    sink = SINK_POLL;
    min_level = min;
    format = as;
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

/* Line the event up, with what was lost before it, and put it. */
static void put_event(enum saed_log_level level, const char *event, const struct saed_field *fields)
{
    unsigned long long dropped = atomic_exchange_explicit(&n_dropped, 0, memory_order_relaxed);
    struct timespec now = {0};
    struct saed_line l;

    clock_gettime(CLOCK_REALTIME, &now);
    saed_line_print(&l, format, &now, level, event, fields, dropped);
    if (!put(l.text, l.n))
        atomic_fetch_add_explicit(&n_dropped, dropped + 1, memory_order_relaxed);
}

void saed_log_fields(enum saed_log_level level, const char *event, const struct saed_field *fields)
{
    int keep_errno = errno;

    if (level >= min_level)
        put_event(level, event, fields);
    errno = keep_errno;
}

void saed_log_failure(const char *text)
{
    const struct saed_field fields[] = {saed_str("error", text), SAED_NO_FIELDS};
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};
    char line[512];
    int n;

    /* A reader that is stuck is waited for once, and not for each line. */
    if (poll(&pfd, 1, atomic_load(&failure_wait_ms)) == 0)
        atomic_store(&failure_wait_ms, 0);
    if (format != SAED_LOG_TEXT) {
        put_event(SAED_ERROR, "failed", fields);
        return;
    }
    n = snprintf(line, sizeof line, "saed: %.500s\n", text);
    if (!put(line, (size_t)n))
        atomic_fetch_add_explicit(&n_dropped, 1, memory_order_relaxed);
}
