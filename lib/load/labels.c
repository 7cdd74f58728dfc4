/* labels.c - see labels.h. */
#include "lib/load/labels.h"

#include "lib/format/fd.h"
#include "lib/format/json_scan.h"
#include "lib/scan.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define NONE UINT32_MAX /* where no label begins */
/* A JSON string of more bytes is too long, whatever its escapes stand for: of six one comes. */
#define MAX_LITERAL (6 * SAE_LABEL_MAX_BYTES + 2)

struct sae_labels {
    uint64_t F;
    uint32_t *at; /* [F]: where in text it begins, or NONE */
    uint16_t *n;  /* [F]; 1: it was said that there is none */
    struct sae_buf text;
};

/* A file being read. */
struct reader {
    struct sae_labels *l;
    const char *path;
    const char *begin, *end; /* the whole text */
    uint64_t line;           /* of lines: which, from 1 */
    struct sae_err *err;
};

static enum sae_status nomem(const struct reader *r)
{
    return sae_err_set(r->err, SAE_E_NOMEM, "", "cannot keep the labels of %.200s: out of memory",
                       r->path);
}

/* ---- one label ----------------------------------------------------------------------------- */

/* A JSON string is the label of the feature. */
static enum sae_status keep(struct reader *r, uint64_t id, const char *literal, size_t n)
{
    struct sae_labels *l = r->l;

    l->at[id] = (uint32_t)l->text.len;
    l->n[id] = (uint16_t)n;
    return sae_buf_add(&l->text, literal, n) == SAE_OK ? SAE_OK : nomem(r);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static enum sae_status fail_json(const struct reader *r, const char *at, const char *what)
{
    return sae_err_set(r->err, SAE_E_FORMAT, "", "cannot use the labels of %.200s: %s, at byte %zu",
                       r->path, what, (size_t)(at - r->begin));
}

/* The text has been checked: only what it means is looked at. */
static const char *blanks(const struct reader *r, const char *p)
{
    return sae_json_blanks(p, r->end);
}

/* The value at *p, a string or null, which is the feature's; *p goes behind it. */
static enum sae_status read_value(struct reader *r, const char **p, uint64_t id)
{
    char room[MAX_LITERAL];
    struct sae_json_fault fault;
    const char *from = *p;
    size_t n, decoded = SIZE_MAX;

    if (*from == 'n') { /* null */
        *p = from + 4;
        r->l->n[id] = 1;
        return SAE_OK;
    }
    if (*from != '"')
        return sae_err_set(r->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: that of feature %" PRIu64
                           " is no text, at byte %zu",
                           r->path, id, (size_t)(from - r->begin));
    *p = sae_json_scan_string(from + 1, r->end, NULL, &fault);
    n = (size_t)(*p - from);
    if (n <= MAX_LITERAL)
        (void)sae_json_copy_string(from + 1, r->end, room, &decoded, &fault);
    if (decoded > SAE_LABEL_MAX_BYTES)
        return sae_err_set(r->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: that of feature %" PRIu64
                           " has more than %d bytes",
                           r->path, id, SAE_LABEL_MAX_BYTES);
    return keep(r, id, from, n);
}

/* The key at *p, behind its quote, as an id. */
static enum sae_status read_key(struct reader *r, const char **p, uint64_t *id)
{
    struct sae_json_fault fault;
    struct sae_json_text key;
    const char *from = *p;

    *p = sae_json_scan_string(from, r->end, &key, &fault);
    if (key.cut || !sae_scan_whole_u64(key.s, key.n, id) || *id >= r->l->F)
        return sae_err_set(
            r->err, SAE_E_FORMAT, "",
            "cannot use the labels of %.200s: key \"%.*s%s\" is no id, they are 0 to "
            "%" PRIu64,
            r->path, (int)key.n, key.s, key.cut ? "..." : "", r->l->F - 1);
    if (r->l->n[*id] != 0)
        return sae_err_set(r->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: key \"%" PRIu64 "\" stands twice",
                           r->path, *id);
    return SAE_OK;
}

/* An item of the object or list, the i-th. */
static enum sae_status read_item(struct reader *r, const char **p, bool is_object, uint64_t i)
{
    enum sae_status st;
    uint64_t id = i;

