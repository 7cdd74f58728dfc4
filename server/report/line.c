/* line.c - see line.h. */
#include "server/report/line.h"

#include "lib/num.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define VALUE_BYTES 400 /* of one value as printed, quotes and dots not counted */
#define ESCAPE_BYTES 12 /* "\ud83d\ude00" */
#define ROOM (VALUE_BYTES + ESCAPE_BYTES + 5)
#define TAIL_BYTES 64 /* kept free for cut, log_dropped and the end */

/* What stands at s, escaped into out: *n bytes of it. Returns how many of s it stands for. */
typedef size_t escape_fn(const char *s, const char *end, char out[ESCAPE_BYTES + 1], size_t *n);

/* How the formats differ. */
struct style {
    const char *before_key, *behind_key, *null, *end;
    bool quotes_all; /* texts, whether or not they need it; numbers never */
    escape_fn *escape;
};

/* ---- escaping ------------------------------------------------------------------------------ */

/* The escapes that both formats have. */
static bool escape_common(char c, char out[ESCAPE_BYTES + 1], size_t *n)
{
    static const char from[] = "\"\\\n\r\t", to[] = "\"\\nrt";
    const char *at = c ? strchr(from, c) : NULL;

    if (!at && (c < 0x20 || c >= 0x7f))
        return false;
    *n = 0;
    if (at)
        out[(*n)++] = '\\';
    out[(*n)++] = at ? to[at - from] : c;
    return true;
}

static size_t escape_text(const char *s, const char *end, char out[ESCAPE_BYTES + 1], size_t *n)
{
    (void)end;
    if (!escape_common(*s, out, n))
        *n = (size_t)snprintf(out, ESCAPE_BYTES + 1, "\\x%02x", (unsigned char)*s);
    return 1;
}

/* The character of `len` bytes, which are UTF-8. */
static uint32_t code_point(const char *s, unsigned len)
{
    uint32_t c = (unsigned char)s[0] & (len == 1 ? 0x7fu : 0xffu >> (len + 1));

    for (unsigned i = 1; i < len; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

static size_t escape_json(const char *s, const char *end, char out[ESCAPE_BYTES + 1], size_t *n)
{
    unsigned len = sae_utf8_len(s, end);
    uint32_t c = len ? code_point(s, len) : 0xfffd;

    if (escape_common(*s, out, n))
        return 1;
    if (c < 0x10000)
        *n = (size_t)snprintf(out, ESCAPE_BYTES + 1, "\\u%04x", c);
    else
        *n = (size_t)snprintf(out, ESCAPE_BYTES + 1, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
                              0xdc00 | (c & 0x3ff));
    return len ? len : 1;
}

static const struct style styles[] = {
    [SAED_LOG_TEXT] = {" ", "=", "-", "\n", false, escape_text},
    [SAED_LOG_JSON] = {",\"", "\":", "null", "}\n", true, escape_json},
};

static bool is_plain(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s <= 0x20 || *s >= 0x7f || strchr("\"\\=", *s))
            return false;
    return true;
}

/* ---- values -------------------------------------------------------------------------------- */

/* Quoted and escaped where needed, cut with "..." where too long; its length. */
static size_t print_string(const struct style *style, const char *s, char out[ROOM])
{
    size_t len = strnlen(s, VALUE_BYTES + 1), n = 0;
    const char *end = s + strlen(s);

    if (!style->quotes_all && len <= VALUE_BYTES && is_plain(s)) {
        memcpy(out, s, len);
        return len;
    }
    out[n++] = '"';
    while (s < end && n <= VALUE_BYTES) {
        char piece[ESCAPE_BYTES + 1];
        size_t k;

        s += style->escape(s, end, piece, &k);
        memcpy(out + n, piece, k);
        n += k;
    }
    if (s < end) {
        memcpy(out + n, "...", 3);
        n += 3;
    }
    out[n++] = '"';
    return n;
}

/* The largest double has 309 digits before its point. JSON knows no infinity. */
static size_t print_real(const struct style *style, double real, char out[ROOM])
{
    if (!isfinite(real) && style->quotes_all)
        return (size_t)snprintf(out, ROOM, "%s", style->null);
    return (size_t)snprintf(out, ROOM, "%.3f", real);
}

static size_t print_value(const struct style *style, const struct saed_field *f, char out[ROOM])
{
    switch (f->kind) {
    case SAED_FIELD_STR:
        if (f->value.s)
            return print_string(style, f->value.s, out);
        return (size_t)snprintf(out, ROOM, "%s", style->null);
    case SAED_FIELD_UINT:
        return (size_t)snprintf(out, ROOM, "%" PRIu64, f->value.u);
    case SAED_FIELD_INT:
        return (size_t)snprintf(out, ROOM, "%" PRId64, f->value.i);
    case SAED_FIELD_REAL:
        return print_real(style, f->value.real, out);
    }
    return 0;
}

/* ---- the line ------------------------------------------------------------------------------ */

static void add(struct saed_line *l, const char *s, size_t n)
{
    if (n > sizeof l->text - l->n)
        n = sizeof l->text - l->n;
    memcpy(l->text + l->n, s, n);
    l->n += n;
}

static void add_string(struct saed_line *l, const char *s)
{
    add(l, s, strlen(s));
}

static void add_pair(struct saed_line *l, const struct style *style, const char *key,
                     const char *value, size_t n)
{
    add_string(l, style->before_key);
    add_string(l, key);
    add_string(l, style->behind_key);
    add(l, value, n);
}

static void add_field(struct saed_line *l, const struct style *style, const struct saed_field *f)
{
    char value[ROOM];
    size_t n = print_value(style, f, value), key_len = strlen(f->key);

    if (l->is_cut || n + key_len + 4 > sizeof l->text - TAIL_BYTES - l->n)
        l->is_cut = true;
    else
        add_pair(l, style, f->key, value, n);
}

/* Time, level and event, which are ours and need no escape. */
static void add_head(struct saed_line *l, enum saed_log_format format, const struct timespec *time,
                     enum saed_log_level level, const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct tm tm = {0};
    char at[80], head[192];
    int n;

    gmtime_r(&time->tv_sec, &tm);
    snprintf(at, sizeof at, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, time->tv_nsec / 1000000);
    if (format == SAED_LOG_TEXT)
        n = snprintf(head, sizeof head, "%s %s %.64s", at, names[level], event);
    else
        n = snprintf(head, sizeof head, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%.64s\"", at,
                     names[level], event);
    add(l, head, (size_t)n);
}

void saed_line_print(struct saed_line *l, enum saed_log_format format, const struct timespec *time,
                     enum saed_log_level level, const char *event, const struct saed_field *fields,
                     unsigned long long dropped)
{
    const struct style *style = &styles[format];

    l->n = 0;
    l->is_cut = false;
    add_head(l, format, time, level, event);
    for (const struct saed_field *f = fields; f->key; f++)
        add_field(l, style, f);
    if (l->is_cut)
        add_pair(l, style, "cut", "true", 4);
    if (dropped) {
        char text[24];
        int n = snprintf(text, sizeof text, "%llu", dropped);

        add_pair(l, style, "log_dropped", text, (size_t)n);
    }
    add_string(l, style->end);
}
