/* mhd.c - see mhd.h. */
#include "server/net/mhd.h"

#include "lib/scan.h"

#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#if MHD_VERSION < 0x00097500 || MHD_VERSION >= 0x01010000
#error \
    "libmicrohttpd 0.9.75 to 1.0.x: heads, suspension and the epoll set are relied upon as they are there"
#endif

#if MHD_VERSION >= 0x00097701
#define STRICT_OPTION MHD_OPTION_CLIENT_DISCIPLINE_LVL
#else
#define STRICT_OPTION MHD_OPTION_STRICT_FOR_CLIENT
#endif

/* ---- heads --------------------------------------------------------------------------------- */

/* What the library keeps of a field beside its bytes; of Cookie a copy, and each of its pairs. */
#define FIELD_BYTES 64

struct reading {
    struct saed_head *head;
    size_t kept_bytes;
    bool expects;
};

static size_t kept_of(const char *name, size_t name_len, const char *value, size_t value_len)
{
    size_t n = FIELD_BYTES;

    if (!saed_field_is(name, name_len, "Cookie"))
        return n;
    for (size_t i = 0; i < value_len; i++)
        n += value[i] == ';' ? FIELD_BYTES : 0;
    return n + FIELD_BYTES + value_len;
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len)
{
    struct reading *r = cls;

    (void)kind;
    r->kept_bytes += kept_of(name, name_len, value, value_len);
    r->expects |= saed_field_is(name, name_len, "Expect");
    saed_head_field(r->head, name, name_len, value, value_len);
    return MHD_YES;
}

/* In the library's read buffer, as the query is hidden. */
static enum MHD_Result hide_expect(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_len, const char *value, size_t value_len)
{
    (void)cls, (void)kind;
    if (saed_field_is(name, name_len, "Expect") && value_len > 0)
        *(char *)(uintptr_t)value = '-';
    return MHD_YES;
}

enum sae_status saed_mhd_read_head(struct saed_head *head, size_t *n_bytes,
                                   struct MHD_Connection *c, const struct saed_mhd_line *line,
                                   enum saed_heads way, struct sae_err *err)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct reading r = {head, info ? info->header_size : 0, false};
    const size_t most = SAED_MHD_MEMORY - SAED_MHD_REPLY_BYTES;
    enum sae_status st;

    saed_head_begin(head, way == SAED_HEADS_BY_LAYOUT ? line->uri : NULL, line->method,
                    line->target, line->version);
    MHD_get_connection_values_n(c, MHD_HEADER_KIND, on_field, &r);
    if (r.kept_bytes > most)
        sae_err_set(err, SAE_E_HEAD_TOO_LARGE, "",
                    "cannot take the head: with %d bytes for each field it comes to %zu, and the "
                    "limit is %zu",
                    FIELD_BYTES, r.kept_bytes, most);
    st = saed_head_end(head, info ? line->method + info->header_size : NULL, err);
    if (r.expects && !head->chunked && head->length == 0)
        MHD_get_connection_values_n(c, MHD_HEADER_KIND, hide_expect, NULL);
    if (r.kept_bytes > most)
        return SAE_E_HEAD_TOO_LARGE;
    if (st == SAE_OK)
        *n_bytes = info ? info->header_size : 0;
    return st;
}

void saed_mhd_hide_query(const char *uri)
{
    char *query =
        uri ? strchr(uri, '?') : NULL; /* in its read buffer, which it writes to as well */

    if (query && query[1])
        query[1] = '\0';
}

int saed_mhd_strict_option(void)
{
    return STRICT_OPTION;
}

int saed_mhd_own_answer(const char *message, va_list args)
{
    static const char begin[] = "Error processing request (HTTP response code is %u ";

    return strncmp(message, begin, sizeof begin - 1) == 0 ? (int)va_arg(args, unsigned) : 0;
}

static bool find_field(struct MHD_Connection *c, const char *name, struct saed_value *out)
{
    return MHD_lookup_connection_value_n(c, MHD_HEADER_KIND, name, strlen(name), &out->p,
                                         &out->n) == MHD_YES;
}

bool saed_mhd_refuses_length(struct MHD_Connection *c)
{
    struct saed_value length, coding;
    uint64_t value;

    if (find_field(c, "Transfer-Encoding", &coding) || !find_field(c, "Content-Length", &length))
        return false;
    return !sae_scan_whole_u64(length.p, length.n, &value);
}

/* ---- what the library takes ---------------------------------------------------------------- */

#define LINE "GET /a?b=c HTTP/1.1\r\n"
#define HOST "Host: a\r\n"

struct sample {
    const char *what, *text;
    size_t n;
};
#define SAMPLE(what, text)          \
    {                               \
        what, text, sizeof text - 1 \
    }

static const struct sample good[] = {
    SAMPLE("a plain head", LINE HOST "\r\n"),
    SAMPLE("many fields", LINE HOST "A: b\r\nContent-Length: 0\r\nAccept: */*\r\nC: d\r\n\r\n"),
    SAMPLE("blanks around a value", LINE "Host:a\r\nA: \t b \t\r\nC:\r\nD: e: f\r\n\r\n"),
    SAMPLE("a blank line before", "\r\n" LINE HOST "\r\n"),
};