    if (is_object) {
        ++*p;
        st = read_key(r, p, &id);
        if (st != SAE_OK)
            return st;
        *p = blanks(r, blanks(r, *p) + 1); /* the colon */
    } else if (id >= r->l->F) {
        return sae_err_set(r->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: item %" PRIu64
                           " of its list is of no feature, ids are 0 to %" PRIu64,
                           r->path, i, r->l->F - 1);
    }
    return read_value(r, p, id);
}

static enum sae_status read_json(struct reader *r)
{
    struct sae_json_fault fault;
    enum sae_status st = SAE_OK;
    const char *p = blanks(r, r->begin);
    bool is_object;

    if (!sae_json_check(r->begin, (size_t)(r->end - r->begin), &fault))
        return fail_json(r, fault.at, fault.what);
    is_object = *p == '{';
    if (!is_object && *p != '[')
        return fail_json(r, p, "it is no object and no list");
    p = blanks(r, p + 1);
    for (uint64_t i = 0; st == SAE_OK && *p != '}' && *p != ']'; i++) {
        st = read_item(r, &p, is_object, i);
        p = st == SAE_OK ? blanks(r, p) : p;
        if (st == SAE_OK && *p == ',')
            p = blanks(r, p + 1);
    }
    return st;
}

/* ---- lines ---------------------------------------------------------------------------------- */

static enum sae_status fail_line(const struct reader *r, const char *what)
{
    return sae_err_set(r->err, SAE_E_FORMAT, "",
                       "cannot use the labels of %.200s: line %" PRIu64 " %s", r->path, r->line,
                       what);
}

/* The line as a JSON string into `out`; 0: it is no UTF-8, or has a zero byte. */
static size_t to_literal(char out[MAX_LITERAL], const char *p, const char *end)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    out[n++] = '"';
    while (p < end) {
        const unsigned char c = (unsigned char)*p;
        const unsigned len = sae_utf8_len(p, end);

        if (len == 0 || c == 0)
            return 0;
        if (c < 0x20) {
            memcpy(out + n, "\\u00", 4);
            out[n + 4] = hex[c >> 4];
            out[n + 5] = hex[c & 15];
            n += 6;
            p++;
            continue;
        }
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        memcpy(out + n, p, len);
        n += len;
        p += len;
    }
    out[n++] = '"';
    return n;
}

static enum sae_status read_line(struct reader *r, const char *p, const char *end)
{
    char literal[MAX_LITERAL];
    size_t n;

    if (r->line > r->l->F)
        return sae_err_set(r->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: line %" PRIu64
                           " is of no feature, there are %" PRIu64,
                           r->path, r->line, r->l->F);
    if (end > p && end[-1] == '\r')
        end--;
    if (end == p)
        return SAE_OK;
    if (end - p > SAE_LABEL_MAX_BYTES)
        return fail_line(r, "has more than 1000 bytes");
    n = to_literal(literal, p, end);
    return n ? keep(r, r->line - 1, literal, n) : fail_line(r, "is no UTF-8, or has a zero byte");
}

static enum sae_status read_lines(struct reader *r)
{
    enum sae_status st = SAE_OK;

    for (const char *p = r->begin; st == SAE_OK && p < r->end;) {
        const char *end = memchr(p, '\n', (size_t)(r->end - p));

        end = end ? end : r->end;
        r->line++;
        st = read_line(r, p, end);
        p = end + 1;
    }
    return st;
}

/* ---- the file -------------------------------------------------------------------------------- */

static enum sae_status read_text(struct reader *r)
{
    const char *first;

