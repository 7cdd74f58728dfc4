/* early.c - see early.h. */
#include "server/net/early.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define HEAD_MAX 6144 /* more than a status line, 20 headers and their names come to */

struct text {
    char p[HEAD_MAX];
    size_t n;
};

SAE_PRINTF(2, 3) static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    t->n += (size_t)vsnprintf(t->p + t->n, sizeof t->p - t->n, fmt, ap);
    va_end(ap);
    if (t->n >= sizeof t->p)
        t->n = sizeof t->p - 1; /* cut: the caller sends nothing */
}

/* RFC 9110 5.6.7; the daemon's locale is C. */
static void add_date(struct text *t)
{
    time_t now = time(NULL);
    char date[32];
    struct tm tm;

    if (gmtime_r(&now, &tm) && strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        add(t, "Date: %s\r\n", date);
}

bool saed_early_write(int fd, const struct saed_early *a)
{
    struct text t = {.n = 0};
    struct iovec parts[2];
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};

    add(&t, "HTTP/1.1 %d %s\r\n", a->status, a->reason);
    add_date(&t);
    add(&t, "Connection: close\r\nContent-Length: %zu\r\n", a->n_data);
    for (unsigned i = 0; i < a->n_headers; i++)
        add(&t, "%s: %s\r\n", a->headers[i].name, a->headers[i].value);
    add(&t, "\r\n");
    if (t.n == sizeof t.p - 1)
        return false;
    parts[0] = (struct iovec){t.p, t.n};
    parts[1] = (struct iovec){(void *)(uintptr_t)a->data, a->no_data ? 0 : a->n_data};
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) ==
           (ssize_t)(parts[0].iov_len + parts[1].iov_len);
}