/* What may pass neither way. */
static const struct sample bad[] = {
    SAMPLE("a NUL in a value", LINE HOST "A: b\0c\r\n\r\n"),
    SAMPLE("a NUL in a name", LINE HOST "A\0b: c\r\n\r\n"),
    SAMPLE("a NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n"),
    SAMPLE("a bare LF behind the request line", "GET /a HTTP/1.1\n" HOST "\r\n"),
    SAMPLE("a bare LF behind a field", LINE HOST "A: b\nC: d\r\n\r\n"),
    SAMPLE("a bare LF as the last line", LINE HOST "\n"),
    SAMPLE("a folded line", LINE HOST "A: b\r\n c: d\r\n\r\n"),
    SAMPLE("a first line that is folded", LINE " A: b\r\n" HOST "\r\n"),
    SAMPLE("a blank before a colon", LINE HOST "A : b\r\n\r\n"),
    SAMPLE("a line without a colon", LINE HOST "A b\r\n\r\n"),
    SAMPLE("a bare CR in a value", LINE HOST "A: b\rC: d\r\n\r\n"),
    SAMPLE("two blanks in the request line", "GET  /a HTTP/1.1\r\n" HOST "\r\n"),
    SAMPLE("a tab in the request line", "GET\t/a HTTP/1.1\r\n" HOST "\r\n"),
};

/* A library of its own for the trial, without threads or sockets that listen. */
struct trial {
    struct MHD_Daemon *daemon;
    enum saed_heads way;
    const char *uri;
    char target[64];
    bool taken;
};

static void *on_line(void *cls, const char *uri, struct MHD_Connection *c)
{
    struct trial *t = cls;

    (void)c;
    t->uri = uri;
    snprintf(t->target, sizeof t->target, "%s", uri ? uri : "");
    saed_mhd_hide_query(uri);
    return t;
}

/* A head has been read: it is all that is wanted, the connection can go. */
static enum MHD_Result on_call(void *cls, struct MHD_Connection *c, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *n_data, void **con_cls)
{
    struct trial *t = cls;
    struct saed_mhd_line line = {method, t->uri, t->target, version};
    struct saed_head head;
    size_t n_bytes;

    (void)url, (void)data, (void)n_data, (void)con_cls;
    t->taken = saed_mhd_read_head(&head, &n_bytes, c, &line, t->way, NULL) == SAE_OK;
    return MHD_NO;
}

static bool trial_takes(void *arg, enum saed_heads way, const char *text, size_t n)
{
    struct trial *t = arg;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int pair[2];

    t->way = way;
    t->taken = false;
    t->daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_call, t,
                         MHD_OPTION_URI_LOG_CALLBACK, on_line, t, (enum MHD_OPTION)STRICT_OPTION,
                         (int)(way == SAED_HEADS_BY_LIBRARY), MHD_OPTION_END);
    if (!t->daemon || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        goto out;
    if (send(pair[1], text, n, MSG_NOSIGNAL) == (ssize_t)n &&
        MHD_add_connection(t->daemon, pair[0], (struct sockaddr *)&addr, sizeof addr) == MHD_YES)
        for (int i = 0; i < 4; i++) /* added, read, closed */
            MHD_run(t->daemon);
    close(pair[1]); /* the other one is the daemon's, or was closed when it did not want it */
out:
    if (t->daemon)
        MHD_stop_daemon(t->daemon);
    return t->taken;
}

/* ---- the decision -------------------------------------------------------------------------- */

/* The first thing that does not hold; NULL: all does. */
static const char *what_fails(enum saed_heads way, saed_mhd_takes *takes, void *arg)
{
    for (size_t i = 0; i < SAE_COUNTOF(good); i++)
        if (!takes(arg, way, good[i].text, good[i].n))
            return good[i].what;
    for (size_t i = 0; i < SAE_COUNTOF(bad); i++)
        if (takes(arg, way, bad[i].text, bad[i].n))
            return bad[i].what;
    return NULL;
}

/* Versions that have been read and tested, and the way that is tried first. */
static const struct {
    unsigned major, minor, first, last;
    enum saed_heads way;
} known[] = {
    {0, 9, 75, 77, SAED_HEADS_BY_LAYOUT},
    {1, 0, 0, 99, SAED_HEADS_BY_LIBRARY},
};

enum sae_status saed_mhd_decide(enum saed_heads *out, const char *version, saed_mhd_takes *takes,
                                void *arg, struct sae_err *err)
{
    unsigned major = 0, minor = 0, patch = 0;

    (void)sscanf(version, "%u.%u.%u", &major, &minor, &patch);
    for (size_t i = 0; i < SAE_COUNTOF(known); i++) {
        enum saed_heads way = known[i].way, other = way == SAED_HEADS_BY_LAYOUT
                                                        ? SAED_HEADS_BY_LIBRARY
                                                        : SAED_HEADS_BY_LAYOUT;
        const char *fails;

        if (major != known[i].major || minor != known[i].minor || patch < known[i].first ||
            patch > known[i].last)
            continue;
        fails = what_fails(way, takes, arg);
        if (fails && !what_fails(other, takes, arg)) {
            way = other;
            fails = NULL;
        }
        if (fails)
            return sae_err_set(err, SAE_E_IO, "",
                               "cannot use libmicrohttpd %.20s: %s is not told from what it is "
                               "not, neither by its place in memory nor by the library",
                               version, fails);
        *out = way;
        return SAE_OK;
    }
    return sae_err_set(err, SAE_E_IO, "",
                       "cannot use libmicrohttpd %.20s: known are 0.9.75 to 0.9.77 and 1.0",
                       version);
}

enum sae_status saed_mhd_choose(enum saed_heads *out, struct sae_err *err)
{
    struct trial t = {0};

    return saed_mhd_decide(out, MHD_get_version(), trial_takes, &t, err);
}