    if (r->end - r->begin >= 3 && memcmp(r->begin, "\xef\xbb\xbf", 3) == 0)
        r->begin += 3;
    first = blanks(r, r->begin);
    if (sae_ends_in_any_case(r->path, ".json") ||
        (!sae_ends_in_any_case(r->path, ".txt") && first < r->end &&
         (*first == '{' || *first == '[')))
        return read_json(r);
    return read_lines(r);
}

static enum sae_status open_file(const char *path, int *fd, uint64_t *bytes, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st = sae_fd_open(path, NULL, fd, bytes, &low);

    if (st != SAE_OK)
        return sae_err_set(err, st, "", "cannot read the labels of %.200s: %s", path, low.text);
    if (*bytes <= SAE_LABELS_MAX_BYTES)
        return SAE_OK;
    close(*fd);
    return sae_err_set(err, SAE_E_FORMAT, "",
                       "cannot read the labels of %.200s: %" PRIu64 " bytes, at most %" PRIu64
                       " are read",
                       path, *bytes, SAE_LABELS_MAX_BYTES);
}

static uint64_t table_bytes(uint64_t F)
{
    return F * (sizeof(uint32_t) + sizeof(uint16_t));
}

enum sae_status sae_labels_guess(const char *path, uint64_t F, uint64_t *bytes, struct sae_err *err)
{
    uint64_t n;
    enum sae_status st;
    int fd;

    st = open_file(path, &fd, &n, err);
    if (st != SAE_OK)
        return st;
    close(fd);
    *bytes = n + table_bytes(F);
    return SAE_OK;
}

static struct sae_labels *create(uint64_t F)
{
    struct sae_labels *l = sae_calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->F = F;
    sae_buf_init(&l->text, UINT32_MAX - 1);
    l->at = sae_alloc((size_t)F, sizeof *l->at);
    l->n = sae_calloc((size_t)F, sizeof *l->n);
    if (!l->at || !l->n) {
        sae_labels_free(l);
        return NULL;
    }
    memset(l->at, 0xff, (size_t)F * sizeof *l->at); /* NONE */
    return l;
}

/* What the buffer has beyond its text is not kept. */
static void fit_text(struct sae_labels *l)
{
    char *less = l->text.data ? sae_realloc(l->text.data, l->text.len + 1, 1) : NULL;

    if (less) {
        l->text.data = less;
        l->text.cap = l->text.len + 1;
    }
}

enum sae_status sae_labels_open(struct sae_labels **out, const char *path, uint64_t F,
                                struct sae_err *err)
{
    struct reader r = {.path = path, .err = err};
    char *text = NULL;
    uint64_t bytes;
    enum sae_status st;
    int fd;

    st = open_file(path, &fd, &bytes, err);
    if (st != SAE_OK)
        return st;
    r.l = create(F);
    text = r.l ? sae_alloc((size_t)bytes + 1, 1) : NULL;
    if (!text) {
        st = nomem(&r);
        goto out;
    }
    st = sae_fd_read(fd, bytes, 0, text, (size_t)bytes, err);
    if (st != SAE_OK)
        goto out;
    r.begin = text;
    r.end = text + bytes;
    st = read_text(&r);
    if (st != SAE_OK)
        goto out;
    fit_text(r.l);
    *out = r.l;
    r.l = NULL;
out:
    close(fd);
    sae_free(text);
    sae_labels_free(r.l);
    return st;
}

void sae_labels_free(struct sae_labels *l)
{
    if (!l)
        return;
    sae_buf_fini(&l->text);
    sae_free(l->at);
    sae_free(l->n);
    sae_free(l);
}

uint64_t sae_labels_bytes(const struct sae_labels *l)
{
    return l->text.cap + table_bytes(l->F);
}

const char *sae_labels_json(const struct sae_labels *l, uint64_t id, size_t *n)
{
    if (l->at[id] == NONE)
        return NULL;
    *n = l->n[id];
    return l->text.data + l->at[id];
}
